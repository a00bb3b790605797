"""A token in plain words: what it says, whether it is true, what the registry would make of it."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from credentials_provider.emulator import Fault
from support import API, PATIENCE, Project, Ran, apps, environment

if TYPE_CHECKING:
    from credentials_provider.emulator import App
    from operations.running import Program

GATEWAY = {"ENTRA_CLIENT_ID": API}


@pytest.fixture
def app(project: Project, run: Program) -> App:
    """An app with a token on disk."""
    made = replace(apps(1)[0], groups=("16c7e67e-e8ae-498c-ba2e-0593c0159e43", "g2"))
    project.add(made)
    run()
    return made


def judged(ran: Ran) -> dict[str, Any]:
    """The registry's findings of an inspection with --json, by what they are about."""
    return {each["about"]: each["ok"] for each in ran.json["registry"]}


def signed(claims: dict[str, Any], **header: str) -> str:
    """A token by a key of nobody's."""
    key = rsa.generate_private_key(65537, 2048)
    return jwt.encode(claims, key, "RS256", headers=header)


def test_a_token_is_said_in_words_and_labelled_unverified(run: Program, app: App) -> None:
    ran = run("inspect", "ci-agent")
    assert ran.code == 0
    assert ran.stdout.startswith("Not verified: anybody could have written this")
    lines = dict(line.split(None, 1) for line in ran.stdout.split("\n\n")[1].splitlines())
    assert lines["audience"] == API
    assert lines["tenant"] == app.tenant_id
    assert lines["application"] == app.client_id
    assert lines["version"] == "v2 (2.0)"
    assert lines["credential"] == "client secret"
    assert lines["groups"] == ", ".join(app.groups)
    assert lines["roles"] == "none"
    assert " in " in lines["expires"]


@pytest.mark.parametrize("version", [1, 2])
def test_the_registry_would_take_what_the_emulator_issues_in_both_versions(
    project: Project, run: Program, version: Literal[1, 2]
) -> None:
    project.add(replace(apps(1)[0], groups=("g",), token_version=version))
    run()
    ran = run("inspect", "ci-agent", "--verify", "--json", env=GATEWAY)
    assert ran.code == 0
    assert ran.json["verified"] is True
    expected = {"signature", "issuer", "audience", "times", "groups"}
    assert {about for about, ok in judged(ran).items() if ok} >= expected
    assert judged(ran)["client"] is (True if version == 2 else None)
    assert ran.json["claims"]["groups"] == ["g"]


def test_an_altered_token_is_not_genuine(project: Project, run: Program, app: App) -> None:
    token = project.token("ci-agent")["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    head, _, signature = token.split(".")
    other = jwt.encode({**claims, "roles": ["admin"]}, "x" * 32).split(".")[1]
    path = project.private("altered.token", f"{head}.{other}.{signature}")
    ran = run("inspect", path, "--verify")
    assert ran.code == 1
    assert "Invalid: the signature does not match" in ran.stdout
    assert "admin" in ran.stdout  # shown all the same, below that head
    assert app.tenant_id in ran.stdout


def test_a_token_by_another_key_under_a_known_or_unknown_key_id_is_not_genuine(
    project: Project, run: Program, app: App
) -> None:
    token = project.token(app.name)["access_token"]
    claims = jwt.decode(token, options={"verify_signature": False})
    for kid in (jwt.get_unverified_header(token)["kid"], "another"):
        path = project.private("forged.token", signed(claims, kid=kid))
        ran = run("inspect", path, "--verify", "--json")
        assert (ran.code, ran.json["verified"]) == (1, False)


def test_keys_come_from_the_configured_host_whatever_the_token_says(
    project: Project, run: Program, app: App
) -> None:
    claims = {"iss": "https://evil.example/v2.0", "tid": app.tenant_id, "exp": time.time() + 60}
    path = project.private("evil.token", signed(claims, kid="x", jku="https://evil.example/keys"))
    before = len(project.idp.requests)
    assert run("inspect", path, "--verify").code == 1
    asked = project.idp.requests[before:]
    assert [each.path for each in asked] == [f"/{app.tenant_id}/discovery/v2.0/keys"]


def test_an_expired_token_verifies_and_is_refused(project: Project, run: Program) -> None:
    project.add(apps(1)[0])
    project.idp.inject(Fault("short_life", expires_in=1))
    run()
    time.sleep(1.2)
    ran = run("inspect", "ci-agent", "--verify", "--json")
    assert (ran.code, ran.json["verified"], judged(ran)["times"]) == (1, False, False)
    assert ran.json["verification"].endswith("but it has expired")


def test_the_registrys_own_token_is_read_and_said_to_be_its_to_check(
    project: Project, run: Program
) -> None:
    own = jwt.encode({"iss": "mcp-auth-server", "sub": "admin", "scope": "a b"}, "k" * 32)
    path = project.private(".token", f"{own}\n")
    ran = run("inspect", path)
    assert ran.code == 0
    assert "Only the registry can check it" in ran.stdout
    assert "a b" in ran.stdout
    assert run("inspect", path, "--verify").code == 1


@pytest.mark.parametrize(
    "content",
    [
        '{{"tokens": {{"access_token": "{token}"}}}}',
        '{{"token_data": {{"access_token": "{token}"}}}}',
        '{{"token": "{token}"}}',
        "Bearer {token}",
        '"{token}"',
    ],
)
def test_every_form_that_the_registrys_readers_take_is_read_from_stdin_too(
    project: Project, run: Program, content: str
) -> None:
    token = jwt.encode({"sub": "found"}, "k" * 32)
    ran = subprocess.run(
        run.line("inspect", "-", "--json"),
        input=content.format(token=token),
        cwd=project.folder,
        env=environment(project.folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert json.loads(ran.stdout)["claims"] == {"sub": "found"}


@pytest.mark.parametrize("content", ["", "opaque", "{}", "a.b.c", '{"access_token": null}', "[1]"])
def test_what_is_no_token_is_exit_2(project: Project, run: Program, content: str) -> None:
    assert run("inspect", project.private("thing", content)).code == 2


def test_a_name_that_is_neither_identity_nor_file_is_exit_2(run: Program) -> None:
    ran = run("inspect", "nobody")
    assert ran.code == 2
    assert "status" in ran.stderr


def test_claims_cannot_write_to_the_terminal(project: Project, run: Program) -> None:
    token = jwt.encode({"aud": "\x1b]0;owned\x07", "groups": ["\x1b[2J"]}, "k" * 32)
    ran = run("inspect", project.private("bad.token", token))
    assert "\x1b" not in ran.stdout
    assert "owned" in ran.stdout


def test_an_audience_of_its_own_is_what_the_registry_refuses(
    project: Project, run: Program
) -> None:
    app = apps(1)[0]
    project.add(app, scope=f"api://{app.client_id}/.default")
    run()
    ran = run("inspect", "ci-agent", env=GATEWAY)
    assert "the identity itself" in ran.stdout
    assert "Audience doesn't match" in ran.stdout
    assert f"api://{API}/.default" in ran.stdout


def test_groups_and_roles_and_their_overage_are_judged(project: Project, run: Program) -> None:
    first, second, third = apps(3)
    project.add(replace(first, groups=(), roles=("Task.Read",)))
    project.add(replace(second, groups=()))
    project.add(replace(third, groups=tuple(f"g{n}" for n in range(201))))
    run()
    found = [run("inspect", each.name, "--json") for each in (first, second, third)]
    assert [judged(ran)["groups"] for ran in found] == [True, None, None]
    assert "more than 200" in run("inspect", third.name).stdout


def test_groups_are_mapped_to_scopes_and_those_without_are_named(
    project: Project, run: Program, app: App
) -> None:
    scopes = (
        "group_mappings:\n"
        "  # admins\n"
        f'  "{app.groups[0]}":\n  - mcp-registry-admin\n  - registry-admins\n'
    )
    path = project.private("scopes.yml", scopes)
    ran = run("inspect", "ci-agent", "--scopes-file", path)
    assert "scopes: mcp-registry-admin, registry-admins; unmapped: g2" in ran.stdout
    path = project.private("scopes.yml", "group_mappings:\n  other:\n  - x\n")
    assert judged(run("inspect", "ci-agent", "--json", "--scopes-file", path))["scopes"] is False
    path = project.private("scopes.yml", "{nonsense: [")
    assert run("inspect", "ci-agent", "--scopes-file", path).code == 2


def test_no_signature_is_called_right_that_was_not_checked(run: Program, app: App) -> None:
    """By `inspect` alone; with --verify it is, where it is."""
    assert judged(run("inspect", app.name, "--json"))["signature"] is None
    assert judged(run("inspect", app.name, "--json", "--verify"))["signature"] is True


def test_a_token_of_nobody_here_is_only_said_to_be_signed(
    project: Project, run: Program, app: App
) -> None:
    """It is vouched for against an identity alone: that of the option, if it is that one's."""
    path = project.private("some.token", project.token(app.name)["access_token"])
    ran = run("inspect", path, "--verify")
    assert ran.code == 1
    assert ran.stdout.startswith("Not verified: signed by ")
    assert "--identity" in ran.stdout
    assert run("inspect", path, "--verify", "--identity", app.name).code == 0
    project.add(apps(2)[1])
    ran = run("inspect", path, "--verify", "--identity", "billing-agent")
    assert ran.code == 1
    assert "but its application is" in ran.stdout
    assert run("inspect", path, "--verify", "--identity", "nobody").code == 2
    assert run("inspect", path, "--identity", app.name).code == 2


def test_the_provider_out_of_reach_is_no_verification(
    project: Project, run: Program, app: App
) -> None:
    project.idp.close()
    ran = run("inspect", "ci-agent", "--verify", "--json")
    assert (ran.code, ran.json["verified"]) == (1, False)
    assert "refused the connection" in ran.json["verification"]
    assert judged(ran)["signature"] is None
    assert app.tenant_id in ran.stdout


def test_no_token_is_printed(project: Project, run: Program, app: App) -> None:
    token = project.token("ci-agent")["access_token"]
    for options in ((), ("--json",), ("--verify",)):
        ran = run("inspect", app.name, *options)
        assert token not in ran.stdout + ran.stderr
        assert token.split(".")[2] not in ran.stdout + ran.stderr
