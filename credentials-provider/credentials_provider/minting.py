"""What comes of asking for a token: the token, or why there is none.

Apart from `model`, because a dataclass takes a millisecond to make and a run with nothing due needs
neither.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from credentials_provider.errors import StorageBusyError

if TYPE_CHECKING:
    from credentials_provider.errors import CredentialsProviderError, Problem

FailureKind = Literal[
    "rejected",
    "throttled",
    "unavailable",
    "unreachable",
    "untrusted",
    "bad_response",
    "secret_unavailable",
    "storage",
    "configuration",
]


@dataclass(frozen=True, slots=True)
class Minted:
    """A new token, checked. Times in epoch seconds; `issued_at` is just before the request."""

    access_token: str = field(repr=False)
    issued_at: int
    expires_in: int
    refresh_in: int | None
    attempts: int
    clock_skew: float | None  # this machine's clock minus the provider's, seconds
    warnings: tuple[str, ...] = ()  # about the credential
    credential: str | None = None  # the field that it came from
    credential_ends: float | None = None  # when that credential expires, where it is known


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an identity got no new token. Nothing that the provider wrote freely stands here."""

    kind: FailureKind
    message: str
    remedy: str
    error: str | None = None  # OAuth error code, RFC 6749 section 5.2
    aadsts: int | None = None
    transient: bool = False  # trying again later, with nothing changed, can help
    trace_id: str | None = None
    correlation_id: str | None = None
    attempts: int = 0
    clock_skew: float | None = None  # this machine's clock minus the provider's, seconds
    warnings: tuple[str, ...] = ()  # about the credential
    problems: tuple[Problem, ...] = ()  # of the entry, for the kind configuration

    @property
    def cause(self) -> str:
        """The message, and in brackets the provider's codes where it gave some."""
        number = f"AADSTS{self.aadsts}" if self.aadsts else None
        codes = ", ".join(code for code in (self.error, number) if code)
        return f"{self.message} ({codes})" if codes else self.message

    @property
    def traced(self) -> str:
        """The cause, with the trace ID that Microsoft's support asks for."""
        return f"{self.cause}; Trace ID {self.trace_id}" if self.trace_id else self.cause

    @property
    def is_busy(self) -> bool:
        """Whether another run was at it, which renews as well."""
        return self.kind == "storage" and self.transient


def storage_failure(error: CredentialsProviderError) -> Failure:
    """What could not be written or locked; trying again can help where another run was at it."""
    busy = isinstance(error, StorageBusyError)
    return Failure("storage", error.message, error.hint or "", transient=busy)
