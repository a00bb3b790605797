"""SIGINT and SIGTERM become an exception, once: a run ends in order and its files are whole."""

from __future__ import annotations

import contextlib
import signal
from typing import TYPE_CHECKING

from credentials_provider.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Raise `StoppedError` in the main thread at the first signal; further ones change nothing.

    They stay without effect after it: the process is about to end, and impatience must not make a
    traceback of that.
    """
    stopped = False

    def stop(number: int, _: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        for each in (signal.SIGINT, signal.SIGTERM):
            # SIG_IGN would make Python complain of one that has arrived already.
            signal.signal(each, lambda *_: None)
        raise StoppedError(number, signal.Signals(number).name)

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not stopped:
            for each, handler in before.items():
                signal.signal(each, handler)
