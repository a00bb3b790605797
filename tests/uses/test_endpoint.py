"""The local token endpoint: unmodified clients get fresh tokens from it, nobody else anything."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import sys
import threading
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from credentials_provider.emulator import Fault
from credentials_provider.endpoint import server
from credentials_provider.endpoint.answers import Answer, Answers
from support import API, PATIENCE, SCOPE, Command, apps, assert_no_secret, closed_port, until, wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from credentials_provider.emulator import App
    from support import Project

RESOURCE = f"api://{API}"


def minted(project: Project) -> int:
    return len(project.idp.token_requests)


class Reply(NamedTuple):
    status: int
    document: dict[str, Any]
    headers: dict[str, str]


class Served:
    """A `serve` that runs, and what its file says."""

    def __init__(self, run: Command, *args: str, **env: str) -> None:
        self.process = run.start("serve", *args, env=env)
        self.place = os.path.join(run.project.output, ".endpoint.env")
        until(lambda: os.path.exists(self.place) or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()
        with open(self.place, encoding="utf-8") as file:
            self.variables = dict(line.rstrip("\n").split("=", 1) for line in file)
        self.endpoint = self.variables["IDENTITY_ENDPOINT"]
        self.header = self.variables["IDENTITY_HEADER"]

    @property
    def port(self) -> int:
        return int(self.endpoint.split(":")[2].split("/")[0])

    def ask(self, method: str = "GET", path: str = "/msi/token", **changes: Any) -> Reply:
        """A request that is in order, but for the changes."""
        query = {"api-version": "2019-08-01", "resource": RESOURCE, **changes.pop("query", {})}
        text = "&".join(f"{name}={value}" for name, value in query.items() if value is not None)
        headers = {"X-IDENTITY-HEADER": self.header, **changes.pop("headers", {})}
        known = {name: value for name, value in headers.items() if value is not None}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, f"{path}?{text}", headers=known, **changes)
            answer = connection.getresponse()
            body = answer.read()
            return Reply(answer.status, json.loads(body) if body else {}, dict(answer.headers))
        finally:
            connection.close()

    def stop(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        ran = wait(self.process)
        assert ran.code == 143, ran.stderr
        assert ran.stdout == ""
        return ran.stderr


@pytest.fixture
def served(app: App, run: Command) -> Iterator[Served]:
    assert app
    made = Served(run)
    yield made
    if made.process.poll() is None:
        made.stop()


# exec --endpoint, with the clients that programs use

AZURE = """
import sys
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
for kind in (ManagedIdentityCredential, DefaultAzureCredential):
    print(kind().get_token(sys.argv[1]).token)
"""
MSAL = """
import os, sys, msal, requests
for identity in (
    msal.SystemAssignedManagedIdentity(),
    msal.UserAssignedManagedIdentity(client_id=os.environ["AZURE_CLIENT_ID"]),
):
    client = msal.ManagedIdentityClient(identity, http_client=requests.Session())
    print(client.acquire_token_for_client(resource=sys.argv[1])["access_token"])
"""


@pytest.mark.parametrize(("program", "wanted"), [(AZURE, SCOPE), (MSAL, RESOURCE)])
def test_unmodified_clients_get_the_identity_s_token(
    app: App, project: Project, run: Command, program: str, wanted: str
) -> None:
    """Azure's and msal's own, with and without a client ID, also where a proxy is set."""
    for proxy in ({}, {"HTTP_PROXY": "http://127.0.0.1:9"}):
        ran = run(
            *("exec", "--endpoint", app.name, sys.executable, "-c", program, wanted),
            env={"PYTHONWARNINGS": "ignore", **proxy},
        )
        assert ran.code == 0, ran.stderr
        assert ran.stdout.split() == [project.token(app.name)["access_token"]] * 2
        assert_no_secret(ran.stderr, [app])
    assert minted(project) == 1


NODE = os.environ.get("TEST_AZURE_IDENTITY_NODE", "")
JAVASCRIPT = """
const { ManagedIdentityCredential, DefaultAzureCredential } = require("@azure/identity");
(async () => {
  const clientId = process.env.AZURE_CLIENT_ID;
  for (const made of [new ManagedIdentityCredential({ clientId }), new DefaultAzureCredential()])
    console.log((await made.getToken(process.argv[1])).token);
})();
"""


@pytest.mark.clients
@pytest.mark.skipif(
    not NODE, reason="TEST_AZURE_IDENTITY_NODE names no folder with node_modules/@azure/identity"
)
def test_the_javascript_client_gets_it_too(app: App, project: Project, run: Command) -> None:
    """@azure/identity from npm."""
    ran = run(
        *("exec", "--endpoint", app.name, "node", "-e", JAVASCRIPT, SCOPE),
        env={"NODE_PATH": os.path.join(NODE, "node_modules")},
    )
    assert ran.code == 0, ran.stderr
    assert ran.stdout.split() == [project.token(app.name)["access_token"]] * 2


def test_the_command_has_an_endpoint_in_place_of_a_token(
    app: App, project: Project, run: Command
) -> None:
    """And no other machine's endpoint, and no secret; its exit code is ours."""
    theirs = {"MSI_ENDPOINT": "http://x", "ENTRA_CLIENT_SECRET": app.secrets[0], "OTHER": "kept"}
    ran = run("exec", "--endpoint", app.name, "sh", "-c", "env; exit 7", env=theirs)
    assert ran.code == 7
    found = dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line)
    assert found["AZURE_CLIENT_ID"] == app.client_id
    assert found["OTHER"] == "kept"
    assert not {"ACCESS_TOKEN", "MSI_ENDPOINT", "ENTRA_CLIENT_SECRET"} & found.keys()
    assert project.token(app.name)["access_token"] not in ran.stdout


def test_without_a_token_the_command_does_not_start(
    app: App, project: Project, run: Command
) -> None:
    """What is wrong is said before."""
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    ran = run("exec", "--endpoint", app.name, "echo", "started")
    assert (ran.code, ran.stdout) == (1, "")
    assert "the client secret is wrong" in ran.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--endpoint", "--watch", "ci"),
        ("--endpoint", "--no-store", "ci"),
        ("--restart", "ci"),
        ("--watch", "--client-id", "x", "--"),
    ],
)
def test_options_that_contradict_one_another_are_usage(
    run: Command, words: tuple[str, ...]
) -> None:
    """Nothing is started."""
    ran = run("exec", *words, "echo", "started")
    assert (ran.code, ran.stdout) == (2, "")


# serve


def test_serve_tells_programs_where_it_is(served: Served, app: App, project: Project) -> None:
    """In a private file, which goes when it ends; the header is on no screen."""
    assert stat.S_IMODE(os.stat(served.place).st_mode) == 0o600
    answer = served.ask()
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    on_disk = project.token(app.name)
    assert answer.document == {
        "access_token": on_disk["access_token"],
        "expires_on": str(on_disk["expires_on"]),
        "resource": RESOURCE,
        "token_type": "Bearer",
        "client_id": app.client_id,
    }
    stderr = served.stop()
    assert app.name in stderr
    assert served.endpoint in stderr
    assert served.header not in stderr
    assert not os.path.exists(served.place)


@pytest.mark.parametrize("kind", ["another", "link"])
def test_only_its_own_file_goes_when_it_ends(
    app: App, project: Project, run: Command, kind: str
) -> None:
    """Another `serve` may have written there; a link, such as /dev/stdout, is not ours."""
    assert app
    if kind == "link":
        os.makedirs(project.output, mode=0o700, exist_ok=True)
        os.symlink("target.env", os.path.join(project.output, ".endpoint.env"))
    one = Served(run)
    if kind == "another":
        with open(one.place, "w", encoding="utf-8") as file:
            file.write("IDENTITY_HEADER=theirs\n")
    one.stop()
    assert os.path.lexists(one.place)


def test_each_start_has_another_header(app: App, run: Command) -> None:
    """What one start gave is of no use for the next."""
    assert app
    headers = set()
    for _ in range(2):
        one = Served(run)
        headers.add(one.header)
        one.stop()
    assert len(headers) == 2
    assert min(map(len, headers)) >= 40


REFUSALS: dict[str, tuple[dict[str, Any], int]] = {
    "no header": ({"headers": {"X-IDENTITY-HEADER": None}}, 401),
    "another header": ({"headers": {"X-IDENTITY-HEADER": "x" * 43}}, 401),
    "a header that is no ASCII": ({"headers": {"X-IDENTITY-HEADER": "é"}}, 400),
    "a name that leads here": ({"headers": {"Host": "attacker.example:1"}}, 403),
    "a host without a port": ({"headers": {"Host": "localhost"}}, 403),
    "another port of this host": ({"headers": {"Host": "localhost:1"}}, 403),
    "a web page": ({"headers": {"Origin": "http://localhost"}}, 403),
    "a proxy": ({"headers": {"X-Forwarded-For": "10.0.0.1"}}, 403),
    "a newer proxy": ({"headers": {"Forwarded": "for=10.0.0.1"}}, 403),
    "another method": ({"method": "POST"}, 405),
    "another path": ({"path": "/"}, 404),
    "no version": ({"query": {"api-version": None}}, 400),
    "another version": ({"query": {"api-version": "2017-09-01"}}, 400),
    "no resource": ({"query": {"resource": None}}, 400),
    "another resource": ({"query": {"resource": "https://graph.microsoft.com"}}, 400),
    "another client": ({"query": {"client_id": API}}, 400),
    "an object ID": ({"query": {"object_id": API}}, 400),
    "a body": ({"body": b"x"}, 413),
    "a large head": ({"headers": {"X-Large": "x" * 9000}}, 431),
}


def test_what_is_not_in_order_gets_nothing(served: Served, app: App, project: Project) -> None:
    """The protocol's error and no token; the log says why, without secrets."""
    got = {name: served.ask(**changes) for name, (changes, _) in REFUSALS.items()}
    assert {name: reply.status for name, reply in got.items()} == {
        name: status for name, (_, status) in REFUSALS.items()
    }
    for reply in got.values():
        assert reply.document["statusCode"] == reply.status
        assert "access_token" not in reply.document
        assert reply.document["message"]
    assert got["another method"].headers["Allow"] == "GET"
    assert minted(project) == 0
    assert served.ask().status == 200
    stderr = served.stop()
    assert "401, the X-IDENTITY-HEADER is missing or wrong" in stderr
    assert served.header not in stderr
    assert "x" * 43 not in stderr
    assert_no_secret(stderr, [app])


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A : b\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        b"x" * 20_000,
    ],
)
def test_what_is_no_request_ends_the_connection(served: Served, raw: bytes) -> None:
    """With an error of HTTP; the next one is served."""
    with socket.create_connection(("127.0.0.1", served.port), PATIENCE) as client:
        client.sendall(raw)
        said = b""
        while more := client.recv(1 << 16):
            said += more
    assert said[9:12] in {b"400", b"413", b"431"}
    assert said.count(b"HTTP/1.1 ") == 1
    assert served.ask().status == 200


def test_requests_that_follow_one_another_are_answered_in_turn(served: Served) -> None:
    """On one connection, also those that come before the answer to the first."""
    request = (
        f"GET /msi/token?api-version=2019-08-01&resource={RESOURCE} HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{served.port}\r\nX-IDENTITY-HEADER: {served.header}\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), PATIENCE) as client:
        client.sendall(f"{request}\r\n".encode() * 3)
        client.sendall(f"{request}Connection: close\r\n\r\n".encode())
        said = b""
        while more := client.recv(1 << 16):
            said += more
    assert said.count(b"HTTP/1.1 200 OK") == 4
    assert said.count(b'"access_token"') == 4


def test_many_at_once_make_one_request(served: Served, project: Project) -> None:
    """While the provider takes its time, others are answered too."""
    project.idp.inject(Fault("slow", seconds=2), times=1)
    replies: list[Reply] = []
    threads = [threading.Thread(target=lambda: replies.append(served.ask())) for _ in range(20)]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    assert served.ask(path="/other").status == 404
    assert time.monotonic() - began < 1.5
    for thread in threads:
        thread.join()
    assert {reply.status for reply in replies} == {200}
    assert len({reply.document["access_token"] for reply in replies}) == 1
    assert minted(project) == 1


def test_a_token_is_renewed_in_time_and_never_given_for_its_last_minute(
    served: Served, app: App, project: Project
) -> None:
    """With the provider down an old one is given down to a minute, then an error."""
    first = served.ask().document["access_token"]
    project.age(app.name, left=200)
    second = served.ask().document["access_token"]
    assert second != first
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    project.age(app.name, left=90)
    assert served.ask().document["access_token"] == second
    project.age(app.name, left=50)
    last = served.ask()
    assert last.status == 503
    assert "the client secret is wrong" in last.document["message"]
    assert_no_secret(json.dumps(last.document), [app])


@pytest.mark.parametrize("how", ["bypass_cache", "token_sha256_to_refresh"])
def test_a_refused_token_is_renewed_once_in_five_minutes(
    served: Served, app: App, project: Project, how: str
) -> None:
    """One that was just minted is not renewed at all."""
    from hashlib import sha256

    def again(token: str) -> str:
        value = "true" if how == "bypass_cache" else sha256(token.encode()).hexdigest()
        document = served.ask(query={how: value}).document
        return str(document["access_token"])

    first = served.ask().document["access_token"]
    assert again(first) == first
    project.age(app.name, left=project.token(app.name)["expires_in"] - 400)
    second = again(first)
    assert second != first
    assert [again(second) for _ in range(3)] == [second] * 3
    assert minted(project) == 2


def test_client_id_chooses_among_several(project: Project, run: Command) -> None:
    """Without one there is no token; an identity that is not served is none."""
    one, two, three = apps(3)
    project.add_all([one, two, three])
    served = Served(run, one.name, two.name)
    try:
        for each in (one, two):
            answer = served.ask(query={"client_id": each.client_id.upper()})
            assert answer.document["access_token"] == project.token(each.name)["access_token"]
        assert served.ask().status == 400
        assert served.ask(query={"client_id": three.client_id}).status == 400
        entries = project.entries()
        project.write([replace_scope(each, "api://other/.default") for each in entries])
        answer = served.ask(query={"client_id": one.client_id, "resource": "api://other"})
        assert answer.status == 200
    finally:
        served.stop()


def replace_scope(fields: dict[str, Any], scope: str) -> dict[str, Any]:
    return {**fields, "scope": scope}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no unix sockets here")
def test_a_unix_socket_is_its_owner_s_alone(app: App, run: Command, tmp_path: Path) -> None:
    """Whatever the umask is; one that a killed service left makes way, one in use does not."""
    place = str(tmp_path / "s")
    assert app
    old = os.umask(0)
    try:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(place)
        served = Served(run, "--socket", place)
    finally:
        os.umask(old)
    try:
        assert served.endpoint == place
        assert stat.S_IMODE(os.stat(place).st_mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(place)
            client.sendall(
                f"GET /msi/token?api-version=2019-08-01&resource={RESOURCE} HTTP/1.0\r\n"
                f"Host: localhost\r\nX-IDENTITY-HEADER: {served.header}\r\n\r\n".encode()
            )
            said = b""
            while more := client.recv(1 << 16):
                said += more
        assert said.startswith(b"HTTP/1.1 200 OK")
        ran = run("serve", "--socket", place)
        assert (ran.code, ran.stdout) == (2, "")
        assert "cannot be used" in ran.stderr
        ran = run("serve", "--socket", str(tmp_path / ("s" * 200)))
        assert (ran.code, ran.stdout) == (2, "")
        assert "too long" in ran.stderr
    finally:
        served.stop()
    assert not os.path.exists(place)


def test_a_port_that_is_taken_is_usage(app: App, run: Command) -> None:
    """With the cure."""
    assert app
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ran = run("serve", "--port", str(taken.getsockname()[1]))
    assert (ran.code, ran.stdout) == (2, "")
    assert "Choose another one" in ran.stderr
    port = closed_port()
    served = Served(run, "--port", str(port))
    assert served.port == port
    served.stop()


def test_systemd_hears_when_it_is_ready(app: App, run: Command, tmp_path: Path) -> None:
    """Type=notify: ready once it answers, stopping at its end."""
    assert app
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        served = Served(run, NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(99) == b"READY=1"
        assert served.ask().status == 200
        served.stop()
        assert manager.recv(99) == b"STOPPING=1"


def test_no_object_shows_the_header_or_a_token() -> None:
    """What debuggers and crash reporters print."""
    call = server.parse(b"GET / HTTP/1.1\r\nX-IDENTITY-HEADER: s3cret\r\nHost: x")
    assert call.headers["x-identity-header"] == "s3cret"
    for each in (call, Answer(200, b"s3cret"), Answers(Any, Any, (), "s3cret")):  # type: ignore[arg-type]
        assert "s3cret" not in repr(each)


# Bounds


def test_slow_and_idle_connections_end(app: App, make: Callable[..., Any]) -> None:
    """One that says nothing, half a request, or one byte of it now and then, does not stay."""
    source = make(app.name)._source
    answers = Answers(source, source._options.settings, (), "secret")
    warnings: list[str] = []
    quick = server.Limits(patience=0.2, idle=0.2)
    with server.serving(answers.handle, warnings.append, limits=quick) as address:
        for start in (b"", b"GET /msi"):
            with socket.create_connection(place_of(address), PATIENCE) as client:
                client.sendall(start)
                assert end_of(client) == b""
        with socket.create_connection(place_of(address), 0.05) as client:
            assert drips(client) < PATIENCE
    few = server.Limits(most=2)
    with server.serving(answers.handle, warnings.append, limits=few) as address:
        place = place_of(address)
        with (
            socket.create_connection(place, PATIENCE),
            socket.create_connection(place, PATIENCE),
            socket.create_connection(place, PATIENCE) as third,
        ):
            assert end_of(third).startswith(b"HTTP/1.1 503 ")
    assert any("too many connections" in warning for warning in warnings)


def place_of(address: str) -> tuple[str, int]:
    return "127.0.0.1", int(address.split(":")[2].split("/", maxsplit=1)[0])


def drips(client: socket.socket) -> float:
    """Seconds until the server ends a connection that gets one byte after the other."""
    begun = time.monotonic()
    while (taken := time.monotonic() - begun) < PATIENCE:
        try:
            client.send(b"G")
            if not client.recv(1):
                break
        except TimeoutError:
            continue
        except OSError:
            break
    return taken


def end_of(client: socket.socket) -> bytes:
    said = b""
    try:
        while more := client.recv(1 << 16):
            said += more
    except ConnectionResetError:
        pass
    return said
