"""Warnings of runs that repeat: a timer would give each of them with every run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from credentials_provider.errors import StorageError
from credentials_provider.model import Observer, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.tokens.store import TokenStore

_DAY = 86_400.0  # seconds


class OncePerDay(Observer):
    """Passes everything on to another observer, but each warning once a day alone.

    What it has passed on stands in the state file. `now`: epoch seconds.
    """

    def __init__(self, observer: Observer, store: TokenStore, now: float) -> None:
        self._observer = observer
        self._store = store
        self._now = now
        self._new: dict[str, float] = {}
        self._known: Mapping[str, float] | None = None

    def warn(self, message: str) -> None:
        from hashlib import sha256  # most runs have no warning

        from credentials_provider.tokens.history import read_state

        if self._known is None:
            self._known = read_state(self._store).warned
        digest = sha256(message.encode()).hexdigest()[:16]
        if digest not in self._new and not self._is_recent(self._known.get(digest, 0.0)):
            self._new[digest] = self._now
            self._observer.warn(message)

    def start(self, due: int) -> None:
        self._observer.start(due)

    def finish(self, outcome: Outcome) -> None:
        self._observer.finish(outcome)

    def hook_output(self, line: str) -> None:
        self._observer.hook_output(line)

    def close(self) -> None:
        self._observer.close()

    def remember(self) -> None:
        """Write down what was passed on; where another run has the folder, it comes once more."""
        if not self._new:
            return
        from credentials_provider.tokens.history import read_state, write_state

        with contextlib.suppress(StorageError), self._store.lock(0):
            state = read_state(self._store)
            recent = {digest: at for digest, at in state.warned.items() if self._is_recent(at)}
            write_state(self._store, state._replace(warned={**recent, **self._new}))

    def _is_recent(self, at: float) -> bool:
        return 0 <= self._now - at < _DAY
