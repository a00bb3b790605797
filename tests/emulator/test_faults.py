"""Each fault does on the wire what its name says."""

from __future__ import annotations

import email.utils
import errno
import http.client
import json
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest
import urllib3

from credentials_provider.emulator import FAULT_KINDS, Emulator, Fault
from credentials_provider.emulator.aadsts import MEANINGS
from emulator.asking import APP, CLIENT, SECRET, TENANT, Ask, claims, form, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

OTHER = "99999999-9999-4999-8999-999999999999"


@pytest.fixture
def raw(idp: Emulator) -> Iterator[ssl.SSLSocket]:
    """A TLS connection on which a token request was sent."""
    context = ssl.create_default_context(cafile=idp.ca_file)
    with (
        socket.create_connection(("127.0.0.1", idp.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        yield sock


def send(sock: ssl.SSLSocket) -> None:
    body = urlencode(form())
    sock.sendall(
        f"POST /{TENANT}/oauth2/v2.0/token HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )


def read_all(sock: ssl.SSLSocket) -> bytes:
    pieces = []
    while piece := sock.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def was_reset(sock: ssl.SSLSocket) -> bool:
    """Whether an RST came. Asking the kernel, once: Python's ssl reads one as an end of file."""
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


# Refusals


@pytest.mark.parametrize(
    ("params", "header"),
    [({}, None), ({"retry_after": 2}, "2"), ({"retry_after": "soon"}, "soon")],
)
def test_throttle(idp: Emulator, ask: Ask, params: dict[str, Any], header: str | None) -> None:
    """A throttled request gets 429, AADSTS90055 and the wanted Retry-After."""
    idp.inject(Fault("throttle", **params))
    answer = ask()
    assert (answer.status, answer.headers.get("Retry-After")) == (429, header)
    assert answer.json()["error_codes"] == [90055]


def test_throttle_with_a_date(idp: Emulator, ask: Ask) -> None:
    """Retry-After may be an HTTP date that many seconds ahead of the Date header."""
    idp.inject(Fault("throttle", retry_after=30, date=True))
    headers = ask().headers
    until, now = (
        email.utils.parsedate_to_datetime(headers[name]) for name in ("Retry-After", "Date")
    )
    assert (until - now).total_seconds() == 30


def test_throttle_in_plain_text(idp: Emulator, ask: Ask) -> None:
    """The body may be the plain text that has been seen in the field."""
    idp.inject(Fault("throttle", plain=True))
    assert ask().data == b"Too Many Requests"


def test_unavailable(idp: Emulator, ask: Ask) -> None:
    """Any 5xx comes as a page, with Retry-After if wanted."""
    idp.inject(Fault("unavailable", status=502, retry_after=1))
    answer = ask()
    assert (answer.status, answer.headers["Retry-After"]) == (502, "1")
    assert answer.headers["Content-Type"] == "text/html"


def test_any_status(idp: Emulator, ask: Ask) -> None:
    """Any status, even one without a name, with any text."""
    idp.inject(Fault("status", status=499, body="gone"))
    answer = ask()
    assert (answer.status, answer.data) == (499, b"gone")


def test_temporarily_unavailable(idp: Emulator, ask: Ask) -> None:
    """A transient fault of Entra ID's comes as 400 with its own error value."""
    idp.inject(Fault("temporarily_unavailable"))
    answer = ask()
    assert (answer.status, answer.json()["error"]) == (400, "temporarily_unavailable")


def test_every_aadsts_code(idp: Emulator, ask: Ask) -> None:
    """Every number of the table can be provoked, with its error value, status and text."""
    for code, meaning in MEANINGS.items():
        idp.inject(Fault("aadsts", code=code))
        answer = ask()
        body = answer.json()
        assert (answer.status, body["error"]) == (meaning.status, meaning.error)
        assert body["error_description"].startswith(f"AADSTS{code}: ")
        assert not set("{}") & set(body["error_description"])


def test_an_unknown_aadsts_code(idp: Emulator, ask: Ask) -> None:
    """A number outside the table works too, and error value, status and line ends can be chosen."""
    idp.inject(Fault("aadsts", code=123456789, error="server_error", status=500, crlf=True))
    answer = ask()
    assert (answer.status, answer.json()["error"]) == (500, "server_error")
    assert ".\r\nTrace ID: " in answer.json()["error_description"]


@pytest.mark.parametrize("secret", [SECRET, "wrong~secret"])
def test_echo_secret(idp: Emulator, ask: Ask, secret: str) -> None:
    """An error can repeat the posted secret, whether that was right or wrong."""
    idp.inject(Fault("echo_secret"))
    answer = ask(client_secret=secret)
    assert answer.status == 401
    assert secret in answer.json()["error_description"]


def test_echo_secret_without_a_secret(idp: Emulator, ask: Ask) -> None:
    """Where nothing can be repeated the answer is an error all the same."""
    idp.inject(Fault("echo_secret", endpoint="any"), times=2)
    assert ask(headers={"Authorization": "x"}).json()["error_codes"] == [90013]
    assert get(idp, "/nowhere") == 401


# The connection


def test_reset(idp: Emulator, raw: ssl.SSLSocket) -> None:
    """The connection is reset before a byte of the answer."""
    idp.inject(Fault("reset"))
    send(raw)
    wait_for(lambda: was_reset(raw))
    assert read_all(raw) == b""


def test_reset_after(idp: Emulator, raw: ssl.SSLSocket) -> None:
    """The connection is reset after half of the body."""
    idp.inject(Fault("reset_after"))
    send(raw)
    wait_for(lambda: was_reset(raw))
    head, _, body = read_all(raw).partition(b"\r\n\r\n")
    declared = int(head.lower().partition(b"content-length: ")[2])
    assert len(body) == declared // 2


def test_slow(idp: Emulator, ask: Ask) -> None:
    """The answer comes after the wanted time."""
    idp.inject(Fault("slow", seconds=0.15))
    start = time.monotonic()
    assert ask().status == 200
    assert time.monotonic() - start >= 0.15


def test_latency_is_for_every_answer() -> None:
    """An emulator with latency takes its time for discovery as well."""
    with Emulator([APP], latency=0.1) as idp:
        start = time.monotonic()
        get(idp, "/common/discovery/v2.0/keys")
        assert time.monotonic() - start >= 0.1


def test_drip(idp: Emulator, raw: ssl.SSLSocket) -> None:
    """The body comes byte by byte."""
    idp.inject(Fault("drip", seconds=0.01))
    send(raw)
    raw.recv(65536)
    assert [len(raw.recv(65536)) for _ in range(3)] == [1, 1, 1]


def test_drip_brings_the_whole_answer(idp: Emulator, ask: Ask) -> None:
    """A patient client gets its token."""
    idp.inject(Fault("drip", seconds=0))
    assert claims(ask())["tid"] == TENANT


def test_hang_ends_when_the_client_goes(idp: Emulator, ask: Ask) -> None:
    """A hanging request runs into the client's time-out; then the thread is free again."""
    idp.inject(Fault("hang"))
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        ask(timeout=0.1)
    assert ask().status == 200


@pytest.mark.parametrize(
    "fault", [Fault("hang"), Fault("slow", seconds=60), Fault("drip", seconds=60)]
)
def test_closing_ends_what_waits(fault: Fault) -> None:
    """Closing the emulator ends hanging, slow and dripping answers at once."""
    before = threading.active_count()
    with Emulator([APP]) as idp:
        idp.inject(fault, times=None)
        context = ssl.create_default_context(cafile=idp.ca_file)
        plain = socket.create_connection(("127.0.0.1", idp.port), timeout=10)
        sock = context.wrap_socket(plain, server_hostname="localhost")
        with sock:
            send(sock)
            wait_for(lambda: len(idp.token_requests) == 1)
            start = time.monotonic()
            idp.close()
            assert time.monotonic() - start < 2
    wait_for(lambda: threading.active_count() <= before)


def test_truncated(idp: Emulator, raw: ssl.SSLSocket) -> None:
    """The connection ends before the declared length."""
    idp.inject(Fault("truncated", missing=7))
    send(raw)
    answer = http.client.HTTPResponse(raw)
    answer.begin()
    with answer, pytest.raises(http.client.IncompleteRead) as caught:
        answer.read()
    assert caught.value.expected == 7


# Bodies that are no token response


@pytest.mark.parametrize("kind", ["html", "truncated_json", "garbage", "empty"])
def test_body_is_no_json(idp: Emulator, ask: Ask, kind: str) -> None:
    """The answer is a complete 200 whose body is not JSON; the connection stays usable."""
    idp.inject(Fault(kind))
    answer = ask()
    assert answer.status == 200
    assert len(answer.data) == int(answer.headers["Content-Length"])
    with pytest.raises(ValueError):  # noqa: PT011 - JSONDecodeError or UnicodeDecodeError
        json.loads(answer.data)
    assert ask().status == 200
    assert idp.connections == 1


def test_captive_portal_and_empty_body(idp: Emulator, ask: Ask) -> None:
    """The captive portal is HTML, the empty body empty."""
    idp.inject(Fault("html"))
    idp.inject(Fault("empty"))
    assert ask().headers["Content-Type"] == "text/html"
    assert ask().data == b""


def test_huge(idp: Emulator, ask: Ask) -> None:
    """The body has the wanted size and the declared length."""
    idp.inject(Fault("huge", megabytes=3))
    answer = ask()
    assert len(answer.data) == int(answer.headers["Content-Length"]) > 3 << 20
    assert len(answer.json()["access_token"]) == 3 << 20


@pytest.mark.parametrize(("params", "status"), [({}, 302), ({"status": 307}, 307)])
def test_redirect(idp: Emulator, ask: Ask, params: dict[str, Any], status: int) -> None:
    """The answer points elsewhere."""
    idp.inject(Fault("redirect", location="https://login.example/x", **params))
    answer = ask()
    assert (answer.status, answer.headers["Location"]) == (status, "https://login.example/x")


# Token responses with a flaw


@pytest.mark.parametrize(
    ("kind", "missing"), [("no_access_token", "access_token"), ("no_expires_in", "expires_in")]
)
def test_missing_field(idp: Emulator, ask: Ask, kind: str, missing: str) -> None:
    """The field, and nothing that everyone needs besides, is missing."""
    idp.inject(Fault(kind))
    body = ask().json()
    assert missing not in body
    assert body["token_type"] == "Bearer"


def test_string_numbers(idp: Emulator, ask: Ask) -> None:
    """Every number is a string."""
    idp.inject(Fault("string_numbers"))
    body = ask().json()
    assert {type(value) for value in body.values()} == {str}
    assert int(body["expires_in"]) >= 3600


@pytest.mark.parametrize("value", [None, -1, 0, "soon", 1e99, [3600], {"s": 1}, True])
def test_bad_expires_in(idp: Emulator, ask: Ask, value: object) -> None:
    """`expires_in` can be any JSON value."""
    idp.inject(Fault("bad_expires_in", value=value))
    assert ask().json()["expires_in"] == value


@pytest.mark.parametrize("value", [1800, "1800", "nonsense", None])
def test_refresh_in(idp: Emulator, ask: Ask, value: object) -> None:
    """`refresh_in` can be any JSON value."""
    idp.inject(Fault("refresh_in", value=value))
    assert ask().json()["refresh_in"] == value


def test_opaque(idp: Emulator, ask: Ask) -> None:
    """The access token has no three parts."""
    idp.inject(Fault("opaque"))
    assert "." not in ask().json()["access_token"]


def test_short_life(idp: Emulator, ask: Ask) -> None:
    """The token lives as long as told, by `expires_in` and by `exp`."""
    idp.inject(Fault("short_life", expires_in=5))
    answer = ask()
    assert answer.json()["expires_in"] == 5
    assert claims(answer)["exp"] - claims(answer)["iat"] == 305


@pytest.mark.parametrize("seconds", [7200, -7200])
def test_skew(ask: Ask, idp: Emulator, seconds: int) -> None:
    """The Date header and the token's times are off by as much."""
    idp.inject(Fault("skew", seconds=seconds))
    answer = ask()
    date = email.utils.parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert date - time.time() == pytest.approx(seconds, abs=5)
    assert claims(answer)["iat"] == pytest.approx(date - 300, abs=1)


def test_wrong_tenant(idp: Emulator, ask: Ask) -> None:
    """The token is another client's of another tenant."""
    idp.inject(Fault("wrong_tenant"))
    found = claims(ask())
    assert found["tid"] != TENANT
    assert found["azp"] == found["appid"] != CLIENT


def test_a_flawed_response_needs_a_response(idp: Emulator, ask: Ask) -> None:
    """A request that is refused anyway is refused as ever."""
    idp.inject(Fault("no_expires_in"))
    assert ask(client_secret="wrong").json()["error_codes"] == [7000215]


# Whom a fault strikes


def test_a_fault_strikes_so_many_times(idp: Emulator, ask: Ask) -> None:
    """A fault strikes once unless told otherwise; None is for ever, until it is cleared."""
    idp.inject(Fault("empty"), times=2)
    assert [len(ask().data) > 0 for _ in range(3)] == [False, False, True]
    idp.inject(Fault("empty"), times=None)
    assert not any(ask().data for _ in range(3))
    idp.clear_faults()
    assert ask().data


def test_faults_strike_in_order(idp: Emulator, ask: Ask) -> None:
    """One fault a request, the first injected first."""
    idp.inject(Fault("unavailable"))
    idp.inject(Fault("throttle"))
    assert [ask().status for _ in range(3)] == [503, 429, 200]


def test_a_fault_strikes_whom_it_is_for(idp: Emulator, ask: Ask) -> None:
    """A fault can be for one client, or for one tenant."""
    idp.inject(Fault("empty"), client_id=OTHER)
    idp.inject(Fault("unavailable"), tenant_id=OTHER)
    assert ask().status == 200
    assert ask(client_id=OTHER).data == b""
    assert ask(tenant=OTHER).status == 503


def test_a_fault_strikes_the_token_endpoint_unless_told(idp: Emulator, ask: Ask) -> None:
    """Discovery and keys are spared, unless the fault is for them."""
    idp.inject(Fault("unavailable"))
    idp.inject(Fault("unavailable", endpoint="keys"))
    keys, config = "/common/discovery/v2.0/keys", f"/{TENANT}/v2.0/.well-known/openid-configuration"
    assert [get(idp, config), get(idp, keys), get(idp, keys)] == [200, 503, 200]
    assert [ask().status, ask().status] == [503, 200]


# Specifications


def test_parse() -> None:
    """A specification gives the fault and whom it strikes."""
    fault, times, client, tenant = Fault.parse(
        "throttle:retry_after=2,plain=true,times=3,client_id=42,tenant_id=contoso.com"
    )
    assert fault == Fault("throttle", retry_after=2, plain=True)
    assert (times, client, tenant) == (3, "42", "contoso.com")


def test_parse_defaults() -> None:
    """A kind alone strikes anybody once; `forever` says what it says; a text stays a text."""
    assert Fault.parse("reset") == (Fault("reset"), 1, None, None)
    assert Fault.parse("hang:times=forever,endpoint=keys") == (
        Fault("hang", endpoint="keys"),
        None,
        None,
        None,
    )
    assert Fault.parse("redirect:location=https://a.example/b?c=d").fault == Fault(
        "redirect", location="https://a.example/b?c=d"
    )


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("flood", "unknown fault 'flood'; the kinds are throttle, "),
        ("throttle:after=2", "has no parameter 'after'; it takes retry_after, date, plain"),
        ("hang:seconds=2", "it takes none"),
        ("slow", "needs 'seconds'"),
        ("slow:seconds=long", "must be a number, not 'long'"),
        ("aadsts:code=7.5", "must be a number, not 7.5"),
        ("aadsts:code", "'code' is not PARAM=VALUE"),
        ("reset:times=0", "times=0 is neither"),
        ("reset:times=often", "times=often is neither"),
        ("reset:endpoint=moon", "unknown endpoint 'moon'"),
    ],
)
def test_parse_refuses(spec: str, message: str) -> None:
    """A specification that cannot be is refused in one line that says what can be."""
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        Fault.parse(spec)
    assert message in str(caught.value)


def test_fault_shows_what_it_is() -> None:
    """A fault's repr is what makes it."""
    fault = Fault("slow", endpoint="keys", seconds=2)
    assert repr(fault) == "Fault('slow', endpoint='keys', seconds=2)"


def test_every_kind_says_what_it_does() -> None:
    """Every kind has a docstring of its own, for help texts."""
    assert all(function.__doc__ for function in FAULT_KINDS.values())


def get(idp: Emulator, path: str) -> int:
    with urllib3.PoolManager(ca_certs=idp.ca_file, retries=False, timeout=10) as pool:
        return pool.request("GET", f"{idp.base_url}{path}").status
