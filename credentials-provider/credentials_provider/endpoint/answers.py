"""What the local token endpoint answers: the managed-identity protocol of Azure App Service.

https://learn.microsoft.com/azure/app-service/overview-managed-identity (REST endpoint reference)
"""

from __future__ import annotations

import hmac
import json
import time
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from credentials_provider.errors import ConfigurationError, CredentialsProviderError
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.run.access import resource_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from credentials_provider.model import Entry
    from credentials_provider.run.access import ValidToken
    from credentials_provider.run.audit import Audit, Client
    from credentials_provider.run.source import TokenSource
    from credentials_provider.settings import Settings

PATH = "/msi/token"
API_VERSION = "2019-08-01"
SECRET_HEADER = "x-identity-header"  # noqa: S105  a header's name
LEAST_LIFE = 60.0  # seconds: no token that expires earlier is given
_MIN_TTL = 300.0  # seconds: renewed first if less is left
_LOCAL = frozenset(("127.0.0.1", "localhost", "[::1]"))
_TELL_TALE = ("origin", "x-forwarded-for", "forwarded")  # sent by browsers and proxies alone


@dataclass(frozen=True, slots=True)
class Call:
    """A request: its head, the names of its headers in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(repr=False)
    client: Client | None = None  # the process that asks, on a unix socket


@dataclass(frozen=True, slots=True)
class Answer:
    """Status and JSON body. `why` says in the log what was wrong with the request."""

    status: int
    body: bytes = field(repr=False)
    why: str = ""
    content_type: str = "application/json"


class Query(NamedTuple):
    """A request that is in order: whose token it is for, and whether the last one was refused."""

    entry: Entry
    resource: str
    forced: bool
    refused: str  # SHA-256 of a token that a server has refused, in hexadecimal digits
    client: Client | None = None


@dataclass(repr=False)
class Answers:
    """Answers for some identities of one configuration."""

    source: TokenSource
    settings: Settings  # where the identities are
    names: Sequence[str]  # of those that are served; none: all
    secret: str  # what the header must hold
    audit: Audit | None = None  # gets a line for each answer with a token

    def __post_init__(self) -> None:
        self._known: tuple[object, list[Entry]] = (None, [])

    def entries(self) -> list[Entry]:
        """The identities that are served, as their file has them now.

        Raises:
            ConfigurationError: it cannot be used.

        """
        status = self.source.identities_status()
        if status is None or self._known[0] != status:
            file = read_entries(self.settings)
            self._known = (status, select(file.entries, self.names, file.path))
        return self._known[1]

    def handle(self, call: Call, port: int | None) -> Answer | Callable[[], Answer]:
        """What a request gets, at once or from a call that may renew a token first."""
        found = self.check(call, port)
        return (
            found if isinstance(found, Answer) else self.ready(found) or partial(self.take, found)
        )

    def check(self, call: Call, port: int | None) -> Query | Answer:
        """What a request asks for, or why it gets nothing. `port`: None on a unix socket."""
        given = call.headers.get(SECRET_HEADER, "")
        host, _, at = call.headers.get("host", "").rpartition(":")
        if port is None:
            host = host or at
        if host.lower() not in _LOCAL or (port is not None and at != str(port)):
            return refusal(403, "the Host header names another host")
        if any(name in call.headers for name in _TELL_TALE):
            return refusal(403, "it comes from a web page or through a proxy")
        if not hmac.compare_digest(given.encode(errors="replace"), self.secret.encode()):
            return refusal(401, "the X-IDENTITY-HEADER is missing or wrong")
        path, _, text = call.target.partition("?")
        if path != PATH:
            return refusal(404, f"there is nothing but {PATH}")
        if call.method != "GET":
            return refusal(405, "only GET is answered")
        query = dict(parse_qsl(text, keep_blank_values=True))
        if query.get("api-version") != API_VERSION:
            return refusal(400, f"api-version must be {API_VERSION}")
        try:
            found = self._query(query)
        except ConfigurationError as error:
            return refusal(500, "; ".join(map(str, error.problems)))
        return found._replace(client=call.client) if isinstance(found, Query) else found

    def _query(self, query: Mapping[str, str]) -> Query | Answer:
        resource = query.get("resource", "")
        entries = self.entries()
        if client_id := query.get("client_id", ""):
            entries = [each for each in entries if _text(each, "client_id") == client_id.lower()]
            if not entries:
                return refusal(400, "no identity that is served has this client_id")
        elif {"mi_res_id", "object_id", "principal_id"} & query.keys():
            return refusal(400, "an identity is chosen by client_id")
        elif len(entries) != 1:
            return refusal(400, f"{len(entries)} identities are served: client_id must name one")
        of_resource = [
            each for each in entries if resource_of(_text(each, "scope")) == resource_of(resource)
        ]
        if len(of_resource) != 1:
            scopes = ", ".join(sorted(resource_of(_text(each, "scope")) for each in entries))
            return refusal(400, f"resource must be that of the identity: {scopes}")
        forced = query.get("bypass_cache", "").lower() == "true"
        return Query(of_resource[0], resource, forced, query.get("token_sha256_to_refresh", ""))

    def ready(self, query: Query) -> Answer | None:
        """The answer from memory; None where it may take a while."""
        if query.forced:
            return None
        access = self.source.ready(query.entry.name, _MIN_TTL)
        if access is None or access.kept is not None or _refused(access, query):
            return None
        return self._hand_out(access, query)

    def take(self, query: Query) -> Answer:
        """The answer, after a renewal if it needs one; blocks."""
        name = query.entry.name
        try:
            access = self.source.get(name, _MIN_TTL)
            if query.forced or _refused(access, query):
                access = self.source.replaced(name, access.token) or access
        except CredentialsProviderError as error:
            return refusal(500, " ".join((error.message, error.hint or "")).strip())
        left = access.expires_on - time.time()
        if left < LEAST_LIFE:
            why = access.kept.message if access.kept else "it is given for a minute at least"
            return refusal(503, f"the token of {name} expires in {max(left, 0):.0f} s: {why}")
        return self._hand_out(access, query)

    def _hand_out(self, access: ValidToken, query: Query) -> Answer:
        if self.audit is not None:
            try:
                self.audit.record(query.entry.name, access, query.client)
            except CredentialsProviderError as error:
                return refusal(500, error.message)
        return _answer(access, query)


def refusal(status: int, why: str) -> Answer:
    """An error as the protocol has it."""
    return Answer(status, json.dumps({"statusCode": status, "message": why}).encode(), why)


def _answer(access: ValidToken, query: Query) -> Answer:
    document = {
        "access_token": access.token,
        "expires_on": str(int(access.expires_on)),
        "resource": query.resource,
        "token_type": "Bearer",
        "client_id": query.entry.fields.get("client_id"),
    }
    return Answer(200, json.dumps(document).encode())


def _refused(access: ValidToken, query: Query) -> bool:
    return (
        bool(query.refused) and sha256(access.token.encode()).hexdigest() == query.refused.lower()
    )


def _text(entry: Entry, name: str) -> str:
    value: Any = entry.fields.get(name)
    return value.lower() if isinstance(value, str) else ""
