"""`mcp-config --registry-url`: all servers that can be reached, by their paths alone."""

from __future__ import annotations

import http.server
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from support import Command, Project, Ran, apps, in_background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Answers = dict[str, "Callable[[dict[str, str]], dict[str, Any]]"]


class Registry(http.server.ThreadingHTTPServer):
    """Answers paths from a table, for whoever brings a token in X-Authorization."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Answers = {}
        self.statuses: dict[str, int] = {}
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
        status = self.server.statuses.get(parts.path, 200) if answer else 404
        self.send_response(status if allowed else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Keeps quiet."""


@pytest.fixture
def registry(project: Project) -> Iterator[Registry]:
    (app,) = apps(1)
    project.add(app)
    with in_background(Registry()) as server:
        yield server


def ask(run: Command, registry: Registry, *args: str) -> Ran:
    words = ("--registry-url", registry.url, *args)
    return run("mcp-config", "cursor", *words, env={"NO_PROXY": "localhost"})


def found(run: Command, registry: Registry) -> dict[str, str]:
    """Servers by name, as the bridge would be started for them."""
    ran = ask(run, registry)
    assert ran.code == 0, ran.stderr
    entries = ran.json["mcpServers"]
    assert all("X-Authorization" in entry["args"] for entry in entries.values())
    return {name: entry["args"][-1] for name, entry in entries.items()}


def listing(*servers: dict[str, Any]) -> dict[str, Any]:
    return {"servers": [*servers], "total_count": len(servers)}


def test_every_page_is_read(run: Command, registry: Registry) -> None:
    """Until the registry's own count is reached; disabled servers are none; no tools are sent."""
    servers = [{"path": f"/s{n}/", "is_enabled": n != 1} for n in range(5)]

    def page(query: dict[str, str]) -> dict[str, Any]:
        assert query["include_tools"] == "false"
        start = int(query["offset"])
        return {"servers": servers[start : start + 2], "total_count": 5}

    registry.answers["/api/servers"] = page
    assert found(run, registry) == {f"s{n}": f"{registry.url}/s{n}/mcp" for n in (0, 2, 3, 4)}


def test_an_older_one_pages_by_another_word_or_not_at_all(run: Command, registry: Registry) -> None:
    """`has_next`, or nothing."""
    pages: dict[str, dict[str, Any]] = {
        "0": {"servers": [{"path": "/a"}], "has_next": True},
        "1": {"servers": [{"path": "/b"}]},
    }
    registry.answers["/api/servers"] = lambda query: pages[query["offset"]]
    assert found(run, registry) == {
        "a": f"{registry.url}/a/mcp",
        "b": f"{registry.url}/b/mcp",
    }


def test_the_address_is_the_gateway_s_whatever_is_behind_it(
    run: Command, registry: Registry
) -> None:
    """Its path and /mcp, unless the server says that it has none; virtual servers too."""
    registry.answers["/api/servers"] = lambda _: listing(
        {"path": "/sse", "proxy_pass_url": "https://evil.example/sse"},
        {"path": "/named", "mcp_endpoint": "https://evil.example:8443/mcp"},
        {"path": "/plain"},
        {"path": "/told", "append_mcp_path": False},
        {"path": "/here", "deployment": "local"},
    )
    registry.answers["/api/servers/plain/connect-config"] = lambda _: {"append_mcp_path": False}
    registry.answers["/api/servers/sse/connect-config"] = lambda _: {"append_mcp_path": None}
    registry.answers["/api/virtual-servers"] = lambda _: {
        "virtual_servers": [
            {"path": "/virtual/dev"},
            {"path": "/virtual/off", "is_enabled": False},
        ],
        "total_count": 2,
    }
    ran = ask(run, registry)
    assert {name: e["args"][-1] for name, e in ran.json["mcpServers"].items()} == {
        "sse": f"{registry.url}/sse/mcp",
        "named": f"{registry.url}/named/mcp",
        "plain": f"{registry.url}/plain",
        "told": f"{registry.url}/told",
        "virtual-dev": f"{registry.url}/virtual/dev/mcp",
    }
    assert "/here is left out: it runs on its users' own machines" in ran.stderr
    assert "evil" not in ran.stdout + ran.stderr


# What several assistants take for a variable, and a shell for a command.
HOSTILE = [
    "/evil/${DB_PASSWORD}",
    "/a/$HOME",
    "/a/{env:SECRET}",
    "/a/%PATH%",
    "/a/`id`;$(id)'\"|&<>",
    "/a/${{ secrets.X }}",
    "//evil.example:8443",
    "/\\evil.example",
    "/a?b=c#d",
    "/a b\r\nHost: x",
    "/\x1b[2J",
    "/ü",
    "@evil.example/x",
    "https://evil.example/mcp",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_what_a_stranger_registers_is_a_path_and_nothing_else(
    run: Command, registry: Registry, path: str
) -> None:
    """Re-encoded by RFC 3986, on the registry's own scheme, host and port."""
    registry.answers["/api/servers"] = lambda _: listing({"path": path})
    (address,) = found(run, registry).values()
    assert address.startswith(f"{registry.url}/")
    rest = address.removeprefix(registry.url)
    assert re.fullmatch(r"/(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})+/mcp", rest)
    assert unquote(rest) == f"/{path.strip('/')}/mcp"


@pytest.mark.parametrize("path", ["/..", "/a/../../b", "/.", "/", "", None, 5, "/\ud800"])
def test_what_is_no_path_of_a_server_is_left_out(
    run: Command, registry: Registry, path: object
) -> None:
    """It could lead out of the gateway's servers."""
    registry.answers["/api/servers"] = lambda _: listing({"path": path}, {"path": "/home"})
    assert list(found(run, registry)) == ["home"]


def test_two_paths_of_one_name_get_a_number(run: Command, registry: Registry) -> None:
    """An assistant wants letters, digits, _ and -."""
    registry.answers["/api/servers"] = lambda _: listing({"path": "/a.b"}, {"path": "/a-b"})
    assert found(run, registry) == {
        "a-b": f"{registry.url}/a.b/mcp",
        "a-b-2": f"{registry.url}/a-b/mcp",
    }


def test_no_access_is_told_as_such(run: Command, registry: Registry) -> None:
    """The registry says nothing but an empty list, with status 200."""
    registry.answers["/api/servers"] = lambda _: listing()
    ran = ask(run, registry)
    assert (ran.code, ran.stdout) == (1, "")
    assert "no server is visible to this identity at localhost" in ran.stderr
    assert "Give the identity a group at the registry" in ran.stderr


def test_a_registry_without_a_gateway_gets_no_entries(run: Command, registry: Registry) -> None:
    """It lists servers and passes nothing on to them."""
    registry.answers["/api/servers"] = lambda _: listing({"path": "/a"})
    registry.statuses["/a/mcp"] = 503
    registry.answers["/a/mcp"] = lambda _: {"error": "gateway_proxy_disabled"}
    ran = ask(run, registry, "--write", "--file", "x.json")
    assert (ran.code, ran.stdout) == (1, "")
    assert "is a registry without a gateway" in ran.stderr


def test_an_address_without_a_registry_is_told(run: Command, registry: Registry) -> None:
    """No API there: exit 1 and the cure, nothing on stdout."""
    ran = ask(run, registry)
    assert (ran.code, ran.stdout) == (1, "")
    assert "has no list of servers" in ran.stderr
