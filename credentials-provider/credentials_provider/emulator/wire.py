"""What comes in and what goes out: plain values between the socket and the endpoints."""

from __future__ import annotations

import base64
import email.utils
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, unquote_plus

from credentials_provider.emulator.aadsts import MEANINGS, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

JSON = "application/json; charset=utf-8"

Headers = tuple[tuple[str, str], ...]

_HEADERS: Headers = (
    ("Cache-Control", "no-store, no-cache"),
    ("Pragma", "no-cache"),
    ("Expires", "-1"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
    ("X-Content-Type-Options", "nosniff"),
    ("x-ms-ests-server", "2.1.0 - emulator"),
    ("Set-Cookie", "x-ms-gateway-slice=estsfd; path=/; secure; httponly"),
)

Endpoint = Literal["token", "keys", "discovery"]
"""What a request is for; whatever is neither of the first two counts as discovery."""


@dataclass(frozen=True)
class RecordedRequest:
    """One request as it arrived; nothing secret is kept.

    `tenant` is the path's first segment, `client_id` "" where none was sent, `at` from
    `time.monotonic()`. `connection` counts from 1.
    """

    method: str
    path: str
    endpoint: Endpoint
    tenant: str
    client_id: str
    at: float
    connection: int


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is; an empty one for anything else."""
    try:
        parsed = json.loads(body)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


@dataclass(frozen=True)
class Request:
    """A request, parsed. Header names are lower case; header and form values may be secret."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    form: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)

    def json(self) -> dict[str, Any]:
        """The body's JSON object."""
        return json_object(self.body)

    @property
    def segments(self) -> list[str]:
        """The path's parts, decoded; never empty."""
        return [unquote(part) for part in self.path.strip("/").split("/")]

    @property
    def endpoint(self) -> Endpoint:
        """Which kind of endpoint the path names."""
        match self.segments[1:]:
            case (
                ["oauth2", "v2.0", "token"] | ["identity", "oauth2", "token"] | ["token"] | ["auth"]
            ):
                return "token"
            case ["discovery", *_, "keys"]:
                return "keys"
            case _:
                return "discovery"

    def credentials(self) -> tuple[str, str] | None:
        """Client id and secret, from the body or from HTTP Basic; "" for what was not sent.

        None for an Authorization header that does not hold Basic credentials.
        """
        header = self.headers.get("authorization")
        if header is None:
            return self.form.get("client_id", ""), self.form.get("client_secret", "")
        scheme, _, encoded = header.partition(" ")
        try:
            pair = base64.b64decode(encoded, validate=True).decode()
        except ValueError:  # no Base64, or no UTF-8
            return None
        client_id, colon, secret = pair.partition(":")
        if scheme.lower() != "basic" or not colon:
            return None
        return unquote_plus(client_id), unquote_plus(secret)  # RFC 6749 §2.3.1


@dataclass(frozen=True)
class Reply:
    """An answer; a status of 0 sends nothing at all.

    `more` follows the body, piece by piece. `length` is the Content-Length to declare, else the
    body's. `end` says what comes then: the connection stays, is closed, or is reset (RST).
    """

    status: int
    headers: Headers = ()
    body: bytes = b""
    more: Iterable[bytes] = ()
    length: int | None = None
    end: Literal["keep", "close", "reset"] = "keep"


RESET = Reply(0, end="reset")


@dataclass(frozen=True)
class Call:
    """One request on its way through the emulator, with what its answer depends on.

    `clock` gives epoch seconds; `lifetime` and `claims` override the token's; `answer` makes the
    regular reply; `wait` sleeps that many seconds unless the emulator closes; `until_gone` returns
    when the client has closed the connection or the emulator closes.
    """

    request: Request
    tenant: str
    client_id: str
    base_url: str
    clock: Callable[[], float]
    trace_id: str
    correlation_id: str
    answer: Callable[[Call], Reply]
    wait: Callable[[float], object]
    until_gone: Callable[[], None]
    lifetime: int | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)

    @property
    def now(self) -> float:
        """The emulator's time: epoch seconds."""
        return self.clock()

    def reply(
        self, status: int, body: bytes = b"", *, content_type: str = JSON, headers: Headers = ()
    ) -> Reply:
        """A reply with the headers that Entra ID puts on every one."""
        echoed = self.request.headers.get("client-request-id")
        return Reply(
            status,
            (
                *_HEADERS,
                ("Content-Type", content_type),
                *((("client-request-id", echoed),) if echoed else ()),
                ("x-ms-request-id", self.trace_id),
                ("Set-Cookie", f"fpc={self.trace_id}; path=/; secure; HttpOnly; SameSite=None"),
                ("Date", email.utils.formatdate(self.now, usegmt=True)),
                *headers,
            ),
            body,
        )

    def json(self, status: int, content: object, headers: Headers = ()) -> Reply:
        """A reply with a JSON body."""
        body = json.dumps(content, separators=(",", ":")).encode()
        return self.reply(status, body, headers=headers)

    def error(
        self,
        code: int,
        *,
        error: str | None = None,
        status: int | None = None,
        separator: str = " ",
        headers: Headers = (),
        values: Mapping[str, str] | None = None,
    ) -> Reply:
        """Entra ID's error body for an AADSTS number; `error` and `status` override the table's.

        `separator` stands between the text, the ids and the timestamp: a space today, CRLF before.
        """
        scope = self.request.form.get("scope", "")
        said = {
            "client_id": self.client_id,
            "tenant": self.tenant,
            "name": "app",
            "scope": scope,
            "resource": scope.removesuffix("/.default"),
            "parameter": "scope",
            "reason": "The key was not found.",
            "grant_type": self.request.form.get("grant_type", ""),
            "method": self.request.method,
        }
        meaning = MEANINGS.get(code, UNKNOWN)
        timestamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(self.now))
        parts = (
            f"AADSTS{code}: {meaning.text.format_map({**said, **(values or {})})}",
            f"Trace ID: {self.trace_id}",
            f"Correlation ID: {self.correlation_id}",
            f"Timestamp: {timestamp}",
        )
        body = {
            "error": error or meaning.error,
            "error_description": separator.join(parts),
            "error_codes": [code],
            "timestamp": timestamp,
            "trace_id": self.trace_id,
            "correlation_id": self.correlation_id,
            "error_uri": f"https://login.microsoftonline.com/error?code={code}",
        }
        return self.json(status or meaning.status, body, headers=headers)
