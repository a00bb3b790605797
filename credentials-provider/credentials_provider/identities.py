"""Validated identities: every error of a file at once, never a secret's value."""

from __future__ import annotations

import difflib
import os
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from credentials_provider import entries, settings
from credentials_provider.errors import ConfigurationError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from credentials_provider.entries import IdentitiesFile
    from credentials_provider.model import Entry

GUID = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII
)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)
_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}", re.ASCII
)
_NO_TENANT = {"common", "organizations", "consumers"}
_DEVICES = {"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(10))}
_OVERWRITES = {"entra-identities", "mcp", "vscode_mcp"}
SCOPE_END = "/.default"
LOOKS_LIKE_ID = "looks like a Secret ID; Entra ID wants the secret's Value"

# What the registry's own scripts make of a name: (what it looks like, the reason to choose another)
_SPECIAL_NAMES = (
    (re.compile(r".*readable"), "its token refresher skips names with “readable”"),
    (re.compile(r".*(bedrock|agentcore)"), "its scripts take it for an AgentCore token"),
    (re.compile(r".+-egress"), "its scripts take it for an egress token"),
    (re.compile(r"(?!ingress\Z).*(ingress|egress)"), "its scripts take it for a gateway token"),
    (re.compile(r"agent-"), "its Keycloak scripts take it for an agent's token"),
    (re.compile(r".*-token\Z"), "its Keycloak scripts take it for an agent's token"),
    (re.compile(r"oauth-"), "its scripts take it for an OAuth session"),
)


def _wrong(message: str) -> NoReturn:
    raise PydanticCustomError("wrong", "{message}", {"message": message})


def _clean(value: str) -> str:
    if not value:
        _wrong("is empty")
    if value != value.strip():
        _wrong("has white space around it")
    if not value.isprintable() or not value.isascii():
        _wrong("holds a character that cannot stand there")
    if entries.is_placeholder(value):
        _wrong("still holds the guide's sample value: put yours in its place")
    return value


def _identity_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        _wrong(
            "must begin with a letter or digit and hold only letters, digits, '.', '_' and '-', "
            "128 at most (it names a file)"
        )
    if value.lower().partition(".")[0] in _DEVICES:
        _wrong(f"{value} is a device's name on Windows, not a file's")
    if value.lower() in _OVERWRITES:
        _wrong(f"{value}.json is another file of the registry's and would be overwritten")
    return value


def _tenant_id(value: str) -> str:
    if _clean(value).lower() in _NO_TENANT:
        _wrong(f"{value!r} names no tenant: a machine identity needs its own (a GUID or a domain)")
    if not GUID.fullmatch(value) and not _DOMAIN.fullmatch(value):
        _wrong("must be a GUID or a domain name (Microsoft Entra ID, Overview, Tenant ID)")
    return value


def _client_id(value: str) -> str:
    if any(character in value for character in " /\\?#&~"):  # secrets of Entra ID have a tilde
        _wrong("must be an application (client) ID (App registrations, Overview)")
    return _clean(value)


def _scope(value: str) -> str:
    if len(value.split()) > 1:
        _wrong("must name one resource: Entra ID takes a single one with client credentials")
    if not _clean(value).endswith(SCOPE_END) or value == SCOPE_END:
        _wrong("must end in /.default, as in api://{APP_CLIENT_ID}/.default")
    return value


def _client_secret(value: SecretStr) -> SecretStr:
    _clean(value.get_secret_value())
    return value


def _variable(value: str) -> str:
    # Whoever wrote the secret itself here must not read it in a message.
    if not entries.is_variable(value):
        _wrong("must be the name of an environment variable, not its value")
    return value


def _place(value: str) -> str:
    if not value:
        _wrong("is empty")
    if value != value.strip() or not value.isprintable():
        _wrong("must be a file's path, without white space around it")
    if entries.is_placeholder(entries.without_variables(value)):
        _wrong("still holds the guide's sample value: put yours in its place")
    return value


def _vault_secret(value: str) -> str:
    if not entries.is_vault_secret(value):
        _wrong(
            "must be a secret of a vault: https://VAULT.vault.azure.net/secrets/NAME, or with "
            "/VERSION behind it"
        )
    return value


def _managed_identity(value: object) -> object:
    if value is True or (isinstance(value, str) and GUID.fullmatch(value)):
        return value
    _wrong("must be true, or the client ID of a user-assigned managed identity")


def _date(value: str) -> str:
    if not entries.is_date(value):
        _wrong("must be a date such as 2026-12-31")
    return value


def _login_base_url(value: str) -> str:
    if problem := settings.login_url_problem(value):
        _wrong(problem)
    return value.strip().rstrip("/")


_Secret = Annotated[SecretStr, AfterValidator(_client_secret)]
_Variable = Annotated[str, AfterValidator(_variable)]
_Path = Annotated[str, AfterValidator(_place)]
_VaultSecret = Annotated[str, AfterValidator(_vault_secret)]
_ManagedIdentity = Annotated[Literal[True] | str, BeforeValidator(_managed_identity)]


class Identity(BaseModel):
    """One machine identity of the identities file."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    identity_name: Annotated[str, AfterValidator(_identity_name)]
    tenant_id: Annotated[str, AfterValidator(_tenant_id)]
    client_id: Annotated[str, AfterValidator(_client_id)]
    scope: Annotated[str, AfterValidator(_scope)]
    login_base_url: Annotated[str, AfterValidator(_login_base_url)] | None = None
    cloud: Literal["public", "usgov", "china"] | None = None
    # Exactly one of these …
    client_secret: _Secret | None = None
    client_secret_env: _Variable | None = None
    client_secret_file: _Path | None = None
    client_secret_keyvault: _VaultSecret | None = None
    certificate_file: _Path | None = None
    federated_token_file: _Path | None = None
    managed_identity: _ManagedIdentity | None = None
    # … and what may go with it: the certificate's password, the secret's end, another secret.
    certificate_password_env: _Variable | None = None
    certificate_password_file: _Path | None = None
    client_secret_expires_on: Annotated[str, AfterValidator(_date)] | None = None
    client_secret_previous: _Secret | None = None
    client_secret_previous_env: _Variable | None = None
    client_secret_previous_file: _Path | None = None
    client_secret_previous_keyvault: _VaultSecret | None = None

    @model_validator(mode="after")
    def _one_authority(self) -> Identity:
        if self.login_base_url and self.cloud:
            _wrong("login_base_url and cloud exclude one another: keep one of them")
        return self

    @property
    def credential(self) -> str:
        """The field that says where the credential comes from."""
        return next(kind for kind in entries.CREDENTIAL_KINDS if getattr(self, kind) is not None)

    @property
    def previous(self) -> str | None:
        """The field of a second secret, during a rotation."""
        kinds = (kind for kind in entries.PREVIOUS_KINDS if getattr(self, kind) is not None)
        return next(kinds, None)


def validate(file: IdentitiesFile) -> tuple[dict[str, Identity], list[str]]:
    """The identities of a file by name, and warnings.

    Raises:
        ConfigurationError: with every problem of the file, none of them with a secret's value.

    """
    problems = list(file.problems)
    identities: dict[str, Identity] = {}
    stem = os.path.splitext(os.path.basename(file.path))[0].lower()
    for entry in file.entries:
        wrong = list(_credential_problems(entry))
        try:
            identity = Identity.model_validate(entry.fields)
        except ValidationError as error:
            told = {problem.field for problem in wrong}
            wrong += [each for each in _problems(entry, error) if each.field not in told]
        if wrong:
            problems.extend(sorted(wrong, key=_place_in_entry))
            continue
        if identity.identity_name.lower() == stem:
            problems.append(
                _problem(
                    entry, "identity_name", f"{stem}.json is the name of the identities file itself"
                )
            )
        identities[identity.identity_name] = identity
    if problems:
        problems.sort(key=lambda problem: problem.entry or 0)
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise ConfigurationError(
            f"{file.path} has {count}; nothing was requested",
            hint="Mend it there; `credentials-provider identities check` says when all is well.",
            problems=problems,
        )
    return identities, [warning for each in identities.values() for warning in _warnings(each)]


def field_problem(field: str, value: str) -> str | None:
    """What is wrong with one field, for a question that can be asked again."""
    check = {
        "identity_name": _identity_name,
        "tenant_id": _tenant_id,
        "client_id": _client_id,
        "scope": _scope,
    }[field]
    try:
        check(value)
    except PydanticCustomError as error:
        return error.message()
    return None


def _place_in_entry(problem: Problem) -> int:
    fields = list(Identity.model_fields)
    return fields.index(problem.field) if problem.field in fields else len(fields)


def _credential_problems(entry: Entry) -> Iterable[Problem]:
    """Exactly one kind of credential, and nothing with it that does not belong to it."""
    given = entry.fields
    for field in entries.CREDENTIAL_FIELDS:
        if field in given and (given[field] is None or given[field] == ""):
            yield _problem(entry, field, "is empty" if given[field] == "" else "must be a string")
    kinds = [field for field in entries.CREDENTIAL_KINDS if field in given]
    previous = [field for field in entries.PREVIOUS_KINDS if field in given]
    passwords = [field for field in entries.PASSWORD_FIELDS if field in given]
    if not kinds:
        message = f"is missing, or another credential: {', '.join(entries.CREDENTIAL_KINDS[1:])}"
        yield _problem(entry, "client_secret", message)
    for fields in (kinds, previous, passwords):
        if len(fields) > 1:
            message = f"only one of {' and '.join(fields)} may stand here: keep one of them"
            yield _problem(entry, fields[1], message)
    if passwords and "certificate_file" not in kinds:
        yield _problem(entry, passwords[0], "belongs to certificate_file, which is not there")
    if entries.EXPIRY_FIELD in given and kinds and not {*kinds} & {*entries.SECRET_KINDS}:
        yield _problem(entry, entries.EXPIRY_FIELD, f"does not go with {kinds[0]}")
    if "managed_identity" in kinds:
        if previous:
            yield _problem(entry, previous[0], "does not go with managed_identity")
        theirs = given["managed_identity"]
        if (
            theirs
            and isinstance(theirs, str)
            and theirs.lower() != str(given.get("client_id")).lower()
        ):
            message = "is another client ID than client_id: keep one of them"
            yield _problem(entry, "managed_identity", message)


def _problem(entry: Entry, field: str | None, message: str) -> Problem:
    return Problem(message, entry.index, entry.name[:64] or None, field)


def _problems(entry: Entry, error: ValidationError) -> Iterable[Problem]:
    for detail in error.errors(include_url=False, include_input=False):
        field = entries.shown_field(str(detail["loc"][0])) if detail["loc"] else None
        yield _problem(entry, field, _message(detail, field, entry.fields))


def _message(detail: ErrorDetails, field: str | None, fields: dict[str, Any]) -> str:
    if detail["type"] == "extra_forbidden":
        absent = [name for name in Identity.model_fields if name not in fields]
        near = difflib.get_close_matches(str(field), absent, n=1) or difflib.get_close_matches(
            str(field), Identity.model_fields, n=1
        )
        return "unknown field" + (f"; did you mean {near[0]}?" if near else "")
    if detail["type"] == "missing":
        default = {
            "tenant_id": " (or set ENTRA_TENANT_ID)",
            "scope": " (or set ENTRA_CLIENT_ID, the gateway's application)",
        }
        return "is missing" + default.get(str(field), "")
    if detail["type"] == "string_type":
        return "must be a string"
    message = detail["msg"]
    return message[0].lower() + message[1:]


def _warnings(identity: Identity) -> Iterable[str]:
    name = identity.identity_name
    for pattern, reason in _SPECIAL_NAMES:
        if pattern.match(name.lower()):
            yield f"{name}: the MCP Gateway Registry treats this name specially: {reason}"
            break
    if identity.scope.removesuffix(SCOPE_END).lower().endswith(f"/{identity.client_id.lower()}"):
        yield (
            f"{name}: the scope is the identity's own application; the MCP Gateway Registry "
            "refuses such a token unless that is the gateway (audience)"
        )
    secret = identity.client_secret
    if secret and GUID.fullmatch(secret.get_secret_value()):
        yield f"{name}: client_secret {LOOKS_LIKE_ID}"
