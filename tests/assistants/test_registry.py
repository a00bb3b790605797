"""`mcp-config --registry-url`: the servers of either API, all pages, none that is disabled."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

from support import Command, Project, apps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answers = dict[str, "Callable[[dict[str, str]], dict[str, Any]]"]


class Registry(http.server.ThreadingHTTPServer):
    """Answers paths from a table, for whoever brings a token in X-Authorization."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Answers = {}
        self.asked: list[str] = []
        self.token = ""

    @property
    def url(self) -> str:
        return f"http://localhost:{self.server_address[1]}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        self.server.asked.append(self.path)
        self.server.token = self.headers.get("X-Authorization", "")
        allowed = self.server.token.startswith("Bearer ey") and not self.headers["Authorization"]
        answer = self.server.answers.get(parts.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.dumps(answer(query) if answer else {}).encode()
        self.send_response(403 if not allowed else 200 if answer else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def registry(project: Project) -> Iterator[Registry]:
    (app,) = apps(1)
    project.add(app)
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def found(run: Command, registry: Registry) -> dict[str, str]:
    """Servers by name, as the bridge would be started for them."""
    ran = run("mcp-config", "cursor", "--registry-url", registry.url, env={"NO_PROXY": "localhost"})
    assert ran.code == 0, ran.stderr
    entries = ran.json["mcpServers"]
    assert all("X-Authorization" in entry["args"] for entry in entries.values())
    return {name: entry["args"][-1] for name, entry in entries.items()}


def test_its_own_api_is_read_page_by_page(run: Command, registry: Registry) -> None:
    """Every enabled server of all pages, under its address for clients."""
    servers = [
        {"path": f"/s{n}/", "is_enabled": n != 1, "proxy_pass_url": "http://x:1/"} for n in range(5)
    ]
    servers += [
        {"path": "/own", "is_enabled": True, "proxy_pass_url": "http://x:1/sse"},
        {"path": "/named", "is_enabled": True, "mcp_endpoint": f"{registry.url}/other/place"},
    ]

    def page(query: dict[str, str]) -> dict[str, Any]:
        start = int(query["offset"])
        return {"servers": servers[start : start + 3], "has_next": start + 3 < len(servers)}

    registry.answers["/api/servers"] = page
    assert found(run, registry) == {
        **{f"s{n}": f"{registry.url}/s{n}/mcp" for n in (0, 2, 3, 4)},
        "own": f"{registry.url}/own",
        "named": f"{registry.url}/other/place",
    }


def test_a_server_elsewhere_is_left_out_and_told(run: Command, registry: Registry) -> None:
    """Whoever registers a server must not get the tokens of all who configure it."""
    elsewhere = ("https://evil.example/mcp", "http://evil.example/mcp", "https://a\x1b[2J/", "x")
    servers = [
        {"path": f"/s{n}", "is_enabled": True, "mcp_endpoint": url}
        for n, url in enumerate(elsewhere)
    ]
    home = {"path": "/home", "is_enabled": True}
    registry.answers["/api/servers"] = lambda _: {"servers": [*servers, home]}
    ran = run("mcp-config", "cursor", "--registry-url", registry.url, env={"NO_PROXY": "localhost"})
    assert ran.code == 0, ran.stderr
    assert list(ran.json["mcpServers"]) == ["home"]
    assert "--server s0=https://evil.example/mcp" in ran.stderr
    assert ran.stderr.count("is left out") == len(elsewhere)
    assert "\x1b" not in ran.stdout + ran.stderr


def test_an_older_one_that_pages_nothing(run: Command, registry: Registry) -> None:
    """All at once, as before there were pages: asked once."""
    registry.answers["/api/servers"] = lambda _: {"servers": [{"path": "/a", "is_enabled": True}]}
    assert found(run, registry) == {"a": f"{registry.url}/a/mcp"}
    assert len(registry.asked) == 1


@pytest.mark.parametrize("api", ["/v0.1/servers", "/api/registry/v0.1/servers"])
def test_the_standard_api_is_read_by_cursor(run: Command, registry: Registry, api: str) -> None:
    """Where its own API is not there: both places of the standard one, to the last cursor."""

    def item(path: str, *, enabled: bool) -> dict[str, Any]:
        meta = {"io.mcpgateway/internal": {"path": path, "is_enabled": enabled}}
        return {"server": {"name": f"io.x{path}", "_meta": meta}}

    def page(query: dict[str, str]) -> dict[str, Any]:
        if "cursor" not in query:
            first = [item("/a", enabled=True), item("/off", enabled=False)]
            return {"servers": first, "metadata": {"nextCursor": "n", "count": 2}}
        return {"servers": [item("/b", enabled=True)], "metadata": {"nextCursor": None}}

    registry.answers[api] = page
    assert found(run, registry) == {
        "a": f"{registry.url}/a/mcp",
        "b": f"{registry.url}/b/mcp",
    }


def test_an_address_without_a_registry_is_told(run: Command, registry: Registry) -> None:
    """No API there: exit 1 and the cure, nothing on stdout."""
    ran = run("mcp-config", "cursor", "--registry-url", registry.url, env={"NO_PROXY": "localhost"})
    assert (ran.code, ran.stdout) == (1, "")
    assert "has no list of servers" in ran.stderr
