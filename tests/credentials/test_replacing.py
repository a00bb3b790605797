"""A client secret that others made: imported, replaced, proven before the old one is dropped."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from credentials.commanding import converse, ids, mode
from support import SCOPE, assert_no_secret, entry, renew

if TYPE_CHECKING:
    from credentials.commanding import Tell
    from credentials_provider.emulator import App
    from support import Project

NEW = "new8Q~of-the-portal_1.2-3"


@pytest.fixture
def renewed(project: Project, app: App) -> App:
    """The application with a second secret that Entra ID knows."""
    made = replace(app, secrets=(app.secrets[0], NEW))
    project.idp.add_app(made)
    return made


def secrets(project: Project) -> dict[str, str]:
    folder = os.path.join(project.output, ".secrets")
    names = set(os.listdir(folder)) - {".gitignore"} if os.path.isdir(folder) else set()
    found = {}
    for name in names:
        path = os.path.join(folder, name)
        assert mode(path) == 0o600
        with open(path, encoding="utf-8") as file:
            found[name] = file.read().strip()
    return found


# secret


@pytest.mark.parametrize("kind", ["literal", "own file", "file elsewhere", "variable"])
def test_a_new_secret_takes_the_place_of_the_old_one(
    project: Project, tell: Tell, renewed: App, kind: str
) -> None:
    """Wherever that was; from then on it is in a private file, and the other secrets stay."""
    elsewhere = project.private("elsewhere", renewed.secrets[0])
    before = {
        "literal": {"client_secret": renewed.secrets[0]},
        "own file": {"client_secret_file": ".secrets/ci"},
        "file elsewhere": {"client_secret_file": elsewhere},
        "variable": {"client_secret_env": "CI_SECRET"},
    }[kind]
    other = entry(renewed, identity_name="other")
    project.write([entry(renewed, **{"client_secret": None, **before}, identity_name="ci"), other])
    if kind == "own file":
        os.mkdir(os.path.join(project.output, ".secrets"), 0o700)
        project.private(os.path.join(project.output, ".secrets", "ci"), renewed.secrets[0])
    ran = tell("secret", "ci", stdin=f"{NEW}\n")
    assert ran.code == 0, ran.stderr
    assert_no_secret(ran.stdout + ran.stderr, [renewed])
    changed, kept = project.entries()
    assert changed["client_secret_file"] == ".secrets/ci"
    assert not changed.keys() & {"client_secret", "client_secret_env"}
    assert kept == other
    assert secrets(project) == {"ci": NEW}
    assert os.path.exists(elsewhere)
    assert ("is not used any more" in ran.stderr) == (kind in {"file elsewhere", "variable"})
    assert renew(project).exit_code == 0


def test_a_secret_that_gets_no_token_changes_nothing(
    project: Project, tell: Tell, app: App
) -> None:
    """The old one is not dropped before the new one is proven."""
    tell.add("ci", app, "--client-secret-stdin", stdin=app.secrets[0])
    before = project.entries()
    ran = tell("secret", "ci", stdin=f"{NEW}\n")
    assert ran.code == 1
    assert "no token for ci: the client secret is wrong" in ran.stderr
    assert "(invalid_client, AADSTS7000215); Trace ID " in ran.stderr
    assert "identities secret ci" in ran.stderr
    assert (project.entries(), secrets(project)) == (before, {"ci": app.secrets[0]})


@pytest.mark.parametrize(
    ("value", "says"),
    [("", "is empty"), ("***", "masked"), ("A_B=c", "name"), ("'quoted'", "quotes")],
)
def test_what_cannot_be_a_secret_is_not_sent(
    project: Project, tell: Tell, app: App, value: str, says: str
) -> None:
    """It is told before any request."""
    project.add(app)
    ran = tell("secret", app.name, stdin=f"{value}\n")
    assert ran.code == 2
    assert says in ran.stderr
    assert project.idp.token_requests == []


@pytest.mark.parametrize(
    ("credential", "says"),
    [
        ({"client_secret_keyvault": "https://v.vault.azure.net/secrets/a"}, "Key Vault"),
        ({"managed_identity": True}, "has managed_identity"),
        ({}, "no credential"),
    ],
)
def test_an_identity_whose_secret_is_not_ours_is_left_alone(
    project: Project, tell: Tell, app: App, credential: dict[str, object], says: str
) -> None:
    """With the place where it can be replaced."""
    project.write([entry(app, client_secret=None, identity_name="ci", **credential)])
    ran = tell("secret", "ci", stdin=f"{NEW}\n")
    assert ran.code == 2
    assert says in ran.stderr


def test_a_placeholder_is_no_hindrance(project: Project, tell: Tell, renewed: App) -> None:
    """Whatever is wrong with the present secret goes with it, and so does its last day."""
    wrong = {"client_secret": "your-m2m-client-secret", "client_secret_expires_on": "2026-01-01"}
    project.write([entry(renewed, identity_name="ci", **wrong)])
    assert tell("secret", "ci", stdin=f"{NEW}\n").code == 0
    assert "client_secret_expires_on" not in project.entries()[0]
    options = ("--client-secret-expires-on", "2031-01-31")
    assert tell("secret", "ci", *options, stdin=f"{NEW}\n").code == 0
    assert project.entries()[0]["client_secret_expires_on"] == "2031-01-31"


def test_on_a_terminal_the_secret_is_asked_for_and_not_shown(
    project: Project, tell: Tell, renewed: App
) -> None:
    """Once, and nobody sees it."""
    tell.add("ci", renewed, "--client-secret-stdin", stdin=renewed.secrets[0])
    code, screen = converse(project, "secret", "ci", answers=[("Client secret", NEW)])
    assert code == 0, screen
    assert NEW not in screen
    assert secrets(project) == {"ci": NEW}


def test_a_secret_from_a_file_is_its_first_line(project: Project, tell: Tell, renewed: App) -> None:
    """As in a file that an entry names."""
    project.add(renewed)
    path = project.private("new", f"{NEW}\nsecond line\n")
    ran = tell("secret", renewed.name, "--from-file", path)
    assert ran.code == 0
    assert f"{path} still has the secret in the clear" in ran.stderr
    assert secrets(project) == {renewed.name: NEW}


# import


def answers(app: App) -> dict[str, str]:
    """What the registry of August 2026 gives, and other spellings of it."""
    client, secret = app.client_id, NEW
    return {
        "file": f"CLIENT_ID={client}\nCLIENT_SECRET={secret}\n",
        "quoted": f"export ENTRA_CLIENT_ID='{client}'\nexport ENTRA_CLIENT_SECRET=\"{secret}\"\n",
        "yaml": f"client-id: {client}\nclient-secret: {secret}\n",
        "bullets": f"  - **Client ID**: `{client}`\n  - **Client Secret**: `{secret}`\n",
        "api": json.dumps({"client_id": client, "client_secret": secret, "groups": ["a"]}),
        "az": json.dumps({"appId": client, "password": secret, "tenant": app.tenant_id}),
    }


@pytest.mark.parametrize("form", ["file", "quoted", "yaml", "bullets", "api", "az"])
def test_what_is_given_today_is_imported(
    project: Project, tell: Tell, renewed: App, form: str
) -> None:
    """And its token minted; the file goes once the secret is proven."""
    path = project.private("answer", answers(renewed)[form])
    options = () if form == "az" else ("--tenant-id", renewed.tenant_id)
    ran = tell("import", "ci", path, "--delete", "--scope", SCOPE, *options)
    assert ran.code == 0, ran.stderr
    assert NEW not in ran.stdout + ran.stderr
    assert secrets(project) == {"ci": NEW}
    assert not os.path.exists(path)
    assert renew(project).exit_code == 0


def test_the_printed_text_leads_to_the_file(project: Project, tell: Tell, renewed: App) -> None:
    """Which is named as it was from the folder where the registry's command ran."""
    written = project.private("m2m.txt", answers(renewed)["file"])
    text = (
        f"M2M account created\n  Client ID: {renewed.client_id}\n  Groups: a\n"
        "  Service Principal ID: 1\n  Client secret written to: m2m.txt\n  Delete it after use.\n"
    )
    ran = tell("import", "ci", *ids(renewed)[:2], "--scope", SCOPE, stdin=text)
    assert ran.code == 0, ran.stderr
    assert "m2m.txt still has the secret in the clear" in ran.stderr
    assert secrets(project) == {"ci": NEW}
    assert os.path.exists(written)


def test_a_file_stays_until_its_secret_is_proven(project: Project, tell: Tell, app: App) -> None:
    """Else nobody had it any more."""
    tell.add("ci", app, "--client-secret-stdin", stdin=app.secrets[0])
    project.idp.add_app(replace(app, enabled=False))
    path = project.private("answer", answers(app)["file"])
    ran = tell("import", "ci", path, "--replace", "--delete")
    assert ran.code == 1
    assert os.path.exists(path)
    assert secrets(project) == {"ci": app.secrets[0]}


@pytest.mark.parametrize(("answer", "left"), [("y", False), ("n", True)])
def test_on_a_terminal_the_file_is_offered_to_be_deleted(
    project: Project, renewed: App, answer: str, left: bool
) -> None:
    """Once the secret is proven."""
    path = project.private("answer", answers(renewed)["file"])
    words = ["import", "ci", path, "--tenant-id", renewed.tenant_id, "--scope", SCOPE]
    code, screen = converse(project, *words, answers=[("in the clear", answer)])
    assert code == 0, screen
    assert os.path.exists(path) == left
    assert NEW not in screen
    assert secrets(project) == {"ci": NEW}


def test_a_replacing_import_is_for_the_same_application(
    project: Project, tell: Tell, renewed: App
) -> None:
    """Another one's secret is not taken; its own is, once it is proven."""
    tell.add("ci", renewed, "--client-secret-stdin", stdin=renewed.secrets[0])
    other = f"CLIENT_ID={renewed.client_id[::-1]}\nCLIENT_SECRET={NEW}\n"
    ran = tell("import", "ci", "--replace", stdin=other)
    assert ran.code == 2
    assert "another one" in ran.stderr
    for piped in ((), ("-",)):
        ran = tell("import", "ci", *piped, "--replace", "--delete", stdin=answers(renewed)["file"])
        assert ran.stderr == ""
    assert ran.code == 0, ran.stderr
    assert secrets(project) == {"ci": NEW}
    assert len(project.entries()) == 1


def test_an_answer_for_several_accounts_is_refused(tell: Tell, renewed: App) -> None:
    """Nobody knows which secret belongs to which."""
    text = answers(renewed)["file"] * 2
    text = text.replace(renewed.client_id, renewed.client_id[::-1], 1)
    ran = tell("import", "ci", *ids(renewed)[:2], "--scope", SCOPE, stdin=text)
    assert ran.code == 2
    assert "several" in ran.stderr
    assert NEW not in ran.stderr
