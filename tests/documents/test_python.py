"""The programs of docs/python.md run as they stand, against doubles of what they talk to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from assistants.bench import Bench
from credentials_provider.emulator import Emulator
from support import CHECKOUT, apps, environment, in_background
from uses.conftest import Api

if TYPE_CHECKING:
    from pathlib import Path

    from support import Project

with open(os.path.join(CHECKOUT, "docs", "python.md"), encoding="utf-8") as _file:
    PROGRAMS = re.findall(r"```python\n(.*?)```", _file.read(), re.DOTALL)


@pytest.fixture
def idp(tmp_path: Path) -> Emulator:
    vault = {"db": "s3cret"}
    return Emulator(ca_file=tmp_path / "ca.pem", vault=vault)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda text: text.split()[1])
def test_a_program_runs_as_it_stands(program: str, project: Project) -> None:
    """With the addresses of the doubles in place of its own, and nothing else changed."""
    ci, reader = apps(2)
    reader = replace(reader, roles=("Key Vault Secrets User",))
    vault = "https://vault.azure.net/.default"
    with project.idp as idp, in_background(Api()) as api:
        project.add(ci, identity_name="ci")
        project.add(reader, identity_name="vault-reader", scope=vault)
        bench = Bench(project, ci)
        if "mcp" in program:
            bench.start()
        for address, double in (
            ("https://api.example.com", api.url),
            ("https://gateway.example.com/mcp", bench.url),
            ("https://my-vault.vault.azure.net", idp.base_url),
        ):
            program = program.replace(address, double)
        reads = 'Credential("vault-reader")'
        program = program.replace(reads, f"{reads}, verify_challenge_resource=False")
        try:
            done = subprocess.run(
                [sys.executable, "-c", program],
                env=environment(
                    project.folder,
                    {
                        "CREDENTIALS_PROVIDER_HOME": project.folder,
                        "ENTRA_LOGIN_BASE_URL": idp.base_url,
                        "REQUESTS_CA_BUNDLE": str(idp.ca_file),
                        "PYTHONWARNINGS": "ignore",
                    },
                ),
                cwd="/",
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
        finally:
            bench.kill()
            api.shutdown()
    assert done.returncode == 0, done.stderr
    assert "print" not in program or done.stdout
    assert len(idp.token_requests) == 1


def test_there_are_five() -> None:
    """Else what is above would hold without saying anything."""
    assert len(PROGRAMS) == 5
