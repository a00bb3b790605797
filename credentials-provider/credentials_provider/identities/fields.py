"""One identity: its fields, and the rules that each of them keeps.

Pure, and without pydantic: whatever keeps the rules needs nobody to explain what is wrong with it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.identities import reading
from credentials_provider.settings import login_url_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credentials_provider.model import Entry

GUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII
)
SCOPE_END = "/.default"
LOOKS_LIKE_ID = "looks like a Secret ID; Entra ID wants the secret's Value"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}", re.ASCII
)
_NO_TENANT = {"common", "organizations", "consumers"}
_DEVICES = {"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(10))}
_OVERWRITES = {"entra-identities", "mcp", "vscode_mcp"}


class Identity(NamedTuple):
    """One machine identity of the identities file. It may hold a secret: only its name is shown."""

    identity_name: str
    tenant_id: str
    client_id: str
    scope: str
    login_base_url: str | None = None
    cloud: str | None = None
    client_secret: str | None = None
    client_secret_env: str | None = None
    client_secret_file: str | None = None
    client_secret_keyvault: str | None = None
    certificate_file: str | None = None
    federated_token_file: str | None = None
    managed_identity: bool | str | None = None
    certificate_password_env: str | None = None
    certificate_password_file: str | None = None
    client_secret_expires_on: str | None = None
    client_secret_previous: str | None = None
    client_secret_previous_env: str | None = None
    client_secret_previous_file: str | None = None
    client_secret_previous_keyvault: str | None = None

    def __repr__(self) -> str:
        return f"Identity({self.identity_name!r})"

    @property
    def credential(self) -> str:
        """The field that says where the credential comes from."""
        return next(kind for kind in reading.CREDENTIAL_KINDS if getattr(self, kind) is not None)

    @property
    def previous(self) -> str | None:
        """The field of a second secret, during a rotation."""
        kinds = (kind for kind in reading.PREVIOUS_KINDS if getattr(self, kind) is not None)
        return next(kinds, None)


def keeps_the_rules(entry: Entry) -> bool:
    """Whether an entry is an identity beyond doubt. Of some that are, it does not say so."""
    return entry.obvious and all(
        rule(entry.fields[field]) is None
        for field, rule in RULES.items()
        if entry.fields.get(field) is not None
    )


# The rules: what is wrong with a value, None if nothing is. No secret's value is repeated.


def _unclean(value: str) -> str | None:
    if not value:
        return "is empty"
    if value != value.strip():
        return "has white space around it"
    if not value.isprintable() or not value.isascii():
        return "holds a character that cannot stand there"
    if reading.is_placeholder(value):
        return "still holds the guide's sample value: put yours in its place"
    return None


def _identity_name(value: str) -> str | None:
    if not _NAME.fullmatch(value):
        return (
            "must begin with a letter or digit and hold only letters, digits, '.', '_' and '-', "
            "128 at most (it names a file)"
        )
    if value.lower().partition(".")[0] in _DEVICES:
        return f"{value} is a device's name on Windows, not a file's"
    if value.lower() in _OVERWRITES:
        return f"{value}.json is another file of the registry's and would be overwritten"
    return None


def _tenant_id(value: str) -> str | None:
    if problem := _unclean(value):
        return problem
    if value.lower() in _NO_TENANT:
        return f"{value!r} names no tenant: a machine identity needs its own (a GUID or a domain)"
    if not GUID.fullmatch(value) and not _DOMAIN.fullmatch(value):
        return "must be a GUID or a domain name (Microsoft Entra ID, Overview, Tenant ID)"
    return None


def _client_id(value: str) -> str | None:
    if any(character in value for character in " /\\?#&~"):  # secrets of Entra ID have a tilde
        return "must be an application (client) ID (App registrations, Overview)"
    return _unclean(value)


def _scope(value: str) -> str | None:
    if len(value.split()) > 1:
        return "must name one resource: Entra ID takes a single one with client credentials"
    if problem := _unclean(value):
        return problem
    if not value.endswith(SCOPE_END) or value == SCOPE_END:
        return "must end in /.default, as in api://{APP_CLIENT_ID}/.default"
    return None


def _variable(value: str) -> str | None:
    # Whoever wrote the secret itself here must not read it in a message.
    if not reading.is_variable(value):
        return "must be the name of an environment variable, not its value"
    return None


def _path(value: str) -> str | None:
    if not value:
        return "is empty"
    if value != value.strip() or not value.isprintable():
        return "must be a file's path, without white space around it"
    if reading.is_placeholder(reading.without_variables(value)):
        return "still holds the guide's sample value: put yours in its place"
    return None


def _vault_secret(value: str) -> str | None:
    if not reading.is_vault_secret(value):
        return (
            "must be a secret of a vault: https://VAULT.vault.azure.net/secrets/NAME, or with "
            "/VERSION behind it"
        )
    return None


def _managed_identity(value: object) -> str | None:
    if value is True or (isinstance(value, str) and GUID.fullmatch(value)):
        return None
    return "must be true, or the client ID of a user-assigned managed identity"


def _date(value: str) -> str | None:
    return None if reading.is_date(value) else "must be a date such as 2026-12-31"


RULES: Mapping[str, Callable[[str], str | None]] = {
    "identity_name": _identity_name,
    "tenant_id": _tenant_id,
    "client_id": _client_id,
    "scope": _scope,
    "login_base_url": login_url_problem,
    "client_secret": _unclean,
    "client_secret_env": _variable,
    "client_secret_file": _path,
    "client_secret_keyvault": _vault_secret,
    "certificate_file": _path,
    "federated_token_file": _path,
    "managed_identity": _managed_identity,
    "certificate_password_env": _variable,
    "certificate_password_file": _path,
    "client_secret_expires_on": _date,
    "client_secret_previous": _unclean,
    "client_secret_previous_env": _variable,
    "client_secret_previous_file": _path,
    "client_secret_previous_keyvault": _vault_secret,
}
