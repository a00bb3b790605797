"""A new machine account: made once at the registry, put away, added, proven.

The registry's answer with the secret is in a private file before anything else happens. A
run that is killed at any point is finished by the next, or that says what is where.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.reading import make_entry, read_entries
from credentials_provider.identities.rules import name_key
from credentials_provider.identities.validation import validate_entry
from credentials_provider.lifecycle.accounts import Account, UncertainError
from credentials_provider.lifecycle.journal import Journal
from credentials_provider.lifecycle.proving import LifecycleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from credentials_provider.lifecycle.accounts import Accounts
    from credentials_provider.settings import Settings

_NO_CLIENT = "00000000-0000-0000-0000-000000000000"
_ACCOUNTS = Journal(
    Account,
    "account",
    "account 1",
    "It may hold the secret of an account that was made. Look at it, then delete it.",
)


def create(
    settings: Settings,
    name: str,
    fields: Mapping[str, Any],
    accounts: Accounts,
    groups: Sequence[str],
    *,
    description: str | None = None,
    progress: Callable[[str], None],
) -> tuple[str, ...]:
    """Make an account and add its identity; the groups that it got.

    Until `finish` the next call knows that it was this that made the identity, and goes on.

    Args:
        settings: where the identities are.
        name: of the account and of the identity.
        fields: of the new entry, without client id and credential.
        accounts: of the registry.
        groups: that the account is to be in.
        description: for the registry.
        progress: gets a line about what an earlier run began.

    Raises:
        LifecycleError: the registry refused, or nobody knows whether it made the account.
        ConfigurationError: the name is taken, or the entry has mistakes; nothing was asked for.

    """
    begun = _ACCOUNTS.read(settings, name)
    entries = read_entries(settings).entries if os.path.exists(settings.identities_file) else []
    entry = next((each for each in entries if name_key(each.name) == name_key(name)), None)
    if entry is not None:
        if begun is None or entry.fields.get("client_id") != begun.client_id:
            raise ConfigurationError(
                f"there is an identity {entry.name} already",
                hint="Choose another NAME, or remove it first.",
            )
        progress(f"An earlier run made {name}: going on")
    else:
        _check(settings, name, fields)
        if begun is None or not begun.client_secret:
            asked = begun is not None and not begun.client_id
            _check_name(accounts, name, asked=asked)
            if asked:
                progress(f"An earlier run asked for {name}, which is not there: asking again")
            begun = _made(settings, name, accounts, groups, description)
        editing.add(settings, {**fields, "client_id": begun.client_id}, begun.client_secret)
    _ACCOUNTS.write(settings, name, replace(begun, client_secret=""))  # the identity has it
    return tuple(begun.groups)


def finish(settings: Settings, name: str) -> None:
    """Forget that an account was begun: its identity is complete."""
    _ACCOUNTS.close(settings, name)


def _check_name(accounts: Accounts, name: str, *, asked: bool) -> None:
    """Refuse a name that the registry has; it may be that an earlier run `asked` for it."""
    there = accounts.called(name)
    if there and asked:
        raise LifecycleError(
            f"the registry made the account {name} (client ID {there[0]}) for an earlier run, "
            "which did not get the answer: its secret is lost",
            f"Delete the account: identities remove {name} --at-registry, with the options of "
            "this command. Then run this again.",
        )
    if there:
        raise ConfigurationError(
            f"the registry has an account {name} already: client ID {there[0]}",
            hint="Choose another NAME, or give its secret to `credentials-provider identities "
            f"add NAME --client-id {there[0]}`.",
        )


def _made(
    settings: Settings,
    name: str,
    accounts: Accounts,
    groups: Sequence[str],
    description: str | None,
) -> Account:
    """The account, made now. What is asked for is written down before, and the answer after."""
    _ACCOUNTS.write(settings, name, Account(accounts.url))
    try:
        made = accounts.make(name, groups, description)
    except UncertainError as error:
        raise LifecycleError(
            f"{error.message}; the account may have been made all the same",
            "Run this again in a minute: it looks before it asks.",
            transient=True,
        ) from None
    except LifecycleError:
        _ACCOUNTS.close(settings, name)
        raise
    _ACCOUNTS.write(settings, name, made)
    return made


def _check(settings: Settings, name: str, fields: Mapping[str, Any]) -> None:
    """Refuse what could not be added, before anything is asked for."""
    sample = {**fields, "client_id": _NO_CLIENT, "client_secret_file": "x", "identity_name": name}
    found = validate_entry(make_entry(1, sample, settings))
    if not isinstance(found, Identity):
        raise ConfigurationError("the identity has mistakes; nothing was made", problems=found)
