"""docs/migration.md: what the registry's own scripts leave behind is taken over, and kept."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.cli import main
from support import SCOPE, Project, apps, entry, environment

if TYPE_CHECKING:
    from collections.abc import Callable

# The registry's file, with what its other programs have there.
DOTENV = """\
# Choose authentication provider: 'cognito', 'keycloak', or 'entra'
AUTH_PROVIDER=entra
ENTRA_ENABLED=true
ENTRA_GROUP_ADMIN_ID=16c7e67e-e8ae-498c-ba2e-0593c0159e43
REGISTRY_URL=http://localhost
SECRET_KEY="a # b $(touch executed)"   # a comment
export KEYCLOAK_URL='https://host/with space'
"""
OTHERS = {
    "mcp.json": {"mcpServers": {"gw": {"type": "streamable-http", "url": "https://h/mcp"}}},
    "vscode_mcp.json": {"mcp": {"servers": {}}},
    "agent-x.json": {"access_token": "keycloak's", "provider": "keycloak", "expires_at": 1},
    "bedrock-agentcore-egress.json": {"access_token": "theirs", "provider": "bedrock-agentcore"},
    "notes-readable.json": [],
}


@pytest.fixture
def left(project: Project) -> Project:
    """A folder as their scripts leave it: open to all, with an old token for each identity."""
    made = [entry(app) for app in apps(2)]
    for app in apps(2):
        project.idp.add_app(app)
    project.write(made)
    project.private(
        ".env",
        f"{DOTENV}ENTRA_LOGIN_BASE_URL={project.idp.base_url}\n"
        f"REQUESTS_CA_BUNDLE={project.idp.ca_file}\n",
    )
    for name, content in OTHERS.items():
        project.write(content, project.path(name.removesuffix(".json")))
    for number, each in enumerate(made):
        form, clock = "%Y-%m-%dT%H:%M:%S", time.localtime  # one of them naive, in local time
        if number:
            form, clock = f"{form}+00:00", time.gmtime
        at = time.strftime(form, clock(time.time() + 3000))
        old = {"access_token": f"old-{number}", "token_type": "Bearer", "expires_in": 3599}
        old |= {"generated_at": "2026-01-01T00:00:00", "expires_at": at, "provider": "entra"}
        theirs = {name: value for name, value in each.items() if name != "client_secret"}
        project.write({**theirs, **old}, project.path(each["identity_name"]))
    for name in os.listdir(project.output):
        os.chmod(os.path.join(project.output, name), 0o644)
    os.chmod(project.output, 0o755)
    return project


@pytest.fixture
def run(left: Project, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """The program in this process, as the checkout's script starts it."""
    monkeypatch.chdir("/")
    for name, value in environment(left.folder).items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith("ENTRA_")]:
        monkeypatch.delenv(name)

    named = ("--env-file", os.path.join(left.folder, ".env"))  # it has the login host

    def started(*words: str, command: str = "generate") -> int:
        with pytest.raises(SystemExit) as end:
            main([command, *words, *named], root=left.folder)
        assert isinstance(end.value.code, int)
        return end.value.code

    return started


def others(project: Project) -> dict[str, Any]:
    found = {}
    for name in OTHERS:
        with open(os.path.join(project.output, name), encoding="utf-8") as file:
            found[name] = json.load(file)
    return found


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["-a", "entra", "-f", "-v"],
        ["--auth-provider", "entra", "--force", "--verbose", "--all-agents"],
        ["--refresh-ahead"],
    ],
)
def test_their_command_lines_take_over_what_is_there(
    left: Project, run: Callable[..., int], capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """New tokens with every field that the registry reads; everything else is as it was."""
    identities = left.entries()
    assert run(*words) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("Tokens saved")
    for each in identities:
        token = left.token(each["identity_name"])
        assert token["access_token"].startswith("eyJ")
        assert token["provider"] == "entra"
        assert token["scope"] == SCOPE
        assert token["tokens"]["expires_at"] == token["expires_on"]
        assert os.stat(left.path(each["identity_name"])).st_mode & 0o777 == 0o600
    assert os.stat(left.output).st_mode & 0o777 == 0o700
    assert left.entries() == identities
    assert others(left) == OTHERS
    assert not os.path.exists("/executed")
    # From here on only what is due.
    assert run("--refresh-ahead") == 0
    assert "2 fresh" in capsys.readouterr().out


def test_nothing_is_lost_while_the_provider_is_away(
    left: Project, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Their tokens stay; --refresh-ahead says that they serve (75), a plain run that it failed."""
    before = left.tokens()
    left.idp.close()
    words = ["--max-attempts", "1", "--timeout", "2s"]
    assert run("--refresh-ahead", *words) == 75
    assert run(*words) == 1
    assert left.tokens() == before
    capsys.readouterr()


def test_a_dry_run_and_status_only_look(
    left: Project, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """And pruning leaves what is not this program's."""
    before = left.tokens()
    assert run("--dry-run") == 0
    assert run(command="status") == 0
    assert run("--prune", "--yes", command="status") == 0
    assert left.tokens() == before
    assert "another program's file" in capsys.readouterr().out


def test_secrets_leave_the_file_and_the_rest_stays(
    left: Project, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """`identities migrate`, after which everything goes on."""
    assert run("migrate", command="identities") == 0
    assert all("client_secret" not in each for each in left.entries())
    assert run() == 0
    capsys.readouterr()


@pytest.mark.parametrize("by", ["options", "environment"])
def test_the_ingress_identity_without_a_file(
    left: Project,
    run: Callable[..., int],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    by: str,
) -> None:
    """What the registry runs: `--ingress-only --force`."""
    fields = left.entries()[0]
    os.unlink(left.identities_file)
    names = {"tenant-id": "tenant_id", "client-id": "client_id", "client-secret": "client_secret"}
    words: list[str] = []
    for option, field in names.items():
        if by == "options":
            words += [f"--entra-{option}", fields[field]]
        else:
            monkeypatch.setenv(f"ENTRA_{field.upper()}", fields[field])
    assert run("--ingress-only", "--force", *words) == 0
    assert "Tokens saved" in capsys.readouterr().out
    assert left.token("ingress")["identity_name"] == "ingress"
