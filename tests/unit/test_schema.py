"""docs/entra-identities.schema.json: current, valid, and of one mind with the program."""

from __future__ import annotations

import json
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # comes with kubernetes-validate
import pytest

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.fields import FIELDS
from credentials_provider.identities.reading import read_entries
from credentials_provider.identities.validation import validate
from unit.making import CLIENT, Project, sample_fields
from update_schema import FILES, SCHEMA, schema, with_table


@pytest.fixture(scope="module")
def validator() -> Any:
    with open(SCHEMA, encoding="utf-8") as file:
        document = json.load(file)
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


def test_the_documents_table_is_that_of_the_fields() -> None:
    """Else: python tests/update_schema.py."""
    with open(FILES, encoding="utf-8") as file:
        text = file.read()
    assert "| `sinks` |" in text
    assert text == with_table(text)


def test_the_committed_schema_is_that_of_the_models() -> None:
    """Else: python tests/update_schema.py."""
    with open(SCHEMA, encoding="utf-8") as file:
        assert file.read() == schema()
    assert set(json.loads(schema())["items"]["properties"]) == {*FIELDS}


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"client_secret": ...}, False),
        ({"client_secret_env": "A"}, False),
        ({"client_secret": ..., "client_secret_env": "A B"}, False),
        ({"client_secret": ..., "client_secret_env": "AB"}, True),
        ({"client_secret": ..., "managed_identity": True}, True),
        ({"client_secret": ..., "managed_identity": False}, False),
        ({"client_secret": ..., "managed_identity": CLIENT, "client_id": ...}, True),
        ({"client_secret": ..., "certificate_file": "c", "certificate_password_env": "P"}, True),
        ({"client_secret_previous_file": "p"}, True),
        ({"client_secret_previous_file": "p", "client_secret_previous_env": "P"}, False),
        ({"client_id": ...}, False),
        ({"colour": "red"}, True),
        ({"cloud": "mars"}, False),
        ({"scope": None}, True),
        ({"scope": ...}, True),
        ({"client_secret": ..., "federated_token": "github"}, True),
        ({"client_secret": ..., "federated_token": "jenkins"}, False),
        ({"client_secret": ..., "certificate_file": "c", "certificate_key_file": "k"}, True),
        ({"sinks": [{"path": "token.txt", "format": "raw"}]}, True),
        ({"sinks": [{"format": "raw"}]}, False),
        ({"sinks": [{"path": "t", "colour": "red"}]}, False),
        ({"sinks": {"path": "t"}}, False),
        ({"scope": "api://x"}, False),
        ({"client_secret": None}, False),
        ({"client_secret_expires_on": "soon"}, False),
    ],
)
def test_an_editor_says_what_the_program_says(
    project: Project, validator: Any, changes: dict[str, Any], good: bool
) -> None:
    """The same entries pass and fail."""
    fields = sample_fields(**changes)
    assert validator.is_valid([fields]) is good
    project.identities(fields)
    file = read_entries(project.settings())
    if good:
        validate(file)
    else:
        with pytest.raises(ConfigurationError):
            validate(file)


def test_a_schema_key_in_an_entry_is_a_warning(project: Project) -> None:
    """It belongs to no entry: editors map the file by its name."""
    project.identities(sample_fields(**{"$schema": "./entra-identities.schema.json"}))
    _, (warning,) = validate(read_entries(project.settings()))
    assert "unknown field is ignored: $schema" in warning
