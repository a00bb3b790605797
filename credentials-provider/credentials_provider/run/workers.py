"""Threads that work side by side and hold up no end."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_STATUS = "/proc/self/statm"  # Linux: the first number is the address space in pages
_A_THREAD = 72 << 20  # bytes of address space: its stack (8 MB), and a heap of glibc's own
_FOR_THE_WORK = 64 << 20  # bytes: libraries, connections, TLS
T = TypeVar("T")
R = TypeVar("R")


def start_workers(count: int, work: Callable[[], None]) -> int:
    """Run `work` in that many threads, or in as many as this process may start: how many.

    They are daemons: one that waits where no time-out reaches (DNS) does not hold up the end.

    Raises:
        RuntimeError: not even one could be started.

    """
    started, count = 0, _within_address_space(count)
    with contextlib.suppress(RuntimeError):
        while started < count:
            threading.Thread(target=work, daemon=True).start()
            started += 1
    if not started:
        raise RuntimeError
    return started


def _within_address_space(count: int) -> int:
    """As many threads as a limit on the address space (RLIMIT_AS) has room for, at least one.

    Where all of it goes to threads, their work fails for want of memory. OpenSSL gives other
    reasons for that, such as a certificate's weak key.
    """
    try:
        import resource  # Windows has none
    except ImportError:
        return count
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY or not os.path.exists(_STATUS):
        return count
    with open(_STATUS, encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    return max(min(count, (limit - used - _FOR_THE_WORK) // _A_THREAD), 1)


def each_of(items: Sequence[T], ask: Callable[[T], R], workers: int) -> Iterator[tuple[T, R]]:
    """Call `ask` for every item, in threads; the items with its answers, in order."""
    asked: list[tuple[T, Future[R]]] = [(item, Future()) for item in items]
    todo = deque(asked)

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                item, answer = todo.popleft()
                try:
                    answer.set_result(ask(item))
                except Exception as error:  # noqa: BLE001  raised where it is waited for
                    answer.set_exception(error)

    if asked:
        start_workers(min(workers, len(asked)), work)
    for item, answer in asked:
        yield item, answer.result()
