"""The tokens of CI platforms as credentials: asked for at each use, and kept nowhere."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from credentials.making import federated_token, public_pem, trust
from credentials_provider.credentials.platforms import platform_token
from credentials_provider.emulator import App, Emulator, Fault
from credentials_provider.environment import Environment
from credentials_provider.errors import SecretUnavailableError
from credentials_provider.settings import CLOUDS
from credentials_provider.transport.connections import Answer
from credentials_provider.transport.retrying import Reply
from operations.running import Program
from support import SCOPE, Command, Project, apps, entry, renew

if TYPE_CHECKING:
    from credentials_provider.emulator.platforms import Platform
    from credentials_provider.minting import Failure
    from credentials_provider.transport.connections import HttpRequest

PLATFORMS: tuple[Platform, ...] = ("github", "azure-pipelines")

pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture
def app(idp: Emulator) -> App:
    """One that trusts both platforms' jobs, and a token of another issuer."""
    trusted = (*(idp.platforms.trust(each) for each in PLATFORMS), trust(public_key=public_pem()))
    made = replace(apps(1)[0], secrets=(), federated=trusted)
    idp.add_app(made)
    return made


def job(project: Project, platform: Platform, **changes: str) -> None:
    """Makes the run a job of the platform; an empty change leaves a variable out."""
    variables = {**project.idp.platforms.environment(platform), **changes}
    lines = [f"{name}='{value}'\n" for name, value in variables.items()]
    project.private(".env", "".join(lines))


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_step_needs_no_file_and_leaves_none(
    project: Project, app: App, platform: Platform
) -> None:
    """The job's own variables are the credential of an identity of options."""
    env = project.idp.platforms.environment(platform)
    os.rmdir(project.output)
    identity = ("--tenant-id", app.tenant_id, "--client-id", app.client_id, "--scope", SCOPE)
    ran = Program(project)("token", *identity, "--no-store", env=env)
    assert (ran.code, ran.stdout.count(".")) == (0, 2), ran.stderr
    assert os.listdir(project.folder) == []
    for value in env.values():
        assert value not in ran.stdout + ran.stderr


def failure(project: Project) -> Failure:
    (result,) = renew(project).results
    assert result.failure is not None
    return result.failure


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_job_gets_a_token_of_entras(
    project: Project, app: App, run: Command, platform: Platform
) -> None:
    """By nothing but its own variables; each run asks anew, and nothing of it is shown."""
    project.write([entry(app, client_secret=None, federated_token=platform)])
    env = project.idp.platforms.environment(platform)
    for given in (1, 2):
        ran = run("-v", "--force", env=env)
        assert ran.code == 0, ran.stderr
        assert project.idp.platforms.given == given
        said = ran.stdout + ran.stderr
        assert "eyJ" not in said
        for name in ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "SYSTEM_ACCESSTOKEN"):
            assert env.get(name, "none at all") not in said


def test_a_variable_holds_the_token(project: Project, app: App, run: Command) -> None:
    """As GitLab's id_tokens put it there."""
    project.write([entry(app, client_secret=None, federated_token_env="ENTRA_JWT")])
    ran = run(env={"ENTRA_JWT": federated_token()})
    assert ran.code == 0, ran.stderr
    assert "eyJ" not in ran.stdout + ran.stderr


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("", "is not set"),
        ("no token", "JSON Web Token"),
        (federated_token(exp=1_000_000_000), "expired on 2001-09-09"),
    ],
)
def test_a_variable_without_a_good_token_is_told(
    project: Project, app: App, value: str, says: str
) -> None:
    """By its name; nobody is asked."""
    project.private(".env", f"ENTRA_JWT='{value}'\n")
    project.write([entry(app, client_secret=None, federated_token_env="ENTRA_JWT")])
    told = failure(project)
    assert (told.kind, says in told.message) == ("secret_unavailable", True)
    assert "ENTRA_JWT" in told.message
    assert project.idp.token_requests == []


@pytest.mark.parametrize(
    ("platform", "missing", "cure"),
    [
        ("github", "ACTIONS_ID_TOKEN_REQUEST_URL", "id-token: write"),
        ("github", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "id-token: write"),
        ("azure-pipelines", "SYSTEM_OIDCREQUESTURI", "AzureCLI@2"),
        ("azure-pipelines", "SYSTEM_ACCESSTOKEN", "$(System.AccessToken)"),
        ("azure-pipelines", "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID", "AzureCLI@2"),
    ],
)
def test_what_is_no_job_is_told_what_it_lacks(
    project: Project,
    app: App,
    platform: Platform,
    missing: str,
    cure: str,
) -> None:
    """The variable, and how a job comes to have it."""
    job(project, platform, **{missing: ""})
    project.write([entry(app, client_secret=None, federated_token=platform)])
    told = failure(project)
    assert missing in told.message
    assert cure in told.remedy
    assert project.idp.requests == []


@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_job_without_the_right_is_told(project: Project, app: App, platform: Platform) -> None:
    """Once, without a retry; its token is not shown."""
    name = "ACTIONS_ID_TOKEN_REQUEST_TOKEN" if platform == "github" else "SYSTEM_ACCESSTOKEN"
    job(project, platform, **{name: "another-token"})
    project.write([entry(app, client_secret=None, federated_token=platform)])
    told = failure(project)
    assert "does not give this job a token (HTTP 401)" in told.message
    assert told.transient is False
    assert len(project.idp.requests) == 1


def test_a_platform_that_has_trouble_is_asked_again(project: Project, app: App) -> None:
    """As every other host; in the end it is a passing failure."""
    job(project, "github")
    project.write([entry(app, client_secret=None, federated_token="github")])
    project.idp.inject(Fault("unavailable", endpoint="discovery"), 1)
    assert renew(project).exit_code == 0
    project.idp.inject(Fault("unavailable", endpoint="discovery"), None)
    told = failure(project)
    assert "HTTP 503" in told.message
    assert told.transient is True


@pytest.mark.parametrize("body", ["{}", "[]", '{"value": 7}', '{"value": ""}', "no json"])
def test_an_answer_without_a_token_is_told(project: Project, app: App, body: str) -> None:
    """Whatever came."""
    job(project, "github")
    project.write([entry(app, client_secret=None, federated_token="github")])
    project.idp.inject(Fault("status", status=200, body=body, endpoint="discovery"), None)
    assert "without a token" in failure(project).message


@pytest.mark.parametrize(
    "url",
    ["http://localhost:1/token", "https:///token", "https://[::1/token", "file:///etc/passwd"],
)
def test_a_job_is_asked_over_https_alone(project: Project, app: App, url: str) -> None:
    """The job's token goes there."""
    job(project, "github", ACTIONS_ID_TOKEN_REQUEST_URL=url)
    project.write([entry(app, client_secret=None, federated_token="github")])
    assert "not https://" in failure(project).message


class Recorder:
    """A transport that only notes what it is asked."""

    def __init__(self) -> None:
        self.urls: list[str] = []

    def send(self, request: HttpRequest, **_: Any) -> Reply:
        self.urls.append(request.url)
        return Reply(Answer(401, {}, b"", time.time(), None), 1)


@pytest.mark.parametrize(
    ("cloud", "audience"),
    [
        ("public", "api%3A%2F%2FAzureADTokenExchange"),
        ("usgov", "api%3A%2F%2FAzureADTokenExchangeUSGov"),
        ("china", "api%3A%2F%2FAzureADTokenExchangeChina"),
    ],
)
def test_each_cloud_has_its_audience(cloud: str, audience: str) -> None:
    """Else Entra refuses the token (AADSTS700212)."""
    recorder: Any = Recorder()
    variables = {
        "ACTIONS_ID_TOKEN_REQUEST_URL": "https://x.test/token?a=b",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t",
    }
    with pytest.raises(SecretUnavailableError):
        platform_token("github", Environment(variables, {}), CLOUDS[cloud], recorder)
    assert recorder.urls == [f"https://x.test/token?a=b&audience={audience}"]
