"""Standard output as the client's end of the line: whole lines of bytes, one after the other.

Not Python's own buffered stream: a thread that holds its lock while the program ends is an abort.
"""

from __future__ import annotations

import os
import select
import threading

_SHORT = 1 << 16  # bytes; a longer one is not copied for its newline


class Output:
    """Lines to a file descriptor; `gone` once nobody reads it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.gone = False

    def write(self, line: bytes | bytearray) -> None:
        """Write a line, for which a newline is added."""
        with self._lock:
            for part in (line + b"\n",) if len(line) < _SHORT else (line, b"\n"):
                rest = memoryview(part)
                while rest and not self.gone:
                    rest = rest[self._write_some(rest) :]

    def _write_some(self, rest: memoryview) -> int:
        try:
            return os.write(self._descriptor, rest)
        except BlockingIOError:  # the client made its pipe one that does not wait
            select.select([], [self._descriptor], [])
        except OSError:
            self.gone = True
        return 0
