"""What the MCP Gateway Registry answers when it makes a machine identity, read for its identity.

`POST /api/management/iam/users/m2m` answers JSON, the registry's `user-create-m2m` prints text.
Both tell client and secret, and neither tenant, scope nor name. Newer ones mask the secret.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from credentials_provider.errors import ConfigurationError

_CLIENT = re.compile(r"^\W*client[ _]id\W*:\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_SECRET = re.compile(r"^\W*client[ _]secret\W*:\s*(\S+)\s*$", re.IGNORECASE | re.MULTILINE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Eight characters, three dots, four; or stars, or bullets.
_MASKED = re.compile(r".{0,8}(\.\.\.|…|\*{3,}|•{3,}).{0,4}")


class Registration(NamedTuple):
    """A client and its secret. Its repr shows no secret."""

    client_id: str
    client_secret: str

    def __repr__(self) -> str:
        return f"Registration({self.client_id!r})"


def read_registration(text: str) -> Registration:
    """The client of an answer, JSON or text.

    Raises:
        ConfigurationError: it names no client or no secret, or the secret is masked.

    """
    text = _COLOUR.sub("", text.lstrip("\ufeff"))
    client_id, secret = _from_json(text) or _from_text(text)
    if not client_id or not secret:
        missing = "a client ID" if not client_id else "a client secret"
        raise ConfigurationError(
            f"the registry's answer holds no {missing[2:]}",
            hint="Give the JSON of POST /api/management/iam/users/m2m, or all that user-create-m2m "
            "prints.",
        )
    if _MASKED.fullmatch(secret):
        raise ConfigurationError(
            "the client secret in the registry's answer is masked",
            hint="Take the JSON of its API instead, or create a new secret in App registrations > "
            "(the app) > Certificates & secrets, and use "
            "`credentials-provider identities add NAME`.",
        )
    return Registration(client_id, secret)


def _from_json(text: str) -> tuple[str, str] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return "", ""
    values = (found.get("client_id"), found.get("client_secret"))
    client_id, secret = (value if isinstance(value, str) else "" for value in values)
    return client_id, secret


def _from_text(text: str) -> tuple[str, str]:
    found = (_CLIENT.search(text), _SECRET.search(text))
    client_id, secret = (match[1] if match else "" for match in found)
    return client_id, secret
