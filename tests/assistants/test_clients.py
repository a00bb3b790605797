"""The assistants' own programs read what `mcp-config` writes, and reach a server through it.

They run where they are on PATH or in a folder of TEST_CLIENTS_PATH, each in a home folder of its
own; installing them is no part of the tests (docs/assistants.md says how).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from assistants.bench import Bench
from support import Command, Project, apps, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.clients

SEARCH = os.pathsep.join(
    part for part in (os.environ.get("TEST_CLIENTS_PATH"), os.environ.get("PATH")) if part
)


@pytest.fixture
def bench(project: Project) -> Iterator[Bench]:
    (app,) = apps(1)
    project.add(app)
    made = Bench(project, app)
    made.start()
    yield made
    made.kill()


def client(bench: Bench, program: str, *args: str) -> str:
    """What a client's program says, in a home folder that holds what we wrote and nothing else."""
    found = shutil.which(program, path=SEARCH)
    if found is None:
        pytest.skip(f"{program} is neither on PATH nor in TEST_CLIENTS_PATH")
    env = environment(bench.project.folder)
    env = {name: value for name, value in env.items() if not name.startswith("PYTHON")}
    env |= {
        "PATH": SEARCH,
        "NO_PROXY": "localhost",
        "NO_COLOR": "1",
        "CODEX_HOME": os.path.join(bench.project.folder, ".codex"),
        "MCP_INSPECTOR_SECRET_STORE": "memory",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "DISABLE_AUTOUPDATER": "1",
    }
    ran = subprocess.run(
        [found, *args],
        cwd=bench.project.folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def configure(run: Command, bench: Bench, name: str, *args: str) -> None:
    ran = run("mcp-config", name, "--server", f"gw={bench.url}", "--write", *args)
    assert ran.code == 0, ran.stderr


@pytest.mark.parametrize("way", [(), ("--static",)])
def test_the_inspector_lists_tools(
    bench: Bench, run: Command, project: Project, way: tuple[str, ...]
) -> None:
    """By the bridge, and over HTTP with the header."""
    path = os.path.join(project.folder, "inspector.json")
    configure(run, bench, "inspector", "--file", path, *way)
    line = ("--cli", "--config", path, "--server", "gw", "--method", "tools/list")
    said = client(bench, "mcp-inspector", *line)
    listed, _ = json.JSONDecoder().raw_decode(said[said.index("{") :])
    assert "add" in {tool["name"] for tool in listed.get("result", listed)["tools"]}


@pytest.mark.parametrize("way", [(), ("--bridge",), ("--static",)])
def test_claude_code_connects(bench: Bench, run: Command, way: tuple[str, ...]) -> None:
    """By the header helper, the bridge and the token itself."""
    configure(run, bench, "claude-code", *way)
    assert "Connected" in client(bench, "claude", "mcp", "list")
    assert any(line.startswith("200 POST") for line in bench.judgements)


@pytest.mark.parametrize("way", [(), ("--bridge",), ("--static",)])
def test_codex_reads_it(bench: Bench, run: Command, way: tuple[str, ...]) -> None:
    """The server is enabled, and shown as we wrote it."""
    configure(run, bench, "codex", *way)
    assert "enabled" in client(bench, "codex", "mcp", "list")
    shown = client(bench, "codex", "mcp", "get", "gw")
    assert {(): "http_headers_helper: <redacted>", ("--bridge",): "transport: stdio"}.get(
        way, "http_headers: "
    ) in shown


@pytest.mark.parametrize("way", [(), ("--static",)])
def test_gemini_connects(bench: Bench, run: Command, way: tuple[str, ...]) -> None:
    """By the bridge, although it strips a child's environment, and by the token itself."""
    configure(run, bench, "gemini", *way)
    assert "Connected" in client(bench, "gemini", "mcp", "list")


@pytest.mark.parametrize("way", [(), ("--static",)])
def test_opencode_connects(bench: Bench, run: Command, way: tuple[str, ...]) -> None:
    """By the bridge and by the token itself."""
    configure(run, bench, "opencode", *way)
    assert "connected" in client(bench, "opencode", "mcp", "list")
