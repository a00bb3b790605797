"""A Key Vault's secrets, for whoever brings a token of Entra ID's.

https://learn.microsoft.com/azure/key-vault/general/authentication-requests-and-responses
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credentials_provider.emulator.tokens import bearer_claims

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.emulator.apps import Directory
    from credentials_provider.emulator.wire import Call, Reply

VAULT = "https://vault.azure.net"
VAULT_ROLE = "Key Vault Secrets User"
"""Really an assignment on the vault; here an app role, so that a test can leave it out."""

_REFUSALS = {
    "disabled": ("SecretDisabled", "Operation get is not allowed on a disabled secret."),
    "firewall": (
        "ForbiddenByFirewall",
        "Client address is not authorized and caller is not a trusted service.",
    ),
    "connection": (
        "ForbiddenByConnection",
        "Public network access is disabled and request is not from a trusted service.",
    ),
    "rbac": ("ForbiddenByRbac", "Caller is not authorized to perform action on resource."),
    "policy": (
        "AccessDenied",
        "The user, group or application does not have secrets get permission on key vault.",
    ),
}


@dataclass(frozen=True)
class VaultSecret:
    """A secret that is more than text. `refusal`: why nobody may read it, by its inner code.

    One of `disabled`, `firewall`, `connection`, `rbac` and `policy`.
    """

    value: str = field(repr=False)
    content_type: str | None = None
    refusal: str | None = None


class Vault:
    """A vault with `secrets` by name."""

    def __init__(self, directory: Directory, secrets: Mapping[str, str | VaultSecret]) -> None:
        self._directory = directory
        self._secrets = secrets

    def answer(self, call: Call) -> Reply | None:
        """The answer to a call that is for the vault, else None."""
        match (call.request.method, *call.request.segments):
            case ("GET", "secrets", name, *version):
                return self._secret(call, name, version)
        return None

    def _secret(self, call: Call, name: str, version: list[str]) -> Reply:
        claims = bearer_claims(call, VAULT)
        if claims is None:
            tenant = self._directory.any_tenant()
            challenge = f'Bearer authorization="{call.base_url}/{tenant}", resource="{VAULT}"'
            error = {"error": {"code": "Unauthorized", "message": "Unauthorized"}}
            return call.json(401, error, (("WWW-Authenticate", challenge),))
        if VAULT_ROLE not in claims.get("roles", ()):
            return _forbidden(call, "rbac")
        current = hashlib.sha256(name.encode()).hexdigest()[:32]
        if name not in self._secrets or version not in ([], [""], [current]):
            return call.json(404, {"error": {"code": "SecretNotFound", "message": name}})
        found = self._secrets[name]
        secret = VaultSecret(found) if isinstance(found, str) else found
        if secret.refusal:
            return _forbidden(call, secret.refusal)
        identifier = f"{call.base_url}/secrets/{name}/{current}"
        content = {"value": secret.value, "id": identifier, "attributes": {"enabled": True}}
        if secret.content_type:
            content["contentType"] = secret.content_type
        return call.json(200, content)


def _forbidden(call: Call, refusal: str) -> Reply:
    inner, text = _REFUSALS[refusal]
    error = {"code": "Forbidden", "message": text, "innererror": {"code": inner}}
    return call.json(403, {"error": error})
