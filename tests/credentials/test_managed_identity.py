"""Managed identities: this machine's own endpoint gives the token, and no other is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote

import jwt
import pytest

from credentials.scripted import SKEW, Scripted, access_token
from credentials_provider.emulator import App, Emulator, Fault
from credentials_provider.entra import metadata
from credentials_provider.entra.managed_identity import TIMEOUT, mint_managed
from credentials_provider.identities.identity import Identity
from credentials_provider.minting import Failure, Minted
from credentials_provider.transport.connections import Trouble
from support import (
    OTHER_TENANT,
    PACKAGES,
    SCOPE,
    Project,
    apps,
    closed_port,
    connect_proxy,
    entry,
    renew,
)

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator, Mapping

    from credentials_provider.model import Outcome
    from credentials_provider.transport.connections import HttpRequest

    Mint = Callable[..., Outcome]

KINDS = ("imds", "app_service", "arc", "azure_ml")  # those that know assigned identities, too
ALL_KINDS = (*KINDS, "cloud_shell")
WORDS_OF_OTHERS = ("login host", "--cloud", "--login-base-url", "tenant_id")


pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture
def idp(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    """A provider whose machine this is."""
    keys = tmp_path / "tokens"
    keys.mkdir()
    monkeypatch.setattr(metadata, "ARC_KEYS", str(keys))
    with Emulator(machine=True, arc_keys=str(keys)) as emulator:
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
    words = f"{outcome.failure.message} {outcome.failure.remedy}"
    assert not [each for each in WORDS_OF_OTHERS if each in words]
    return outcome.failure


def managed(app: App, value: object = True, **changes: object) -> dict[str, Any]:
    return entry(app, client_secret=None, managed_identity=value, **changes)


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.usefixtures("assigned")
def test_the_machines_own_identity_mints_a_token(
    project: Project, mint: Mint, system: App, kind: Any
) -> None:
    """On each kind of host; the login host is not asked."""
    project.write([managed(system)])
    outcome = mint(project.idp.machine_environment(kind))
    assert outcome.failure is None, outcome.failure
    assert outcome.credential == "managed_identity"
    token = project.token(system.name)
    claims = jwt.decode(token["access_token"], options={"verify_signature": False})
    assert claims["azp"] == system.client_id
    assert abs(claims["exp"] - token["expires_on"]) <= 5
    assert not [each for each in project.idp.requests if "/v2.0/" in each.path]


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
    assert len(project.idp.requests) == (2 if kind == "arc" else 1)  # with its challenge


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
        Fault("status", status=200, body='{"access_token": 7, "expires_in": "3600"}'),
    ],
    ids=str,
)
def test_an_answer_that_is_no_token_is_told(
    project: Project, mint: Mint, system: App, fault: Fault, capfd: pytest.CaptureFixture[str]
) -> None:
    """And shows nothing of what came."""
    project.idp.inject(fault, None)
    project.write([managed(system)])
    failure = told(mint(project.idp.machine_environment("imds")))
    assert failure.kind == "bad_response"
    assert "unexpected" not in failure.message
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
    "url",
    [
        *("http://93.184.216.34", "http://[2606:2800::1]", "ftp://127.0.0.1", "127.0.0.1"),
        *("http://[::1", "http://127.0.0.1:port", "https:///x"),
    ],
)
def test_no_public_address_is_asked_over_plain_http(
    project: Project, mint: Mint, system: App, url: str
) -> None:
    """The token, and what proves who asks, would go over the network as they are."""
    project.write([managed(system)])
    failure = told(mint({"AZURE_POD_IDENTITY_AUTHORITY_HOST": url}))
    assert (failure.kind, failure.attempts) == ("secret_unavailable", 0)
    assert "a private one" in failure.message


@pytest.mark.parametrize(
    "url",
    [
        *("http://10.0.0.4:2579", "http://172.16.1.1", "http://169.254.129.2:8081/msi/token"),
        *("http://[fd00::1]", "http://localhost:42356/msi/token", "https://managed.example.com/x"),
    ],
)
def test_the_addresses_of_azures_hosts_are_taken(url: str) -> None:
    """Link-local on App Service, private in a cluster, a name on this machine."""
    named = {"IDENTITY_ENDPOINT": url, "IDENTITY_HEADER": "h"}
    assert metadata.find_endpoint(named).url == url


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (
            {"IDENTITY_ENDPOINT": "https://127.0.0.1:2377/x", "IDENTITY_SERVER_THUMBPRINT": "0"},
            "Service Fabric",
        ),
        ({"IDENTITY_ENDPOINT": "http://127.0.0.1/x"}, "without IDENTITY_HEADER"),
    ],
)
def test_a_host_that_is_not_supported_is_told(
    project: Project, mint: Mint, system: App, env: dict[str, str], says: str
) -> None:
    """By a sentence of its own; nobody is asked."""
    project.write([managed(system)])
    failure = told(mint(env))
    assert failure.kind == "secret_unavailable"
    assert says in failure.message


# What hosts answer


@pytest.mark.parametrize("times", ["linux", "windows"])
def test_the_old_api_writes_dates(project: Project, system: App, mint: Mint, times: Any) -> None:
    """As its operating system does."""
    with Emulator([system], machine=True, machine_times=times) as machine:
        project.write([managed(system)])
        assert mint(machine.machine_environment("azure_ml")).failure is None
    token = project.token(system.name)
    claims = jwt.decode(token["access_token"], options={"verify_signature": False})
    assert abs(claims["exp"] - token["expires_on"]) <= 5


@pytest.mark.parametrize(
    "form",
    [
        *({"expires_on": "soon"}, {"expires_on": None}, {}, {"expires_in": "0"}),
        *({"expires_on": "25.11.2026 09:00"}, {"expires_in": [], "expires_on": {}}),
    ],
    ids=str,
)
def test_an_end_that_cannot_be_read_is_the_tokens_own(
    project: Project, mint: Mint, system: App, idp: Emulator, form: dict[str, object]
) -> None:
    """Its `exp` counts, as with the login host."""
    project.write([managed(system)])
    assert mint(idp.machine_environment("imds")).failure is None
    token = project.token(system.name)["access_token"]
    body = json.dumps({"access_token": token, "token_type": "Bearer", **form})
    idp.inject(Fault("status", status=200, body=body), 1)
    outcome = mint(idp.machine_environment("imds"))
    assert outcome.failure is None
    exp = jwt.decode(token, options={"verify_signature": False})["exp"]
    assert abs(project.token(system.name)["expires_on"] - exp) <= 5


REFUSALS = {
    "several on IMDS": (
        400,
        {
            "error": "invalid_request",
            "error_description": "Multiple user assigned identities exist, please specify the "
            "clientId / resourceId of the identity in the token request",
        },
        "several identities",
    ),
    "none on IMDS": (
        400,
        {"error": "invalid_request", "error_description": "Identity not found"},
        "no such managed identity",
    ),
    "none on Container Apps": (
        400,
        {
            "statusCode": 400,
            "message": "No User Assigned or Delegated Managed Identity found for specified "
            "ClientId/ResourceId/PrincipalId",
        },
        "no such managed identity",
    ),
    "scope": (
        400,
        {
            "error": "invalid_resource",
            "error_description": "AADSTS500011: The resource principal named api://x was not found",
        },
        "the API in scope does not exist",
    ),
    "Docker Desktop": (
        403,
        {"message": "connecting to 169.254.169.254: unreachable"},
        "not on Azure",
    ),
    "nothing known": (400, {}, "no token for this scope"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_have_words_of_their_own(
    project: Project, mint: Mint, system: App, idp: Emulator, case: str
) -> None:
    """By what the host means; an identity that has to be named is told so."""
    status, body, says = REFUSALS[case]
    idp.inject(Fault("status", status=status, body=json.dumps(body)), None)
    project.write([managed(system)])
    failure = told(mint(idp.machine_environment("imds")))
    assert says in failure.message
    if "several" in case or "none" in case:
        assert '"managed_identity": "CLIENT_ID"' in failure.remedy


def test_a_machine_with_assigned_identities_alone_says_which_to_name(
    project: Project, mint: Mint, assigned: App, idp: Emulator
) -> None:
    """One answers for `true`, of two none does."""
    idp.add_app(replace(apps(3)[2], secrets=(), managed="user"))
    project.write([managed(assigned)])
    failure = told(mint(idp.machine_environment("app_service")))
    assert "several identities" in failure.message


def test_a_service_that_is_away_is_asked_for_longer_than_a_login_host(
    project: Project, mint: Mint, system: App, idp: Emulator
) -> None:
    """It may be updated for over a minute: attempts do not count, time does."""
    idp.inject(Fault("status", status=410), 9)
    project.write([managed(system)])
    outcome = mint(idp.machine_environment("imds"), max_attempts=2)
    assert (outcome.kind, outcome.attempts) == ("renewed", 10)


# Azure Arc


@pytest.mark.parametrize(
    ("challenge", "says"),
    [
        ("Basic realm=/etc/shadow", "not its own"),
        ("Basic realm={keys}/../x.key", "not its own"),
        ("Basic realm={keys}/absent.key", "cannot be read: No such file"),
        ("Basic realm={keys}/binary.key", "cannot be read: not ASCII"),
        ("Basic realm={keys}/empty.key", "holds no key"),
        ("Basic realm={keys}/lines.key", "holds no key"),
        ("Basic realm={keys}/large.key", "holds no key"),
        ("Basic realm={keys}/secret.txt", "not its own"),
        ("", "not its own"),
    ],
)
def test_arc_gets_no_file_but_its_agents_own(
    tmp_path: pathlib.Path, challenge: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever listens there could ask for any that this user can read."""
    monkeypatch.setattr(metadata, "ARC_KEYS", str(tmp_path))
    (tmp_path / "large.key").write_text("x" * 5000)
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "binary.key").write_bytes(b"\xff")
    (tmp_path / "empty.key").write_text("\n")
    (tmp_path / "lines.key").write_text("x\r\nHost: y")
    with pytest.raises(metadata.NoEndpointError, match=says):
        metadata.arc_key(challenge.format(keys=tmp_path))


def test_an_old_agent_of_arc_that_ignores_the_client_id_is_found_out(
    project: Project, mint: Mint, system: App, assigned: App, idp: Emulator
) -> None:
    """It answers with the machine's own identity."""
    project.write([managed(system)])
    assert mint(idp.machine_environment("arc")).failure is None
    token = project.token(system.name)["access_token"]
    body = json.dumps({"access_token": token, "expires_in": "3600", "client_id": system.client_id})
    project.write([managed(assigned, assigned.client_id)])
    idp.inject(Fault("status", status=200, body=body), 1)
    assert "another client" in told(mint(idp.machine_environment("arc"))).message


# What is sent, and what is made of answers

CLIENT = "14c8ccfc-dc9c-4397-aa1e-37461544567d"
TENANT = "6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3"
MINE = {"tid": TENANT, "azp": CLIENT}
IMDS = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://10.0.0.4/"}


def asked(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch, assigned: object = True, **env: str
) -> Minted | Failure:
    """The machine's answer to an identity, by `env` or as a virtual machine."""
    for name, value in (env or IMDS).items():
        monkeypatch.setenv(name, value)
    identity = Identity("ci", TENANT, CLIENT, SCOPE, {"managed_identity": assigned})
    return mint_managed(identity, scripted.transport)


def refused(result: Minted | Failure) -> Failure:
    assert isinstance(result, Failure)
    return result


def fields_of(request: HttpRequest) -> dict[str, str]:
    """What a request asks for, in its address or its body."""
    text = str(request.body or request.url.partition("?")[2])
    return dict(parse_qsl(text, strict_parsing=True))


RESOURCE = SCOPE.removesuffix("/.default")
HOSTS: dict[str, tuple[dict[str, str], str, dict[str, str], dict[str, str]]] = {
    "App Service": (
        {"IDENTITY_ENDPOINT": "http://10.0.0.4/msi", "IDENTITY_HEADER": "pr00f"},
        "GET http://10.0.0.4/msi?",
        {"api-version": "2019-08-01", "client_id": CLIENT},
        {"X-IDENTITY-HEADER": "pr00f", "Metadata": "true"},
    ),
    "Azure ML": (
        {"MSI_ENDPOINT": "http://10.0.0.4/msi", "MSI_SECRET": "pr00f"},
        "GET http://10.0.0.4/msi?",
        {"api-version": "2017-09-01", "clientid": CLIENT},
        {"secret": "pr00f"},
    ),
    "Azure Arc": (
        {"IDENTITY_ENDPOINT": "http://10.0.0.4/arc", "IMDS_ENDPOINT": "http://10.0.0.4"},
        "GET http://10.0.0.4/arc?",
        {"api-version": "2020-06-01", "client_id": CLIENT},
        {"Metadata": "true"},
    ),
    "virtual machine": (
        IMDS,
        f"GET http://10.0.0.4{metadata.IMDS_PATH}?",
        {"api-version": "2018-02-01", "client_id": CLIENT},
        {"Metadata": "true"},
    ),
    "Cloud Shell": (
        {"MSI_ENDPOINT": "http://10.0.0.4/msi", "MSI_SECRET": ""},
        "POST http://10.0.0.4/msi",
        {},
        {"Metadata": "true", "Content-Type": "application/x-www-form-urlencoded"},
    ),
}


@pytest.mark.parametrize("host", HOSTS)
def test_each_host_is_asked_as_it_wants_to_be(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Method, address, parameters and headers; what proves who asks is in no repr."""
    env, line, fields, headers = HOSTS[host]
    said = {"access_token": access_token(**MINE), "expires_in": "3599"}
    scripted = Scripted((200, {**said, "token_type": None, "expires_on": "in an hour"}))
    result = asked(scripted, monkeypatch, CLIENT if "client" in str(fields) else True, **env)
    assert isinstance(result, Minted), result
    assert (result.attempts, result.credential, result.expires_in) == (1, "managed_identity", 3599)
    (request,) = scripted.requests
    assert f"{request.method} {request.url}".startswith(line)
    assert fields_of(request) == {"resource": RESOURCE, **fields}
    assert quote(RESOURCE, safe="") in f"{request.url} {request.body!s}"
    assert request.headers == {"Accept-Encoding": "identity", **headers}
    assert request.timeout == TIMEOUT
    found = metadata.find_endpoint(env)
    assert found.host == host
    assert "pr00f" not in repr(found)


def test_arc_is_found_by_its_agent(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless a variable names the endpoint."""
    monkeypatch.setattr(metadata, "ARC_AGENT", str(tmp_path))
    assert metadata.find_endpoint({}).url == metadata.ARC_ENDPOINT
    assert metadata.find_endpoint(IMDS).host == "virtual machine"


def test_cloud_shell_has_no_identity_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked."""
    scripted = Scripted()
    told = refused(asked(scripted, monkeypatch, CLIENT, MSI_ENDPOINT="http://10.0.0.4/msi"))
    assert "one identity alone" in told.message
    assert scripted.requests == []


@pytest.mark.parametrize(
    ("addresses", "taken"),
    [
        (("10.0.0.4",), True),
        (("fe80::1%eth0", "169.254.1.1"), True),
        (("93.184.216.34",), False),
        (("10.0.0.4", "93.184.216.34"), False),
    ],
)
def test_a_name_is_taken_whose_addresses_are_all_private(
    addresses: tuple[str, ...], taken: bool
) -> None:
    """One that is public could be the one that is asked."""
    env = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": "http://machine.test"}

    def lookup(*_: object, **__: object) -> list[Any]:
        return [(2, 1, 6, "", (address, 0)) for address in addresses]

    if taken:
        assert metadata.find_endpoint(env, lookup).url.startswith("http://machine.test/")
    else:
        with pytest.raises(metadata.NoEndpointError, match="a private one"):
            metadata.find_endpoint(env, lookup)


@pytest.mark.parametrize("name", ["nobody.invalid", "a" * 70])
def test_a_name_that_nobody_knows_is_left_to_the_request(name: str) -> None:
    """Which says why."""
    env = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": f"http://{name}"}
    assert name in metadata.find_endpoint(env).url


def test_arcs_challenge_is_answered_with_its_key(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; both requests count."""
    monkeypatch.setattr(metadata, "ARC_KEYS", str(tmp_path))
    (tmp_path / "x.key").write_text(" k3y \n")
    scripted = Scripted(
        (401, ""),
        (200, {"access_token": access_token(**MINE)}),
        headers={"www-authenticate": f'Basic realm="{tmp_path}/x.key"'},
    )
    result = asked(scripted, monkeypatch, **HOSTS["Azure Arc"][0])
    assert isinstance(result, Minted), result
    assert result.attempts == 2
    first, second = scripted.requests
    assert "Authorization" not in first.headers
    assert second.headers["Authorization"] == "Basic k3y"


def test_no_other_host_makes_it_read_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A challenge of theirs is a refusal."""
    scripted = Scripted((401, {}), headers={"www-authenticate": "Basic realm=/etc/shadow"})
    told = refused(asked(scripted, monkeypatch))
    assert (told.kind, told.attempts) == ("rejected", 1)
    assert "virtual machine gives no token for this scope (HTTP 401)" in told.message


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"tid": OTHER_TENANT, "azp": CLIENT}, "Set the entry's tenant"),
        ({"tid": TENANT, "azp": OTHER_TENANT}, "Set managed_identity to the client ID of the one"),
    ],
)
def test_a_token_of_somebody_else_has_a_cure_of_this_machine(
    claims: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the clock's difference stays known."""
    told = refused(asked(Scripted((200, {"access_token": access_token(**claims)})), monkeypatch))
    assert told.kind == "bad_response"
    assert says in told.remedy
    assert told.clock_skew == SKEW


def test_the_machines_own_trouble_is_told_as_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The portal is named where another host's option would be."""
    told = refused(asked(Scripted(Trouble("unreachable", "refused")), monkeypatch))
    assert (told.kind, told.transient) == ("secret_unavailable", True)
    assert "10.0.0.4 does not answer (refused)" in told.message
    told = refused(asked(Scripted(Trouble("bad_response", "too_large")), monkeypatch))
    assert told.kind == "bad_response"
    assert "Azure portal" in told.remedy
    told = refused(asked(Scripted((200, "<html>")), monkeypatch))
    assert "web page" in told.message
    told = refused(asked(Scripted((200, {})), monkeypatch))
    assert "Azure portal" in told.remedy


SAYS_NONE = "this machine has no such managed identity"
SAYS_SEVERAL = "this machine has several identities, and the entry names none"
SAYS_NOTHING = "virtual machine gives no token for this scope (HTTP 400)"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"error_description": "Multiple user-assigned identities exist"}, SAYS_SEVERAL),
        ({"error_description": "please specify the clientId"}, SAYS_SEVERAL),
        ({"message": "Identity not found"}, SAYS_NONE),
        ({"Message": "no User Assigned identity was found"}, SAYS_NONE),
        ({"error": {"message": "the identity is not assigned to it"}}, SAYS_NONE),
        ({"error": ["x"], "message": ["Identity not found"]}, SAYS_NOTHING),
        ({"message": "x" * 4096 + "Identity not found"}, SAYS_NOTHING),
        ("words", SAYS_NOTHING),
    ],
)
def test_a_refusal_is_understood_in_each_of_its_forms(
    body: object, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Old and new APIs write it differently; whatever is none of them is told in general."""
    told = refused(asked(Scripted((400, body)), monkeypatch))
    assert (told.kind, told.message) == ("rejected", says)


@pytest.mark.parametrize("assigned", [True, CLIENT])
def test_only_who_names_no_identity_is_told_to_name_one(
    assigned: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is named, it has to be assigned."""
    scripted = Scripted((400, {"error_description": "Identity not found"}))
    told = refused(asked(scripted, monkeypatch, assigned))
    assert ('"managed_identity": "CLIENT_ID"' in told.remedy) == (assigned is True)
    assert "assign the one" in told.remedy


def test_entras_own_refusal_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its code and ids, but nothing that could be anything else."""
    body = {"error": "invalid_resource", "error_description": "AADSTS500011: x no y identity found"}
    told = refused(asked(Scripted((403, {**body, "correlation_id": TENANT})), monkeypatch))
    assert (told.kind, told.error, told.aadsts) == ("rejected", "invalid_resource", 500011)
    assert told.correlation_id == TENANT
    assert "Expose an API" in told.remedy
    odd = {"error": "call 555", "correlation_id": "call me"}
    told = refused(asked(Scripted((403, odd)), monkeypatch))
    assert (told.kind, told.error, told.correlation_id) == ("secret_unavailable", None, None)


# Addresses that no loopback has

IN_A_NAMESPACE = """
import json, os, subprocess, sys
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
subprocess.run(["ip", "addr", "add", f"{sys.argv[1]}/32", "dev", "lo"], check=True)
sys.path[:0] = json.loads(sys.argv[2])
from credentials_provider.emulator import App, Emulator
app = App("6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3", "14c8ccfc-dc9c-4397-aa1e-37461544567d",
          managed="system")
with Emulator([app], machine=True, machine_address=(sys.argv[1], int(sys.argv[3]))) as idp:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(json.loads(sys.argv[2]))}
    if sys.argv[4] != "imds":
        env |= idp.machine_environment(sys.argv[4])
    words = [sys.executable, "-m", "credentials_provider", "generate", "-i", sys.argv[5],
             "-o", sys.argv[6], "--json"]
    print(subprocess.run(words, env=env, capture_output=True, text=True).stdout)
"""


@pytest.mark.skipif(
    shutil.which("unshare") is None or shutil.which("ip") is None or os.geteuid() != 0,
    reason="a network namespace needs root",
)
@pytest.mark.parametrize(
    "place",
    [
        ("169.254.169.254", 80, "imds"),
        ("169.254.129.2", 8081, "app_service"),
        ("10.0.0.4", 46808, "azure_ml"),
    ],
    ids=str,
)
def test_hosts_at_their_own_addresses(
    project: Project, system: App, tmp_path: pathlib.Path, place: tuple[str, int, str]
) -> None:
    """IMDS without any variable, App Service link-local, a compute node in its network."""
    address, port, kind = place
    project.write([managed(system)])
    paths = json.dumps([PACKAGES, *sys.path])
    words = [sys.executable, "-c", IN_A_NAMESPACE, address, paths, str(port), kind]
    done = subprocess.run(
        ["unshare", "-n", *words, project.identities_file, str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    document = json.loads(done.stdout)
    assert document["exit_code"] == 0, document


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
