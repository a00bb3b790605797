"""Networks and hosts at their worst: bounded in time and memory, plainly told, no secret lost."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Emulator, Fault
from support import (
    BEHIND_PROXY,
    Command,
    Project,
    Ran,
    apps,
    assert_no_secret,
    closed_port,
    connect_proxy,
    entry,
    wait,
)

from . import servers
from .servers import RST_ON_CLOSE, Server, Trust, answering, relay, serving
from .tracing import tracing, with_child

if TYPE_CHECKING:
    import pathlib
    import ssl
    from collections.abc import Callable

HASTE = ("--timeout", "0.5", "--max-attempts", "2")
BUDGET = 2 * 0.5 + 1.0  # seconds: two requests of HASTE and the longest wait between them
SLOWNESS = 10.0  # seconds that a busy machine may add


@pytest.fixture
def trust(tmp_path: pathlib.Path) -> Trust:
    """An authority that the command is told to trust."""
    return Trust(str(tmp_path))


def ask(
    run: Command, trust: Trust, server: Server, *args: str, env: dict[str, str] | None = None
) -> tuple[Ran, dict[str, Any]]:
    """One identity's token from this server; the run and the identity's result."""
    many = apps(1)
    run.project.write([entry(many[0])])
    reach = ("--login-base-url", server.url, "--ca-bundle", trust.file)
    ran = run("--json", *reach, *args, bare=True, env=env)
    assert_no_secret(ran.stdout + ran.stderr, many)
    assert "Traceback" not in ran.stderr
    (result,) = ran.json["results"]
    return ran, result


# Time


def _drip(server: Server, sock: socket.socket, first: bytes, drop: bytes) -> None:
    sock.sendall(first)
    while not server.closing.wait(0.05):
        sock.sendall(drop)


OK = b"HTTP/1.1 200 OK\r\n"
DRIPS = {
    "status line": (b"HTTP/1.1 2", b"0"),
    "header": (OK + b"X-A: ", b"a"),
    "headers": (OK, b"X-A: a\r\n"),
    "continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": (OK + b"Content-Length: 100000\r\n\r\n", b"{"),
    "chunks": (OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n"),
    "chunk extension": (OK + b"Transfer-Encoding: chunked\r\n\r\n1;", b"a"),
    "unbounded body": (OK + b"\r\n", b"{"),
}


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_an_answer_that_drips_ends_with_its_time_out(
    run: Command, trust: Trust, drip: tuple[bytes, bytes]
) -> None:
    """Byte by byte, in whatever part of an answer, no request lasts longer than --timeout."""
    with answering(lambda server, sock: _drip(server, sock, *drip), trust.context()) as server:
        began = time.monotonic()
        ran, result = ask(run, trust, server, *HASTE)
        took = time.monotonic() - began

    assert (ran.code, result["error"]["kind"]) == (1, "unreachable")
    assert "in time" in result["error"]["message"] or "cut" in result["error"]["message"]
    assert took < BUDGET + SLOWNESS


@pytest.mark.parametrize(
    ("after", "then"),
    [(0, "close"), (3, "hang"), (3, "close"), (700, "reset"), (2200, "hang"), (2200, "close")],
)
def test_half_a_tls_record_is_a_cut_connection(
    project: Project, run: Command, idp: Emulator, after: int, then: str
) -> None:
    """A stream that ends or stalls within a record, handshake or answer, is a network failure."""
    many = apps(1)
    project.add_all(many)
    with relay(idp.port, after=after, then=then) as server:
        reach = ("--login-base-url", server.url, "--ca-bundle", idp.ca_file)
        ran = run("--json", *HASTE, *reach, bare=True)

    (result,) = ran.json["results"]
    assert (ran.code, result["error"]["kind"]) == (1, "unreachable")
    assert project.files() == {}
    for secret in many[0].secrets:
        assert secret.encode() not in server.heard


def test_a_reset_before_the_request_is_told(run: Command, trust: Trust) -> None:
    """A host that resets every connection at once costs its attempts and no traceback."""

    def talk(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)

    # CPython leaves a socket to the collector that is reset before its handshake begins
    # (gh-108310's check of what came in by then); everybody else shall close theirs.
    env = {"PYTHONWARNINGS": "error,ignore:unclosed:ResourceWarning"}
    with serving(Server(talk)) as server:
        ran, result = ask(run, trust, server, "--max-attempts", "2", env=env)

    assert (ran.code, result["error"]["kind"], result["attempts"]) == (1, "unreachable", 2)
    assert server.connections == 2


def test_a_name_that_does_not_resolve_is_told(project: Project, run: Command) -> None:
    """DNS failure names the host and the cure, within the deadline."""
    project.write([entry(apps(1)[0])])
    args = (
        "--json",
        "--max-attempts",
        "1",
        "--deadline",
        "20",
        "--login-base-url",
        "https://no-such-host.invalid",
    )

    ran = run(*args, bare=True)

    (result,) = ran.json["results"]
    assert (ran.code, result["error"]["kind"]) == (1, "unreachable")
    assert (
        "no-such-host.invalid" in result["error"]["message"]
        or "deadline" in (result["error"]["message"])
    )


def _can_mount() -> bool:
    probe = subprocess.run(
        ["unshare", "-m", "sh", "-c", "mount --bind /etc/hosts /etc/resolv.conf"],
        capture_output=True,
        check=False,
    )
    return probe.returncode == 0


@pytest.mark.skipif(
    not (sys.platform == "linux" and os.geteuid() == 0 and _can_mount()),
    reason="needs root, to mount another resolv.conf and to listen on port 53",
)
def test_dns_that_never_answers_ends_with_the_deadline(project: Project, run: Command) -> None:
    """Threads that hang in the resolver hold up neither the report nor the interpreter's end."""
    project.write([entry(app) for app in apps(3)])
    conf = project.private("resolv.conf", "nameserver 127.0.0.77\noptions timeout:30 attempts:5\n")
    line = run.line("--json", "--deadline", "2", bare=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.77", 53))
        shell = f'mount --bind {conf} /etc/resolv.conf && exec "$@"'
        began = time.monotonic()
        ran = wait(run.start_line(["unshare", "-m", "sh", "-c", shell, "sh", *line]))
        took = time.monotonic() - began
        silent.setblocking(False)
        asked = silent.recv(512)

    assert b"microsoftonline" in asked
    assert ran.code == 1, ran.stderr
    assert {each["error"]["kind"] for each in ran.json["results"]} == {"unreachable"}
    assert 2 <= took < 2 + SLOWNESS


@pytest.mark.parametrize("how", ["closed", "hangs", "resets"])
def test_five_hundred_identities_and_a_dead_host_cost_one_retry_budget(
    project: Project, run: Command, how: str
) -> None:
    """Nobody waits five hundred times for a host that answers nobody."""
    project.write([entry(app) for app in apps(500)])

    def talk(sock: socket.socket) -> None:
        if how == "hangs":
            server.closing.wait()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)

    server = Server(talk)
    with serving(server):
        port = closed_port() if how == "closed" else server.port
        began = time.monotonic()
        ran = run("--json", *HASTE, "--login-base-url", f"https://localhost:{port}", bare=True)
        took = time.monotonic() - began

    assert ran.code == 1
    assert {each["error"]["kind"] for each in ran.json["results"]} == {"unreachable"}
    assert took < 2 * BUDGET + SLOWNESS  # the connections are shared, so some begin late
    # No more than the workers that were under way; without the verdict there would be a thousand.
    assert sum(each["attempts"] for each in ran.json["results"]) < 300


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("flood", ["body", "headers", "one header", "gzip"])
def test_a_flood_costs_no_memory(run: Command, trust: Trust, flood: str) -> None:
    """A hundred megabytes of anything are not read, let alone kept or unpacked."""
    megabyte = b"A" * (1 << 20)
    bomb = gzip.compress(b" " * (100 << 20), 1)

    def answer(server: Server, sock: socket.socket) -> None:
        del server
        if flood == "gzip":
            head = f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n"
            sock.sendall(OK + head.encode() + bomb)
            return
        starts = {
            "body": OK + b"Content-Length: 104857600\r\n\r\n",
            "headers": OK,
            "one header": OK + b"X-A: ",
        }
        sock.sendall(starts[flood])
        for _ in range(100):
            sock.sendall(b"X-A: a\r\n" * (1 << 17) if flood == "headers" else megabyte)

    with answering(answer, trust.context()) as server:
        env = with_child(FAULTS_MEMORY=os.path.join(run.project.folder, "memory"))
        ran, result = ask(run, trust, server, "--max-attempts", "1", env=env)

    assert (ran.code, result["error"]["kind"]) in {(1, "bad_response"), (1, "unreachable")}
    with open(env["FAULTS_MEMORY"], encoding="ascii") as file:
        assert int(file.read()) < 90 << 20  # bytes; Python, msal and OpenSSL have some 50 MiB


# Trust


@pytest.mark.parametrize(
    ("context", "says"),
    [
        (servers.expired, "expired"),
        (servers.wrong_host, "another host"),
        (servers.unknown_authority, "does not trust"),
        (servers.self_signed, "self-signed"),
        (servers.old_protocol, "TLS version"),
    ],
    ids=["expired", "wrong host", "unknown authority", "self-signed", "TLS 1.1"],
)
def test_a_host_that_cannot_be_trusted_hears_no_secret(
    run: Command,
    trust: Trust,
    context: Callable[[Trust], ssl.SSLContext],
    says: str,
) -> None:
    """Not a byte of a request goes to a host whose certificate does not hold, in one attempt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that TLS 1.1 is old is the point
        made = context(trust)

    with answering(lambda _, sock: sock.sendall(OK + b"\r\n"), made) as server:
        ran, result = ask(run, trust, server)

    assert (ran.code, result["error"]["kind"], result["attempts"]) == (1, "untrusted", 1)
    assert says in result["error"]["message"]
    assert result["error"]["remedy"]
    assert (bytes(server.heard), server.connections) == (b"", 1)


def test_a_trusted_host_would_hear_the_secret(run: Command, trust: Trust) -> None:
    """The listener of these tests hears what is sent, so its silence means something."""
    with answering(lambda _, sock: sock.sendall(OK + b"\r\n"), trust.context()) as server:
        _, result = ask(run, trust, server)

    assert b"client_secret=" in server.heard
    assert result["error"]["kind"] == "bad_response"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://portal.example/\r\n\r\n",
        b"<html>",
        b"SSH-2.0-x\r\n",
    ],
    ids=["redirect", "page", "ssh"],
)
def test_a_port_without_tls_hears_no_secret(run: Command, trust: Trust, answer: bytes) -> None:
    """A captive portal or a wrong port gets a TLS hello and nothing else."""
    with answering(lambda _, sock: sock.sendall(answer), None) as server:
        ran, result = ask(run, trust, server)

    assert (ran.code, result["error"]["kind"]) == (1, "untrusted")
    assert b"client_secret" not in server.heard
    assert b"POST" not in server.heard


def test_a_captive_portal_is_named(project: Project, run: Command, trust: Trust) -> None:
    """A page in place of a token, however it calls itself, is told as a portal; nothing is kept."""
    page = b"<!DOCTYPE html><title>Sign in to Wi-Fi</title>"
    head = f"Content-Type: application/json\r\nContent-Length: {len(page)}\r\n\r\n".encode()
    with answering(lambda _, sock: sock.sendall(OK + head + page), trust.context()) as server:
        ran, result = ask(run, trust, server)

    assert (ran.code, result["error"]["kind"], result["attempts"]) == (1, "bad_response", 1)
    assert "web page" in result["error"]["message"]
    assert project.files() == {}


@pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 No"])
def test_a_proxy_that_refuses_is_told_and_hears_no_secret(
    project: Project, run: Command, idp: Emulator, status: str
) -> None:
    """What the proxy hears is the host's name; its own password shows nowhere."""
    many = apps(1)
    project.add_all(many)
    with connect_proxy(status) as proxy:
        env = {"HTTPS_PROXY": f"http://user:pr0xy-pass@{proxy.address}"}
        ran = run("--json", "--max-attempts=1", "--login-base-url", BEHIND_PROXY, env=env)

    (result,) = ran.json["results"]
    assert (ran.code, result["error"]["kind"]) == (1, "unreachable")
    assert "proxy" in result["error"]["message"]
    assert idp.connections == 0
    assert "pr0xy-pass" not in ran.stdout + ran.stderr
    assert proxy.heads
    assert_no_secret("".join(proxy.heads), many)


@tracing
def test_there_is_no_other_door(project: Project, run: Command, idp: Emulator) -> None:
    """A run connects to the configured host alone: no discovery, no telemetry, no metadata."""
    project.add_all(apps(3))
    # What might lead msal, OpenSSL or requests elsewhere.
    env = {
        "MSAL_FORCE_REGION": "westeurope",
        "REGION_NAME": "westeurope",
        "AZURE_AUTHORITY_HOST": "https://elsewhere.example",
        "IDENTITY_ENDPOINT": "http://127.0.0.1:1/",
    }
    log = os.path.join(project.folder, "network")
    # Discovery that points elsewhere strikes nobody: it is not asked for.
    idp.inject(Fault("redirect", endpoint="discovery", location="https://elsewhere.example/"), None)

    ran = wait(
        run.start_line(
            ["strace", "-f", "-qq", "-o", log, "-e", "trace=connect,sendto,sendmsg", *run.line()],
            env,
        )
    )

    assert ran.code == 0, ran.stderr
    with open(log, encoding="utf-8", errors="replace") as file:
        calls = file.read()
    ports = set(re.findall(r"sin6?_port=htons\((\d+)\)", calls))
    addresses = set(re.findall(r'inet_(?:addr|pton)\((?:AF_INET6, )?"([^"]+)"', calls))
    assert str(idp.port) in ports
    assert ports <= {str(idp.port), "0"}  # 0: getaddrinfo tries its source addresses
    assert addresses <= {"127.0.0.1", "::1"}
    assert {(each.method, each.endpoint) for each in idp.requests} == {("POST", "token")}


# What an answer may put into a terminal, a log, a header

ESCAPES = "\x1b]0;owned\x07\x1b[2J\r\nSet-Cookie: a=b\r\n\u202e\x00\x9b31m"


@pytest.mark.parametrize("verbose", [(), ("-v",), ("--json",)], ids=["plain", "verbose", "json"])
def test_an_answer_writes_nothing_into_the_terminal(
    project: Project, run: Command, trust: Trust, verbose: tuple[str, ...]
) -> None:
    """Control characters in any field of a refusal do not come out again."""
    body = json.dumps(
        {
            "error": f"invalid_client{ESCAPES}",
            "error_description": f"AADSTS7000215: {ESCAPES}",
            "error_codes": [7000215, ESCAPES, -1, 10**400],
            "trace_id": ESCAPES,
            "correlation_id": [ESCAPES],
            "timestamp": ESCAPES,
        }
    ).encode()
    head = (
        f"HTTP/1.1 401 {ESCAPES[:9]}\r\nContent-Length: {len(body)}\r\n"
        "Retry-After: \x1b[2J\r\nDate: \x1b[2J\r\nx-ms-request-id: \x1b[2J\r\n\r\n"
    ).encode()
    project.write([entry(apps(1)[0])])
    reach = ("--login-base-url", "", "--ca-bundle", trust.file)
    with answering(lambda _, sock: sock.sendall(head + body), trust.context()) as server:
        ran = run(*verbose, "--max-attempts", "1", reach[0], server.url, *reach[2:], bare=True)

    assert ran.code == 1
    assert "the client secret is wrong" in ran.stdout + ran.stderr
    for character in itertools.chain(ran.stdout, ran.stderr):
        assert character.isprintable() or character == "\n"
    assert "Set-Cookie" not in ran.stdout + ran.stderr


POISONS = ("\r\nX-Injected: 1", "\n", "\x00", " ", "\u00e9", "\u2028", "\x1b[2J")


def test_a_token_that_would_end_a_header_is_refused(
    project: Project, run: Command, trust: Trust
) -> None:
    """What cannot stand in an Authorization header never becomes a token file."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    token = project.token(app.name)["access_token"]
    names = [f"poison-{number}" for number in range(len(POISONS))]
    project.write([entry(app, identity_name=name, client_id=name) for name in names])

    def answer(server: Server, sock: socket.socket) -> None:
        found = re.search(rb"client_id=poison-(\d)", server.heard)
        assert found
        content = {"token_type": "Bearer", "access_token": token + POISONS[int(found[1])]}
        body = json.dumps({"expires_in": 3599, **content}).encode()
        server.heard.clear()
        sock.sendall(OK + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)

    reach = ("--ca-bundle", trust.file, "-j", "1", "--json")
    with answering(answer, trust.context()) as server:
        ran = run("--login-base-url", server.url, *reach, bare=True)

    kinds = {(each["outcome"], each["error"]["kind"]) for each in ran.json["results"]}
    assert (ran.code, kinds) == (1, {("failed", "bad_response")})
    assert {"no access token" in each["error"]["message"] for each in ran.json["results"]} == {True}
    assert list(project.files()) == [f"{app.name}.json"]
