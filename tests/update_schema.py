"""Writes docs/entra-identities.schema.json anew from the models; run it as a script."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCHEMA = os.path.join(PROJECT, "docs", "entra-identities.schema.json")

_DESCRIPTIONS = {
    "identity_name": "Names the token file: letters, digits, '.', '_' and '-'.",
    "tenant_id": "A GUID or a domain name. Default: ENTRA_TENANT_ID.",
    "client_id": "Application (client) ID of the identity's own app.",
    "scope": "api://{gateway's application}/.default. Default: from ENTRA_CLIENT_ID.",
    "login_base_url": "Another login host, https://host.",
    "cloud": "Another cloud's login host.",
    "client_secret": "The secret's Value. Better: one of the other kinds.",
    "client_secret_env": "Name of a variable of the process or of .env.",
    "client_secret_file": "File whose first line is the secret; ~ and $VARIABLES expand.",
    "client_secret_keyvault": "https://{vault}.vault.azure.net/secrets/{name}[/{version}]",
    "certificate_file": "PEM with private key and certificate, or PFX.",
    "federated_token_file": "As in $AZURE_FEDERATED_TOKEN_FILE; read again at each use.",
    "managed_identity": "true: this machine's own; or the client ID of one assigned to it.",
    "certificate_password_env": "Name of a variable with the key's password.",
    "certificate_password_file": "File with the key's password.",
    "client_secret_expires_on": "The secret's last day; a warning comes 30 days before.",
    "client_secret_previous": "A second secret, during a rotation.",
    "client_secret_previous_env": "A second secret, during a rotation.",
    "client_secret_previous_file": "A second secret, during a rotation.",
    "client_secret_previous_keyvault": "A second secret, during a rotation.",
}
_PATTERNS = {
    "identity_name": "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$",
    "scope": "^\\S+/\\.default$",
    "login_base_url": "^https://",
    "client_secret_keyvault": "^https://[^/]+/secrets/",
    "client_secret_previous_keyvault": "^https://[^/]+/secrets/",
    "client_secret_env": "^[A-Za-z_][A-Za-z0-9_]*$",
    "client_secret_previous_env": "^[A-Za-z_][A-Za-z0-9_]*$",
    "certificate_password_env": "^[A-Za-z_][A-Za-z0-9_]*$",
    "client_secret_expires_on": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
}


class _Schema(GenerateJsonSchema):
    """Fields that may be absent are not thereby null."""

    def nullable_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: Any) -> dict[str, Any]:
        return self.generate_inner(schema["schema"])


def schema() -> str:
    """The identities file's JSON Schema, as the models have it."""
    from credentials_provider.identities.problems import Fields
    from credentials_provider.identities.reading import CREDENTIAL_KINDS, PREVIOUS_KINDS

    identity = TypeAdapter(Fields).json_schema(schema_generator=_Schema)
    for name, field in identity["properties"].items():
        field.pop("title", None)
        for extra in ("format", "writeOnly"):  # a password's, which an editor would hide
            field.pop(extra, None)
        field["description"] = _DESCRIPTIONS[name]
        if name in _PATTERNS:
            field["pattern"] = _PATTERNS[name]
    # Tenant and scope have defaults in the environment, and a managed identity may be the client.
    identity["required"] = ["identity_name"]
    identity["anyOf"] = [{"required": [field]} for field in ("client_id", "managed_identity")]
    identity["oneOf"] = [{"required": [kind]} for kind in CREDENTIAL_KINDS]
    identity["allOf"] = [
        {"not": {"required": [one, other]}}
        for number, one in enumerate(PREVIOUS_KINDS)
        for other in PREVIOUS_KINDS[number + 1 :]
    ]
    identity["description"] = "One machine identity, with exactly one kind of credential."
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Identities of credentials-provider",
        "type": "array",
        "items": identity,
    }
    return json.dumps(whole, indent=2) + "\n"


if __name__ == "__main__":
    sys.path.insert(0, os.path.join(PROJECT, "credentials-provider"))
    with open(SCHEMA, "w", encoding="utf-8") as file:
        file.write(schema())
