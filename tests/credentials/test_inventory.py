"""When client secrets end: Graph tells it to those who may ask."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.diagnostics.inventory import check
from credentials_provider.emulator import App, Emulator, Fault
from support import Command, Project, Ran, apps, assert_no_secret, entry, wait

if TYPE_CHECKING:
    from credentials_provider.diagnostics.inventory import Item

NOW = datetime.now(timezone.utc)


def day(days: float) -> str:
    """A day so many from now, as Graph writes it."""
    return (NOW + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.1234567Z")


@pytest.fixture
def app(project: Project, idp: Emulator) -> App:
    """One that may ask; its secret ends in ten days, an older one earlier."""
    (made,) = apps(1)
    made = replace(
        made,
        secrets=(*made.secrets, "older-secret"),
        secrets_end=(day(10), day(2)),
        roles=("Application.Read.All",),
    )
    idp.add_app(made)
    project.write([entry(made)])
    return made


def identities(run: Command, *args: str) -> Ran:
    """The command itself, as a process."""
    idp = run.project.idp
    line = [sys.executable, "-m", "credentials_provider", "identities", *args]
    line += ["--login-base-url", idp.base_url, "--ca-bundle", idp.ca_file]
    return wait(run.start_line(line))


def ask(project: Project) -> tuple[Item, list[str]]:
    (item,), warnings = check(project.settings(), ask_graph=True)
    return item, warnings


@pytest.mark.parametrize("command", ["list", "check"])
def test_the_command_tells_the_end_that_graph_knows(
    project: Project, app: App, run: Command, command: str
) -> None:
    """And warns, as it is near; one token and one question for it."""
    ran = identities(run, command, "--check-secret-expiry")
    assert ran.code == 0, ran.stderr
    assert day(10)[:10] in ran.stdout
    assert f"{app.name}: the client secret expires in" in ran.stderr
    assert_no_secret(ran.stdout + ran.stderr, [app])
    assert len(project.idp.requests) == 2
    assert not os.path.exists(project.path(app.name))


def test_the_document_has_the_end(app: App, run: Command) -> None:
    """For programs."""
    ran = identities(run, "list", "--json", "--check-secret-expiry")
    (found,) = json.loads(ran.stdout)["identities"]
    assert (found["identity_name"], found["expires_on"]) == (app.name, day(10)[:10])


def test_secrets_that_begin_alike_count_as_the_first_that_ends(
    project: Project, app: App, idp: Emulator
) -> None:
    """Graph's hint is three characters: it errs early."""
    alike = f"{app.secrets[0][:3]}another"
    secrets = (app.secrets[0], alike)
    idp.add_app(replace(app, secrets=secrets, secrets_end=(day(100), day(50))))
    item, warnings = ask(project)
    assert item.ends == day(50)[:10]
    assert warnings == []


def test_a_secret_with_time_left_does_not_warn(project: Project, app: App, idp: Emulator) -> None:
    """Thirty days are the limit."""
    idp.add_app(replace(app, secrets_end=(day(31), day(1))))
    item, warnings = ask(project)
    assert (item.ends, warnings) == (day(31)[:10], [])


SILENT: dict[str, tuple[dict[str, Any], Fault | None, str]] = {
    "no role": ({"roles": ()}, None, "Application.Read.All"),
    "not there": ({"secrets_end": ()}, None, "no secret that begins like this"),
    "500": ({}, Fault("status", status=500, endpoint="discovery"), "HTTP 500"),
    "418": ({}, Fault("status", status=418, endpoint="discovery"), "HTTP 418"),
    "array": (
        {},
        Fault("status", status=200, body="[]", endpoint="discovery"),
        "not what Microsoft Graph",
    ),
    "refused": ({}, Fault("aadsts", code=7000215), "gives no token"),
}


@pytest.mark.parametrize("case", SILENT)
@pytest.mark.usefixtures("no_backoff")
def test_what_graph_does_not_tell_is_a_warning(
    project: Project,
    app: App,
    idp: Emulator,
    case: str,
) -> None:
    """Not a mistake of the file."""
    change, fault, says = SILENT[case]
    idp.add_app(replace(app, **change))
    if fault:
        idp.inject(fault, None)
    item, (warning,) = ask(project)
    assert item.ends is None
    assert says in warning
    assert app.name in warning


def test_the_date_in_the_entry_serves_without_the_permission(
    project: Project, app: App, idp: Emulator
) -> None:
    """Where Graph says nothing."""
    idp.add_app(replace(app, roles=()))
    end = (NOW + timedelta(days=5)).date().isoformat()
    project.write([entry(app, client_secret_expires_on=end)])
    item, warnings = ask(project)
    assert item.ends == end
    assert any("the client secret expires in" in warning for warning in warnings)
