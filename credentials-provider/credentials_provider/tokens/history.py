"""What one run leaves for the next and for `status`: last failures, counts, what the hook knows.

One small file in the output folder, without any secret or token. It is a help, never a condition:
one that is absent, broken or of a newer version reads as empty.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from credentials_provider.model import Outcome
    from credentials_provider.tokens.store import TokenStore

STATE_NAME = ".credentials-provider-state.json"
VERSION = 1


class LastFailure(NamedTuple):
    """Why an identity's last renewal failed; `runs` counts how many have in a row."""

    at: float  # epoch seconds
    kind: str
    message: str
    remedy: str
    error: str | None = None
    aadsts: int | None = None
    transient: bool = False
    trace_id: str | None = None
    correlation_id: str | None = None
    runs: int = 1


class History(NamedTuple):
    """What is known of one identity. Counts go on from run to run."""

    renewals: int = 0
    failures: int = 0
    failure: LastFailure | None = None  # of the last run that tried; None: it succeeded
    credential_ends: float | None = None  # epoch seconds; None: not known


class LastRun(NamedTuple):
    """The last run that renewed something or failed to. Times in epoch seconds."""

    started_at: float
    finished_at: float
    exit_code: int


class HookFailure(NamedTuple):
    """The hook did not succeed: it is pending. Times in epoch seconds."""

    at: float  # of the last try
    message: str
    since: float = 0.0  # of the first one; 0: not known
    pending: int = 0  # tokens that it does not know


class State(NamedTuple):
    """The file's content."""

    last_run: LastRun | None = None
    identities: Mapping[str, History] = {}
    hooked: Mapping[str, str] = {}  # by identity, a hash of the token that the hook knows
    hook_failure: HookFailure | None = None
    warned: Mapping[str, float] = {}  # by a warning's hash, when it was last given (epoch seconds)

    def credential_end(self, name: str) -> float | None:
        """When the credential of an identity ends, as the last renewal saw it; epoch seconds."""
        found = self.identities.get(name)
        return found.credential_ends if found else None


def read_state(store: TokenStore) -> State:
    """The state of an output folder; empty where the file is missing or not understood."""
    document = store.document(STATE_NAME)
    if document is None or document.get("version") != VERSION:
        return State()
    try:
        return _state(document)
    except (AttributeError, KeyError, TypeError, ValueError):
        return State()


def write_state(store: TokenStore, state: State) -> None:
    """Put the state in place, whole and private. Only under the folder's lock.

    Raises:
        StorageError: it could not be written.

    """
    document = {"version": VERSION, **_plain(state)}
    store.write_text(STATE_NAME, json.dumps(document) + "\n")


def _plain(value: Any) -> Any:
    """A value as JSON has it: objects with names in place of tuples."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    return (
        {name: _plain(each) for name, each in value.items()} if isinstance(value, dict) else value
    )


def after_run(
    state: State, results: Iterable[Outcome], run: LastRun, known: Collection[str]
) -> State:
    """The state after a run; identities that are not `known` any more are forgotten."""
    identities = {name: each for name, each in state.identities.items() if name in known}
    for result in results:
        before = identities.get(result.identity_name, History())
        if result.kind == "renewed":
            identities[result.identity_name] = before._replace(
                renewals=before.renewals + 1, failure=None, credential_ends=result.credential_ends
            )
        elif (failure := result.failure) is not None:
            last = LastFailure(
                at=run.finished_at,
                runs=before.failure.runs + 1 if before.failure else 1,
                **{name: getattr(failure, name) for name in _FAILURE_FIELDS},
            )
            identities[result.identity_name] = before._replace(
                failures=before.failures + 1, failure=last
            )
    hooked = {name: digest for name, digest in state.hooked.items() if name in known}
    return state._replace(last_run=run, identities=identities, hooked=hooked)


_FAILURE_FIELDS = tuple(name for name in LastFailure._fields if name not in {"at", "runs"})
_LARGEST = 253_402_300_799  # the last second of the year 9999: what can be shown as a time
_NUMBERS = {"at", "started_at", "finished_at", "exit_code", "renewals", "failures", "runs"}
_NUMBERS |= {"since", "pending"}


def _state(document: dict[str, Any]) -> State:
    run, hook = document["last_run"], document["hook_failure"]
    return State(
        last_run=None if run is None else LastRun(**_checked(run)),
        identities={name: _history(each) for name, each in document["identities"].items()},
        hooked={name: str(digest) for name, digest in document.get("hooked", {}).items()},
        hook_failure=None if hook is None else HookFailure(**_checked(hook)),
        warned={digest: _number(at) for digest, at in document.get("warned", {}).items()},
    )


def _history(fields: dict[str, Any]) -> History:
    failure = fields["failure"]
    last = None if failure is None else LastFailure(**_checked(failure))
    return History(**{**_checked(fields), "failure": last})


def _checked(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields, as long as their numbers are numbers and their texts fit to be shown."""
    for name, value in fields.items():
        if name in _NUMBERS or (name == "credential_ends" and value is not None):
            _number(value)
        if isinstance(value, str) and not value.isprintable():
            raise ValueError
    if not all(isinstance(fields.get(name, ""), str) for name in ("message", "remedy")):
        raise TypeError
    return fields


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _LARGEST:
        raise TypeError
    return value
