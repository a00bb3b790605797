"""Tokens for a program that asks often, from memory until a file changes.

Safe for threads: who asks for what another thread is about to renew waits for that renewal.
"""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from credentials_provider.permissions import stamp
from credentials_provider.policy import Lead
from credentials_provider.run.access import ValidToken, get_token
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.model import Observer, RunOptions
    from credentials_provider.run.audit import Audit

FORCED_INTERVAL = 300.0  # seconds between two renewals of a token that a server has refused
OLD_TOKEN_FOR = 30.0  # seconds for which a token that could not be renewed is given without a try


class TokenSource:
    """The tokens of one configuration.

    Args:
        options: settings and limits.
        observer: gets the warnings of a renewal.
        audit: gets a line for each new token.
        monotonic: a clock, in seconds.

    """

    def __init__(
        self,
        options: RunOptions,
        observer: Observer,
        *,
        audit: Audit | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._audit = audit
        self._monotonic = monotonic
        self._options = options._replace(force=False)
        self._observer = observer
        self._store = TokenStore(options.settings.output_dir)
        self._lock = threading.Lock()
        # By process, too: a fork has no thread that would end its parent's renewal.
        self._renewals: dict[tuple[int, str, float, bool], Future[ValidToken]] = {}
        self._known: dict[str, tuple[object, ValidToken]] = {}
        # Until when (monotonic) an old token is given without a try, and none renewed after a 401.
        self._kept: dict[str, float] = {}
        self._forced: dict[str, float] = {}

    def ready(self, name: str, min_ttl: float) -> ValidToken | None:
        """The identity's token, if it is in memory and valid for that long (seconds)."""
        files, access = self._known.get(name, (None, None))
        if access is None or files != self._files(name):
            return None
        left = access.expires_on - time.time()
        untried = left > 0 and self._monotonic() < self._kept.get(name, 0.0)
        enough = left > Lead(seconds=min_ttl, capped=True).of(_life(access))
        return access if enough or untried else None

    def get(self, name: str, min_ttl: float) -> ValidToken:
        """The identity's token, valid for that long (seconds), as `access.get_token` gives it.

        Raises:
            NoTokenError: there is none.
            ConfigurationError: no such identity, or a configuration that cannot be used.

        """
        return self.ready(name, min_ttl) or self.renewed(name, min_ttl)

    def replaced(self, name: str, refused: str) -> ValidToken | None:
        """Another token than the one that a server has refused, renewed if need be.

        None where there is no other: the refused one is younger than five minutes, or could not be
        renewed.
        """
        access = self.renewed(name, 0.0)
        life = _life(access)
        age = life - (access.expires_on - time.time())
        tried = self._monotonic() < self._forced.get(name, 0.0)
        if access.token == refused and age > FORCED_INTERVAL and not tried:
            self._forced[name] = self._monotonic() + FORCED_INTERVAL
            # Due once it is five minutes old: a token that was renewed meanwhile is not.
            access = self.renewed(name, life - FORCED_INTERVAL)
        return None if access.token == refused else access

    def renewed(self, name: str, min_ttl: float, options: RunOptions | None = None) -> ValidToken:
        """What `get` gives where the token in memory is of no use.

        Who asks while another thread renews gets what that one gets, a failure too. `options` are
        taken in place of the source's own.
        """
        options = options or self._options
        mine: Future[ValidToken] = Future()
        key = os.getpid(), name, min_ttl, options.force
        with self._lock:
            renewal = self._renewals.setdefault(key, mine)
        if renewal is not mine:
            return renewal.result()
        try:
            files = self._files(name)  # before: what is read is of then or later
            access = get_token(options, name, min_ttl, self._observer)
            before = self._known.get(name)
            if self._audit and (before is None or before[1].token != access.token):
                self._audit.record(name, access)
            self._known[name] = (files, access)
            self._kept[name] = self._monotonic() + OLD_TOKEN_FOR if access.kept else 0.0
            mine.set_result(access)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._renewals[key]
        return access

    def identities_status(self) -> object:
        """What changes whenever the identities file does; None where there is none."""
        return stamp(self._options.settings.identities_file)

    def _files(self, name: str) -> object:
        return self.identities_status(), stamp(self._store.path(name))


def _life(access: ValidToken) -> float:
    """How long the token is valid in all, seconds."""
    life: Any = access.document.get("expires_in")
    return float(life) if isinstance(life, (int, float)) else 0.0
