"""Whether each sink holds its token, and whether who needs it can read it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from credentials_provider.diagnostics.doctor.checks import Check
from credentials_provider.run.sinks import readers, states
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.diagnostics.doctor.checks import Examination
    from credentials_provider.identities.sinks import Sink

_TIMEOUT = 5.0  # seconds for one file


def read_as_their_users(exam: Examination) -> Iterator[Check]:
    """Each sink is read: as root by its owner and its group, else by this user."""
    store = TokenStore(exam.settings.output_dir)
    for entry in exam.valid:
        for sink, state in states(store, entry, exam.settings.identities_file):
            yield _check(sink, state)._replace(identity_names=(entry.name,))


def _check(sink: Sink, state: str) -> Check:
    if state == "missing":
        cure = "The next run writes it: `credentials-provider generate --refresh-ahead`."
        return Check("sinks", "warning", f"the sink {sink.path} is not there", cure)
    for reader, ids in readers(sink).items():
        if problem := _denied(sink.path, ids):
            cure = (
                f'Let {reader} read the file ("owner", "group" and "mode" of the sink) and '
                "enter every folder above it."
            )
            seen = f"{reader} cannot read the sink {sink.path}: {problem}"
            return Check("sinks", "failure", seen, cure)
    if state == "other":
        cure = "The next run writes it: `credentials-provider generate --refresh-ahead`."
        seen = (
            f"the sink {sink.path} holds another content, or has other rights than its entry says"
        )
        return Check("sinks", "warning", seen, cure)
    return Check("sinks", "ok", f"{sink.path} holds the token and can be read")


def _denied(path: str, ids: tuple[int, int] | None) -> str | None:
    """Why a user cannot read a file; `ids`: user and group, None for ourselves."""
    if ids is None:
        return None if os.access(path, os.R_OK) else "permission denied"
    try:
        done = subprocess.run(  # noqa: S603  no shell, and a path behind --
            ["/bin/cat", "--", path],
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_TIMEOUT,
            check=False,
            text=True,
            cwd="/",
            user=ids[0],
            group=ids[1],
            extra_groups=[],
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return type(error).__name__
    return done.stderr.strip().rpartition(": ")[2] or "error" if done.returncode else None
