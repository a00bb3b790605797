"""Validated identities: every error of a file at once, never a secret's value."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError, Problem
from credentials_provider.identities.fields import (
    GUID,
    LOOKS_LIKE_ID,
    SCOPE_END,
    Identity,
    keeps_the_rules,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def validate(file: IdentitiesFile) -> tuple[dict[str, Identity], list[str]]:
    """The identities of a file by name, and warnings.

    Raises:
        ConfigurationError: with every problem of the file, none of them with a secret's value.

    """
    problems = list(file.problems)
    identities: dict[str, Identity] = {}
    stem = os.path.splitext(os.path.basename(file.path))[0].lower()
    for entry in file.entries:
        if wrong := _problems_of(entry):
            problems.extend(wrong)
            continue
        if entry.name.lower() == stem:
            message = f"{stem}.json is the name of the identities file itself"
            problems.append(Problem(message, entry.index, entry.name[:64] or None, "identity_name"))
        identities[entry.name] = Identity(**entry.fields)
    if problems:
        problems.sort(key=lambda problem: problem.entry or 0)
        count = "a mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
        raise ConfigurationError(
            f"{file.path} has {count}; nothing was requested",
            hint="Mend it there; `credentials-provider identities check` says when all is well.",
            problems=problems,
        )
    return identities, [warning for each in identities.values() for warning in _warnings(each)]


def _problems_of(entry: Entry) -> list[Problem]:
    if keeps_the_rules(entry):
        return []
    from credentials_provider.identities.problems import problems_of  # noqa: PLC0415  pydantic

    return problems_of(entry)


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
    if identity.client_secret and GUID.fullmatch(identity.client_secret):
        yield f"{name}: client_secret {LOOKS_LIKE_ID}"
