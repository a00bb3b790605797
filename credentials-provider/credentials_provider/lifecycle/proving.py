"""A credential is proven by a token that it gets, before anything relies on it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, TypeVar

from credentials_provider.errors import EXIT_FAILED, EXIT_TRY_LATER, CredentialsProviderError
from credentials_provider.identities.validation import valid_identity
from credentials_provider.minting import Failure
from credentials_provider.model import RunOptions
from credentials_provider.run.batch import entra_minter

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

T = TypeVar("T")

# What Entra ID says of applications and credentials that were made just now, for seconds to some
# minutes: https://learn.microsoft.com/entra/identity-platform/reference-error-codes
PROPAGATING = frozenset({7000215, 700016, 7000229, 700027})
_REQUEST = 60.0  # seconds for one request, its retries included
_FIRST_PAUSE = 1.0  # seconds
_LONGEST_PAUSE = 15.0


class LifecycleError(CredentialsProviderError):
    """A step in the life of a credential failed; the message says what was left as it was."""

    def __init__(self, message: str, hint: str, *, transient: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.exit_code = EXIT_TRY_LATER if transient else EXIT_FAILED


def checked(result: T | Failure) -> T:
    """The result, which must not be a failure.

    Raises:
        LifecycleError: it is a failure.

    """
    if isinstance(result, Failure):
        raise LifecycleError(result.traced, result.remedy, transient=result.transient)
    return result


def prove(
    settings: Settings,
    entry: Entry,
    *,
    wait: float,
    progress: Callable[[str], None],
) -> None:
    """Ask for a token with an identity's credential; it is stored nowhere.

    Args:
        settings: where the provider is, and how it is reached.
        entry: of the identity, with the credential in question.
        wait: seconds to try again for, while Entra ID may not know of what was made just now.
        progress: gets a line when it waits.

    Raises:
        LifecycleError: there is no token.
        ConfigurationError: the entry has mistakes.

    """
    identities = {entry.name: valid_identity(entry)}
    options = RunOptions(settings, deadline=_REQUEST)
    end = time.monotonic() + wait
    pause = _FIRST_PAUSE
    while True:
        minter = entra_minter(options, identities, time.monotonic() + _REQUEST)
        with contextlib.closing(minter):
            result = minter.mint(entry)
        left = end - time.monotonic()
        if not isinstance(result, Failure):
            return
        if left <= 0 or not (result.aadsts in PROPAGATING or result.transient):
            why = f"no token for {entry.name}: {result.traced}"
            error = LifecycleError(why, result.remedy, transient=result.transient)
            error.identity_name = entry.name
            raise error
        if pause == _FIRST_PAUSE:
            progress(f"{entry.name}: not accepted yet; trying again for up to {wait:.0f} s")
        time.sleep(min(pause, left))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
