"""Each row of docs/using.md's table brings a program its token."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

import pytest

from support import CHECKOUT, SCOPE, Project, apps, environment, in_background
from uses.conftest import Api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credentials_provider.emulator import App

with open(os.path.join(CHECKOUT, "docs", "using.md"), encoding="utf-8") as _file:
    ROWS = dict(re.findall(r"^\| ([^|]*) \| `([^`|]*)`", _file.read(), re.MULTILINE))

AZURE = """
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
for kind in (ManagedIdentityCredential, DefaultAzureCredential):
    print(kind().get_token("SCOPE").token)
"""


class Bench(NamedTuple):
    """A project with the identity ci, a server that wants its token, and a shell."""

    project: Project
    app: App
    api: Api

    def shell(self, line: str, **env: str) -> str:
        """What a command line prints, with the program on the path."""
        project = self.project
        wrapper = f'#!/bin/sh\nexec {sys.executable} -m credentials_provider "$@"\n'
        bin_ = os.path.join(project.folder, "bin")
        os.makedirs(bin_, exist_ok=True)
        for name, text in (
            ("bin/credentials-provider", wrapper),
            ("bin/python3", f'#!/bin/sh\nexec {sys.executable} "$@"\n'),
        ):
            os.chmod(project.private(name, text), 0o700)
        known = {
            "PATH": f"{bin_}:{os.environ['PATH']}",
            "CREDENTIALS_PROVIDER_HOME": project.folder,
            "ENTRA_LOGIN_BASE_URL": project.idp.base_url,
            "REQUESTS_CA_BUNDLE": str(project.idp.ca_file),
            "PYTHONWARNINGS": "ignore",
        }
        done = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=project.folder,
            env=environment(project.folder, {**known, **env}),
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @property
    def token(self) -> str:
        return str(self.project.token("ci")["access_token"])

    def program(self, name: str, text: str) -> None:
        os.chmod(self.project.private(name, text), 0o700)


@pytest.fixture
def bench(project: Project) -> Iterator[Bench]:
    (app,) = apps(1)
    project.add(app, identity_name="ci")
    with in_background(Api()) as api:
        yield Bench(project, app, api)


def shell_script(bench: Bench, line: str) -> None:
    assert bench.shell(f"{line}\nprintenv ACCESS_TOKEN") == f"{bench.token}\n"


def curl(bench: Bench, line: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    bench.shell(line.replace("https://api.example.com", bench.api.url))
    assert bench.api.tokens == [f"Bearer {bench.token}"]


def any_command(bench: Bench, line: str) -> None:
    bench.program("deploy.sh", "#!/bin/sh\nprintenv ACCESS_TOKEN\n")
    assert bench.shell(line) == f"{bench.token}\n"


def long_command(bench: Bench, line: str) -> None:
    bench.program("agent", '#!/bin/sh\necho "$ACCESS_TOKEN"; cat "$ACCESS_TOKEN_FILE"\n')
    assert bench.shell(line).count(bench.token) == 3  # its file has it twice


def python(bench: Bench, line: str) -> None:
    assert bench.shell(line) == f"{bench.token}\n"


def azure(bench: Bench, line: str) -> None:
    code = AZURE.replace("SCOPE", SCOPE)
    bench.program("upload.py", f"#!{sys.executable}\n{code}")
    assert bench.shell(line).split() == [bench.token] * 2


def another_user(bench: Bench, line: str) -> None:
    """Root gives the file to the other user; anybody else to themselves."""
    owner = 54321 if os.geteuid() == 0 else os.geteuid()
    path = os.path.join(bench.project.folder, "agent-token")
    bench.shell(line.replace("/run/agent/token", path).replace("owner agent", f"owner {owner}"))
    bench.shell("credentials-provider generate --quiet")
    found = os.stat(path)
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (owner, 0o600)
    with open(path, encoding="utf-8") as file:
        assert file.read() == bench.token


def container(bench: Bench, line: str) -> None:
    printed = bench.shell(line)
    assert "kind: Deployment" in printed
    assert "image: IMAGE" in printed


def assistant(bench: Bench, line: str) -> None:
    printed = bench.shell(line)
    assert "mcp-bridge" in printed
    assert "https://gateway.example.com/mcp" in printed


def ci_job(bench: Bench, line: str) -> None:
    for name in bench.project.files():
        os.unlink(os.path.join(bench.project.output, name))
    shutil.rmtree(bench.project.output)
    for word, own in (
        ("contoso.com", bench.app.tenant_id),
        ("api://GATEWAY/.default", SCOPE),
        (" ID ", f" {bench.app.client_id} "),
    ):
        line = line.replace(word, own)
    assert bench.shell(line, ENTRA_CLIENT_SECRET=bench.app.secrets[0]).count(".") == 2
    assert not os.path.exists(bench.project.output)


PROOFS: dict[str, Callable[[Bench, str], None]] = {
    "a shell script": shell_script,
    "curl": curl,
    "any command": any_command,
    "a command that runs for days": long_command,
    "Python": python,
    "any Azure SDK, in any language": azure,
    "a service of another user": another_user,
    "a container": container,
    "an AI assistant": assistant,
    "a step of a CI job": ci_job,
}


def test_every_row_is_proven() -> None:
    """And there is no proof of a row that is gone."""
    assert list(ROWS) == list(PROOFS)


@pytest.mark.skipif(os.name == "nt", reason="the lines are a shell's")
@pytest.mark.parametrize("row", PROOFS)
def test_a_row_brings_the_token(row: str, bench: Bench) -> None:
    """Its command runs as it stands, in a folder of its own."""
    PROOFS[row](bench, ROWS[row])
