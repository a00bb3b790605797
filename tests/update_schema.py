"""Writes what documents say of an identity's fields anew from their table; run it as a script.

That is docs/entra-identities.schema.json, and the table in docs/files.md.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import Any

from pydantic import TypeAdapter

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SCHEMA = os.path.join(PROJECT, "docs", "entra-identities.schema.json")
FILES = os.path.join(PROJECT, "docs", "files.md")

_REQUIRED = {"identity_name", "client_id"}
_TABLE = re.compile(r"(?<=<!-- fields: tests/update_schema.py -->\n).*?(?=<!-- end -->)", re.DOTALL)


def schema() -> str:
    """The identities file's JSON Schema, as the model has it."""
    from credentials_provider.identities.fields import CREDENTIAL_KINDS, PREVIOUS_KINDS
    from credentials_provider.identities.problems import Model

    identity: dict[str, Any] = TypeAdapter(Model).json_schema()
    for field in identity["properties"].values():
        for extra in ("default", "title"):
            field.pop(extra, None)
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


def table() -> str:
    """The fields as rows of a Markdown table."""
    from credentials_provider.identities.fields import FIELDS

    rows = ["| field | | what it is |", "|---|---|---|"]
    for field in FIELDS.values():
        needed = "required" if field.name in _REQUIRED else ""
        if field.part == "credential":
            needed = "exactly one of these"
        rows.append(f"| `{field.name}` | {needed} | {field.help} |")
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """The text of docs/files.md with the table as it should be."""
    return _TABLE.sub(lambda _: table(), text)


if __name__ == "__main__":
    sys.path.insert(0, os.path.join(PROJECT, "credentials-provider"))
    with open(SCHEMA, "w", encoding="utf-8") as file:
        file.write(schema())
    with open(FILES, "r+", encoding="utf-8") as file:
        text = with_table(file.read())
        file.seek(0)
        file.write(text)
        file.truncate()
