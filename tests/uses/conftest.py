"""A server on loopback that wants a token, as the APIs of these tests' programs do."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider import Credential
from operations.running import Program
from support import in_background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support import Command, Project


class Api(ThreadingHTTPServer):
    """Answers 200 to a token that it has not refused; `refused` are those that it does not take.

    `/elsewhere?URL` redirects. `seen` has path and token header of each request.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refused: set[str] = set()
        self.everything = False  # refuse whatever comes
        self.seen: list[tuple[str, str | None]] = []
        self.bodies: list[bytes] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def tokens(self) -> list[str | None]:
        return [token for _, token in self.seen]


class _Handler(BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        given = self.headers.get("Authorization") or self.headers.get("X-Authorization")
        self.server.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        self.server.seen.append((self.path, given))
        token = (given or "").removeprefix("Bearer ")
        bad = not token or token in self.server.refused or self.server.everything
        path, _, target = self.path.partition("?")
        self.send_response(302 if path == "/elsewhere" else 401 if bad else 200)
        if path == "/elsewhere":
            self.send_header("Location", target)
        body = json.dumps({"path": path}).encode()
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815  http.server's name

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def api() -> Iterator[Api]:
    with in_background(Api()) as server:
        yield server


@pytest.fixture
def make(project: Project) -> Callable[..., Credential]:
    """A `Credential` of the project's files and emulator."""

    def credential(name: str | None = None, **more: Any) -> Credential:
        given = {
            "identities_file": project.identities_file,
            "output_dir": project.output,
            "env_file": project.private(".env", ""),
            "login_base_url": project.idp.base_url,
            "ca_bundle": str(project.idp.ca_file),
        }
        return Credential(name, **{**given, **more})

    return credential


@pytest.fixture
def run(project: Project) -> Command:
    """The real command, its name first."""
    return Program(project)
