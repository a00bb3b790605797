"""What stands in the identities file and whether its credentials can be had: nothing is minted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.credentials.resolver import Resolver, expiry_warning
from credentials_provider.errors import ConfigurationError, Problem
from credentials_provider.identities.fields import (
    CREDENTIAL_KINDS,
    LITERALS,
    PREVIOUS_KINDS,
    SECRET_KINDS,
    day_of,
    secret_end,
)
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.reading import authority_base, read_entries
from credentials_provider.identities.validation import validate, validate_entry
from credentials_provider.minting import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

WRONG = "(wrong)"  # instead of a value that is none
GRAPH_DEADLINE = 120.0  # seconds for all questions to Microsoft Graph


class Item(NamedTuple):
    """One identity as it may be shown; `expires_on` is its credential's end, in epoch seconds."""

    identity_name: str
    tenant_id: str
    client_id: str
    scope: str
    credential: str | None  # its field
    source: str | None  # where it is; None for a secret that stands in the file
    previous: str | None  # the field of a second secret
    expires_on: float | None

    @property
    def origin(self) -> str:
        """Kind and place of the credential, for people."""
        place = f" {self.source or 'in the identities file'}" if self.credential else ""
        return f"{self.credential or 'none'}{place}{f', {self.previous}' if self.previous else ''}"

    @property
    def ends(self) -> str | None:
        """The credential's last day, ISO 8601 in UTC."""
        return None if self.expires_on is None else day_of(self.expires_on)

    def row(self) -> tuple[str, ...]:
        return (*self[:4], self.origin, self.ends or "")

    def document(self) -> dict[str, Any]:
        return {**self._asdict(), "expires_on": self.ends}


def items(settings: Settings, now: Callable[[], float] = time.time) -> list[Item]:
    """Every entry of the file, wrong ones included: `check` says what is wrong with them.

    Raises:
        ConfigurationError: there is no file, or it is not a JSON array.

    """
    resolver = Resolver(settings, now)
    found = []
    for entry in read_entries(settings).entries:
        identity = validate_entry(entry)
        if not isinstance(identity, Identity):
            found.append(_item(entry, None, {problem.field for problem in identity}))
        else:
            certified = "certificate_file" in entry.fields
            found.append(_item(entry, resolver.certificate_end(identity) if certified else None))
    return found


def check(
    settings: Settings, now: Callable[[], float] = time.time, *, ask_graph: bool = False
) -> tuple[list[Item], list[str]]:
    """Every identity, and warnings, once all of them and their sources have proved to be in order.

    With `ask_graph`, secrets' ends are read from Microsoft Graph.

    Raises:
        ConfigurationError: with everything that is wrong.

    """
    file = read_entries(settings)
    identities, warnings = validate(file)
    resolver = Resolver(settings, now)
    warnings = [*settings.warnings, *file.warnings, *warnings]
    problems: list[Problem] = []
    found = []
    for entry in file.entries:
        end = None
        identity = identities[entry.name]
        for field in filter(None, (identity.credential, identity.previous)):
            credential = resolver.resolve(identity, field)
            if isinstance(credential, Failure):
                message = f"{credential.message}. {credential.remedy}"
                problems.append(Problem(message, entry.index, entry.name))
                continue
            end = end or credential.expires_on
            warnings += [each for each in credential.warnings if each not in warnings]
        found.append(_item(entry, end))
    if problems:
        count = "a credential" if len(problems) == 1 else f"{len(problems)} credentials"
        raise ConfigurationError(
            f"{file.path}: {count} cannot be read",
            hint="Each line names the place to look at.",
            problems=problems,
        )
    if ask_graph:
        ends, more = _ends_from_graph(settings, identities, resolver)
        found = [
            item._replace(expires_on=ends.get(item.identity_name, item.expires_on))
            for item in found
        ]
        warnings += more
        for name, end in ends.items():
            if warning := expiry_warning(f"{name}: the client secret", end, now()):
                warnings.append(warning)
    return found, warnings


def _ends_from_graph(
    settings: Settings, identities: Mapping[str, Identity], resolver: Resolver
) -> tuple[dict[str, float], list[str]]:
    """Ends of secrets by identity, and why others are unknown."""
    from credentials_provider.entra.graph import secret_expiry  # msal
    from credentials_provider.transport.retrying import Transport

    transport = Transport(
        timeout=20.0,
        max_attempts=3,
        deadline=time.monotonic() + GRAPH_DEADLINE,
        connections=1,
        ca_bundle=settings.ca_bundle,
    )
    ends: dict[str, float] = {}
    reasons = []
    for name, identity in identities.items():
        credential = resolver.resolve(identity, identity.credential)
        if identity.credential not in SECRET_KINDS or isinstance(credential, Failure):
            continue
        base = authority_base(identity.more, settings)
        end = secret_expiry(identity, credential, base, transport)
        if isinstance(end, str):
            reasons.append(f"{name}: the end of its secret is unknown: {end}")
        else:
            ends[name] = end
    transport.close()
    return ends, reasons


def _item(entry: Entry, end: float | None, wrong: Collection[str | None] = ()) -> Item:
    """An entry as it may be shown: a `wrong` field may hold a secret in the wrong place."""
    fields = entry.fields

    def text(field: str) -> str:
        if field in wrong and field in fields:
            return WRONG
        value = fields.get(field)
        return value if isinstance(value, str) else ""

    kind = next((kind for kind in CREDENTIAL_KINDS if kind in fields), None)
    source = None
    if kind in LITERALS and not entry.index:
        source = "in the environment"
    elif kind and kind not in LITERALS:
        source = "system-assigned" if fields[kind] is True else text(kind)
    if end is None:
        end = secret_end(fields)
    previous = next((kind for kind in PREVIOUS_KINDS if kind in fields), None)
    return Item(
        entry.name,
        text("tenant_id"),
        text("client_id"),
        text("scope"),
        credential=kind,
        source=source,
        previous=previous,
        expires_on=end,
    )
