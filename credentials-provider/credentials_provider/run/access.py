"""One identity's token, good for a while longer: from disk where it serves, else renewed first.

From disk it costs little more than starting Python: nothing here imports what only a renewal needs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.errors import CredentialsProviderError, StorageError
from credentials_provider.identities.reading import read_entries
from credentials_provider.model import TokenRecord
from credentials_provider.policy import Lead
from credentials_provider.run import batch
from credentials_provider.tokens.plan import make_plan
from credentials_provider.tokens.store import TokenStore, parse_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.model import Failure, Request, Watcher

# What a bearer token is made of, RFC 6750 section 2.1: nothing that ends a header or a shell word.
_TOKEN_CHARACTERS = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/-="
)


class Access(NamedTuple):
    """A token that lives. Times in epoch seconds."""

    document: dict[str, Any]  # the token file's content
    expires_on: float
    kept: Failure | None = None  # why it is an old one that lives less than was asked for

    @property
    def token(self) -> str:
        return str(self.document["access_token"])

    def __repr__(self) -> str:
        return f"Access(expires_on={self.expires_on})"


class NoTokenError(CredentialsProviderError):
    """The identity has no token that lives."""

    def __init__(self, identity_name: str, failure: Failure | None) -> None:
        why = failure.message if failure else "its token file went away while it was read"
        super().__init__(
            f"no token for {identity_name}: {why}", hint=failure.remedy if failure else None
        )
        self.failure = failure


def get_token(
    request: Request,
    name: str,
    min_ttl: float,
    watcher: Watcher,
    *,
    now: Callable[[], float] = time.time,
) -> Access:
    """The token of one identity, with `min_ttl` seconds of life or more, renewed first if need be.

    Tokens that never live as long as that are given with half of their life or more. A token that
    could not be renewed is given as long as it lives, and the result says so.

    Args:
        request: settings and limits; `force` renews whatever is on disk.
        name: the identity.
        min_ttl: seconds.
        watcher: hears of warnings, if something is renewed.
        now: epoch seconds.

    Raises:
        NoTokenError: no token that lives.
        ConfigurationError: no such identity, or a configuration that cannot be used.

    """
    store = TokenStore(request.settings.output_dir)
    lead = Lead(seconds=min_ttl, capped=True)
    if not request.force:
        entries = read_entries(request.settings).entries
        entry = next((each for each in entries if each.name == name), None)
        found = _read(store, name) if entry is not None and entry.obvious else None
        if entry is not None and found is not None:
            document, record = found
            if not make_plan([entry], {name: record}, now(), lead=lead)[0].due:
                return Access(document, record.expires_on)
    request = request._replace(names=(name,), refresh_ahead=True, lead=lead)
    (outcome,) = batch.run(request, watcher, now=now).results
    found = _read(store, name) if outcome.outcome != "failed" else None
    if found is None or found[1].expires_on <= now():
        raise NoTokenError(name, outcome.failure)
    return Access(found[0], found[1].expires_on, outcome.failure)


def _read(store: TokenStore, name: str) -> tuple[dict[str, Any], TokenRecord] | None:
    """A token file's content and times, from one reading; None where there is nothing to use."""
    document = store.document(f"{name}.json")
    record = parse_record(document) if document is not None else None
    if document is None or not isinstance(record, TokenRecord):
        return None
    if not _TOKEN_CHARACTERS.issuperset(document["access_token"]):
        raise StorageError(
            f"{store.path(name)} holds something that is no bearer token",
            hint="Remove the file: the next run makes a new one.",
        )
    return document, record
