"""A machine account as others write it down, read for an identity.

That is what the MCP Gateway Registry gives (the JSON of `POST /api/management/iam/users/m2m`, what
`user-create-m2m` prints, the file `.m2m_client_secret_….txt` that it writes), what `az ad sp
create-for-rbac` prints, and every other `NAME=value` or `Name: value`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LINE = re.compile(
    r"^[^A-Za-z0-9\n]*(?:export +|set +|\$env:)?([A-Za-z][A-Za-z0-9 _.-]{0,60}?)[\"'`*]*"
    r"[ \t]*[:=](.+)$",
    re.MULTILINE,
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# Ends of names, written in small letters and without anything between.
_CLIENT = ("clientid", "appid", "applicationid")
_SECRET = ("clientsecret", "password", "clientsecretvalue", "secretvalue")
_TENANT = ("tenantid", "tenant", "directoryid")
_WRITTEN_TO = ("secretwrittento", "secretfile", "secretsavedto")


@dataclass(frozen=True, slots=True)
class Registration:
    """A client and its secret; `files` hold the secret in the clear."""

    client_id: str
    client_secret: str = field(repr=False)
    tenant_id: str | None = None
    files: tuple[str, ...] = ()


def read_registration(
    text: str, read: Callable[[str], str] | None = None, path: str | None = None
) -> Registration:
    """The client of an answer, JSON or text.

    Args:
        text: the answer.
        read: the text of a file that the answer says the secret was written to.
        path: the file that the answer comes from.

    Raises:
        ConfigurationError: it names no client or no secret, several, or the secret is masked.

    """
    pairs = list(_pairs(_COLOUR.sub("", text.lstrip("\ufeff"))))
    files = [path] if path else []
    if not _value(pairs, _SECRET, "client secrets") and read is not None:
        other = _value(pairs, _WRITTEN_TO, "files")
        if other:
            other = os.path.join(os.path.dirname(path), other) if path else other
            pairs += _pairs(read(other))
            files = [other]
    client_id = _value(pairs, _CLIENT, "client IDs")
    secret = _value(pairs, _SECRET, "client secrets")
    if not client_id or not secret:
        raise ConfigurationError(
            f"the registry's answer holds no client {'secret' if client_id else 'ID'}",
            hint="Give the file .m2m_client_secret_….txt that user-create-m2m wrote, all that it "
            "printed, or the JSON of POST /api/management/iam/users/m2m.",
        )
    if rules.is_masked(secret):
        raise ConfigurationError(
            "the client secret in the registry's answer is masked",
            hint="Give the file .m2m_client_secret_….txt that user-create-m2m wrote, or create a "
            "new secret in App registrations > (the app) > Certificates & secrets and use "
            "`credentials-provider identities add NAME`, or `… secret NAME` for one that is there.",
        )
    return Registration(client_id, secret, _value(pairs, _TENANT, "tenants"), tuple(files))


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    """Names, in small letters and without anything between, with their values."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        named = [(name, value) for name, value in found.items() if isinstance(value, str)]
    else:
        named = [(name, value.rstrip(" \t\r,;")) for name, value in _LINE.findall(text)]
    for name, value in named:
        yield "".join(filter(str.isalnum, name.lower())), _unquoted(value)


def _unquoted(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] in "\"'`" and value[-1] == value[0]:
        return value[1:-1]
    return value


def _value(pairs: list[tuple[str, str]], ends: tuple[str, ...], what: str) -> str | None:
    values = {value for name, value in pairs if name.endswith(ends) and value}
    if len(values) > 1:
        raise ConfigurationError(
            f"the registry's answer holds several {what}",
            hint="Give the answer for one machine account.",
        )
    return next(iter(values), None)
