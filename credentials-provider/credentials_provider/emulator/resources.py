"""Services that take Entra ID's tokens: a Key Vault's secrets, and Graph's applications.

https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
https://learn.microsoft.com/graph/api/application-get
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

import jwt

from .apps import derived_guid
from .tokens import audience, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .apps import Directory
    from .wire import Call, Reply

VAULT = "https://vault.azure.net"
GRAPH = "https://graph.microsoft.com"
VAULT_ROLE = "Key Vault Secrets User"
"""Really an assignment on the vault; here an app role, so that a test can leave it out."""
GRAPH_ROLES = ("Application.Read.All", "Application.ReadWrite.All")
_APPLICATION = re.compile(r"/(?:v1\.0|beta)/applications\(appId='([^']*)'\)")


class Resources:
    """A vault with `secrets` by name, and the directory's applications as Graph shows them."""

    def __init__(
        self, directory: Directory, secrets: Mapping[str, str], base_url: Callable[[], str]
    ) -> None:
        self._directory = directory
        self._secrets = secrets
        self._base_url = base_url

    def answer(self, call: Call) -> Reply | None:
        """The answer to a call that is for one of them, else None."""
        if call.request.method != "GET":
            return None
        match call.request.segments:
            case ["secrets", name, *version]:
                return self._secret(call, name, version)
        application = _APPLICATION.fullmatch(call.request.path)
        return self._application(call, application[1]) if application else None

    def _secret(self, call: Call, name: str, version: list[str]) -> Reply:
        claims = _claims(call, VAULT)
        if claims is None:
            tenant = self._directory.any_tenant()
            challenge = f'Bearer authorization="{self._base_url()}/{tenant}", resource="{VAULT}"'
            return _error(call, 401, "Unauthorized", (("WWW-Authenticate", challenge),))
        if VAULT_ROLE not in claims.get("roles", ()):
            return _error(call, 403, "Forbidden")
        current = hashlib.sha256(name.encode()).hexdigest()[:32]
        if name not in self._secrets or version not in ([], [""], [current]):
            return _error(call, 404, "SecretNotFound")
        identifier = f"{self._base_url()}/secrets/{name}/{current}"
        content = {"value": self._secrets[name], "id": identifier, "attributes": {"enabled": True}}
        return call.json(200, content)

    def _application(self, call: Call, client_id: str) -> Reply:
        claims = _claims(call, GRAPH)
        if claims is None:
            return _error(call, 401, "InvalidAuthenticationToken")
        if not set(GRAPH_ROLES) & set(claims.get("roles", ())):
            return _error(call, 403, "Authorization_RequestDenied")
        app = self._directory.find(claims["tid"], client_id)
        if app is None:
            return _error(call, 404, "Request_ResourceNotFound")
        everything: dict[str, object] = {
            "id": derived_guid(f"application/{client_id}"),
            "appId": app.client_id,
            "displayName": app.name,
            "keyCredentials": [],
            "passwordCredentials": [
                {
                    "keyId": derived_guid(f"{client_id}/{number}"),
                    "hint": secret[:3],
                    "secretText": None,
                    "endDateTime": end,
                }
                for number, (secret, end) in enumerate(
                    zip(app.secrets, app.secrets_end, strict=False)
                )
            ],
        }
        wanted = call.request.query.get("$select")
        names = wanted.split(",") if wanted else list(everything)
        return call.json(200, {name: everything[name] for name in names if name in everything})


def _claims(call: Call, resource: str) -> Mapping[str, Any] | None:
    """The claims of the request's token, if it is a good one for that resource."""
    scheme, _, token = call.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            signing_key().public_key,
            algorithms=["RS256"],
            audience=[audience(resource, version) for version in (1, 2)],
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
    except jwt.PyJWTError:
        return None
    return claims if claims["exp"] > call.now else None


def _error(call: Call, status: int, code: str, headers: tuple[tuple[str, str], ...] = ()) -> Reply:
    return call.json(status, {"error": {"code": code, "message": code}}, headers)
