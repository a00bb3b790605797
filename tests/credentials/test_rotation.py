"""During a rotation an identity carries two secrets; the second is tried once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Fault
from support import Command, Listener, Project, assert_no_secret, entry, renew

if TYPE_CHECKING:
    from credentials_provider.emulator import App, Emulator

OTHER = "other.secret~of-a.rotation"


def both(app: App, **changes: object) -> dict[str, Any]:
    """An entry whose first secret is wrong and whose previous one works."""
    return entry(
        app, **{"client_secret": OTHER, "client_secret_previous": app.secrets[0], **changes}
    )


def test_the_previous_secret_helps_where_the_first_is_refused(
    project: Project, app: App, run: Command
) -> None:
    """Two requests; the report names the one that worked, a warning the one that can go."""
    project.write([both(app)])
    ran = run("--json")
    assert ran.code == 0, ran.stderr
    result = ran.results[app.name]
    assert (result["credential"], result["attempts"]) == ("client_secret_previous", 2)
    assert "client_secret was refused (AADSTS7000215)" in ran.stderr
    assert "it can go" in ran.stderr
    assert_no_secret(ran.stdout + ran.stderr, [app])
    assert OTHER not in ran.stdout + ran.stderr


@pytest.mark.parametrize("kind", ["env", "file"])
def test_every_kind_can_be_the_previous_one(project: Project, app: App, kind: str) -> None:
    """As every kind can be the first."""
    app = replace(app, secrets=("plain~secret.value",))
    project.idp.add_app(app)
    project.private(".env", f"PREVIOUS={app.secrets[0]}\n")
    project.private(".oauth-tokens/previous", app.secrets[0])
    place = {"env": "PREVIOUS", "file": "previous"}[kind]
    project.write(
        [both(app, client_secret_previous=None, **{f"client_secret_previous_{kind}": place})]
    )
    report = renew(project)
    assert report.results[0].credential == f"client_secret_previous_{kind}"


def test_where_the_first_secret_works_the_previous_one_is_not_asked_for(
    project: Project, app: App, idp: Emulator
) -> None:
    """Not even resolved; a warning says that it can go."""
    project.write([entry(app, client_secret_previous_env="NO_SUCH_VARIABLE")])
    listener = Listener()
    report = renew(project, listener)
    assert (report.exit_code, report.results[0].credential) == (0, "client_secret")
    assert len(idp.token_requests) == 1
    assert any("client_secret_previous_env can go" in text for text in listener.warnings)


def test_two_refused_secrets_are_one_failure(project: Project, app: App, idp: Emulator) -> None:
    """After one request each; it tells of both."""
    project.write([both(app, client_secret_previous="also-wrong")])
    failure = renew(project).results[0].failure
    assert failure is not None
    assert (failure.kind, failure.error, failure.attempts) == ("rejected", "invalid_client", 2)
    assert "with client_secret_previous:" in failure.message
    assert len(idp.token_requests) == 2


def test_only_a_refused_credential_leads_to_the_previous_one(
    project: Project, app: App, idp: Emulator
) -> None:
    """An unknown resource stays one with any secret."""
    project.write([both(app, client_secret=app.secrets[0])])
    idp.inject(Fault("aadsts", code=500011), None)
    failure = renew(project).results[0].failure
    assert failure is not None
    assert failure.aadsts == 500011
    assert len(idp.token_requests) == 1


def test_a_previous_secret_that_is_missing_leaves_the_first_failure(
    project: Project, app: App
) -> None:
    """And names both."""
    project.write(
        [both(app, client_secret_previous=None, client_secret_previous_env="NO_SUCH_VARIABLE")]
    )
    failure = renew(project).results[0].failure
    assert failure is not None
    assert failure.aadsts == 7000215
    assert "NO_SUCH_VARIABLE" in failure.message
