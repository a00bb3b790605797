"""The fields of an identities file's objects for pydantic: every error of an object at once.

Only what may be wrong comes here: whatever `identity.keeps_the_rules` knows costs a third less.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from credentials_provider.errors import Problem
from credentials_provider.identities import reading
from credentials_provider.identities.fields import RULES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from credentials_provider.model import Entry


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("wrong", "{message}", {"message": message})


class Fields(BaseModel):
    """The fields of one object of the identities file."""

    model_config = ConfigDict(
        title="Identity", strict=True, extra="forbid", hide_input_in_errors=True
    )

    identity_name: str
    tenant_id: str
    client_id: str
    scope: str
    login_base_url: str | None = None
    cloud: Literal["public", "usgov", "china"] | None = None
    # Exactly one of these …
    client_secret: SecretStr | None = None
    client_secret_env: str | None = None
    client_secret_file: str | None = None
    client_secret_keyvault: str | None = None
    certificate_file: str | None = None
    federated_token_file: str | None = None
    managed_identity: Literal[True] | str | None = None
    # … and what may go with it: the certificate's password, the secret's end, another secret.
    certificate_password_env: str | None = None
    certificate_password_file: str | None = None
    client_secret_expires_on: str | None = None
    client_secret_previous: SecretStr | None = None
    client_secret_previous_env: str | None = None
    client_secret_previous_file: str | None = None
    client_secret_previous_keyvault: str | None = None

    @field_validator("managed_identity", mode="before")
    @classmethod
    def _either(cls, value: object, info: ValidationInfo) -> object:
        return cls._rule(value, info)  # before: two types would make two errors

    @field_validator("*")
    @classmethod
    def _rule(cls, value: object, info: ValidationInfo) -> object:
        plain: Any = value.get_secret_value() if isinstance(value, SecretStr) else value
        rule = RULES.get(str(info.field_name))
        if plain is not None and rule and (problem := rule(plain)):
            raise _wrong(problem)
        return value

    @model_validator(mode="after")
    def _one_authority(self) -> Fields:
        if self.login_base_url and self.cloud:
            raise _wrong("login_base_url and cloud exclude one another: keep one of them")
        return self


def problems_of(entry: Entry) -> list[Problem]:
    """Everything that is wrong with an entry, in the order of the fields."""
    wrong = list(_credential_problems(entry))
    try:
        Fields.model_validate(entry.fields)
    except ValidationError as error:
        told = {problem.field for problem in wrong}
        wrong += [each for each in _problems(entry, error) if each.field not in told]
    return sorted(wrong, key=_place_in_entry)


def _place_in_entry(problem: Problem) -> int:
    fields = list(Fields.model_fields)
    return fields.index(problem.field) if problem.field in fields else len(fields)


def _credential_problems(entry: Entry) -> Iterable[Problem]:
    """Exactly one kind of credential, and nothing with it that does not belong to it."""
    given = entry.fields
    for field in reading.CREDENTIAL_FIELDS:
        if field in given and (given[field] is None or given[field] == ""):
            yield _problem(entry, field, "is empty" if given[field] == "" else "must be a string")
    kinds = [field for field in reading.CREDENTIAL_KINDS if field in given]
    previous = [field for field in reading.PREVIOUS_KINDS if field in given]
    passwords = [field for field in reading.PASSWORD_FIELDS if field in given]
    if not kinds:
        message = f"is missing, or another credential: {', '.join(reading.CREDENTIAL_KINDS[1:])}"
        yield _problem(entry, "client_secret", message)
    for fields in (kinds, previous, passwords):
        if len(fields) > 1:
            message = f"only one of {' and '.join(fields)} may stand here: keep one of them"
            yield _problem(entry, fields[1], message)
    if passwords and "certificate_file" not in kinds:
        yield _problem(entry, passwords[0], "belongs to certificate_file, which is not there")
    if reading.EXPIRY_FIELD in given and kinds and not {*kinds} & {*reading.SECRET_KINDS}:
        yield _problem(entry, reading.EXPIRY_FIELD, f"does not go with {kinds[0]}")
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
        field = reading.shown_field(str(detail["loc"][0])) if detail["loc"] else None
        yield _problem(entry, field, _message(detail, field, entry.fields))


def _message(detail: ErrorDetails, field: str | None, fields: dict[str, Any]) -> str:
    if detail["type"] == "extra_forbidden":
        absent = [name for name in Fields.model_fields if name not in fields]
        near = difflib.get_close_matches(str(field), absent, n=1) or difflib.get_close_matches(
            str(field), Fields.model_fields, n=1
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
