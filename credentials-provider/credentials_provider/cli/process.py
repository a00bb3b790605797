"""A process's streams, which decide nothing, and the signals that end it in order.

Standard output and error can be full, closed or read by nobody. What cannot be written is dropped.
So no message ends a renewal, a run or a service, and Python's own end finds nothing to fail on (it
would exit with 120).
"""

from __future__ import annotations

import _thread
import contextlib
import io
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from credentials_provider.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_STDERR = 2
_PIECE = 4096  # bytes that a pipe which is ready takes at once (POSIX, PIPE_BUF)
_FOREVER = float("inf")
_TALK_TIMEOUT = 1.0  # seconds that a message on stderr waits for its reader, in any command
_wait_until = _FOREVER  # monotonic
_timeout = _FOREVER  # seconds
_stalled: set[int] = set()  # descriptors that nobody reads: further writes do not wait again


def limit_writing(*, until: float = _FOREVER, timeout: float = _FOREVER) -> None:
    """How long a write may wait for a reader: `timeout` seconds, and not beyond `until`.

    `until` is a `time.monotonic()`. Without a limit a pager may keep the result waiting.
    """
    global _wait_until, _timeout
    _wait_until, _timeout = until, timeout
    _stalled.clear()


class _Tolerant(io.RawIOBase):
    """A descriptor that takes what it can get; for everything else it is as good as written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._longest = _TALK_TIMEOUT if descriptor == _STDERR else _FOREVER
        self.failure: str | None = None  # why something was lost, but for a reader that has gone

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        view = memoryview(data)
        try:
            while view and self._is_ready():
                view = view[os.write(self._descriptor, view[:_PIECE]) :]
        except BrokenPipeError:
            pass
        except OSError as error:
            self.failure = error.strerror
        return len(data)

    def _is_ready(self) -> bool:
        import select  # not on Windows, and only where something is written

        if not hasattr(select, "poll"):
            return True
        stalled = self._descriptor in _stalled
        wait = 0.0 if stalled else min(_wait_until - time.monotonic(), _timeout, self._longest)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        if poll.poll(None if wait == _FOREVER else max(wait, 0.0) * 1000):
            _stalled.discard(self._descriptor)
            return True
        _stalled.add(self._descriptor)
        return False


def output_failure() -> str | None:
    """Why standard output took less than it was given, if so; a pipe that was closed is none."""
    with contextlib.suppress(ValueError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _Tolerant) else None


def install() -> None:
    """Put such streams in the place of the process's own; what somebody else has replaced stays.

    Started without streams, as by some supervisors, a process has some that lead nowhere.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  till the end
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # a token and a secret are text
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or not isinstance(stream, io.TextIOWrapper):
            continue
        with contextlib.suppress(OSError, ValueError):
            tolerant = io.TextIOWrapper(
                io.BufferedWriter(_Tolerant(stream.fileno())),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering,
            )
            setattr(sys, name, tolerant)


@contextlib.contextmanager
def waking_main_thread() -> Iterator[None]:
    """Let every signal wake the main thread, which alone runs handlers.

    The kernel may give a process's signal to any thread that is at work (signal(7)). The main one
    would sleep on, in a lock or in waitpid(2), and run the handler when it wakes by itself.
    """
    main = _thread.get_ident()
    reader = writer = -1

    def pass_on() -> None:
        while number := os.read(reader, 1):
            if number[0] != signal.SIGURG:
                signal.pthread_kill(main, signal.SIGURG)
        os.close(reader)

    # Windows has no such signal; there may be no descriptor and no thread left.
    with contextlib.suppress(AttributeError, OSError, RuntimeError):
        signal.signal(signal.SIGURG, lambda *_: None)
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        _thread.start_new_thread(pass_on, ())
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    finally:
        if writer >= 0:
            signal.set_wakeup_fd(-1)
            os.close(writer)  # ends the thread


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `StoppedError` in the main thread at the first signal; further ones change nothing.

    They stay without effect after it: the process is about to end, and impatience must not make a
    traceback of that. A finalizer loses what is raised in it: the signal is sent again then.
    """
    stopped = False
    report = sys.unraisablehook

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        for each in (signal.SIGINT, signal.SIGTERM):
            # SIG_IGN would make Python complain of one that has arrived already.
            signal.signal(each, lambda *_: None)
        raise StoppedError(number, signal.Signals(number).name)

    def send_again(lost: sys.UnraisableHookArgs) -> None:
        if not isinstance(lost.exc_value, StoppedError):
            report(lost)
            return
        from threading import Timer  # only now

        number = signal.Signals[lost.exc_value.signal_name]
        Timer(0.01, os.kill, (os.getpid(), number)).start()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, stop)

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    sys.unraisablehook = send_again
    try:
        with waking_main_thread():
            yield
    finally:
        sys.unraisablehook = report
        if not stopped:
            for each, handler in before.items():
                signal.signal(each, handler)
