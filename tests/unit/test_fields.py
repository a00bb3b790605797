"""Exactly one kind of credential, told by its name where it is none, two or empty."""

from __future__ import annotations

from typing import Any

import pytest

from credentials_provider.errors import ConfigurationError, Problem
from credentials_provider.identities.fields import CREDENTIAL_KINDS, PREVIOUS_KINDS
from credentials_provider.identities.reading import read_entries
from credentials_provider.identities.validation import validate
from unit.making import CLIENT, SECRET, Project, sample_fields

VAULT = "https://my-vault.vault.azure.net/secrets/ci"
GOOD: dict[str, list[Any]] = {
    "client_secret": [
        *(SECRET, "a" * 256, "<a{b}xxxx", "a=b==", "Zm9v/YmF+cg==", "your-own-secret", "x...y" * 4),
        *("a$b", "$1,000", "it's", "p:q", "~._-" * 10, "secretive", "with space inside"),
    ],
    "client_secret_env": ["CI_SECRET", "_x9"],
    "client_secret_file": ["secret", "$CREDENTIALS_DIRECTORY/ci", "${DIR}/ci", "~/ä b/c"],
    "client_secret_keyvault": [VAULT, f"{VAULT}/0123abcd", "https://localhost:8443/secrets/a"],
    "certificate_file": ["cert.pem", "C:\\keys\\ci.pfx"],
    "federated_token": ["github", "azure-pipelines"],
    "federated_token_env": ["AZURE_ID_TOKEN"],
    "federated_token_file": ["$AZURE_FEDERATED_TOKEN_FILE"],
    "managed_identity": [True, CLIENT],
}
BAD: dict[str, list[Any]] = {
    "client_secret": [
        *("your-client-secret", "Your-M2M-Client-Secret", " s", 5, "a" * 257, "\u00e9"),
        *("@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/a)", "op://v/ci/secret"),
        *(
            "vault:secret/data/ci#value",
            "secretref:ci",
            "ref+vault://a/b",
            "***",
            "abcdefgh...wxyz",
        ),
        *("CLIENT_SECRET=abc", "client_secret: abc", "export A_B=c", '"abc"', "'abc'", "${SECRET}"),
        *("$(ClientSecret)", "{{ secrets.CI }}", "${{ secrets.CI }}", "%CLIENT_SECRET%"),
        *("-----BEGIN PRIVATE KEY-----", "\u2022" * 8),
    ],
    "client_secret_env": ["1A", "A B", "A-B", f"{SECRET}!", "ä", "A" * 129, 5],
    "client_secret_file": [" x", "your-client-secret", "a\nb", ["x"], 5],
    "client_secret_keyvault": [
        *("http://v.vault.azure.net/secrets/a", "https://v.vault.azure.net/keys/a", "a"),
        *("https://u:p@v.vault.azure.net/secrets/a", "https://v.vault.azure.net/secrets/a?b", 5),
    ],
    "certificate_file": ["x ", 5],
    "federated_token": ["jenkins", "GitHub", 5],
    "federated_token_env": ["A B", "eyJ0.eyJ1.x", 5],
    "federated_token_file": ["x ", 5],
    "managed_identity": [False, "true", 1, {"id": CLIENT}],
}


def credential(**fields: Any) -> dict[str, Any]:
    return sample_fields(**{"client_secret": ..., **fields})


def refuse(project: Project, **fields: Any) -> list[Problem]:
    """The problems of an entry with these credentials; none shows a value."""
    project.identities(credential(**fields))
    file = read_entries(project.settings())
    assert not file.obvious
    with pytest.raises(ConfigurationError) as error:
        validate(file)
    for problem in error.value.problems:
        assert SECRET not in str(problem)
    return list(error.value.problems)


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, values in GOOD.items() for value in values]
)
def test_each_kind_is_taken(project: Project, field: str, value: object) -> None:
    """And needs no second look once it is known, so that a run with nothing due stays cheap."""
    project.identities(credential(**{field: value}))
    file = read_entries(project.settings())
    assert file.obvious
    identities, _ = validate(file)
    assert identities["ci"].credential == field
    assert identities["ci"].previous is None


@pytest.mark.parametrize(
    ("field", "value"),
    [(field, value) for field, values in BAD.items() for value in [*values, "", None]],
)
def test_a_wrong_value_is_told_by_its_field(project: Project, field: str, value: object) -> None:
    """Once, and not as a missing credential on top."""
    (problem,) = refuse(project, **{field: value})
    assert (problem.entry, problem.identity_name, problem.field) == (1, "ci", field)


def test_no_kind_names_all(project: Project) -> None:
    """So that nobody needs to look them up."""
    (problem,) = refuse(project)
    assert all(kind in str(problem) for kind in CREDENTIAL_KINDS)


@pytest.mark.parametrize("first", CREDENTIAL_KINDS)
@pytest.mark.parametrize("second", CREDENTIAL_KINDS)
def test_two_kinds_name_both(project: Project, first: str, second: str) -> None:
    """Whichever they are."""
    if first == second:
        return
    (problem,) = refuse(project, **{first: GOOD[first][0], second: GOOD[second][0]})
    assert first in problem.message
    assert second in problem.message


@pytest.mark.parametrize("kind", PREVIOUS_KINDS)
def test_a_previous_secret_goes_with_one(project: Project, kind: str) -> None:
    """Of any kind; it is no credential of its own."""
    value = GOOD[kind.replace("_previous", "")][0]
    project.identities(credential(client_secret_env="NEW", **{kind: value}))
    file = read_entries(project.settings())
    assert file.obvious
    assert validate(file)[0]["ci"].previous == kind
    (problem,) = refuse(project, **{kind: value})
    assert problem.message.startswith("is missing")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"client_secret_previous": "a", "client_secret_previous_env": "A"}, "only one of"),
        ({"certificate_password_env": "A"}, "certificate_file"),
        ({"certificate_key_file": "tls.key"}, "certificate_file"),
        ({"client_secret_expires_on": "31.12.2030"}, "2026-12-31"),
        ({"client_secret_expires_on": "2030-02-30"}, "2026-12-31"),
        ({"client_secret_expires_on": ""}, "2026-12-31"),
    ],
)
def test_what_goes_with_a_secret_is_checked(
    project: Project, fields: dict[str, Any], told: str
) -> None:
    """By its own field."""
    (problem,) = refuse(project, client_secret_env="A", **fields)
    assert problem.field in fields
    assert told in problem.message


def test_what_goes_with_a_certificate_is_checked(project: Project) -> None:
    """One password, and no secret's end."""
    (problem,) = refuse(
        project,
        certificate_file="c",
        certificate_password_env="A",
        certificate_password_file="b",
    )
    assert "only one of" in problem.message
    (problem,) = refuse(project, certificate_file="c", client_secret_expires_on="2031-01-01")
    assert "certificate_file" in problem.message


def test_what_goes_with_a_managed_identity_is_checked(project: Project) -> None:
    """Nothing but its client id, which it may name itself."""
    (problem,) = refuse(project, managed_identity=True, client_secret_previous="a")
    assert "managed_identity" in problem.message
    (problem,) = refuse(project, managed_identity=CLIENT[::-1].replace("-", "0"))
    assert problem.field == "managed_identity"
    other = f"0{CLIENT[1:]}"
    (problem,) = refuse(project, managed_identity=other)
    assert "another client ID" in problem.message
    project.identities(credential(managed_identity=other, client_id=...))
    file = read_entries(project.settings())
    assert file.obvious
    assert validate(file)[0]["ci"].client_id == other
