"""The assistants' own programs read what `mcp-config` writes, and reach a server through it.

They run where they are on PATH or in a folder of TEST_CLIENTS_PATH, each in a home folder of its
own; installing them is no part of the tests (docs/assistants.md says how).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from assistants.model import DONE, Model
from credentials_provider.emulator import Fault
from support import Command, Project, environment

if TYPE_CHECKING:
    from assistants.bench import Bench

pytestmark = pytest.mark.clients

SEARCH = os.pathsep.join(
    part for part in (os.environ.get("TEST_CLIENTS_PATH"), os.environ.get("PATH")) if part
)


def client(bench: Bench, program: str, *args: str, **more: str) -> str:
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
        **more,
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


@pytest.mark.parametrize("way", [(), ("--helper",), ("--static",)])
def test_claude_code_connects(bench: Bench, run: Command, way: tuple[str, ...]) -> None:
    """By the header helper, the bridge and the token itself."""
    configure(run, bench, "claude-code", *way)
    assert "Connected" in client(bench, "claude", "mcp", "list")
    assert any(line.startswith("200 POST") for line in bench.judgements)


@pytest.mark.parametrize("way", [(), ("--helper",), ("--static",)])
def test_codex_reads_it(bench: Bench, run: Command, way: tuple[str, ...]) -> None:
    """The server is enabled, and shown as we wrote it."""
    configure(run, bench, "codex", *way)
    assert "enabled" in client(bench, "codex", "mcp", "list")
    shown = client(bench, "codex", "mcp", "get", "gw")
    assert {(): "transport: stdio", ("--helper",): "http_headers_helper: <redacted>"}.get(
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


# In mid-session: a model of ours has each program call the tool again and again.


def claude(model: Model, folder: str) -> tuple[list[str], dict[str, str]]:
    del folder
    line = ["-p", "go", "--allowedTools", "mcp__gw__add"]
    return line, {
        "ANTHROPIC_BASE_URL": model.url,
        "ANTHROPIC_API_KEY": "sample",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "ENABLE_TOOL_SEARCH": "false",
    }


def codex(model: Model, folder: str) -> tuple[list[str], dict[str, str]]:
    del folder
    provider = f'{{name="m", base_url="{model.url}/v1", wire_api="responses", env_key="KEY"}}'
    line = ["exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"]
    line += ["-c", f"model_providers.m={provider}", "-c", "model_provider=m", "-m", "m", "go"]
    return line, {"KEY": "sample"}


def merge(path: str, more: dict[str, object]) -> None:
    """Adds the user's own settings to those that we wrote."""
    with open(path, encoding="utf-8") as file:
        found = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**found, **more}, file)


def gemini(model: Model, folder: str) -> tuple[list[str], dict[str, str]]:
    chosen = {"auth": {"selectedType": "gemini-api-key"}}
    merge(os.path.join(folder, ".gemini", "settings.json"), {"security": chosen})
    return ["-p", "go", "--yolo"], {
        "GEMINI_API_KEY": "sample",
        "GOOGLE_GEMINI_BASE_URL": model.url,
    }


def qwen(model: Model, folder: str) -> tuple[list[str], dict[str, str]]:
    del folder
    return ["-p", "go", "--yolo", "--auth-type", "openai"], {
        "OPENAI_API_KEY": "sample",
        "OPENAI_BASE_URL": f"{model.url}/v1",
        "OPENAI_MODEL": "m",
    }


def opencode(model: Model, folder: str) -> tuple[list[str], dict[str, str]]:
    options = {"baseURL": f"{model.url}/v1", "apiKey": "sample"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"m": {}}}
    path = os.path.join(folder, ".config", "opencode", "opencode.json")
    merge(path, {"provider": {"m": provider}, "model": "m/m"})
    return ["run", "go"], {}


def copilot(model: Model, folder: str) -> tuple[list[str], dict[str, str]]:
    del folder
    return ["-p", "go", "--allow-all-tools"], {
        "COPILOT_OFFLINE": "true",
        "COPILOT_PROVIDER_BASE_URL": f"{model.url}/v1",
        "COPILOT_MODEL": "m",
    }


SESSIONS = {
    "claude": ("claude-code", claude),
    "claude-old": ("claude-code", claude),  # a link to a version before 2.1.250
    "codex": ("codex", codex),
    "gemini": ("gemini", gemini),
    "qwen": ("qwen", qwen),
    "opencode": ("opencode", opencode),
    "copilot": ("copilot-cli", copilot),
}


@pytest.mark.parametrize("event", ["expiry", "revocation", "refusal"])
@pytest.mark.parametrize("program", SESSIONS)
def test_a_session_outlives_its_token(
    bench: Bench, run: Command, project: Project, program: str, event: str
) -> None:
    """The calls after it succeed, and the assistant sees nothing of it."""
    if event == "expiry":
        project.idp.inject(Fault("short_life", expires_in=4), times=None)

    def before(number: int) -> None:
        if number != 2:
            return
        if event == "expiry":
            time.sleep(4.5)  # no other program's clock can be handed in
        elif event == "revocation":
            bench.revoke()
        else:
            bench.refuse(1)

    name, start = SESSIONS[program]
    configure(run, bench, name)
    model = Model(4, before)
    try:
        line, more = start(model, project.folder)
        for _ in range(3):  # some ask their model before their servers have started
            said = client(bench, program, *line, **more)
            if model.results:
                break
    finally:
        model.close()
    assert DONE in said
    assert len(model.results) == 4, said
    for number, result in enumerate(model.results):
        assert str(number + 1) in result
        assert "rror" not in result
    assert len(project.idp.token_requests) >= 2
