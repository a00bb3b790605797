"""What takes Entra's tokens beside Entra: Graph, a registry's IAM calls, CI platforms' jobs."""

from __future__ import annotations

import base64
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import urllib3
from cryptography.hazmat.primitives.serialization import Encoding

from credentials.making import certificate, federated_token, pem, rsa_key
from credentials_provider.emulator import App, Emulator
from emulator.asking import APP, CLIENT, SECRET, TENANT, form

if TYPE_CHECKING:
    from collections.abc import Iterator

GRAPH = "https://graph.microsoft.com/.default"
GROUPS = ("agents", "readers")
ADMIN = replace(
    APP,
    roles=("Application.ReadWrite.All", "registry-admins"),
    secrets_end=("2031-01-01T00:00:00Z",),
)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Client:
    """Asks the emulator as any program would, without a library of Entra's."""

    def __init__(self, idp: Emulator) -> None:
        self.base = idp.base_url
        self.pool = urllib3.PoolManager(ca_certs=idp.ca_file, retries=False, timeout=10)

    def token(self, **changes: str) -> urllib3.BaseHTTPResponse:
        return self.pool.request(
            "POST",
            f"{self.base}/{TENANT}/oauth2/v2.0/token",
            fields={**form(), **changes},
            encode_multipart=False,
        )

    def error(self, **changes: str) -> int | None:
        """The AADSTS number of a refusal; None: a token came."""
        answer = self.token(**changes).json()
        return answer["error_codes"][0] if "error_codes" in answer else None

    def ask(
        self, method: str, path: str, body: object = None, *, header: str = "Authorization"
    ) -> urllib3.BaseHTTPResponse:
        token = self.token(scope=GRAPH).json()["access_token"]
        headers = {header: f"Bearer {token}"}
        more: dict[str, Any] = {} if body is None else {"json": body}
        return self.pool.request(
            method, f"{self.base}{path}", headers=headers, redirect=False, **more
        )

    def graph(self, method: str, path: str = "", body: object = None) -> urllib3.BaseHTTPResponse:
        return self.ask(method, f"/v1.0/applications(appId='{CLIENT}'){path}", body)

    def iam(self, method: str, path: str, body: object = None) -> urllib3.BaseHTTPResponse:
        return self.ask(method, f"/api{path}", body, header="X-Authorization")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def idp(clock: Clock) -> Iterator[Emulator]:
    """One whose changes take half a minute to be known."""
    with Emulator([ADMIN], clock=clock, propagation=30, registry_groups=GROUPS) as emulator:
        yield emulator


@pytest.fixture
def client(idp: Emulator) -> Client:
    return Client(idp)


# Graph


def test_a_new_secret_works_after_a_while(client: Client, clock: Clock) -> None:
    """Until then the login host answers as for a wrong one."""
    wanted = {"displayName": "new", "endDateTime": "2030-05-01T00:00:00Z"}
    made = client.graph("POST", "/addPassword", {"passwordCredential": wanted}).json()
    assert (made["displayName"], made["endDateTime"]) == ("new", "2030-05-01T00:00:00Z")
    assert made["hint"] == made["secretText"][:3]
    assert client.error(client_secret=made["secretText"]) == 7000215
    clock.ahead = 31
    assert client.error(client_secret=made["secretText"]) is None


def test_a_secret_is_told_once(client: Client) -> None:
    """Graph lists secrets by key id, end and first characters."""
    made = client.graph("POST", "/addPassword", {"passwordCredential": {}}).json()
    listed = client.graph("GET", "?$select=passwordCredentials").json()["passwordCredentials"]
    assert [each["secretText"] for each in listed] == [None, None]
    assert [each["hint"] for each in listed] == [SECRET[:3], made["hint"]]
    assert made["keyId"] in {each["keyId"] for each in listed}


def test_a_removed_secret_is_refused(client: Client, clock: Clock) -> None:
    """By its key id, and no other goes with it."""
    made = client.graph("POST", "/addPassword", {"passwordCredential": {}}).json()
    clock.ahead = 31
    assert client.graph("POST", "/removePassword", {"keyId": made["keyId"]}).status == 204
    assert client.error(client_secret=made["secretText"]) == 7000215
    assert client.error() is None
    assert client.graph("POST", "/removePassword", {"keyId": made["keyId"]}).status == 400


def test_a_secret_ends_when_it_was_said_to(client: Client, clock: Clock) -> None:
    """7000222 from then on."""
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
    made = client.graph("POST", "/addPassword", {"passwordCredential": {"endDateTime": end}}).json()
    clock.ahead = 3700
    assert client.error(client_secret=made["secretText"]) == 7000222


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"password_policy": "forbidden"}, "CredentialTypeNotAllowedAsPerAppPolicy"),
        ({"password_policy": 30}, "CredentialInvalidLifetimeAsPerAppPolicy"),
        ({"roles": ()}, "Authorization_RequestDenied"),
        ({"roles": ("Application.Read.All",)}, "Authorization_RequestDenied"),
        ({"roles": ("Application.ReadWrite.OwnedBy",)}, "Authorization_RequestDenied"),
        ({"roles": ("Application.ReadWrite.OwnedBy",), "owners": (CLIENT,)}, None),
    ],
)
def test_who_may_add_a_secret(
    idp: Emulator, client: Client, changes: dict[str, Any], code: str | None
) -> None:
    """Roles, ownership and the tenant's policies decide."""
    idp.add_app(replace(ADMIN, **changes))
    answer = client.graph("POST", "/addPassword", {"passwordCredential": {}})
    assert answer.json().get("error", {}).get("code") == code
    assert answer.status == {None: 200, "Authorization_RequestDenied": 403}.get(code, 400)


def test_a_certificate_is_added_beside_the_others(
    idp: Emulator, client: Client, clock: Clock
) -> None:
    """PATCH replaces the whole list; what it shows is sent back as it was."""
    old, new = certificate(), certificate(rsa_key(1))
    idp.add_app(replace(ADMIN, certificates=(pem(old),)))
    listed = client.graph("GET", "?$select=keyCredentials").json()["keyCredentials"]
    key = base64.b64encode(new.public_bytes(Encoding.DER)).decode()
    added = {"type": "AsymmetricX509Cert", "usage": "Verify", "key": key, "displayName": "new"}
    assert client.graph("PATCH", "", {"keyCredentials": [*listed, added]}).status == 204
    ids = [each["keyId"] for each in client.graph("GET").json()["keyCredentials"]]
    assert (ids[0], len(ids)) == (listed[0]["keyId"], 2)
    clock.ahead = 31
    assert client.graph("PATCH", "", {"keyCredentials": [added]}).status == 204
    assert len(client.graph("GET").json()["keyCredentials"]) == 1


def test_a_key_is_shown_only_to_who_selects_it(idp: Emulator, client: Client) -> None:
    """As Graph does."""
    idp.add_app(replace(ADMIN, certificates=(pem(certificate()),)))
    assert client.graph("GET").json()["keyCredentials"][0]["key"] is None
    assert client.graph("GET", "?$select=keyCredentials").json()["keyCredentials"][0]["key"]


@pytest.mark.parametrize(
    "key", [{}, {"key": "!"}, {"key": base64.b64encode(b"no certificate").decode()}]
)
def test_what_is_no_certificate_changes_nothing(client: Client, key: dict[str, str]) -> None:
    """400, and the list stays."""
    body = {"keyCredentials": [{"type": "AsymmetricX509Cert", "usage": "Verify", **key}]}
    assert client.graph("PATCH", "", body).status == 400
    assert client.graph("GET").json()["keyCredentials"] == []


# A registry


def test_an_account_is_made_with_the_groups_that_are_known(client: Client, clock: Clock) -> None:
    """Its secret is in the answer; the login host knows the application after a while."""
    asked = {"name": "bot", "groups": ["agents", "unheard-of"]}
    made = client.iam("POST", "/management/iam/users/m2m", asked).json()
    assert made["groups"] == ["agents"]
    proof = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    assert client.error(**proof) == 700016
    clock.ahead = 31
    assert client.error(**proof) is None
    (user,) = client.iam("GET", "/management/iam/users").json()["users"]
    assert (user["username"], user["id"]) == ("bot", made["client_id"])
    shown = client.ask("GET", f"/v1.0/applications(appId='{made['client_id']}')").json()
    (password,) = shown["passwordCredentials"]
    assert password["endDateTime"] > password["startDateTime"] > "2026"


def test_a_second_call_makes_a_second_account(client: Client) -> None:
    """It is not idempotent."""
    asked = {"name": "bot", "groups": ["agents"]}
    ids = {client.iam("POST", "/management/iam/users/m2m", asked).json()["client_id"] for _ in "12"}
    assert len(ids) == 2
    assert client.iam("DELETE", "/management/iam/users/bot").status == 200
    assert client.iam("GET", "/management/iam/users").json()["total"] == 0
    assert client.iam("DELETE", "/management/iam/users/bot").status == 400


def test_an_application_that_exists_is_registered_once(client: Client) -> None:
    """201, then 409; it can be changed and removed."""
    asked = {"client_id": CLIENT, "client_name": "ci", "groups": ["agents"]}
    assert client.iam("POST", "/iam/m2m-clients", asked).status == 201
    assert client.iam("POST", "/iam/m2m-clients", asked).status == 409
    assert client.iam("PATCH", f"/iam/m2m-clients/{CLIENT}", {"groups": []}).status == 200
    assert client.iam("GET", f"/iam/m2m-clients/{CLIENT}").json()["groups"] == []
    assert client.iam("DELETE", f"/iam/m2m-clients/{CLIENT}").status == 204
    assert client.iam("GET", f"/iam/m2m-clients/{CLIENT}").status == 404


def test_only_an_administrator_uses_iam(idp: Emulator, client: Client) -> None:
    """403 for anybody else, 401 without a token, 422 without groups."""
    assert client.iam("POST", "/management/iam/users/m2m", {"name": "bot"}).status == 422
    idp.add_app(replace(ADMIN, roles=()))
    answer = client.iam("GET", "/management/iam/users")
    assert (answer.status, "Administrator" in answer.json()["detail"]) == (403, True)
    assert client.pool.request("GET", f"{idp.base_url}/api/management/iam/users").status == 401


# CI platforms


def test_github_gives_a_job_a_token_that_entra_takes(idp: Emulator, client: Client) -> None:
    """For the audience that was asked for; a stranger gets none."""
    job = idp.platforms.environment("github")
    url = f"{job['ACTIONS_ID_TOKEN_REQUEST_URL']}&audience=api://AzureADTokenExchange"
    bearer = {"Authorization": f"bearer {job['ACTIONS_ID_TOKEN_REQUEST_TOKEN']}"}
    token = client.pool.request("GET", url, headers=bearer).json()["value"]
    assert jwt.decode(token, options={"verify_signature": False})["exp"] < time.time() + 400
    idp.add_app(App(TENANT, CLIENT, federated=(idp.platforms.trust("github"),)))
    proof = {
        "client_secret": "",
        "client_assertion": token,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert client.error(**proof) is None
    assert client.error(**{**proof, "client_assertion": federated_token()}) == 700211
    assert client.pool.request("GET", url, headers={"Authorization": "bearer no"}).status == 401


def test_azure_pipelines_leads_strangers_to_a_page_unless_told_not_to(
    idp: Emulator, client: Client
) -> None:
    """302 to a sign-in without the header that azure-identity sends, 401 with it."""
    job = idp.platforms.environment("azure-pipelines")
    url = job["SYSTEM_OIDCREQUESTURI"] + "?api-version=7.1&serviceConnectionId="
    url += job["AZURESUBSCRIPTION_SERVICE_CONNECTION_ID"]
    bearer = {"Authorization": f"Bearer {job['SYSTEM_ACCESSTOKEN']}"}
    assert client.pool.request("POST", url, headers=bearer).json()["oidcToken"].count(".") == 2
    assert client.pool.request("POST", url, redirect=False).status == 302
    suppress = {"X-TFS-FedAuthRedirect": "Suppress"}
    assert client.pool.request("POST", url, headers=suppress).status == 401
