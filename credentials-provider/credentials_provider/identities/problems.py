"""Everything that is wrong with an identity at once, by pydantic.

Only what is wrong comes here: whatever keeps the rules is spared pydantic's import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import PydanticCustomError

from credentials_provider.errors import Problem
from credentials_provider.identities.fields import FIELDS, conflicts, meant_field, shown_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.identities.fields import Field
    from credentials_provider.model import Entry

_DEFAULTS = {
    "tenant_id": " (or set ENTRA_TENANT_ID)",
    "client_id": " (App registrations > the identity's app > Overview)",
}


def _column(field: Field) -> Any:
    """A field of the table as one of the model."""

    def check(value: object) -> object:
        if problem := field.problem(value):
            raise PydanticCustomError("wrong", "{message}", {"message": problem})
        return value

    schema = {**field.schema, "description": field.help}
    kind = Annotated[Any, BeforeValidator(check), WithJsonSchema(schema)]
    return (kind, ...) if field.part == "definition" else (kind, None)


Model: type[BaseModel] = create_model(
    "Identity",
    __config__=ConfigDict(title="Identity", extra="ignore", hide_input_in_errors=True),
    **{field.name: _column(field) for field in FIELDS.values()},
)


def problems_of(entry: Entry) -> list[Problem]:
    """Everything that is wrong with an entry, in the order of the table of fields.

    A misspelt field comes just before the one that is missing because of it, else at the end.
    """
    found = list(entry.problems)
    if not entry.is_object:
        return found
    values = list(_wrong_values(entry.fields))
    reported = {field for field, _ in values}
    values += [each for each in conflicts(entry.fields) if each[0] not in reported]
    order: dict[str, float] = {name: place for place, name in enumerate(FIELDS)}
    for name in entry.fields:
        if name not in FIELDS and (meant := meant_field(name)):
            values.append((name, f"unknown field; did you mean {meant}?"))
            order[name] = order[meant] - 0.5 if meant not in entry.fields else len(FIELDS)
    values.sort(key=lambda each: order[each[0]])
    shown = entry.name[:64] or None
    found += [
        Problem(what, entry.index or None, shown, shown_field(field)) for field, what in values
    ]
    return found


def _wrong_values(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        Model.model_validate(fields)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            field = str(detail["loc"][0])
            missing = detail["type"] == "missing"
            yield field, f"is missing{_DEFAULTS.get(field, '')}" if missing else detail["msg"]
