"""Threads that work side by side and hold up no end."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
R = TypeVar("R")


def start_workers(count: int, work: Callable[[], None]) -> int:
    """Run `work` in that many threads, or in as many as this process may start: how many.

    They are daemons: one that waits where no time-out reaches (DNS) does not hold up the end.

    Raises:
        RuntimeError: not even one could be started.

    """
    started = 0
    with contextlib.suppress(RuntimeError):
        while started < count:
            threading.Thread(target=work, daemon=True).start()
            started += 1
    if not started:
        raise RuntimeError
    return started


def each_of(items: Sequence[T], ask: Callable[[T], R], workers: int) -> Iterator[tuple[T, R]]:
    """Every item with what `ask` says about it, in their order. An error is raised here."""
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: list[queue.SimpleQueue[R | Exception]] = [queue.SimpleQueue() for _ in items]
    for number in range(len(items)):
        todo.put(number)

    def work() -> None:
        while True:
            try:
                number = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done[number].put(ask(items[number]))
            except Exception as error:  # noqa: BLE001  raised where it is waited for
                done[number].put(error)

    if items:
        start_workers(min(workers, len(items)), work)
    for item, answer in zip(items, done, strict=True):
        result = answer.get()
        if isinstance(result, Exception):
            raise result
        yield item, result
