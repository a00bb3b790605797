"""What tests share: a project folder, the command as a process, servers that are no emulator.

Nothing here imports or patches what is under test, apart from `renew`, which runs a batch within
the test where counting or a clock needs it.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote, quote_plus

import pytest

from credentials_provider.emulator import App, sample_apps
from credentials_provider.model import Observer, Outcome, Report, RunOptions
from credentials_provider.run import batch
from credentials_provider.settings import Flags, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from credentials_provider.emulator import Emulator
    from credentials_provider.settings import Settings

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PACKAGES = os.path.join(CHECKOUT, "credentials-provider")
API = "7f1b2c3d-0000-4000-8000-00000000feed"
SCOPE = f"api://{API}/.default"
OTHER_TENANT = "9d0c7e51-1f0a-4d1e-8a52-3d3a1a6f5b77"
OWN_FILES = {".credentials-provider.lock", ".credentials-provider-state.json", ".gitignore"}
PATIENCE = 30.0  # seconds that a test waits for what must come

AnyServer = TypeVar("AnyServer", bound=socketserver.BaseServer)

_JWT = re.compile(r"eyJ[A-Za-z0-9_-]{8,}")


def apps(count: int, tenant_id: str | None = None) -> list[App]:
    """Sample apps whose secrets look different once they are encoded."""
    made = sample_apps(count) if tenant_id is None else sample_apps(count, tenant_id)
    return [replace(app, secrets=(f"{app.secrets[0]}+/=&% ;\"'$`\\x",)) for app in made]


def entry(app: App, **changes: object) -> dict[str, Any]:
    """An app's entry in an identities file; None removes a field."""
    fields: dict[str, object] = {
        "identity_name": app.name,
        "tenant_id": app.tenant_id,
        "client_id": app.client_id,
        "client_secret": app.secrets[0] if app.secrets else "none",
        "scope": SCOPE,
        **changes,
    }
    return {name: value for name, value in fields.items() if value is not None}


class Project:
    """A folder to run in, with its identities file and its tokens."""

    def __init__(self, folder: str, idp: Emulator) -> None:
        self.folder = folder
        self.idp = idp
        self.output = os.path.join(folder, ".oauth-tokens")
        self.identities_file = os.path.join(self.output, "entra-identities.json")
        os.makedirs(self.output, mode=0o700)

    def add(self, app: App, **changes: object) -> dict[str, Any]:
        """Registers an app and appends its entry to the identities file."""
        self.idp.add_app(app)
        made = entry(app, **changes)
        self.write([*self.entries(), made])
        return made

    def add_all(self, many: Iterable[App]) -> None:
        made = list(many)
        for app in made:
            self.idp.add_app(app)
        self.write([*self.entries(), *(entry(app) for app in made)])

    def entries(self) -> list[dict[str, Any]]:
        if not os.path.exists(self.identities_file):
            return []
        with open(self.identities_file, encoding="utf-8") as file:
            found: list[dict[str, Any]] = json.load(file)
            return found

    def write(self, content: object, path: str | None = None) -> str:
        """An identities file, 0600: a text as it is, anything else as JSON."""
        text = content if isinstance(content, str) else json.dumps(content, indent=2)
        return self.private(path or self.identities_file, text)

    def private(self, path: str, text: str) -> str:
        full = os.path.join(self.folder, path)
        descriptor = os.open(full, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        return full

    def settings(self, process: Mapping[str, str] | None = None, **flags: str | None) -> Settings:
        """What the command would read in this folder, told how to reach the emulator."""
        given = {
            "identities_file": self.identities_file,
            "output_dir": self.output,
            "login_base_url": self.idp.base_url,
            "ca_bundle": self.idp.ca_file,
            **flags,
        }
        return load_settings(Flags(**given), process or {}, self.folder)

    def path(self, name: str) -> str:
        return os.path.join(self.output, f"{name}.json")

    def token(self, name: str) -> dict[str, Any]:
        """A token file's content."""
        with open(self.path(name), encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
            return found

    def files(self) -> dict[str, bytes]:
        """Every file of the output folder but the identities, the lock and the state."""
        found = {}
        for name in sorted(os.listdir(self.output)):
            path = os.path.join(self.output, name)
            if name == "entra-identities.json" or name in OWN_FILES:
                continue
            # A run at work renames its temporary files meanwhile.
            with (
                contextlib.suppress(FileNotFoundError, IsADirectoryError),
                open(path, "rb") as file,
            ):
                found[name] = file.read()
        return found

    def tokens(self) -> dict[str, bytes]:
        """Every token file."""
        return {name: content for name, content in self.files().items() if name.endswith(".json")}

    def age(self, name: str, *, left: float) -> None:
        """Moves a token file's times, all of them, so that so many seconds are left."""
        content = self.token(name)
        moved = int(time.time() + left) - content["expires_on"]
        for field in ("generated_at", "refresh_at", "expires_at"):
            content[field] = _moved(content[field], moved)
        content["expires_on"] += moved
        content["tokens"]["expires_at"] += moved
        self.private(self.path(name), json.dumps(content, indent=2))


def _moved(iso: str, seconds: float) -> str:
    from datetime import datetime, timedelta

    return (datetime.fromisoformat(iso) + timedelta(seconds=seconds)).isoformat()


# The command as a process


class Ran(NamedTuple):
    """A process that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one document on stdout."""
        document: dict[str, Any] = json.loads(self.stdout)
        return document

    @property
    def results(self) -> dict[str, dict[str, Any]]:
        """The report's results by identity."""
        return {each["identity_name"]: each for each in self.json["results"]}

    @property
    def last_line(self) -> str:
        return (self.stdout.splitlines() or [""])[-1]


def environment(home: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A bare environment: nothing of the tester's proxies, authorities and tokens."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "SYSTEMROOT"}}
    return {
        **kept,
        "HOME": home,
        "CREDENTIALS_PROVIDER_HOME": ".",  # the working directory, as in a checkout
        "LANG": "C.UTF-8",
        "PYTHONPATH": PACKAGES,
        "PYTHONWARNINGS": "error",
        **(more or {}),
    }


@dataclass(frozen=True)
class Command:
    """The real command, in a project's folder, against its emulator."""

    project: Project

    def line(self, *args: str, bare: bool = False) -> list[str]:
        """`generate` with these arguments; `bare`: not how to reach and to trust the emulator."""
        idp = self.project.idp
        reach = () if bare else ("--login-base-url", idp.base_url, "--ca-bundle", idp.ca_file)
        return [sys.executable, "-m", "credentials_provider", "generate", *reach, *args]

    def __call__(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        bare: bool = False,
        cwd: str | None = None,
    ) -> Ran:
        """Runs it to its end."""
        return wait(self.start(*args, env=env, bare=bare, cwd=cwd))

    def start(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        bare: bool = False,
        cwd: str | None = None,
    ) -> subprocess.Popen[str]:
        return self.start_line(self.line(*args, bare=bare), env=env, cwd=cwd)

    def start_line(
        self, line: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            line,
            cwd=cwd or self.project.folder,
            env=environment(self.project.folder, env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def wait(process: subprocess.Popen[str]) -> Ran:
    """A process's end; one that outlives the patience is killed, and the test fails."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=2 * PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return Ran(process.returncode, stdout, stderr)


def run_program(
    folder: str,
    *words: str,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    tracer: Sequence[str] = (),
) -> Ran:
    """A command of the program in this folder, to its end."""
    done = subprocess.run(
        [*tracer, sys.executable, "-m", "credentials_provider", *words],
        cwd=folder,
        env=environment(folder, env),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE * 4,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def until(condition: Callable[[], object], patience: float = PATIENCE) -> None:
    """Waits until the condition holds."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "what was waited for did not come"
        time.sleep(0.005)


# A batch within the test


class Listener(Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.finished: list[Outcome] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def finish(self, outcome: Outcome) -> None:
        self.finished.append(outcome)


def renew(project: Project, observer: Observer | None = None, **options: Any) -> Report:
    """Runs a batch in this process; `options` are `RunOptions`'s, some of them the settings'."""
    of_settings = {"process", "env_file", "login_base_url"} & options.keys()
    settings = project.settings(**{name: options.pop(name) for name in of_settings})
    return batch.run(RunOptions(settings, **options), observer or Listener())


# What must not be seen


def forms_of(secret: str) -> set[str]:
    """A secret, and what encodings make of it."""
    raw = secret.encode()
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        repr(secret)[1:-1],
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode().rstrip("="),
        raw.hex(),
    }


def assert_no_secret(text: str, many: Iterable[App]) -> None:
    """Neither a secret of these apps, in any form, nor anything that begins like a token."""
    for app in many:
        for secret in (*app.secrets, *app.expired_secrets):
            for form in forms_of(secret):
                assert form not in text
            # A secret that was cut or re-encoded in part shows by its first half, too.
            assert secret[: len(secret) // 2] not in text
    assert not _JWT.search(text)
    assert "Bearer ey" not in text


# Servers that are no emulator


@contextlib.contextmanager
def full_disk(folder: str) -> Iterator[str]:
    """A small file system over this folder, without room; gives the file that takes it."""
    mount, umount = (shutil.which(each, path=os.defpath) for each in ("mount", "umount"))
    if os.name != "posix" or os.geteuid() != 0 or not mount or not umount:
        pytest.skip("needs root and mount")
    line = [mount, "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", folder]
    if subprocess.run(line, capture_output=True, check=False).returncode:
        pytest.skip("may not mount here")
    try:
        ballast = os.path.join(folder, "ballast")
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while file.write(bytes(1 << 12)):
                pass
        yield ballast
    finally:
        subprocess.run([umount, folder], check=True)


@contextlib.contextmanager
def in_background(server: AnyServer) -> Iterator[AnyServer]:
    """A server that serves from a thread until the block ends."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def closed_port() -> int:
    """A port on loopback where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


BEHIND_PROXY = "https://emulator.test"  # the emulator's certificate has the name, no DNS has it


class ConnectProxy(socketserver.ThreadingTCPServer):
    """A forward proxy that knows CONNECT alone.

    `refusal` is a status line's end to answer with, `leads_to` the port on loopback where every
    tunnel ends. `asked` has each CONNECT's target, `heads` all that was said before the tunnel.
    """

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, refusal: str | None = None, leads_to: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.refusal = refusal
        self.leads_to = leads_to
        self.asked: list[str] = []
        self.heads: list[str] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A tunnel that broke is the client's to tell."""


class _Tunnel(socketserver.StreamRequestHandler):
    server: ConnectProxy

    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        method, target, _ = head.decode("latin-1").split(" ", 2)
        self.server.asked.append(target)
        self.server.heads.append(head.decode("latin-1"))
        if self.server.refusal or method != "CONNECT":
            status = self.server.refusal or "405 Method Not Allowed"
            self.wfile.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            return
        host, _, port = target.rpartition(":")
        place = (host, int(port))
        if self.server.leads_to is not None:
            place = ("127.0.0.1", self.server.leads_to)
        with socket.create_connection(place) as there:
            self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
            back.start()
            _pump(self.connection, there)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def connect_proxy(
    refusal: str | None = None, leads_to: int | None = None
) -> Iterator[ConnectProxy]:
    """A proxy that serves from a thread."""
    with in_background(ConnectProxy(refusal, leads_to)) as proxy:
        yield proxy


@contextlib.contextmanager
def talkative_port() -> Iterator[int]:
    """A port that answers whatever comes in plain HTTP, as a web server does that got TLS."""

    class Talker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with in_background(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talker)) as server:
        server.daemon_threads = True
        yield server.server_address[1]
