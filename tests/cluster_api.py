"""A double of the part of Kubernetes' API that keeps Secrets; no real API server ran here.

It knows server-side apply as its documents have it: one owner for each field, and a Role by the
name of the object. https://kubernetes.io/docs/reference/using-api/server-side-apply/

    with serving(folder) as api:
        ...  # a pod with api.environment, and api.account as its service account's folder
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import trustme

from support import in_background

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAMESPACE = "agents"


class Api(ThreadingHTTPServer):
    """The Secrets of one namespace, for one service account, over TLS.

    `allowed` are the names of its Role, `status` and `raw` an answer for everything. `asked`
    has each request's method, path and query.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secrets: dict[str, dict[str, Any]] = {}
        self.owners: dict[tuple[str, str], set[str]] = {}  # by Secret and field manager
        self.allowed: set[str] = {"ci-token"}
        self.status = 0
        self.raw = b""  # a body for everything
        self.asked: list[tuple[str, str, str]] = []
        self.account = folder
        self.token = "service-account-1"
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        folder.mkdir()
        authority.cert_pem.write_to_path(str(folder / "ca.crt"))
        (folder / "namespace").write_text(NAMESPACE)
        (folder / "token").write_text(self.token + "\n")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KUBERNETES_SERVICE_HOST": "127.0.0.1",
            "KUBERNETES_SERVICE_PORT": str(self.server_port),
        }

    def held(self, name: str = "ci-token", key: str = "token") -> str:
        return base64.b64decode(self.secrets[name]["data"][key]).decode()

    def put(self, **data: str) -> None:
        """Somebody else's content of the Secret."""
        encoded = {key: base64.b64encode(each.encode()).decode() for key, each in data.items()}
        self.secrets["ci-token"] = {"metadata": {"name": "ci-token"}, "data": encoded}


class _Handler(BaseHTTPRequestHandler):
    server: Api
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is one segment: else each waits for a delayed acknowledgement

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        self.server.asked.append((self.command, url.path, url.query))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        head, _, name = url.path.rpartition("/")
        if self.server.status:
            return self._answer(self.server.status)
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self._answer(401)
        if head != f"/api/v1/namespaces/{NAMESPACE}/secrets" or name not in self.server.allowed:
            return self._answer(403)
        if self.command == "PATCH":
            return self._apply(name, json.loads(body), parse_qs(url.query))
        found = self.server.secrets.get(name)
        return self._answer(200, found) if found else self._answer(404)

    do_PATCH = do_GET  # noqa: N815  http.server's name

    def _apply(self, name: str, wanted: Mapping[str, Any], query: dict[str, list[str]]) -> None:
        """What a manager no longer applies goes, where nobody else owns it."""
        if self.headers["Content-Type"] != "application/apply-patch+yaml":
            return self._answer(415)
        assert wanted["metadata"]["name"] == name
        (manager,) = query["fieldManager"]
        assert query["force"] == ["true"]
        made = name not in self.server.secrets
        secret = self.server.secrets.setdefault(name, {"metadata": wanted["metadata"], "data": {}})
        before = self.server.owners.get((name, manager), set())
        self.server.owners[name, manager] = {*wanted["data"]}
        for key in before - {*wanted["data"]}:
            del secret["data"][key]
        secret["data"].update(wanted["data"])
        return self._answer(201 if made else 200, secret)

    def _answer(self, status: int, document: object = None) -> None:
        known = json.dumps(document or {"kind": "Status", "code": status}).encode()
        body = self.server.raw or known
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Api]:
    """One that answers; `folder` is made, and holds the service account's files."""
    with in_background(Api(folder)) as server:
        yield server
