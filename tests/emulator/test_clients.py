"""Clients that know nothing of the emulator get tokens from it and verify them."""

from __future__ import annotations

import base64
import ssl
import time
from typing import Any

import jwt
import msal
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import (
    CertificateCredential,
    ClientAssertionCredential,
    ClientSecretCredential,
    ManagedIdentityCredential,
)
from cryptography.hazmat.primitives import hashes

from credentials.making import certificate, federated_token, key_pem, pem, rsa_key, trust
from credentials_provider.emulator import App, Emulator, Fault
from emulator.asking import API, APP, CLIENT, SCOPE, SECRET, TENANT, Ask


def credential(idp: Emulator, secret: str = SECRET) -> ClientSecretCredential:
    return ClientSecretCredential(
        TENANT,
        CLIENT,
        secret,
        authority=idp.base_url,
        disable_instance_discovery=True,
        connection_verify=idp.ca_file,
    )


def verified(idp: Emulator, token: str, *, audience: str, issuer: str) -> dict[str, object]:
    keys = jwt.PyJWKClient(
        f"{idp.base_url}/{TENANT}/discovery/v2.0/keys",
        ssl_context=ssl.create_default_context(cafile=idp.ca_file),
    )
    key = keys.get_signing_key_from_jwt(token)
    decoded: dict[str, object] = jwt.decode(
        token, key, algorithms=["RS256"], audience=audience, issuer=issuer
    )
    return decoded


def test_azure_identity_gets_a_token_that_pyjwt_verifies(idp: Emulator) -> None:
    """azure-identity, unchanged, gets a v2 token whose signature, audience and issuer hold."""
    with credential(idp) as client:
        token = client.get_token(SCOPE).token
    claims = verified(idp, token, audience=API, issuer=f"{idp.base_url}/{TENANT}/v2.0")
    assert (claims["tid"], claims["azp"], claims["ver"]) == (TENANT, CLIENT, "2.0")


def test_azure_identity_reports_a_wrong_secret(idp: Emulator) -> None:
    """azure-identity reads the emulator's refusal as Entra ID's own."""
    with (
        credential(idp, "wrong") as client,
        pytest.raises(ClientAuthenticationError, match="AADSTS7000215"),
    ):
        client.get_token(SCOPE)


def test_azure_identity_retries_a_throttled_request(idp: Emulator) -> None:
    """azure-identity understands the 429 and its Retry-After."""
    idp.inject(Fault("throttle", retry_after=0))
    with credential(idp) as client:
        assert client.get_token(SCOPE).token
    assert len(idp.token_requests) == 2


def test_msal_gets_a_token(idp: Emulator) -> None:
    """msal, with its own discovery and its own session, gets a token."""
    answer = asked_by_msal(idp, SECRET)
    assert answer["token_type"] == "Bearer"
    assert 3600 <= answer["expires_in"] <= 5400


def test_msal_reports_an_error_body(idp: Emulator) -> None:
    """The app of msal returns the refusal's fields."""
    answer = asked_by_msal(idp, "wrong")
    assert answer["error"] == "invalid_client"
    assert answer["error_codes"] == [7000215]
    assert answer["trace_id"]
    assert answer["correlation_id"] == answer["correlation_id"].lower()


def asked_by_msal(idp: Emulator, secret: str) -> dict[str, Any]:
    with requests.Session() as session:
        # With trust_env the session would let the environment's CA bundle win over `verify`.
        session.trust_env = False
        session.verify = idp.ca_file
        client = msal.ConfidentialClientApplication(
            CLIENT,
            secret,
            authority=f"{idp.base_url}/{TENANT}",
            instance_discovery=False,
            http_client=session,
        )
        answer: dict[str, Any] = client.acquire_token_for_client([SCOPE])
    return answer


def test_v1_token_verifies_too(idp: Emulator) -> None:
    """An API of version 1 gets the issuer sts.windows.net and its own URI as audience."""
    idp.add_app(App(TENANT, CLIENT, (SECRET,), token_version=1))
    with credential(idp) as client:
        token = client.get_token(SCOPE).token
    claims = verified(
        idp, token, audience=f"api://{API}", issuer=f"https://sts.windows.net/{TENANT}/"
    )
    assert (claims["appid"], claims["appidacr"], claims["ver"]) == (CLIENT, "1", "1.0")
    assert "azp" not in claims


def test_an_unknown_ca_is_refused(idp: Emulator) -> None:
    """Another emulator's CA does not vouch for this one."""
    with Emulator([APP]) as other, pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{idp.base_url}/common/discovery/keys", verify=other.ca_file, timeout=10)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_certificate_holds_for_every_loopback_name(idp: Emulator, host: str) -> None:
    """The server's certificate names localhost and 127.0.0.1."""
    url = f"https://{host}:{idp.port}/common/discovery/v2.0/keys"
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(url, verify=idp.ca_file, timeout=10).status_code == 200


def test_azure_identity_proves_itself_by_a_certificate(idp: Emulator) -> None:
    """The emulator verifies the assertion that azure-identity signs; another key's it refuses."""
    mine, other = certificate(rsa_key(0)), certificate(rsa_key(1))
    idp.add_app(App(TENANT, CLIENT, certificates=(pem(mine),)))

    def ask(content: str) -> str:
        with CertificateCredential(
            TENANT,
            CLIENT,
            certificate_data=content.encode(),
            authority=idp.base_url,
            disable_instance_discovery=True,
            connection_verify=idp.ca_file,
        ) as client:
            return client.get_token(SCOPE).token

    claims = verified(
        idp,
        ask(key_pem(rsa_key(0)) + pem(mine)),
        audience=API,
        issuer=f"{idp.base_url}/{TENANT}/v2.0",
    )
    assert claims["azpacr"] == "2"
    with pytest.raises(ClientAuthenticationError, match="AADSTS700027"):
        ask(key_pem(rsa_key(1)) + pem(other))


def test_azure_identity_trades_a_federated_token(idp: Emulator) -> None:
    """By its own client assertion credential."""
    idp.add_app(App(TENANT, CLIENT, federated=(trust(),)))
    with ClientAssertionCredential(
        TENANT,
        CLIENT,
        federated_token,
        authority=idp.base_url,
        disable_instance_discovery=True,
        connection_verify=idp.ca_file,
    ) as client:
        assert client.get_token(SCOPE).token


@pytest.mark.parametrize("kind", ["imds", "app_service"])
def test_azure_identity_asks_the_machine(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its managed identity credential understands both endpoints."""
    with Emulator([App(TENANT, CLIENT, managed="system")], machine=True) as emulator:
        for name, value in emulator.machine_environment(kind).items():
            monkeypatch.setenv(name, value)
        with ManagedIdentityCredential() as client:
            token = client.get_token(SCOPE).token
    assert jwt.decode(token, options={"verify_signature": False})["azp"] == CLIENT


def test_the_machine_s_path_may_end_in_a_slash() -> None:
    """As @azure/identity of npm asks; the machines of Azure take it."""
    with Emulator([App(TENANT, CLIENT, managed="system")], machine=True) as emulator:
        url = emulator.machine_environment("arc")["IDENTITY_ENDPOINT"]
        answer = requests.get(
            f"{url}/",
            params={"api-version": "2018-02-01", "resource": f"api://{API}"},
            headers={"Metadata": "true"},
            timeout=10,
        )
    assert answer.json()["client_id"] == CLIENT


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"aud": "https://login.example.com"}, 50012),
        ({"sub": "another"}, 50048),
        ({"iss": "another", "sub": "another"}, 700021),
        ({"exp": 1_700_000_000}, 700024),
        ({"nbf": 4_000_000_000}, 700024),
        ({"jti": ""}, 900144),
    ],
)
def test_each_claim_of_an_assertion_is_checked(
    idp: Emulator, ask: Ask, change: dict[str, Any], code: int | None
) -> None:
    """Audience, issuer, subject, times and id, after the signature."""
    found = certificate()
    idp.add_app(App(TENANT, CLIENT, certificates=(pem(found),)))
    now = int(time.time())
    claims = {
        "aud": f"{idp.base_url}/{TENANT}/oauth2/v2.0/token",
        "iss": CLIENT,
        "sub": CLIENT,
        "jti": "one",
        "nbf": now,
        "exp": now + 600,
        **change,
    }
    thumbprint = base64.urlsafe_b64encode(found.fingerprint(hashes.SHA256())).decode()
    assertion = jwt.encode(claims, rsa_key(), "PS256", {"x5t#S256": thumbprint.rstrip("=")})
    response = ask(
        client_secret=None,
        client_assertion=assertion,
        client_assertion_type="urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    )
    codes = response.json().get("error_codes")
    assert codes == (None if code is None else [code])
