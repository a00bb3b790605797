"""What the calls of a run know of a host together, and of a tenant on it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from credentials_provider.transport.window import Window

if TYPE_CHECKING:
    from collections.abc import Hashable

    from credentials_provider.transport.connections import Trouble


class Circuit:
    """What a host, or a tenant on it, does to all calls of a run.

    Once a whole retry budget is spent on something that answers nobody, the others need not spend
    theirs. One identity's bad luck must not end the others: it takes two of them, and half of
    those under way, unless not even a connection came about.
    """

    def __init__(self) -> None:
        self.active = 0  # calls under way
        self.failing: set[Hashable] = set()
        self.answered_at = float("-inf")
        self.dead: Trouble | None = None

    def answered(self, at: float) -> None:
        """Somebody got an answer at this time, monotonic seconds."""
        self.answered_at = at
        self.failing.clear()

    def gives_up(self, began: float, trouble: Trouble) -> bool:
        """Whether a call that spent its attempts since `began` proves that nobody is answered."""
        if self.answered_at >= began:
            return False
        many = len(self.failing)
        return not trouble.connected or (many > 1 and 2 * many >= self.active)


class Tenant(Circuit):
    """A tenant on a host, with those that wait for room in its window."""

    def __init__(self, connections: int, lock: threading.RLock) -> None:
        super().__init__()
        self.window = Window(connections)
        self.under_way = 0
        self.room = threading.Condition(lock)

    @property
    def is_full(self) -> bool:
        """Whether its window has no room for one more request."""
        return self.under_way >= int(self.window.size)

    def leave(self) -> None:
        """A request is done: let in as many as there is room for now."""
        self.under_way -= 1
        self.room.notify(max(int(self.window.size) - self.under_way, 0))
