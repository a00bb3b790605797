"""The wheel, installed where there is no repository, with what requirements.lock pins."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import pytest

from credentials_provider import __version__
from entry.conftest import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

OFFLINE = ("Connection", "certificate", "Failed to fetch", "No matching distribution")


def run(line: list[str], cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """With the user's own settings of index and proxy, and nothing that finds the repository."""
    hidden = ("PYTHON", "COVERAGE_", "ENTRA_", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(
        line,
        cwd=cwd,
        env={**env, "NO_PROXY": "localhost", "UV_NATIVE_TLS": "true", **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
        timeout=300,
    )


@pytest.mark.timeout(400)  # it downloads what the lock pins
def test_the_wheel_is_all_that_is_needed(tmp_path: Path) -> None:
    """Built, looked into, installed; the demo runs, and what is missing is an extra by name."""
    uv = os.path.join(os.path.dirname(sys.executable), "uv")
    made = run([uv, "build", "--wheel", "-o", str(tmp_path), PROJECT], tmp_path)
    lock = os.path.join(PROJECT, "requirements.lock")
    script = os.path.join(PROJECT, "credentials-provider/setup_venv.sh")
    venv = tmp_path / "venv"
    ready = run(["/bin/sh", script, str(venv), lock], tmp_path) if not made.returncode else made
    if ready.returncode and any(word in ready.stderr for word in OFFLINE):
        pytest.skip("no package index within reach")
    assert ready.returncode == 0, ready.stderr
    (wheel,) = tmp_path.glob("*.whl")

    names = {*zipfile.ZipFile(wheel).namelist()}
    assert wheel.name.startswith(f"credentials_provider-{__version__}-py3-none-any")
    assert {name.partition("/")[0] for name in names} == {
        "credentials_provider",
        f"credentials_provider-{__version__}.dist-info",
    }
    assert {"credentials_provider/py.typed", "credentials_provider/emulator/aadsts.txt"} <= names
    package = os.path.join(PROJECT, "credentials-provider", "credentials_provider")
    modules = {
        os.path.relpath(os.path.join(folder, file), os.path.dirname(package)).replace(os.sep, "/")
        for folder, _, files in os.walk(package)
        for file in files
        if file.endswith(".py")
    }
    assert {name for name in names if name.endswith(".py")} == modules

    python = str(venv / "bin" / "python")

    def pip_there(command: str, *words: str) -> subprocess.CompletedProcess[str]:
        return run([uv, "pip", command, "--python", python, *words], tmp_path)

    assert pip_there("install", "--no-deps", "--no-index", str(wheel)).returncode == 0
    checked = pip_there("check")
    assert checked.returncode == 0, checked.stdout  # what it asks for is what the lock pins

    program = str(venv / "bin" / "credentials-provider")
    assert run([program, "--version"], tmp_path).stdout.split()[-1] == __version__
    demo = run([program, "demo"], tmp_path)
    assert demo.returncode == 0, demo.stderr
    assert "credentials-provider identities init" in demo.stdout
    identities = ["-i", ".oauth-tokens/demo/entra-identities.json"]
    bridge = ["mcp-bridge", "--identity", "ci-agent", "https://localhost/mcp", *identities]
    assert run([program, *bridge], tmp_path).returncode == 0  # it needs no more than this

    extras = ("azure-identity", "azure-keyvault-secrets", "trustme")
    assert pip_there("uninstall", *extras).returncode == 0
    checked = pip_there("check")
    assert checked.returncode == 0, checked.stdout  # production needs none of them
    (tmp_path / "vault.json").write_text(
        '[{"identity_name": "ci", "tenant_id": "contoso.com", "client_id": "c", "scope": '
        '"api://x/.default", "client_secret_keyvault": "https://v.vault.azure.net/secrets/s"}]'
    )
    asked = (([program, "demo"], 2), ([program, "generate", "-i", "vault.json"], 1))
    for receipt, words in (
        ("", f"{python} -m pip install"),
        ("uv-receipt.toml", "uv tool install --force --with"),
        ("pipx_metadata.json", "pipx inject venv"),  # the folder has the program's name there
    ):
        if receipt:
            (venv / receipt).touch()
        for command, code in asked:
            ran = run(command, tmp_path)
            assert ran.returncode == code
            assert f"Run: {words} " in ran.stderr
            assert ("trustme>=" if command[1] == "demo" else "azure-identity>=") in ran.stderr
            named = ran.stderr.replace(str(wheel), "")  # uv installs from there again
            assert ("credentials-provider" in named, receipt) == (False, receipt)


def test_the_changelog_begins_with_this_version() -> None:
    """One place has the version; what it brought stands on top."""
    with open(os.path.join(PROJECT, "CHANGELOG.md"), encoding="utf-8") as file:
        found = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - \d{4}-\d\d-\d\d$", file.read(), re.MULTILINE)
    assert found[:1] == [__version__]
