"""The official conformance suite: what passes directly passes through the bridge.

It runs where its program (npm `@modelcontextprotocol/conformance`, Node.js 22 or later) is on PATH
or in a folder of TEST_CLIENTS_PATH.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from assistants.conformance import Everything, Front
from assistants.piping import LittleServer
from assistants.test_clients import SEARCH
from support import apps

if TYPE_CHECKING:
    from pathlib import Path

    from support import Project

pytestmark = pytest.mark.clients

# What these test is HTTP's own: streams, polling, the Host header. A bridge has no such side.
OF_HTTP = {"server-sse-polling", "server-sse-multiple-streams", "dns-rebinding-protection"}


def passed(program: str, url: str, folder: Path) -> dict[str, bool]:
    """Each scenario of the suite, and whether none of its checks failed."""
    subprocess.run(
        [program, "server", "--url", url, "--output-dir", str(folder)],
        env={**os.environ, "NO_PROXY": "127.0.0.1", "PATH": SEARCH},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=110,
        check=False,
    )
    found = {}
    for path in folder.rglob("checks.json"):
        name = re.sub(r"-\d{4}-\d\d-\d\dT.*", "", path.parent.name).removeprefix("server-")
        checks = json.loads(path.read_text())
        found[name] = bool(checks) and all(each["status"] != "FAILURE" for each in checks)
    return found


def test_what_passes_directly_passes_through_the_bridge(project: Project, tmp_path: Path) -> None:
    """Tools, resources, prompts, completions, logs, progress, sampling and elicitation."""
    program = shutil.which("conformance", path=SEARCH)
    if program is None:
        pytest.skip("conformance is neither on PATH nor in TEST_CLIENTS_PATH")
    (app,) = apps(1)
    project.add(app)
    idp = project.idp
    with contextlib.closing(LittleServer(Everything())) as server:
        line = [sys.executable, "-m", "credentials_provider", "mcp-bridge", "--identity", app.name]
        line += ["--login-base-url", idp.base_url, "--ca-bundle", idp.ca_file, server.url]
        front = Front(line, project.folder)
        with contextlib.closing(front), contextlib.closing(LittleServer(front)) as bridged:
            directly = passed(program, server.url, tmp_path / "directly")
            through = passed(program, bridged.url, tmp_path / "through")
    expected = {name for name, good in directly.items() if good} - OF_HTTP
    assert len(expected) > 25, directly
    assert {name for name in expected if not through.get(name)} == set()
