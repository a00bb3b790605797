"""`mcp-config --write` starts what it wrote, and says whether it works."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

from assistants.piping import LittleServer, Reply, result
from credentials_provider.assistants import proving
from credentials_provider.assistants.configure import BACKUP
from support import Command, Project, apps, assert_no_secret, closed_port

if TYPE_CHECKING:
    from assistants.bench import Bench
    from assistants.piping import Asked
    from credentials_provider.emulator import App


@pytest.mark.parametrize("way", [(), ("--helper",)])
def test_what_works_is_told_with_its_tools(
    bench: Bench, run: Command, project: Project, way: tuple[str, ...]
) -> None:
    """By the server's own name; with an empty environment and in another folder."""
    ran = run("mcp-config", "claude-code", "--server", f"gw={bench.url}", "--write", *way)
    assert ran.code == 0, ran.stderr
    assert "Works: gw: bench, " in ran.stdout
    assert " tools\n" in ran.stdout
    assert len(project.idp.token_requests) == 1


@pytest.mark.parametrize(("decision", "kept"), [("keep", True), ("undo", False), ("ask", True)])
def test_what_does_not_work_is_told_with_its_cure(
    app: App, project: Project, run: Command, decision: str, kept: bool
) -> None:
    """Exit 1; kept or taken back as the user says, and kept where nobody can be asked."""
    path = project.private("c.json", '{"mine": 1}')
    server = f"gw=http://localhost:{closed_port()}/mcp"
    words = ["--server", server, "--write", "--file", path, "--if-check-fails", decision]
    ran = run("mcp-config", "cursor", *words)
    assert ran.code == 1
    assert "Does not work: gw: localhost refused the connection. Check host and port" in ran.stderr
    with open(path, encoding="utf-8") as file:
        assert ("gw" in json.load(file).get("mcpServers", {})) == kept
    assert os.path.exists(path + BACKUP) == kept
    assert_no_secret(ran.stdout + ran.stderr, [app])


def test_a_secret_of_this_shell_alone_is_found_out(
    bench: Bench, project: Project, run: Command
) -> None:
    """It works here, and would not where the assistant starts it."""
    (app,) = apps(1)
    project.write([])
    project.add(app, client_secret=None, client_secret_env="MY_SECRET")
    words = ["--server", f"gw={bench.url}", "--write", "--header-name", "Authorization"]
    ran = run("mcp-config", "cursor", *words, env={"MY_SECRET": app.secrets[0]})
    assert ran.code == 1
    assert "Does not work: gw: " in ran.stderr
    assert "MY_SECRET" in ran.stderr.partition("Does not work")[2]


def test_a_gateway_is_recognised_by_its_list_of_servers(app: App, run: Command) -> None:
    """Its token goes in X-Authorization."""

    def answer(asked: Asked) -> Reply:
        if asked.path.startswith("/api/servers?"):
            return Reply(body={"servers": [], "total_count": 0})
        if "x-authorization" not in asked.headers or "authorization" in asked.headers:
            return Reply(401, {"detail": "X-Authorization, please"})
        if "id" not in asked.message:
            return Reply(202)
        found = {"protocolVersion": "2025-06-18", "serverInfo": {"name": "gateway"}}
        return Reply(body=result(asked, {**found, "tools": [{}]}))

    server = LittleServer(answer)
    ran = run("mcp-config", "vscode", "--server", f"gw={server.url}", "--write")
    server.close()
    assert ran.code == 0, ran.stderr
    assert "This is an MCP gateway" in ran.stderr
    assert "Works: gw: gateway, 1 tool\n" in ran.stdout
    assert_no_secret(ran.stdout + ran.stderr, [app])


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import sys; sys.exit('error: no such thing\\n  do this')", "no such thing do this"),
        ("print('hello')", "a message on its standard output"),
        (
            'input(); print(\'{"id": 1, "error": {"code": 1, "message": "no \\\\u001b"}}\')',
            r"no \x1b",
        ),
        ("", "it ended with 0"),
        ("print('[' * 100_000)", "a message on its standard output"),
    ],
)
def test_any_other_program_s_problem_is_told_in_one_line(code: str, problem: str) -> None:
    """Also one that is no bridge."""
    proof = proving.prove_all({"x": [sys.executable, "-c", code]})["x"]
    assert proof.problem == problem or problem in str(proof.problem)
    assert "\n" not in str(proof.problem)


def test_a_server_without_tools_works() -> None:
    """It may have prompts alone."""
    code = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if asked.get("method") == "initialize":
        print(json.dumps({"id": 1, "result": {"serverInfo": {"name": "s"}}}), flush=True)
    elif "id" in asked:
        print(json.dumps({"id": 2, "error": {"code": -32601, "message": "x"}}), flush=True)
"""
    assert proving.prove_all({"x": [sys.executable, "-c", code]})["x"] == proving.Proof("s", 0)


def test_what_is_not_there_is_told() -> None:
    """As when uv has emptied its cache."""
    problem = proving.prove_all({"x": ["/nowhere/program"]})["x"].problem
    assert problem == "/nowhere/program cannot be started: No such file or directory"
