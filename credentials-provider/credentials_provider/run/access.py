"""One identity's token with enough of its life left: from disk if it is valid, else renewed first.

From disk it costs little more than starting Python: nothing here imports what only a renewal needs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from credentials_provider.errors import (
    ConfigurationError,
    CredentialsProviderError,
    Problem,
)
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.identities.rules import composed
from credentials_provider.model import TokenRecord
from credentials_provider.policy import Lead, refresh_time
from credentials_provider.run import batch
from credentials_provider.tokens.plan import make_plan
from credentials_provider.tokens.store import TokenStore, parse_record, token_document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from credentials_provider.identities.reading import IdentitiesFile
    from credentials_provider.minting import Failure
    from credentials_provider.model import Entry, Observer, RunOptions
    from credentials_provider.run.audit import Audit
    from credentials_provider.settings import Settings


class ValidToken:
    """A valid token. Times in epoch seconds. Its repr does not show the token."""

    __slots__ = ("document", "expires_on", "kept")

    def __init__(
        self, document: dict[str, Any], expires_on: float, kept: Failure | None = None
    ) -> None:
        self.document = document  # the token file's content
        self.expires_on = expires_on
        self.kept = kept  # why it is an old one that expires earlier than was asked for

    @property
    def token(self) -> str:
        return str(self.document["access_token"])

    @property
    def refresh_at(self) -> float:
        record = parse_record(self.document)
        return record.refresh_at if isinstance(record, TokenRecord) else self.expires_on

    def __repr__(self) -> str:
        return f"ValidToken(expires_on={self.expires_on})"


class NoTokenError(CredentialsProviderError):
    """The identity has no valid token."""

    def __init__(self, identity_name: str, failure: Failure | None) -> None:
        why = failure.traced if failure else "its token file went away while it was read"
        super().__init__(
            f"no token for {identity_name}: {why}", hint=failure.remedy if failure else None
        )
        self.identity_name = identity_name
        self.failure = failure


def get_token(
    options: RunOptions,
    name: str,
    min_ttl: float,
    observer: Observer,
    *,
    now: Callable[[], float] = time.time,
) -> ValidToken:
    """The token of one identity, with `min_ttl` seconds of life or more, renewed first if need be.

    Tokens with a shorter life than that are given with half of their life or more. A token that
    could not be renewed is given for as long as it is valid, and the result says so.
    `options.force` renews whatever is on disk; `now` gives epoch seconds.

    Raises:
        NoTokenError: there is no valid token.
        ConfigurationError: no such identity, or a configuration that cannot be used.

    """
    name = composed(name)
    store = TokenStore(options.settings.output_dir)
    lead = Lead(seconds=min_ttl, capped=True)
    if not options.force:
        file = read_entries(options.settings)
        entry = next((each for each in file.entries if each.name == name), None)
        if entry is not None and (found := store.token(name)):
            document, record = found
            (item,) = make_plan([entry], {name: record}, now(), lead=lead)
            if entry.obvious and not item.due:
                return ValidToken(document, record.expires_on)
            if not entry.obvious and item.record is not None and record.expires_on > now():
                from credentials_provider.identities.validation import validate_each  # pydantic

                if problems := validate_each([entry]).problems.get(entry.index):
                    mistake = batch.mistaken(file.path, problems)
                    return ValidToken(document, record.expires_on, mistake)
    options = options._replace(names=(name,), refresh_ahead=True, lead=lead)
    (outcome,) = batch.run(options, observer, now=now).results
    found = store.token(name) if outcome.kind != "failed" else None
    if found is None or found[1].expires_on <= now():
        raise NoTokenError(name, outcome.failure)
    return ValidToken(found[0], found[1].expires_on, outcome.failure)


def mint_token(
    options: RunOptions, file: IdentitiesFile, name: str, observer: Observer
) -> ValidToken:
    """A new token of one identity, which is written nowhere: no file, folder or lock is made.

    Raises:
        NoTokenError: there is none.
        ConfigurationError: no such identity, or one that cannot be used.

    """
    from credentials_provider.identities.validation import validate  # to mint only
    from credentials_provider.minting import Minted

    entry, *_ = select(file.entries, (name,), file.path)  # two of a name have mistakes
    identities, warnings = validate(file._replace(entries=[entry]))
    minter = batch.entra_minter(options, identities, time.monotonic() + options.deadline)
    try:
        minted = minter.mint(entry)
    finally:
        minter.close()
    for warning in (*options.settings.warnings, *file.warnings, *warnings, *minted.warnings):
        observer.warn(warning)
    if not isinstance(minted, Minted):
        raise NoTokenError(name, minted)
    refresh_at = refresh_time(
        minted.issued_at, minted.expires_in, identity_name=name, refresh_in=minted.refresh_in
    )
    document = token_document(entry, minted, refresh_at)
    return ValidToken(document, document["expires_on"])


def audit_for(settings: Settings, command: str) -> Audit | None:
    """What writes a line for each token that this command hands out; None: nobody asked for it.

    Raises:
        ConfigurationError: it cannot be written.

    """
    if not (settings.audit_file or settings.audit_syslog):
        return None
    from credentials_provider.run.audit import Audit  # where it is asked for

    return Audit(settings, command)


def only_name(entries: Sequence[Entry], path: str) -> str:
    """The name of the only identity, where no name was given.

    Raises:
        ConfigurationError: there are several, or none.

    """
    if len(entries) == 1:
        return entries[0].name
    if not entries:
        raise ConfigurationError(
            f"{path} has no identity", hint="Add one: `credentials-provider identities add NAME`."
        )
    raise ConfigurationError(
        f"{path} has {len(entries)} identities: name one",
        problems=[Problem("is one of them", each.index, each.name[:64]) for each in entries[:10]],
    )


def resource_of(scope: str) -> str:
    """What a scope is for, to compare: case, `/.default` and a slash at its end do not count."""
    return scope.lower().removesuffix("/.default").rstrip("/")
