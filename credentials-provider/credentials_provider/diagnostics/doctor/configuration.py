"""Settings, identities, and the sources of their credentials."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from credentials_provider.credentials.resolver import Resolver
from credentials_provider.diagnostics import guide
from credentials_provider.diagnostics.doctor.checks import MOST_IDENTITIES, Check
from credentials_provider.diagnostics.http import TIMEOUT
from credentials_provider.errors import ConfigurationError, quoted
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.identities.validation import validate_entry, warnings_of
from credentials_provider.minting import Failure
from credentials_provider.permissions import is_open_at
from credentials_provider.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from credentials_provider.diagnostics.doctor.checks import Examination
    from credentials_provider.settings import Flags, Settings


def settings_of(
    flags: Flags, process: Mapping[str, str], root: str
) -> tuple[Settings | None, list[Check]]:
    """The settings, or why there are none: a stand-in could send a secret to another host."""
    try:
        return load_settings(flags, process, root), []
    except ConfigurationError as error:
        seen = "everything else: it depends on the settings"
        return None, [
            Check("settings", "failure", error.message, error.hint or "", guide.ENVIRONMENT),
            Check("settings", "skipped", seen),
        ]


def environment(exam: Examination) -> Iterator[Check]:
    """What `.env` and the environment say."""
    path = exam.settings.environment.path
    for warning in exam.settings.warnings:
        # Without an identities file the check of the identities says what was moved.
        if warning != exam.settings.moved or os.path.exists(exam.settings.identities_file):
            yield Check(".env", "warning", warning, "", guide.ENVIRONMENT)
    if not os.path.exists(path):
        yield Check(".env", "ok", f"there is none at {path}; only the environment is used")
    elif is_open_at(path):
        seen = f"other users can read {path}"
        yield Check(".env", "warning", seen, f"chmod 600 {quoted(path)}")
    else:
        yield Check(".env", "ok", path)
    provider = exam.settings.environment.get("AUTH_PROVIDER")
    yield Check("AUTH_PROVIDER", "ok", provider or "not set, which means entra")


def identities(exam: Examination, names: Sequence[str]) -> Iterator[Check]:
    """Those of the file, each judged alone."""
    try:
        file = read_entries(exam.settings)
        exam.entries = select(file.entries, names, file.path)
    except ConfigurationError as error:
        for problem in error.problems:
            yield Check("identities", "failure", str(problem), error.hint or "", guide.MACHINES)
        return
    for warning in file.warnings:
        if "chmod" not in warning:  # reported with the other files
            yield Check("identities", "warning", warning)
    good: dict[str, Identity] = {}
    for entry in exam.entries:
        found = validate_entry(entry)
        if not isinstance(found, Identity):
            names = (entry.name,) if entry.name else ()
            cure = f"Correct it in {file.path}."
            for problem in found:
                seen = str(problem._replace(entry=entry.index or None, identity_name=None))
                yield Check("identities", "failure", seen, cure, guide.MACHINES, names)
            continue
        good[entry.name] = found
        for text in warnings_of(entry, found):
            about = text.removeprefix(f"{entry.name}: ")
            yield Check("identities", "warning", about, identity_names=(entry.name,))
    exam.identities = good
    if good:
        seen = f"{len(good)} of {len(exam.entries)} in order, in {file.path}"
        yield Check("identities", "ok", seen)


def credentials(exam: Examination) -> Iterator[Check]:
    """Where each credential comes from, and whether it can be read there."""
    resolver = Resolver(exam.settings, time.time, timeout=TIMEOUT)
    good = 0
    for name, identity in list(exam.identities.items())[:MOST_IDENTITIES]:
        fields = [field for field in (identity.credential, identity.previous) if field]
        answers = [resolver.resolve(identity, field) for field in fields]
        if all(isinstance(found, Failure) for found in answers):
            exam.without_credential.add(name)
        for found in answers:
            if isinstance(found, Failure):
                link = guide.SECRET
                yield Check("credentials", "failure", found.message, found.remedy, link, (name,))
                continue
            good += 1
            for warning in found.warnings:
                yield Check("credentials", "warning", warning, "", "", (name,))
    if good:
        yield Check("credentials", "ok", f"{good} can be read where the identities say")
