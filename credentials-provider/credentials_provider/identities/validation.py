"""Valid identities, and what is wrong with the others: never a secret's value."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import ConfigurationError, Problem
from credentials_provider.identities.fields import FIELDS, keeps_the_rules, meant_field, shown_field
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.rules import LOOKS_LIKE_ID, SCOPE_END, is_guid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from credentials_provider.identities.reading import IdentitiesFile
    from credentials_provider.model import Entry

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


class Validated(NamedTuple):
    """Entries, each judged alone: a mistake costs its own entry."""

    identities: dict[str, Identity]  # the valid ones by name, in the file's order
    problems: dict[int, list[Problem]]  # of the others, by `Entry.index`
    warnings: list[str]


def validate_entry(entry: Entry) -> Identity | list[Problem]:
    """The identity of one entry, or everything that is wrong with it."""
    misspelt = any(meant_field(name) for name in entry.fields.keys() - FIELDS.keys())
    if not entry.problems and not misspelt and keeps_the_rules(entry.fields):
        return Identity.of(entry.fields)
    from credentials_provider.identities.problems import problems_of  # pydantic

    return problems_of(entry)


def valid_identity(entry: Entry) -> Identity:
    """The identity of one entry.

    Raises:
        ConfigurationError: with everything that is wrong with it.

    """
    found = validate_entry(entry)
    if not isinstance(found, Identity):
        raise ConfigurationError(f"{entry.name} has mistakes", problems=found)
    return found


def validate_each(entries: Iterable[Entry]) -> Validated:
    """The identities of entries, with what is wrong with the others."""
    validated = Validated({}, {}, [])
    for entry in entries:
        found = validate_entry(entry)
        if isinstance(found, Identity):
            validated.identities[entry.name] = found
            validated.warnings.extend(warnings_of(entry, found))
        else:
            validated.problems[entry.index] = found
    return validated


def validate(file: IdentitiesFile) -> tuple[dict[str, Identity], list[str]]:
    """The identities of a file by name, and warnings; for those who want all of it right.

    Raises:
        ConfigurationError: with every problem of the file, none of them with a secret's value.

    """
    validated = validate_each(file.entries)
    if validated.problems:
        raise mistakes(file.path, validated.problems.values())
    return validated.identities, validated.warnings


def mistakes(path: str, problems: Iterable[Sequence[Problem]]) -> ConfigurationError:
    """The error of a file that cannot be used because of its entries."""
    found = [each for some in problems for each in some]
    count = "a mistake" if len(found) == 1 else f"{len(found)} mistakes"
    return ConfigurationError(
        f"{path} has {count}; nothing was requested",
        hint="Correct it there; `credentials-provider identities check` says when all is well.",
        problems=found,
    )


def warnings_of(entry: Entry, identity: Identity) -> Iterator[str]:
    """What is odd about a valid identity."""
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
    if identity.client_secret and is_guid(identity.client_secret):
        yield f"{name}: client_secret {LOOKS_LIKE_ID}"
    if unknown := [shown_field(field) for field in entry.fields if field not in FIELDS]:
        fields = "field is" if len(unknown) == 1 else "fields are"
        yield f"{name}: unknown {fields} ignored: {', '.join(unknown)}"
