"""The exceptions of this program: each carries its message, its cure and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

EXIT_OK = 0
EXIT_FAILED = 1  # at least one identity has no usable token
EXIT_USAGE = 2  # usage or configuration: nothing was requested
EXIT_TRY_LATER = 75  # EX_TEMPFAIL of sysexits.h: every token on disk is still valid
EXIT_REFUSED = 78  # EX_CONFIG of sysexits.h: the same, but somebody must act

EXIT_CODES = {
    EXIT_OK: "every selected identity has a token that is not due",
    EXIT_FAILED: "at least one identity has no usable token, or not the new one that was asked for",
    EXIT_USAGE: "usage, or a configuration of which nothing can be used: nothing was requested",
    EXIT_TRY_LATER: "a renewal failed for now, or another run was busy, but every token on disk "
    "is still valid: try later",
    EXIT_REFUSED: "a renewal was refused and no retry can help (a wrong or expired secret, a wrong "
    "entry), but every token on disk is still valid: somebody must act before it expires",
}


def printable(text: str) -> str:
    """A text that moves no terminal: what cannot be printed is written as Python would."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


class Problem(NamedTuple):
    """One thing that is wrong with the configuration; `entry` counts from 1."""

    message: str
    entry: int | None = None
    identity_name: str | None = None
    field: str | None = None

    def __str__(self) -> str:
        """`entry 2, "ci", scope: …`, as far as it is known, without control characters."""
        place = [
            f"entry {self.entry}" if self.entry is not None else "",
            f'"{self.identity_name}"' if self.identity_name else "",
            self.field or "",
        ]
        where = ", ".join(part for part in place if part)
        return printable(f"{where}: {self.message}" if where else self.message)


class CredentialsProviderError(Exception):
    """Base of every error that the program reports to its user."""

    exit_code = EXIT_FAILED
    identity_name: str | None = None  # where it is about one

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def problems(self) -> Sequence[Problem]:
        """What is wrong, one by one; the message alone where there is nothing more to say."""
        return (Problem(self.message),)


class ConfigurationError(CredentialsProviderError):
    """Usage or configuration that cannot be used: nothing was requested, nothing written."""

    exit_code = EXIT_USAGE

    def __init__(
        self, message: str, *, hint: str | None = None, problems: Iterable[Problem] = ()
    ) -> None:
        super().__init__(message, hint=hint)
        self._problems = tuple(problems)

    @property
    def problems(self) -> Sequence[Problem]:
        return self._problems or super().problems


class NoIdentitiesError(ConfigurationError):
    """There is no identities file, and the environment defines no identity."""


class UnknownIdentityError(ConfigurationError):
    """The identities file has no entry of these names."""

    def __init__(self, names: Sequence[str], problems: Iterable[Problem]) -> None:
        super().__init__(
            "unknown identity",
            hint="`credentials-provider identities list` lists them.",
            problems=problems,
        )
        self.names = names


class StorageError(CredentialsProviderError):
    """The output folder, its lock or a file in it cannot be read or written."""


class StorageBusyError(StorageError):
    """The same for now: trying again later, with nothing changed, can help."""

    exit_code = EXIT_TRY_LATER


class LockBusyError(StorageBusyError):
    """Another run held the folder's lock for longer than we may wait."""


class SecretUnavailableError(CredentialsProviderError):
    """The source of an identity's credential gives none; it is named, its content never."""

    def __init__(self, message: str, hint: str, *, transient: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.transient = transient  # trying again later, with nothing changed, can help


class StoppedError(BaseException):
    """A signal asked the run to stop; not an `Exception`, so that no handler swallows it."""

    def __init__(self, signal_number: int, signal_name: str) -> None:
        super().__init__(signal_name)
        self.exit_code = 128 + signal_number
        self.signal_name = signal_name


def quoted(path: str) -> str:
    """A path as a word for a shell, for commands in messages."""
    import shlex  # only for a message

    return shlex.quote(path)


def unexpected(error: BaseException) -> str:
    """Type and place of an error that nobody foresaw; its message might hold a secret."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = ""
    if frame is not None:
        file = frame.tb_frame.f_code.co_filename.replace("\\", "/").rpartition("/")[2]
        place = f" at {file}:{frame.tb_lineno}"
    return f"unexpected {type(error).__name__}{place}"
