"""action.yml's script, run as a step of a job runs it; GitHub itself is the emulator's."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from support import CHECKOUT, SCOPE, apps

if TYPE_CHECKING:
    from credentials_provider.emulator import Emulator

ACTION: Any = YAML(typ="safe").load(Path(CHECKOUT, "action.yml").read_text(encoding="utf-8"))


def step(
    folder: Path, inputs: dict[str, str], job: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """The runner's part: inputs become variables, the outputs a file. No set-up: another test's."""
    (only,) = ACTION["runs"]["steps"]
    given = {name: each.get("default", "") for name, each in ACTION["inputs"].items()} | inputs
    variables = {
        name: re.sub(r"\$\{\{ inputs\.([a-z-]+) \}\}", lambda found: given[found[1]], value)
        for name, value in only["env"].items()
    }
    (folder / "script").write_text(only["run"])
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", str(folder / "script")],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "NO_PROXY": "localhost",
            "RUNNER_TEMP": str(folder),
            "GITHUB_ACTION_PATH": str(folder / "action"),
            "GITHUB_OUTPUT": str(folder / "output"),
            **variables,
            **job,
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With this checkout as the action's, already set up: with the tests' own Python."""
    (tmp_path / "action").mkdir()
    script = f'#!/bin/sh\nexec "{CHECKOUT}/tests/.venv/bin/python" '
    script += f'"{CHECKOUT}/credentials-provider/__main__.py" --script "$@"\n'
    (tmp_path / "action/generate_creds.sh").write_text(script)
    (tmp_path / "action/generate_creds.sh").chmod(0o755)
    return tmp_path


def test_a_step_gets_a_token_without_a_secret(folder: Path, idp: Emulator) -> None:
    """It is masked before anything could print it, and no file stays behind."""
    (app,) = apps(1)
    app = replace(app, secrets=(), federated=(idp.platforms.trust("github"),))
    idp.add_app(app)
    inputs = {
        "tenant-id": app.tenant_id,
        "client-id": app.client_id,
        "scope": SCOPE,
        "login-base-url": idp.base_url,
        "ca-bundle": idp.ca_file,
    }
    done = step(folder, inputs, idp.platforms.environment("github"))
    assert done.returncode == 0, done.stderr
    token = (folder / "output").read_text().strip().removeprefix("token=")
    assert token.startswith("ey")
    assert done.stdout == f"::add-mask::{token}\n"
    assert token not in done.stderr
    assert sorted(os.listdir(folder)) == ["action", "ca.pem", "output", "script"]


def test_a_job_without_the_permission_fails_and_is_told_why(folder: Path, idp: Emulator) -> None:
    """Later steps do not run with an empty token."""
    (app,) = apps(1)
    inputs = {"tenant-id": app.tenant_id, "client-id": app.client_id, "scope": SCOPE}
    inputs |= {"login-base-url": idp.base_url, "ca-bundle": idp.ca_file}
    done = step(folder, inputs, {})
    assert done.returncode == 1
    assert "id-token: write" in done.stderr
    assert done.stdout == ""
    assert not (folder / "output").exists()
