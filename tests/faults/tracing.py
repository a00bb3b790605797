"""Faults at chosen system calls, from outside: strace attached to one thread of the command.

    held = Held() …                          # an emulator that keeps its answers back
    run = caught(command, held, "--force")   # it has asked and waits for its token
    with attached(run.worker, "-e", "inject=renameat:signal=SIGKILL"):
        held.go.set()

From here on the counts of strace's `when=N` begin at the answer, and no line in the product knows
of it. Without strace or ptrace (`NO_TRACING` says why) such tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import pytest

from credentials_provider.emulator import Emulator
from support import PACKAGES, PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credentials_provider.emulator.server import Connection
    from credentials_provider.emulator.wire import Call, Reply, Request
    from support import Command

# The folder whose `sitecustomize` gives the command another clock or tells its memory.
CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child")
LONG = bool(os.environ.get("FAULTS_LONG"))  # hundreds of kills in place of dozens

# What happens in memory, or as often as the scheduler likes: no step of the run.
_NO_STEPS = frozenset(
    {"brk", "exit", "exit_group", "futex", "getpid", "gettid", "madvise", "mmap", "mprotect"}
    | {"munmap", "poll", "restart_syscall", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn"}
    | {"sched_yield", "set_robust_list", "rseq", "clock_nanosleep"}
)


def _no_tracing() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed"
    if os.geteuid() != 0:
        return "only root can trace what must not be dumped"
    probe = subprocess.run(
        ["strace", "-f", "-qq", "-o", os.devnull, "-e", "inject=flock:error=EIO", "true"],
        capture_output=True,
        check=False,
    )
    return None if probe.returncode == 0 else "strace cannot trace here (ptrace, or its version)"


NO_TRACING = _no_tracing()
tracing = pytest.mark.skipif(NO_TRACING is not None, reason=str(NO_TRACING))


def with_child(**variables: str) -> dict[str, str]:
    """An environment that takes `child/sitecustomize.py` along."""
    return {"PYTHONPATH": os.pathsep.join((CHILD, PACKAGES)), **variables}


class Held(Emulator):
    """An emulator that keeps its answers back until `go` is set."""

    def __init__(self, ca_file: str | None = None) -> None:
        super().__init__(ca_file=ca_file)
        self.go = threading.Event()
        self.only: str | None = None  # the client whose answers are kept back, else everybody's

    def _answer(
        self, regular: Callable[[Call], Reply], request: Request, connection: Connection
    ) -> Reply:
        asking = (request.credentials() or ("", ""))[0]
        if self.only in (None, asking):
            self._note_arrival()
            self.go.wait(PATIENCE)
        return super()._answer(regular, request, connection)

    def hold(self, only: str | None = None) -> None:
        self.only = only
        self.waiting = 0
        self.go.clear()

    waiting = 0

    def _note_arrival(self) -> None:
        self.waiting += 1


class Step(NamedTuple):
    """A system call of one of the command's threads, counted from the answer on."""

    thread: str  # "worker" or "main"
    call: str
    number: int


class Caught(NamedTuple):
    """The command while its one open request waits for the answer."""

    process: subprocess.Popen[str]
    worker: int  # thread ids
    main: int

    def thread(self, name: str) -> int:
        return self.worker if name == "worker" else self.main

    @property
    def stopped(self) -> bool:
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return any(line.startswith("State:\tT") for line in file)


def caught(command: Command, held: Held, *args: str) -> Caught:
    """Starts the command and waits until its one worker waits for the answer."""
    process = command.start(*args)
    try:
        folder = f"/proc/{process.pid}/task"
        until(lambda: held.waiting or process.poll() is not None)
        # Those whose answers were not kept back are done and gone. The second thread passes signals
        # on to the first.
        until(lambda: process.poll() is not None or len(os.listdir(folder)) == 3)
        assert process.poll() is None, process.communicate()
        _, _, worker = sorted(map(int, os.listdir(folder)))
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return Caught(process, worker, process.pid)


@contextlib.contextmanager
def attached(thread: int, *options: str) -> Iterator[str]:
    """A strace on one thread, with the file that it writes to."""
    descriptor, path = tempfile.mkstemp(suffix=".strace")
    os.close(descriptor)
    tracer = subprocess.Popen(
        ["strace", "-qq", "-s", "0", "-o", path, *options, "-p", str(thread)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: tracer.poll() is not None or _is_traced(thread))
        assert tracer.poll() is None, "strace ended by itself"
        yield path
    finally:
        tracer.terminate()
        tracer.wait(PATIENCE)
        os.unlink(path)


def _is_traced(thread: int) -> bool:
    with open(f"/proc/{thread}/status", encoding="ascii") as file:
        return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in file)


def steps(command: Command, held: Held, *args: str) -> list[Step]:
    """The steps of a run from the answer to its end, as the kernel sees them."""
    held.hold()
    run = caught(command, held, *args)
    with attached(run.worker) as worker, attached(run.main) as main:
        held.go.set()
        out, err = run.process.communicate(timeout=PATIENCE)
        assert run.process.returncode == 0, (out, err)
        calls = {"worker": trace(worker), "main": trace(main)}
    found = []
    for thread, names in calls.items():
        counts: Counter[str] = Counter()
        for name in names:
            counts[name] += 1
            if name not in _NO_STEPS:
                found.append(Step(thread, name, counts[name]))
    return found


def trace(path: str) -> list[str]:
    """The names of the system calls in a file of strace's."""
    with open(path, encoding="utf-8", errors="replace") as file:
        names = [line.partition("(")[0] for line in file]
    return [name for name in names if name.isidentifier()]
