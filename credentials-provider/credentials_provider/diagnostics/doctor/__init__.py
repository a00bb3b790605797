"""The whole way from `.env` to a token that the registry accepts, checked piece by piece.

Each group of checks has a module. Whatever one finds, the next are made. Nothing is written.
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.diagnostics.doctor import (
    configuration,
    machine,
    network,
    registry,
    sinks,
    storage,
    tokens,
    upkeep,
)
from credentials_provider.diagnostics.doctor.checks import Check, Examination, grouped
from credentials_provider.errors import CredentialsProviderError, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from credentials_provider.settings import Flags

DEADLINE = 90.0  # seconds for everything

_Group = tuple[str, "Callable[[], Iterable[Check]]"]


class DoctorOptions(NamedTuple):
    """What is to be looked at."""

    root: str
    flags: Flags
    process: Mapping[str, str]
    names: tuple[str, ...] = ()
    registry_url: str | None = None
    scopes_file: str | None = None

    def __repr__(self) -> str:
        return f"DoctorOptions(names={self.names!r})"


def examine(options: DoctorOptions, now: float, deadline: float = DEADLINE) -> Iterator[Check]:
    """Every check as soon as it is made; `now` in epoch seconds, `deadline` in seconds from here.

    The checks run in a thread: what no time-out reaches (a name server, a file that is a pipe)
    holds up neither the deadline nor a signal.
    """
    found: queue.SimpleQueue[Check | None] = queue.SimpleQueue()
    ends_at = time.monotonic() + deadline
    at = ["python"]

    def work() -> None:
        for name, look in _groups(options, now, ends_at):
            at[0] = name
            for check in _guarded(name, look):
                found.put(check)
        found.put(None)

    threading.Thread(target=work, daemon=True).start()
    while True:
        try:
            check = found.get(timeout=max(0.0, ends_at - time.monotonic()))
        except queue.Empty:
            seen = f"no result within {deadline:.0f} s; the rest was not checked"
            yield Check(at[0], "failure", seen, "Look at what this check reads or asks.")
            return
        if check is None:
            return
        yield check


def _groups(options: DoctorOptions, now: float, ends_at: float) -> Iterator[_Group]:
    """The groups in their order; each may use what those before it have found."""
    yield "python", machine.python
    yield "packages", lambda: machine.packages(options.root)
    settings, problems = configuration.settings_of(options.flags, options.process, options.root)
    yield "settings", lambda: problems
    if settings is None:
        return
    exam = Examination(settings, now, ends_at)
    yield "settings", lambda: configuration.environment(exam)
    yield "identities", lambda: configuration.identities(exam, options.names)
    yield "files", lambda: storage.files(exam)
    yield "credentials", lambda: configuration.credentials(exam)
    for base in exam.bases():
        yield "connection", lambda base=base: network.connection(exam, base)  # type: ignore[misc]  # mypy and defaults of lambdas
    yield "token", lambda: tokens.minted(exam)
    yield "claims", lambda: tokens.claims(exam, options.scopes_file)
    yield "sinks", lambda: sinks.read_as_their_users(exam)
    if url := options.registry_url:
        yield "registry", lambda: registry.registry(exam, url)
    yield "timer", lambda: upkeep.timer(exam, options.process, options.root)
    yield "last run", lambda: upkeep.last_run(exam)


def _guarded(name: str, look: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """The checks of a group, each cause once; an error is a check too."""
    found: list[Check] = []
    try:
        found.extend(look())
    except CredentialsProviderError as error:
        found.append(Check(name, "failure", error.message, error.hint or ""))
    except Exception as error:  # noqa: BLE001  one group that fails must not keep from the next
        found.append(Check(name, "failure", unexpected(error), "Please report this line."))
    yield from grouped(found)
