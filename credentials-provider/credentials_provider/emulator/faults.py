"""Faults on request: everything that may go wrong between a client and Entra ID.

Each kind is one function from a call and the fault's parameters to a reply; the keyword-only
arguments of the function are the parameters, with their defaults.
"""

from __future__ import annotations

import email.utils
import inspect
import itertools
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.emulator.apps import derived_guid
from credentials_provider.emulator.wire import RESET, Call, Headers, Reply, json_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ENDPOINTS = ("token", "keys", "discovery", "any")
RetryAfter = float | str | None
"""Seconds, or a text that is sent as it is; None: no such header."""

_MEGABYTE = 1 << 20
_NUMBERS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float)}
_PORTAL = b"""<!DOCTYPE html>
<html><head><title>Guest network</title></head>
<body><h1>Welcome</h1><form method="post"><button>Accept the terms of use</button></form></body>
</html>
"""


@dataclass(frozen=True, init=False, repr=False)
class Fault:
    """A fault of one of KINDS with its parameters, such as `Fault("throttle", retry_after=2)`.

    `endpoint` is where it strikes: "token" (the usual), "keys", "discovery" or "any". Raises
    ValueError for a kind or a parameter that does not exist, is missing or has the wrong type.
    """

    kind: str
    endpoint: str
    params: Mapping[str, object]

    def __init__(self, kind: str, /, *, endpoint: str = "token", **params: object) -> None:
        if kind not in KINDS:
            raise ValueError(f"unknown fault {kind!r}; the kinds are {', '.join(KINDS)}")
        if endpoint not in ENDPOINTS:
            raise ValueError(f"unknown endpoint {endpoint!r}; it is one of {', '.join(ENDPOINTS)}")
        _check_params(kind, params)
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "endpoint", endpoint)
        object.__setattr__(self, "params", params)

    def __repr__(self) -> str:
        params = "".join(f", {name}={value!r}" for name, value in self.params.items())
        place = "" if self.endpoint == "token" else f", endpoint={self.endpoint!r}"
        return f"Fault({self.kind!r}{place}{params})"

    @classmethod
    def parse(cls, spec: str) -> Injection:
        """A fault as typed on a command line: `KIND` or `KIND:PARAM=VALUE,…`.

        A value is JSON, else text. `times` (1; `forever`), `client_id`, `tenant_id` and `endpoint`
        go with every kind. Raises ValueError with a message of one line.
        """
        kind, _, rest = spec.partition(":")
        words = dict(_pair(item) for item in rest.split(",")) if rest else {}
        client_id = words.pop("client_id", None)
        tenant_id = words.pop("tenant_id", None)
        times = _times(words.pop("times", "1"))
        endpoint = words.pop("endpoint", "token")
        params = {name: _value(text) for name, text in words.items()}
        return Injection(cls(kind, endpoint=endpoint, **params), times, client_id, tenant_id)

    def apply(self, call: Call) -> Reply:
        """The faulty reply."""
        return KINDS[self.kind](call, **self.params)


class Injection(NamedTuple):
    """A fault and whom it strikes: `emulator.inject(*injection)`. `times=None` is for ever."""

    fault: Fault
    times: int | None = 1
    client_id: str | None = None
    tenant_id: str | None = None

    def strikes(self, call: Call) -> bool:
        """Whether the call is one that the fault is for."""
        return (
            self.times != 0
            and self.fault.endpoint in ("any", call.request.endpoint)
            and self.client_id in (None, call.client_id)
            and self.tenant_id in (None, call.tenant)
        )


# Refusals


def throttle(
    call: Call, *, retry_after: RetryAfter = None, date: bool = False, plain: bool = False
) -> Reply:
    """429. With `date` the seconds of `retry_after` are sent as an HTTP date."""
    headers = _retry_after(call, retry_after, date=date)
    if plain:
        return call.reply(429, b"Too Many Requests", content_type="text/plain", headers=headers)
    return call.error(90055, headers=headers)


def unavailable(
    call: Call, *, status: int = 503, retry_after: RetryAfter = None, date: bool = False
) -> Reply:
    """A server's error page: any 5xx."""
    return call.reply(
        status,
        b"<html><body><h2>Our services aren't available right now</h2></body></html>",
        content_type="text/html",
        headers=_retry_after(call, retry_after, date=date),
    )


def status(call: Call, *, status: int, body: str = "", content_type: str = "text/plain") -> Reply:
    """Any status with any text."""
    return call.reply(status, str(body).encode(), content_type=content_type)


def temporarily_unavailable(call: Call) -> Reply:
    """400 with `temporarily_unavailable`."""
    return call.error(90033)


def aadsts(
    call: Call,
    *,
    code: int,
    error: str | None = None,
    status: int | None = None,
    crlf: bool = False,
) -> Reply:
    """Entra ID's error body for one AADSTS number; `crlf` parts its description by CRLF."""
    return call.error(code, error=error, status=status, separator="\r\n" if crlf else " ")


def echo_secret(call: Call) -> Reply:
    """An error whose description repeats the posted secret."""
    refusal = call.answer(call)
    if "error" not in json_object(refusal.body):
        refusal = call.error(7000215)
    content = json_object(refusal.body)
    _, secret = call.request.credentials() or ("", "")
    content["error_description"] += f" The secret sent was '{secret}'."
    return call.json(refusal.status, content)


# The connection


def reset(call: Call) -> Reply:
    """RST instead of an answer."""
    del call
    return RESET


def reset_after(call: Call) -> Reply:
    """RST in the middle of the body."""
    reply = call.answer(call)
    length = len(reply.body)
    return replace(reply, body=reply.body[: length // 2], length=length, end="reset")


def slow(call: Call, *, seconds: float) -> Reply:
    """The regular answer after that many seconds."""
    call.wait(seconds)
    return call.answer(call)


def drip(call: Call, *, seconds: float = 1.0) -> Reply:
    """The regular answer, one byte of the body every few seconds."""
    reply = call.answer(call)

    def drops() -> Iterator[bytes]:
        for byte in reply.body:
            call.wait(seconds)
            yield bytes((byte,))

    return replace(reply, body=b"", more=drops(), length=len(reply.body))


def hang(call: Call) -> Reply:
    """No answer until the client goes or the emulator closes."""
    call.until_gone()
    return RESET


def truncated(call: Call, *, missing: int = 100) -> Reply:
    """A body that ends that many bytes before its declared length."""
    reply = call.answer(call)
    return replace(reply, length=len(reply.body) + missing, end="close")


# Bodies that are not a token response


def html(call: Call) -> Reply:
    """A captive portal's page on 200."""
    return call.reply(200, _PORTAL, content_type="text/html")


def truncated_json(call: Call) -> Reply:
    """A complete body of JSON that was cut in the middle."""
    reply = call.answer(call)
    return replace(reply, body=reply.body[: len(reply.body) // 2])


def garbage(call: Call) -> Reply:
    """Bytes that are neither JSON nor UTF-8, on 200."""
    return call.reply(200, bytes(range(255, -1, -1)) * 2)


def empty(call: Call) -> Reply:
    """200 without a body."""
    return call.reply(200)


def huge(call: Call, *, megabytes: int = 64) -> Reply:
    """A JSON string of that size, made while it is sent."""
    begin, end = b'{"access_token":"', b'"}'
    pieces = itertools.chain(itertools.repeat(b"A" * _MEGABYTE, megabytes), [end])
    length = len(begin) + megabytes * _MEGABYTE + len(end)
    return replace(call.reply(200, begin), more=pieces, length=length)


def redirect(call: Call, *, location: str, status: int = 302) -> Reply:
    """302, or 307 and its like, to somewhere else."""
    return call.reply(status, headers=(("Location", location),))


# Token responses with a flaw


def no_access_token(call: Call) -> Reply:
    """A token response without `access_token`."""
    return _edited(call, lambda body: body.pop("access_token"))


def no_expires_in(call: Call) -> Reply:
    """A token response without `expires_in` and `ext_expires_in`."""
    return _edited(call, lambda body: (body.pop("expires_in"), body.pop("ext_expires_in")))


def string_numbers(call: Call) -> Reply:
    """A token response whose numbers are strings, as v1 endpoints write them."""
    return _edited(
        call, lambda body: body.update({k: str(v) for k, v in body.items() if isinstance(v, int)})
    )


def bad_expires_in(call: Call, *, value: object) -> Reply:
    """A token response whose `expires_in` is any JSON value."""
    return _edited(call, lambda body: body.update(expires_in=value))


def refresh_in(call: Call, *, value: object) -> Reply:
    """A token response with `refresh_in`: seconds, or any other JSON value."""
    return _edited(call, lambda body: body.update(refresh_in=value))


def opaque(call: Call) -> Reply:
    """An access token that is not a JWT."""
    return _edited(call, lambda body: body.update(access_token=f"EwB4A8l6BAAU{call.trace_id}"))


def short_life(call: Call, *, expires_in: int) -> Reply:
    """A token of this short life."""
    return call.answer(replace(call, lifetime=expires_in))


def skew(call: Call, *, seconds: float) -> Reply:
    """Entra ID's clock is that far ahead (or behind, if negative): `Date` and the token's times."""
    return call.answer(replace(call, clock=lambda: call.now + seconds))


def wrong_tenant(call: Call) -> Reply:
    """A token for another client of another tenant."""
    tenant, client = derived_guid("another tenant"), derived_guid("another client")
    claims = {"tid": tenant, "iss": f"https://sts.windows.net/{tenant}/"}
    return call.answer(replace(call, claims={**claims, "appid": client, "azp": client}))


KINDS: dict[str, Callable[..., Reply]] = {
    name: value
    for name, value in list(globals().items())
    if inspect.isfunction(value) and value.__module__ == __name__
}
"""Every kind of fault: the functions above this line."""


def _retry_after(call: Call, value: RetryAfter, *, date: bool) -> Headers:
    if value is None:
        return ()
    if date and not isinstance(value, str):
        value = email.utils.formatdate(call.now + value, usegmt=True)
    return (("Retry-After", str(value)),)


def _edited(call: Call, edit: Callable[[dict[str, Any]], object]) -> Reply:
    """The regular reply, its JSON edited if it is a token response."""
    reply = call.answer(call)
    content = json_object(reply.body)
    if "access_token" not in content:
        return reply
    edit(content)
    return replace(reply, body=json.dumps(content).encode())


def _check_params(kind: str, params: Mapping[str, object]) -> None:
    _, *parameters = inspect.signature(KINDS[kind]).parameters.values()
    known = {each.name: each for each in parameters}
    for name, value in params.items():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise ValueError(f"fault {kind!r} has no parameter {name!r}; it takes {takes}")
        numbers = _NUMBERS.get(known[name].annotation)
        if numbers and type(value) not in numbers:
            raise ValueError(f"fault {kind!r}: {name!r} must be a number, not {value!r}")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in params:
            raise ValueError(f"fault {kind!r} needs {name!r}")


def _pair(item: str) -> tuple[str, str]:
    name, equals, text = item.partition("=")
    if not (name and equals):
        raise ValueError(f"{item!r} is not PARAM=VALUE; a fault is KIND:PARAM=VALUE,…")
    return name.strip(), text.strip()


def _times(text: str) -> int | None:
    if text == "forever":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"times={text} is neither a number from 1 up nor 'forever'")
    return int(text)


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
