"""One identity's tokens for one server, asked for before each request."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from credentials_provider.assistants.bridge.trouble import TroubleError
from credentials_provider.errors import CredentialsProviderError
from credentials_provider.run.source import FORCED_INTERVAL, TokenSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.model import Observer, RunOptions
    from credentials_provider.run.access import ValidToken
    from credentials_provider.run.audit import Audit

# Seconds for the first token, since assistants wait ten for a first answer; and for a new one while
# the old one is valid.
SHORT_DEADLINE = 8.0


class Tokens:
    """Gives a valid token; looks at the token file each time, since others renew it as well."""

    def __init__(
        self,
        options: RunOptions,
        identity: str,
        min_ttl: float,
        observer: Observer,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        audit: Audit | None = None,
    ) -> None:
        self._options = options
        self._identity = identity
        self._min_ttl = min_ttl
        self._observer = observer
        self._monotonic = monotonic
        self._source = TokenSource(options, observer, audit=audit, monotonic=monotonic)
        self._lock = threading.Lock()
        self._refusals = threading.Lock()
        self._last: ValidToken | None = None
        self._forced_at = float("-inf")

    def get(self) -> str:
        """A valid token.

        Raises:
            TroubleError: there is none.

        """
        access = self._source.ready(self._identity, self._min_ttl)
        return access.token if access is not None else self._renewed(force=False)

    def after_refusal(self, refused: str) -> str | None:
        """Another token than the one that the server refused; None where there is none.

        One that somebody else has minted meanwhile is taken first. A server that refuses new
        tokens causes a renewal every five minutes at most.

        Raises:
            TroubleError: the provider gives none.

        """
        with self._refusals:
            found = self._renewed(force=False)
            if found == refused and self._monotonic() - self._forced_at >= FORCED_INTERVAL:
                self._forced_at = self._monotonic()
                found = self._renewed(force=True)
            return found if found != refused else None

    def _renewed(self, *, force: bool) -> str:
        last = self._last
        options = self._options._replace(force=force)
        if last is None or last.expires_on > time.time() + 1:
            least = min(options.deadline, SHORT_DEADLINE)
            options = options._replace(deadline=least, lock_timeout=least)
        try:
            access = self._source.renewed(self._identity, self._min_ttl, options)
        except CredentialsProviderError as error:
            raise TroubleError(error.message, error.hint or "") from None
        with self._lock:
            is_new, self._last = access is not self._last, access
        if is_new and access.kept is not None:
            self._observer.warn(f"{self._identity} keeps its old token: {access.kept.message}")
        return access.token
