"""Loaded by the command's Python before the command: another clock, a look at its memory.

FAULTS_CLOCK is a file of seconds by which the time of day is off, read anew by each call;
FAULTS_MEMORY a file to which the process writes at its end how much memory it had at most, in
bytes.
"""

from __future__ import annotations

import os
import time
from typing import NoReturn

clock, memory = os.environ.get("FAULTS_CLOCK", ""), os.environ.get("FAULTS_MEMORY", "")

if clock:
    real, real_clock = time.time, time.clock_gettime

    def ahead() -> float:
        with open(clock, encoding="ascii") as file:
            return float(file.read() or 0)

    time.time = lambda: real() + ahead()
    time.clock_gettime = lambda which: (
        real_clock(which) + (ahead() if which == time.CLOCK_REALTIME else 0)
    )

if memory:

    def tell() -> None:
        with open("/proc/self/status", encoding="ascii") as file:
            peak = next(line.split()[1] for line in file if line.startswith("VmHWM"))
        with open(memory, "w", encoding="ascii") as file:
            file.write(str(int(peak) * 1024))

    end = os._exit

    def told(status: int) -> NoReturn:
        tell()
        end(status)

    os._exit = told
