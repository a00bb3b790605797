"""No secret and no token in anything that the command says, whatever goes wrong."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING

import pytest

from credentials_provider.emulator import Fault
from support import (
    OTHER_TENANT,
    Listener,
    apps,
    assert_no_secret,
    closed_port,
    connect_proxy,
    forms_of,
    renew,
)

if TYPE_CHECKING:
    from credentials_provider.emulator import App, Emulator
    from support import Command, Project

# Answers that hold the secret or a token, and failures that happen while one is in hand.
TEMPTING = (
    Fault("echo_secret"),
    Fault("wrong_tenant"),
    Fault("bad_expires_in", value="soon"),
    Fault("opaque"),
    Fault("truncated_json"),
    Fault("truncated"),
    Fault("reset_after"),
    Fault("html"),
    Fault("garbage"),
    Fault("unavailable"),
    Fault("throttle"),
    Fault("reset"),
    Fault("no_access_token"),
    Fault("status", status=500, body="client_secret=%(secret)s eyJhbGciOiJSUzI1NiJ9"),
    Fault("redirect", location="https://localhost/?client_secret=eyJhbGciOiJSUzI1NiJ9"),
    Fault("aadsts", code=7000215, error="eyJhbGciOiJSUzI1NiJ9"),
    Fault("string_numbers"),
)


@pytest.fixture
def many(project: Project, idp: Emulator) -> list[App]:
    """An app for each tempting answer, and one for which all goes well."""
    made = apps(len(TEMPTING) + 1)
    project.add_all(made)
    for app, fault in zip(made, TEMPTING, strict=False):
        idp.inject(fault, None, app.client_id)
    return made


@pytest.mark.parametrize("args", [(), ("-v",), ("--json",), ("-q",), ("--json", "-v")], ids=str)
def test_no_output_holds_a_secret(run: Command, many: list[App], args: tuple[str, ...]) -> None:
    """At any verbosity neither stream shows a secret, in any encoding, nor a token."""
    ran = run("--max-attempts", "1", *args, env={"PYTHONWARNINGS": "default", "PYTHONDEVMODE": "1"})

    assert ran.code == 1
    assert_no_secret(ran.stdout + ran.stderr, many)
    assert many[0].name in ran.stdout + ran.stderr  # it did say something


@pytest.mark.usefixtures("no_backoff")
def test_no_log_record_holds_a_secret(
    project: Project, many: list[App], caplog: pytest.LogCaptureFixture
) -> None:
    """With every logger at DEBUG no record shows a secret or a token, msal's and urllib3's neither.

    Nor does any value that a caller gets back.
    """
    for name in ("", "msal", "urllib3", "credentials_provider"):
        caplog.set_level(logging.DEBUG, name)
    listener = Listener()

    report = renew(project, listener, max_attempts=2)

    assert_no_secret(caplog.text, many)
    assert_no_secret(repr(report) + repr(listener.finished) + repr(listener.warnings), many)


def test_no_token_file_holds_a_secret(
    project: Project, run: Command, idp: Emulator, many: list[App]
) -> None:
    """A token file has the token and nothing of the credential, and no other file has either."""
    idp.clear_faults()

    assert run().code == 0
    for app in many:
        content = project.files()[f"{app.name}.json"].decode()
        for form in forms_of(app.secrets[0]):
            assert form not in content
    for folder, _, names in os.walk(project.folder):
        for name in names:
            if folder == project.output and name.endswith(".json"):
                continue
            with open(os.path.join(folder, name), "rb") as file:
                assert_no_secret(file.read().decode(errors="replace"), many)


def test_a_misplaced_secret_is_not_repeated(project: Project, run: Command) -> None:
    """A secret under the wrong name, or of the wrong form, shows in no message about it."""
    one, two, three, four = made = apps(4)
    project.write(
        [
            {"identity_name": "a", "client_secrt": one.secrets[0], "tenant_id": ["x"]},
            {"identity_name": "b", "client_secret": [two.secrets[0]], "scope": 1},
            {"identity_name": "c", "client_secret": f" {three.secrets[0]}\n"},
            {"identity_name": "d", "client_secret": {"value": four.secrets[0]}},
        ]
    )

    for args in ((), ("--json",), ("-v",)):
        ran = run(*args)

        assert ran.code == 2
        assert_no_secret(ran.stdout + ran.stderr, made)


def test_a_cut_identities_file_is_not_repeated(project: Project, run: Command) -> None:
    """A file that cannot be read as JSON is told by place, not by content."""
    (app,) = made = apps(1)
    text = json.dumps([{"client_secret": app.secrets[0]}])
    for cut in range(20, len(text) - 1, 12):
        project.write(text[:cut])

        ran = run("--json")

        assert ran.code == 2
        assert_no_secret(ran.stdout + ran.stderr, made)


def test_a_failing_network_shows_nothing(project: Project, run: Command) -> None:
    """Errors of connection, trust and proxy do not show what would have been sent."""
    made = apps(2)
    project.add_all(made)
    nowhere = ("--login-base-url", f"https://localhost:{closed_port()}")
    base_url = project.idp.base_url
    with connect_proxy("407 Proxy Authentication Required") as proxy:
        proxied = {"HTTPS_PROXY": f"http://jo:{made[0].name}-pw@{proxy.address}"}
        ended = [
            run("-v", "--max-attempts", "1", *nowhere),
            run("-v", "--max-attempts", "1", "--login-base-url", base_url, bare=True),
            run("-v", "--max-attempts", "1", env=proxied),
        ]
    for ran in ended:
        assert ran.code == 1
        assert_no_secret(ran.stdout + ran.stderr, made)
        assert "-pw" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("args", [("-v",), ("--json",)], ids=" ".join)
def test_a_secret_of_the_environment_is_not_shown(
    project: Project, run: Command, idp: Emulator, args: tuple[str, ...]
) -> None:
    """ENTRA_CLIENT_SECRET and --entra-client-secret stay unseen when they are refused."""
    (app,) = made = apps(1, OTHER_TENANT)
    ids = {"ENTRA_TENANT_ID": app.tenant_id, "ENTRA_CLIENT_ID": app.client_id}
    idp.inject(Fault("echo_secret"), None)

    told = run(*args, env={**ids, "ENTRA_CLIENT_SECRET": app.secrets[0]})
    typed = run(*args, "--entra-client-secret", app.secrets[0], env=ids)

    for ran in (told, typed):
        assert ran.code == 1
        assert_no_secret(ran.stdout + ran.stderr, made)
    assert project.files() == {}
