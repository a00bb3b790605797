"""Managed identities: this machine's own endpoint gives the token, and no other is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from credentials_provider.emulator import App, Emulator, Fault
from support import SCOPE, Command, Project, apps, closed_port, connect_proxy, entry, renew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from credentials_provider.minting import Failure
    from credentials_provider.model import Outcome

    Mint = Callable[..., Outcome]

KINDS = ("imds", "app_service")


pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture
def idp() -> Iterator[Emulator]:
    """A provider whose machine this is."""
    with Emulator(machine=True) as emulator:
        yield emulator


@pytest.fixture
def system(idp: Emulator) -> App:
    """The machine's own identity."""
    app = replace(apps(1)[0], secrets=(), managed="system")
    idp.add_app(app)
    return app


@pytest.fixture
def assigned(idp: Emulator) -> App:
    """One that is assigned to it."""
    app = replace(apps(2)[1], secrets=(), managed="user")
    idp.add_app(app)
    return app


@pytest.fixture
def mint(project: Project, monkeypatch: pytest.MonkeyPatch) -> Mint:
    """Mints within this process, whose environment leads to the machine's endpoint."""

    def run(env: Mapping[str, str], **options: Any) -> Outcome:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        (outcome,) = renew(project, **options).results
        return outcome

    return run


def told(outcome: Outcome) -> Failure:
    assert outcome.kind == "failed"
    assert outcome.failure is not None
    return outcome.failure


def managed(app: App, value: object = True, **changes: object) -> dict[str, Any]:
    return entry(app, client_secret=None, managed_identity=value, **changes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("assigned")
def test_the_machines_own_identity_mints_a_token(
    project: Project, run: Command, system: App, kind: Any
) -> None:
    """On a virtual machine and on App Service; the login host is not asked."""
    project.write([managed(system)])
    ran = run("--json", env=project.idp.machine_environment(kind))
    assert ran.code == 0, ran.stderr
    assert ran.results[system.name]["credential"] == "managed_identity"
    token = project.token(system.name)
    claims = jwt.decode(token["access_token"], options={"verify_signature": False})
    assert claims["azp"] == system.client_id
    assert abs(claims["exp"] - token["expires_on"]) <= 5
    assert project.idp.token_requests == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("system")
def test_an_assigned_identity_is_asked_for_by_its_client_id(
    project: Project, mint: Mint, assigned: App, kind: Any
) -> None:
    """Which the entry need not repeat."""
    project.write([managed(assigned, assigned.client_id, client_id=None)])
    assert mint(project.idp.machine_environment(kind)).failure is None
    assert project.token(assigned.name)["client_id"] == assigned.client_id


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("system")
def test_an_identity_that_the_machine_has_not_is_refused(
    project: Project, mint: Mint, kind: Any
) -> None:
    """After one request, with where to assign it."""
    stranger = apps(3)[2]
    project.write([managed(stranger, stranger.client_id)])
    failure = told(mint(project.idp.machine_environment(kind)))
    assert failure.kind == "rejected"
    assert "no such managed identity" in failure.message
    assert "Azure portal" in failure.remedy
    assert len(project.idp.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("system")
def test_a_token_of_another_client_is_not_taken(
    project: Project, mint: Mint, assigned: App, kind: Any
) -> None:
    """A machine with one assigned identity may answer with that when its own was asked for."""
    project.write([managed(assigned)])  # says true, so that the machine's own answers
    failure = told(mint(project.idp.machine_environment(kind)))
    assert failure.kind == "bad_response"
    assert "another client" in failure.message


@pytest.mark.parametrize(
    "fault", [Fault("throttle", retry_after=0.02), Fault("unavailable", retry_after=0.02)]
)
def test_passing_trouble_of_the_endpoint_is_tried_again(
    project: Project, mint: Mint, system: App, fault: Fault
) -> None:
    """As with the login host."""
    project.idp.inject(fault, 2)
    project.write([managed(system)])
    outcome = mint(project.idp.machine_environment("imds"))
    assert (outcome.kind, outcome.attempts) == ("renewed", 3)


def test_an_endpoint_that_is_not_ready_is_tried_again(
    project: Project, mint: Mint, system: App
) -> None:
    """A machine that just started answers 404 or 410 for a while."""
    for status in (404, 410):
        project.idp.inject(Fault("status", status=status))
    project.write([managed(system)])
    outcome = mint(project.idp.machine_environment("imds"))
    assert (outcome.kind, outcome.attempts) == ("renewed", 3)


@pytest.mark.parametrize(
    "fault",
    [
        *(Fault("html"), Fault("garbage"), Fault("empty"), Fault("no_access_token")),
        *(Fault("opaque"), Fault("status", status=200, body="[]")),
    ],
    ids=lambda fault: fault.kind,
)
def test_an_answer_that_is_no_token_is_told(
    project: Project, mint: Mint, system: App, fault: Fault, capfd: pytest.CaptureFixture[str]
) -> None:
    """And shows nothing of what came."""
    project.idp.inject(fault, None)
    project.write([managed(system)])
    assert told(mint(project.idp.machine_environment("imds"))).kind == "bad_response"
    assert capfd.readouterr() == ("", "")


def test_a_machine_without_an_endpoint_says_so(project: Project, mint: Mint, system: App) -> None:
    """The usual case of a workstation."""
    project.write([managed(system)])
    url = f"http://127.0.0.1:{closed_port()}"
    env = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}
    failure = told(mint(env, max_attempts=2))
    assert (failure.kind, failure.attempts) == ("secret_unavailable", 2)
    assert "this machine is not on Azure" in failure.message


@pytest.mark.parametrize(
    "url", ["http://example.com", "http://10.0.0.1", "https://127.0.0.1", "http://metadata"]
)
def test_no_endpoint_but_the_machines_own_is_asked(
    project: Project, mint: Mint, system: App, url: str
) -> None:
    """Plain HTTP goes to loopback and link-local addresses alone."""
    project.write([managed(system)])
    failure = told(mint({"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}))
    assert (failure.kind, failure.attempts) == ("secret_unavailable", 0)
    assert "machine's own" in failure.message


def test_a_service_fabric_machine_is_told_apart(project: Project, mint: Mint, system: App) -> None:
    """It is not served, and says so by a sentence."""
    project.write([managed(system)])
    env = {
        "IDENTITY_ENDPOINT": "https://127.0.0.1:2377/metadata/identity/oauth2/token",
        "IDENTITY_HEADER": "h",
        "IDENTITY_SERVER_THUMBPRINT": "0" * 40,
    }
    failure = told(mint(env))
    assert failure.kind == "secret_unavailable"
    assert "cannot be used" in failure.message


def test_the_endpoint_is_never_asked_through_a_proxy(
    project: Project, mint: Mint, system: App
) -> None:
    """Though one is set for everything."""
    project.write([managed(system)])
    with connect_proxy() as proxy:
        url = f"http://{proxy.address}"
        env = {"HTTPS_PROXY": url, "HTTP_PROXY": url, "ALL_PROXY": url}
        assert mint({**project.idp.machine_environment("imds"), **env}).failure is None
        assert proxy.heads == []


@pytest.mark.usefixtures("system")
def test_the_scope_becomes_the_resource(idp: Emulator) -> None:
    """IMDS itself refuses one with /.default; it also wants its header and its version."""
    import urllib3

    environment = idp.machine_environment("imds")
    url = f"{environment['AZURE_POD_IDENTITY_AUTHORITY_HOST']}/metadata/identity/oauth2/token"
    query = {"api-version": "2018-02-01", "resource": SCOPE.removesuffix("/.default")}
    with urllib3.PoolManager(retries=False) as pool:
        for wrong in (
            pool.request("GET", url, fields=query),
            pool.request(
                "GET", url, fields={**query, "resource": ""}, headers={"Metadata": "true"}
            ),
            pool.request("GET", url, fields={"resource": "x"}, headers={"Metadata": "true"}),
        ):
            assert (wrong.status, wrong.json()["error"]) == (400, "invalid_request")
        good = pool.request("GET", url, fields=query, headers={"Metadata": "true"})
    assert good.status == 200
    assert isinstance(good.json()["expires_in"], str)
