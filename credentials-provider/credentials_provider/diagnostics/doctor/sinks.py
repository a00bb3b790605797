"""Whether each sink holds its token, and whether who needs it can read it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

from credentials_provider.diagnostics.doctor.checks import Check
from credentials_provider.errors import CredentialsProviderError
from credentials_provider.run.sinks import readers, states
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credentials_provider.diagnostics.doctor.checks import Examination
    from credentials_provider.identities.sinks import Sink
    from credentials_provider.run.cluster import Cluster

_NEXT_RUN = "The next run writes it: `credentials-provider generate --refresh-ahead`."
_TIMEOUT = 5.0  # seconds for one file


def read_as_their_users(exam: Examination) -> Iterator[Check]:
    """Each sink is read: as root by its owner and its group, else by this user."""
    store = TokenStore(exam.settings.output_dir)
    cluster: Cluster | None = None
    for entry in exam.valid:
        for sink, state in states(store, entry, exam.settings.identities_file):
            if state == "unseen":
                from credentials_provider.run.cluster import Cluster  # only where there is one

                cluster = cluster or Cluster()
                document = store.document(f"{entry.name}.json") or {"access_token": ""}
                check = _in_cluster(cluster, sink, document)
            else:
                check = _check(sink, state)
            yield check._replace(identity_names=(entry.name,))


def _in_cluster(cluster: Cluster, sink: Sink, document: Mapping[str, Any]) -> Check:
    try:
        if cluster.state(sink, document) == "current":
            return Check("sinks", "ok", f"{sink.place} holds the token")
    except CredentialsProviderError as error:
        seen = f"the sink {sink.place} cannot be read: {error.message}"
        return Check("sinks", "failure", seen, error.hint or "")
    return Check("sinks", "warning", f"the sink {sink.place} does not hold the token", _NEXT_RUN)


def _check(sink: Sink, state: str) -> Check:
    if state == "missing":
        return Check("sinks", "warning", f"the sink {sink.path} is not there", _NEXT_RUN)
    for reader, ids in readers(sink).items():
        if problem := _denied(sink.path, ids):
            cure = (
                f'Let {reader} read the file ("owner", "group" and "mode" of the sink) and '
                "enter every folder above it."
            )
            seen = f"{reader} cannot read the sink {sink.path}: {problem}"
            return Check("sinks", "failure", seen, cure)
    if state == "other":
        seen = (
            f"the sink {sink.path} holds another content, or has other rights than its entry says"
        )
        return Check("sinks", "warning", seen, _NEXT_RUN)
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
