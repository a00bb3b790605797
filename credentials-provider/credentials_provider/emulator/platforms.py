"""CI platforms that give their jobs an identity: GitHub Actions and Azure Pipelines.

https://docs.github.com/actions/reference/security/oidc
https://learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from credentials_provider.emulator.apps import Federated, is_guid

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.emulator.wire import Call, Reply

Platform = Literal["github", "azure-pipelines"]

AUDIENCE = "api://AzureADTokenExchange"
SERVICE_CONNECTION = "5b0a3c8e-9a3b-4f7e-8a43-0f6f2a3d1c77"
ISSUERS: dict[Platform, str] = {
    "github": "https://token.actions.githubusercontent.com",
    "azure-pipelines": "https://vstoken.dev.azure.com/3f1c6a0e-5d0c-4f6b-9f0e-6a1d2b3c4d5e",
}
SUBJECTS: dict[Platform, str] = {
    "github": "repo:contoso/agents:ref:refs/heads/main",
    "azure-pipelines": "sc://contoso/agents/entra",
}
_SIGN_IN = "https://spsprodweu1.vssps.visualstudio.com/"
LIFE = 300
"""Seconds: a token is for one use."""


class Platforms:
    """Both of them at one place; a job's variables lead there."""

    def __init__(self, base_url: Callable[[], str]) -> None:
        self._base_url = base_url
        self._key: rsa.RSAPrivateKey | None = None
        self._job_token = secrets.token_urlsafe(24)
        self.given = 0  # tokens

    def environment(self, platform: Platform) -> dict[str, str]:
        """The variables of a job."""
        base = self._base_url()
        if platform == "github":
            return {
                "ACTIONS_ID_TOKEN_REQUEST_URL": f"{base}/github/idtoken?api-version=2.0",
                "ACTIONS_ID_TOKEN_REQUEST_TOKEN": self._job_token,
            }
        return {
            "SYSTEM_OIDCREQUESTURI": f"{base}/pipelines/oidctoken",
            "SYSTEM_ACCESSTOKEN": self._job_token,
            "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID": SERVICE_CONNECTION,
        }

    def trust(self, platform: Platform) -> Federated:
        """The federated credential of an app that trusts the platform's jobs."""
        public = self._signing_key().public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        return Federated(ISSUERS[platform], SUBJECTS[platform], pem)

    def _token(self, platform: Platform, now: float, audience: str) -> str:
        self.given += 1
        claims = {
            "iss": ISSUERS[platform],
            "sub": SUBJECTS[platform],
            "aud": audience,
            "iat": int(now),
            "exp": int(now) + LIFE,
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._signing_key(), "RS256")

    def answer(self, call: Call) -> Reply | None:
        """The answer to a job, else None."""
        request = call.request
        match (request.method, *request.segments):
            case ("GET", "github", "idtoken"):
                if not self._is_job(call):
                    return call.json(401, {"message": "Must authenticate with a job's token"})
                audience = request.query.get("audience", "https://github.com/contoso")
                return call.json(200, {"value": self._token("github", call.now, audience)})
            case ("POST", "pipelines", "oidctoken"):
                return self._pipelines(call)
        return None

    def _pipelines(self, call: Call) -> Reply:
        """Without its header, who has no good token is led to a sign-in page."""
        if not self._is_job(call):
            if call.request.headers.get("x-tfs-fedauthredirect") == "Suppress":
                return call.json(401, {"message": "TF400813: The user is not authorized"})
            return call.reply(302, headers=(("Location", _SIGN_IN),))
        query = call.request.query
        if not query.get("api-version") or not is_guid(query.get("serviceConnectionId", "")):
            return call.json(400, {"message": "No service connection of that id"})
        return call.json(200, {"oidcToken": self._token("azure-pipelines", call.now, AUDIENCE)})

    def _is_job(self, call: Call) -> bool:
        scheme, _, token = call.request.headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and secrets.compare_digest(token, self._job_token)

    def _signing_key(self) -> rsa.RSAPrivateKey:
        if self._key is None:
            self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self._key
