"""Faults on request: everything that may go wrong between a client and Entra ID.

Each kind is one function from a call and the fault's parameters to a reply; the keyword-only
arguments of the function are the parameters, with their defaults.
"""

from __future__ import annotations

import email.utils
import inspect
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.emulator.apps import derived_guid
from credentials_provider.emulator.wire import RESET, Call, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ENDPOINTS = ("token", "keys", "discovery", "any")

_MEGABYTE = 1 << 20
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


# Refusals


def throttle(
    call: Call, *, retry_after: float | str | None = None, date: bool = False, plain: bool = False
) -> Reply:
    """429. `retry_after`: seconds, or sent as they are if a text; with `date` as an HTTP date."""
    headers = _retry_after(call, retry_after, date=date)
    if plain:
        return call.reply(429, b"Too Many Requests", content_type="text/plain", headers=headers)
    return call.error(90055, headers=headers)


def unavailable(
    call: Call,
    *,
    status: int = 503,
    retry_after: float | str | None = None,
    date: bool = False,
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
    if "error" not in (refusal.json() or {}):
        refusal = call.error(7000215)
    content = refusal.json() or {}
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
    reply, body = _whole(call)
    return replace(reply, body=body[: len(body) // 2], length=len(body), end="reset")


def slow(call: Call, *, seconds: float) -> Reply:
    """The regular answer after that many seconds."""
    call.wait(seconds)
    return call.answer(call)


def drip(call: Call, *, seconds: float = 1.0) -> Reply:
    """The regular answer, one byte of the body every few seconds."""
    reply, body = _whole(call)

    def drops() -> Iterator[bytes]:
        for byte in body:
            call.wait(seconds)
            yield bytes((byte,))

    return replace(reply, body=drops(), length=len(body))


def hang(call: Call) -> Reply:
    """No answer until the client goes or the emulator closes."""
    call.until_gone()
    return RESET


def truncated(call: Call, *, missing: int = 100) -> Reply:
    """A body that ends that many bytes before its declared length."""
    reply, body = _whole(call)
    return replace(reply, length=len(body) + missing, end="close")


# Bodies that are not a token response


def html(call: Call) -> Reply:
    """A captive portal's page on 200."""
    return call.reply(200, _PORTAL, content_type="text/html")


def truncated_json(call: Call) -> Reply:
    """A complete body of JSON that was cut in the middle."""
    reply, body = _whole(call)
    return replace(reply, body=body[: len(body) // 2])


def garbage(call: Call) -> Reply:
    """Bytes that are neither JSON nor UTF-8, on 200."""
    return call.reply(200, bytes(range(255, -1, -1)) * 2)


def empty(call: Call) -> Reply:
    """200 without a body."""
    return call.reply(200)


def huge(call: Call, *, megabytes: int = 64) -> Reply:
    """A JSON string of that size, made while it is sent."""

    def chunks() -> Iterator[bytes]:
        yield b'{"access_token":"'
        for _ in range(megabytes):
            yield b"A" * _MEGABYTE
        yield b'"}'

    return call.reply(200, chunks(), length=megabytes * _MEGABYTE + 19)


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
    return call.answer(replace(call, offset=seconds))


def wrong_tenant(call: Call) -> Reply:
    """A token for another client of another tenant."""
    tenant, client = derived_guid("another tenant"), derived_guid("another client")
    claims = {"tid": tenant, "iss": f"https://sts.windows.net/{tenant}/"}
    return call.answer(replace(call, claims={**claims, "appid": client, "azp": client}))


KINDS: dict[str, Callable[..., Reply]] = {
    function.__name__: function
    for function in (
        throttle,
        unavailable,
        status,
        temporarily_unavailable,
        aadsts,
        echo_secret,
        reset,
        reset_after,
        slow,
        drip,
        hang,
        truncated,
        html,
        truncated_json,
        garbage,
        empty,
        huge,
        redirect,
        no_access_token,
        no_expires_in,
        string_numbers,
        bad_expires_in,
        refresh_in,
        opaque,
        short_life,
        skew,
        wrong_tenant,
    )
}
"""Every kind of fault."""


def _retry_after(
    call: Call, value: float | str | None, *, date: bool
) -> tuple[tuple[str, str], ...]:
    if value is None:
        return ()
    if date and not isinstance(value, str):
        value = email.utils.formatdate(call.now + value, usegmt=True)
    return (("Retry-After", str(value)),)


def _whole(call: Call) -> tuple[Reply, bytes]:
    """The regular reply and its body in one piece."""
    reply = call.answer(call)
    body = reply.body
    return reply, body if isinstance(body, bytes) else b"".join(body)


def _edited(call: Call, edit: Callable[[dict[str, Any]], object]) -> Reply:
    """The regular reply, its JSON edited if it is a token response."""
    reply = call.answer(call)
    content = reply.json()
    if content is None or "access_token" not in content:
        return reply
    edit(content)
    return replace(reply, body=json.dumps(content).encode())


def _check_params(kind: str, params: Mapping[str, object]) -> None:
    known = _params_of(kind)
    for name, value in params.items():
        if name not in known:
            takes = ", ".join(known) or "none"
            raise ValueError(f"fault {kind!r} has no parameter {name!r}; it takes {takes}")
        _check_type(kind, known[name], value)
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in params:
            raise ValueError(f"fault {kind!r} needs {name!r}")


def _check_type(kind: str, parameter: inspect.Parameter, value: object) -> None:
    wanted = str(parameter.annotation)
    if wanted in ("int", "float") and (
        isinstance(value, bool) or not isinstance(value, int if wanted == "int" else (int, float))
    ):
        raise ValueError(f"fault {kind!r}: {parameter.name!r} must be a number, not {value!r}")


def _params_of(kind: str) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(KINDS[kind]).parameters
    return {name: each for name, each in parameters.items() if each.kind is each.KEYWORD_ONLY}


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
        parsed: object = json.loads(text)
    except ValueError:
        return text
    return parsed
