"""What Entra ID answers by itself: tokens, discovery, refusals that follow from the request."""

from __future__ import annotations

import base64
import email.utils
import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import jwt
import pytest
import urllib3

from credentials_provider.emulator import App, Emulator, sample_apps
from credentials_provider.emulator.aadsts import MEANINGS
from emulator.asking import API, APP, CLIENT, SECRET, TENANT, Ask, claims, form

if TYPE_CHECKING:
    from credentials_provider.emulator import Lifetime

GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
# fmt: off
V2_CLAIMS = {
    "aud", "iss", "iat", "nbf", "exp", "aio", "azp", "azpacr", "oid", "rh", "sub", "tid", "uti",
    "ver",
}
# fmt: on
NOW = 1_795_421_720.0  # 2026-11-23 08:15:20 UTC


def changed(**fields: Any) -> App:
    return App(**{"tenant_id": TENANT, "client_id": CLIENT, "secrets": (SECRET,), **fields})


# Success


def test_token_response_has_entra_ids_fields(ask: Ask) -> None:
    """A token response has the four fields of a v2 endpoint, its numbers integers."""
    answer = ask()
    assert answer.status == 200
    body = answer.json()
    assert sorted(body) == ["access_token", "expires_in", "ext_expires_in", "token_type"]
    assert body["expires_in"] == body["ext_expires_in"]
    assert isinstance(body["expires_in"], int)


def test_headers_are_entra_ids(ask: Ask) -> None:
    """Every answer has a trace id, the caller's request id, a date, cookies, and is not cached."""
    answer = ask(headers={"client-request-id": "1b4e28ba-2fa1-41d2-883f-0016d3cca427"})
    assert GUID.fullmatch(answer.headers["x-ms-request-id"])
    assert answer.headers["client-request-id"] == "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
    assert answer.headers["Cache-Control"] == "no-store, no-cache"
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert "fpc=" in answer.headers["Set-Cookie"]
    assert email.utils.parsedate_to_datetime(answer.headers["Date"])


def test_lifetimes_are_60_to_90_minutes_and_varied(ask: Ask) -> None:
    """Lifetimes are drawn from 60 to 90 minutes; `exp` agrees with `expires_in`."""
    lifetimes = set()
    for _ in range(30):
        answer = ask()
        lifetime = answer.json()["expires_in"]
        assert claims(answer)["exp"] - claims(answer)["iat"] == lifetime + 300
        lifetimes.add(lifetime)
    assert len(lifetimes) > 20
    assert 3600 <= min(lifetimes) <= max(lifetimes) <= 5400


@pytest.mark.parametrize(
    ("general", "of_the_app", "low", "high"),
    [
        (600, None, 600, 600),
        ((600, 610), None, 600, 610),
        (600, 1200, 1200, 1200),
        (None, (7, 9), 7, 9),
    ],
)
def test_lifetime_can_be_set(
    general: Lifetime | None, of_the_app: Lifetime | None, low: int, high: int
) -> None:
    """A lifetime or a range can be set for all apps, and an app's own goes before it."""
    with Emulator([changed(token_lifetime=of_the_app)], token_lifetime=general) as idp:
        assert low <= one_token(idp).json()["expires_in"] <= high


def test_long_lived_token_tells_when_to_renew() -> None:
    """A token of a day comes with `refresh_in`, half its life."""
    with Emulator([APP], token_lifetime=86399) as idp:
        assert one_token(idp).json()["refresh_in"] == 43199


def test_the_clock_is_handed_in() -> None:
    """The token's times, the timestamp and the Date header follow the emulator's clock."""
    with Emulator([APP], clock=lambda: NOW) as idp:
        answer = one_token(idp)
        refusal = one_token(idp, client_secret="wrong")
    assert claims(answer)["iat"] == claims(answer)["nbf"] == NOW - 300
    assert answer.headers["Date"] == "Mon, 23 Nov 2026 08:15:20 GMT"
    assert refusal.json()["timestamp"] == "2026-11-23 08:15:20Z"


def test_v2_claims(ask: Ask) -> None:
    """An app-only v2 token has Entra ID's claims, and no others."""
    found = claims(ask())
    assert set(found) == V2_CLAIMS
    assert found["azpacr"] == "1"
    assert found["sub"] == found["oid"]


def test_token_header(ask: Ask) -> None:
    """The token's header names its key twice over."""
    header = jwt.get_unverified_header(ask().json()["access_token"])
    assert (header["typ"], header["alg"]) == ("JWT", "RS256")
    assert header["kid"] == header["x5t"]


def test_roles_groups_and_idtyp_are_there_when_configured(idp: Emulator, ask: Ask) -> None:
    """Granted roles, group ids and the optional idtyp claim are in the token."""
    idp.add_app(changed(roles=("Tools.Read",), groups=("g1", "g2"), idtyp=True))
    found = claims(ask())
    assert (found["roles"], found["groups"]) == (["Tools.Read"], ["g1", "g2"])
    assert found["idtyp"] == "app"


def test_more_than_200_groups_are_pointed_at(idp: Emulator, ask: Ask) -> None:
    """Above 200 groups the token says where to ask for them; with 200 it still names them."""
    groups = tuple(f"g{n}" for n in range(201))
    idp.add_app(changed(groups=groups[:200]))
    assert len(claims(ask())["groups"]) == 200
    idp.add_app(changed(groups=groups))
    found = claims(ask())
    assert "groups" not in found
    assert found["_claim_names"] == {"groups": "src1"}
    assert found["_claim_sources"]["src1"]["endpoint"].endswith("/getMemberObjects")


def test_audience_of_a_named_api_is_a_guid(ask: Ask) -> None:
    """A v2 token's audience is a client id, whatever the API's URI; always the same one."""
    first, second = (
        claims(ask(scope="api://gateway/.default")),
        claims(ask(scope="api://gateway/.default")),
    )
    assert re.fullmatch(r"[0-9a-f-]{36}", first["aud"])
    assert first["aud"] == second["aud"] != API


def test_both_secrets_work_during_a_rotation(idp: Emulator, ask: Ask) -> None:
    """Every secret of an app is valid."""
    idp.add_app(changed(secrets=("old", "new")))
    assert {ask(client_secret=s).status for s in ("old", "new")} == {200}


def test_secret_may_come_as_http_basic(ask: Ask) -> None:
    """client_secret_basic works, its parts form-encoded as RFC 6749 wants them."""
    pair = f"{CLIENT}:{quote(SECRET, safe='')}".encode()
    answer = ask(
        headers={
            "Authorization": f"Basic {base64.b64encode(pair).decode()}",
            "Content-Type": "application/x-www-form-urlencoded",
        },
        client_id=None,
        client_secret=None,
    )
    assert answer.status == 200


def test_tenant_known_by_its_domain() -> None:
    """A tenant may be asked for by its domain name; the token has its GUID."""
    with Emulator([changed(tenant_id="fabrikam.onmicrosoft.com")]) as idp:
        tenant = claims(one_token(idp, "Fabrikam.onmicrosoft.com"))["tid"]
        assert claims(one_token(idp, tenant))["tid"] == tenant


# Refusals that follow from the request


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"client_secret": "wrong"}, (7000215, "invalid_client", 401)),
        ({"client_secret": "expired"}, (7000222, "invalid_client", 401)),
        ({"client_secret": None}, (7000216, "invalid_client", 401)),
        (
            {"client_secret": None, "client_assertion": "e30.e30.x"},
            (900144, "invalid_request", 400),
        ),
        ({"client_id": "5" * 8 + CLIENT[8:]}, (700016, "unauthorized_client", 400)),
        ({"client_id": None}, (900144, "invalid_request", 400)),
        ({"grant_type": None}, (900144, "invalid_request", 400)),
        ({"grant_type": "password"}, (70003, "unsupported_grant_type", 400)),
        ({"scope": None}, (900144, "invalid_request", 400)),
        ({"scope": "api://x/Tools.Read"}, (1002012, "invalid_scope", 400)),
        ({"scope": "/.default"}, (70011, "invalid_scope", 400)),
        ({"scope": "api://x/.default api://y/.default"}, (700022, "invalid_scope", 400)),
        ({"scope": "ftp://x/.default"}, (500011, "invalid_resource", 400)),
        ({"resource": "api://x"}, (901002, "invalid_request", 400)),
        ({"tenant": "99999999-9999-4999-8999-999999999999"}, (90002, "invalid_request", 400)),
        ({"tenant": "unknown.example"}, (90002, "invalid_request", 400)),
        ({"tenant": "not%20a%20tenant"}, (900023, "invalid_request", 400)),
        ({"tenant": "common"}, (9001023, "invalid_request", 400)),
        ({"tenant": "organizations"}, (50059, "invalid_request", 400)),
        ({"headers": {"Authorization": "Bearer x"}}, (90013, "invalid_request", 400)),
        ({"headers": {"Authorization": "Basic eA=="}}, (90013, "invalid_request", 400)),
    ],
)
def test_refusal(
    idp: Emulator, ask: Ask, changes: dict[str, Any], expected: tuple[int, str, int]
) -> None:
    """Each mistake gets Entra ID's own number, error value and status."""
    idp.add_app(changed(expired_secrets=("expired",)))
    answer = ask(**changes)
    assert_refused(answer, *expected)


def test_disabled_app(idp: Emulator, ask: Ask) -> None:
    """A disabled app is refused by name."""
    idp.add_app(changed(enabled=False, name="billing"))
    answer = ask()
    assert_refused(answer, 7000112, "unauthorized_client", 400)
    assert "(billing) is disabled" in answer.json()["error_description"]


def test_removed_app(idp: Emulator, ask: Ask) -> None:
    """A removed app is unknown in a tenant that is still known."""
    idp.remove_app(APP)
    assert_refused(ask(), 700016, "unauthorized_client", 400)
    with pytest.raises(KeyError):
        idp.remove_app(CLIENT)


def test_only_the_named_resources_exist() -> None:
    """With a list of resources any other one is unknown."""
    with Emulator([APP], resources=[f"api://{API}"]) as idp:
        assert one_token(idp).status == 200
        assert_refused(one_token(idp, scope="api://x/.default"), 500011, "invalid_resource", 400)


def test_token_endpoint_wants_post(idp: Emulator, pool: urllib3.PoolManager) -> None:
    """A GET of the token endpoint is refused."""
    answer = pool.request("GET", f"{idp.base_url}/{TENANT}/oauth2/v2.0/token")
    assert_refused(answer, 900561, "invalid_request", 400)


def test_refusal_carries_the_callers_correlation_id(ask: Ask) -> None:
    """The correlation id of a refusal is the client's request id."""
    mine = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
    body = ask(client_secret="wrong", headers={"client-request-id": mine}).json()
    assert body["correlation_id"] == mine


def test_refusals_do_not_repeat_the_secret(ask: Ask) -> None:
    """No refusal shows what was sent as a secret."""
    assert b"hunter2" not in ask(client_secret="hunter2").data


def test_every_code_has_an_error_value_and_a_text() -> None:
    """The table holds OAuth error values, the statuses that go with them, and sentences."""
    for code, meaning in MEANINGS.items():
        assert re.fullmatch(r"[a-z_]+", meaning.error), code
        assert meaning.status == (
            401 if meaning.error == "invalid_client" else 429 if code == 90055 else 400
        )
        assert meaning.text[0] in "'ABCDEFGHIJKLMNOPQRSTUVWXYZ"


# Discovery


@pytest.mark.parametrize(("version", "part"), [(2, "/v2.0"), (1, "")])
def test_openid_configuration(
    idp: Emulator, pool: urllib3.PoolManager, version: int, part: str
) -> None:
    """Discovery names the endpoints of the tenant on the emulator's host."""
    url = f"{idp.base_url}/{TENANT}{part}/.well-known/openid-configuration"
    body = pool.request("GET", url).json()
    assert body["token_endpoint"] == f"{idp.base_url}/{TENANT}/oauth2{part}/token"
    assert pool.request("GET", body["jwks_uri"]).json()["keys"][0]["kty"] == "RSA"
    assert body["issuer"] == (
        f"{idp.base_url}/{TENANT}/v2.0" if version == 2 else f"https://sts.windows.net/{TENANT}/"
    )


def test_discovery_of_an_unknown_tenant(idp: Emulator, pool: urllib3.PoolManager) -> None:
    """Discovery of a tenant that does not exist is refused."""
    url = f"{idp.base_url}/unknown.example/v2.0/.well-known/openid-configuration"
    assert_refused(pool.request("GET", url), 90002, "invalid_request", 400)


def test_anything_else_is_not_found(idp: Emulator, pool: urllib3.PoolManager) -> None:
    """A path that Entra ID does not have is 404."""
    assert pool.request("GET", f"{idp.base_url}/").status == 404


# Samples


def test_sample_apps_are_the_same_each_time_and_work() -> None:
    """Sample apps repeat, differ from each other, and can sign in."""
    apps = sample_apps(12)
    assert apps == sample_apps(12)
    assert len({app.client_id for app in apps}) == len({app.name for app in apps}) == 12
    with Emulator(apps) as idp:
        app = apps[11]
        answer = one_token(
            idp, app.tenant_id, client_id=app.client_id, client_secret=app.secrets[0]
        )
    assert answer.status == 200


def one_token(idp: Emulator, tenant: str = TENANT, **changes: str) -> urllib3.BaseHTTPResponse:
    with urllib3.PoolManager(ca_certs=idp.ca_file, retries=False, timeout=10) as pool:
        return pool.request(
            "POST",
            f"{idp.base_url}/{tenant}/oauth2/v2.0/token",
            fields={**form(), **changes},
            encode_multipart=False,
        )


def assert_refused(answer: urllib3.BaseHTTPResponse, code: int, error: str, status: int) -> None:
    body = json.loads(answer.data)
    assert (answer.status, body["error"], body["error_codes"]) == (status, error, [code])
    assert re.fullmatch(
        rf"AADSTS{code}: .+ Trace ID: {body['trace_id']} "
        rf"Correlation ID: {body['correlation_id']} Timestamp: {body['timestamp']}",
        body["error_description"],
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ", body["timestamp"])
    assert answer.headers["x-ms-request-id"] == body["trace_id"]
    assert body["error_uri"].endswith(f"/error?code={code}")
