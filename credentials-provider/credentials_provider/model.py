"""The values that pass between the stages. None of them holds a secret or a token in its repr."""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from credentials_provider.errors import EXIT_FAILED, EXIT_OK, EXIT_REFUSED, EXIT_TRY_LATER, Problem
from credentials_provider.policy import TIMER_INTERVAL, Lead

# Annotations are evaluated: as strings, NamedTuple would compile each when the module is loaded.
if TYPE_CHECKING:
    from credentials_provider.minting import Failure
    from credentials_provider.settings import Settings

Reason = Literal["asked", "missing", "unreadable", "expired", "changed", "clock", "refresh"]
OutcomeKind = Literal["renewed", "fresh", "kept", "failed", "due"]


class Entry:
    """One object of the identities file as it was read, defaults filled in, not yet validated.

    `fields` may hold a secret, and anything at all where a string belongs: only index and name are
    ever shown. The name is fit for that: empty where it is not a string, escaped where unprintable.
    `problems` are those of its place in the file: they make it invalid, whatever its fields are.
    """

    __slots__ = ("fields", "fingerprint", "index", "is_object", "name", "obvious", "problems")

    def __init__(
        self,
        index: int,
        name: str,
        fields: dict[str, Any],
        fingerprint: str,
        *,
        obvious: bool,
        problems: tuple[Problem, ...] = (),
        is_object: bool = True,
    ) -> None:
        self.index = index  # place in the file, from 1; 0: there is no file
        self.name = name
        self.fields = fields
        self.fingerprint = fingerprint
        # It is valid, and there is nothing to warn of in it.
        self.obvious = obvious
        self.problems = problems
        self.is_object = is_object  # a JSON object, and nothing else

    def __repr__(self) -> str:
        return f"Entry({self.index}, {self.name!r})"


class TokenRecord(NamedTuple):
    """What a token file says of its token, without the token. Times in epoch seconds."""

    generated_at: float
    expires_on: float
    refresh_at: float
    fingerprint: str | None  # None: not written by this program
    tenant_id: str = ""  # what the token itself says, in lower case; empty where it says nothing
    client_id: str = ""
    clock_was_set: bool = False  # on this machine, since the token was minted


class PlanItem(NamedTuple):
    """One identity in a plan: `reason` says why it is due, None that it is not."""

    entry: Entry
    record: TokenRecord | None
    reason: Reason | None
    has_valid_token: bool  # the token on disk can be used now

    @property
    def due(self) -> bool:
        return self.reason is not None


class RunOptions(NamedTuple):
    """The options of a run. Times in seconds."""

    settings: "Settings"
    names: tuple[str, ...] = ()  # none: all
    refresh_ahead: bool = False
    lead: Lead | None = None  # with refresh_ahead, instead of each token's own time
    force: bool = False
    dry_run: bool = False
    concurrency: int = 32
    timeout: float = 20.0
    max_attempts: int = 4
    deadline: float = 120.0
    lock_timeout: float = 30.0
    strict_permissions: bool = False  # refuse what other users can read, instead of a warning
    shard: tuple[int, int] | None = None  # only the identities of part K (from 0) of N
    on_renew: str | None = None  # a command line for the shell
    on_failure: str | None = None  # another
    deadline_given: bool = False  # by the user: then it bounds the hooks, too
    quiet: bool = False  # each warning once a day
    warnings: tuple[str, ...] = ()  # about the options themselves
    hook_env: tuple[str, ...] = ()  # names of variables that hooks inherit besides the usual ones
    hook_timeout: float = 60.0
    metrics_file: str | None = None
    interval: float = TIMER_INTERVAL  # seconds between a timer's runs, for the metrics

    @property
    def everything(self) -> bool:
        return self.force or not self.refresh_ahead


class Outcome(NamedTuple):
    """What became of one identity in a run. Times in epoch seconds."""

    identity_name: str
    kind: OutcomeKind
    token_file: str
    expires_at: float | None = None
    refresh_at: float | None = None
    attempts: int = 0
    reason: Reason | None = None
    failure: "Failure | None" = None
    credential: str | None = None  # the field of the one that worked
    credential_ends: float | None = None
    duration: float | None = None  # seconds that the renewal took, waiting included


class HookResult(NamedTuple):
    """What became of the hook; `exit_code` None: it did not run to its end."""

    identities: tuple[str, ...]  # whose new tokens it was given
    exit_code: int | None
    message: str | None  # why it failed; None: it succeeded


def unchanged(
    item: PlanItem, token_file: str, kind: OutcomeKind, failure: "Failure | None" = None
) -> Outcome:
    """What to say of an identity whose token file stays as it is."""
    return Outcome(
        item.entry.name,
        kind,
        token_file,
        expires_at=item.record.expires_on if item.record else None,
        refresh_at=item.record.refresh_at if item.record else None,
        attempts=failure.attempts if failure else 0,
        reason=item.reason,
        failure=failure,
    )


class Observer:
    """Called with what happens in a run, while it happens; this one does nothing."""

    def warn(self, message: str) -> None:
        """Something that the user should know and that stops nothing."""

    def start(self, due: int) -> None:
        """The number of identities that are to be renewed."""

    def finish(self, outcome: Outcome) -> None:
        """One of them is done."""

    def hook_output(self, line: str) -> None:
        """A hook wrote this."""

    def close(self) -> None:
        """Nothing more will happen."""


class Report(NamedTuple):
    """The result of a run, in the order of the identities file."""

    started_at: float
    finished_at: float
    results: tuple[Outcome, ...]
    hook: HookResult | None = None  # of --on-renew; None: it was not run
    failure_hook: HookResult | None = None  # of --on-failure

    def count(self, kind: OutcomeKind) -> int:
        return sum(result.kind == kind for result in self.results)

    def counts(self) -> dict[str, int]:
        """How many there are of each kind of outcome that a run can end with."""
        kinds: tuple[OutcomeKind, ...] = ("renewed", "fresh", "kept", "failed")
        return {kind: self.count(kind) for kind in kinds}

    @property
    def exit_code(self) -> int:
        """The most urgent exit code of the results and the hook."""
        if self.count("failed"):
            return EXIT_FAILED
        failures = [each.failure for each in self.results if each.failure is not None]
        if any(not failure.transient for failure in failures):
            return EXIT_REFUSED
        pending = self.hook is not None and self.hook.message is not None
        return EXIT_TRY_LATER if pending or failures else EXIT_OK
