"""One identity's tokens for one server, asked for before each request."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from credentials_provider.assistants.bridge.trouble import TroubleError
from credentials_provider.errors import CredentialsProviderError
from credentials_provider.permissions import stamp
from credentials_provider.run.access import get_token
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.model import Observer, RunOptions
    from credentials_provider.run.audit import Audit

OLD_TOKEN_FOR = 30.0  # seconds for which a renewal that failed is not tried again
REMEMBERED = 5.0  # seconds for which a token is taken without planning anew
FORCED_INTERVAL = 300.0  # seconds between two renewals that a server's refusal causes
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
        self._audit = audit
        self._options = options
        self._identity = identity
        self._min_ttl = min_ttl
        self._observer = observer
        self._monotonic = monotonic
        self._lock = threading.Lock()
        settings = options.settings
        self._files = (
            TokenStore(settings.output_dir).path(identity),
            settings.identities_file,
        )
        self._token = ""
        self._expires_on = 0.0
        self._until = float("-inf")
        self._seen: tuple[object, ...] = ()
        self._forced_at = float("-inf")

    def get(self) -> str:
        """A valid token.

        Raises:
            TroubleError: there is none.

        """
        with self._lock:
            if self._monotonic() < self._until and self._seen == self._look():
                return self._token
            return self._take(force=False)

    def after_refusal(self, refused: str) -> str | None:
        """Another token than the one that the server refused; None where there is none.

        One that somebody else has minted meanwhile is taken first. A server that refuses new
        tokens causes a renewal every five minutes at most.

        Raises:
            TroubleError: the provider gives none.

        """
        with self._lock:
            found = self._take(force=False)
            if found != refused:
                return found
            if self._monotonic() - self._forced_at < FORCED_INTERVAL:
                return None
            self._forced_at = self._monotonic()
            found = self._take(force=True)
            return found if found != refused else None

    def _take(self, *, force: bool) -> str:
        options = self._options._replace(force=force)
        if not self._token or self._expires_on > time.time() + 1:
            least = min(options.deadline, SHORT_DEADLINE)
            options = options._replace(deadline=least, lock_timeout=least)
        seen = self._look()
        try:
            access = get_token(options, self._identity, self._min_ttl, self._observer)
            if self._audit and access.token != self._token:
                self._audit.record(self._identity, access)
        except CredentialsProviderError as error:
            raise TroubleError(error.message, error.hint or "") from None
        left = access.expires_on - time.time()
        if access.kept is not None:
            self._observer.warn(f"{self._identity} keeps its old token: {access.kept.message}")
            self._until = self._monotonic() + min(OLD_TOKEN_FOR, left - 1)
        else:
            self._until = self._monotonic() + min(REMEMBERED, left / 10)
        # Where this call has renewed, its own write is another's to see: once too often is cheap.
        self._token, self._expires_on, self._seen = access.token, access.expires_on, seen
        return self._token

    def _look(self) -> tuple[object, ...]:
        """What tells that a file has been replaced."""
        return tuple(stamp(path) for path in self._files)
