"""Rotation through Microsoft Graph: make, prove, switch, wait, remove; each step can be repeated.

There is never a moment without a credential that works. The new one is proven before the identity
uses it, the old one stays until the overlap is over, and it is removed by its key id. What is under
way is written down first (`journal`), so that the next run finishes what a killed one began.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from credentials_provider.credentials.resolver import Credential, Resolver
from credentials_provider.entra.graph import application
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.fields import PREVIOUS_KINDS, SECRETS_FOLDER, day_of
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.reading import authority_base, make_entry, read_entries
from credentials_provider.identities.validation import valid_identity, validate_entry
from credentials_provider.lifecycle.graph_credentials import kind_of
from credentials_provider.lifecycle.journal import ROTATIONS, Rotation
from credentials_provider.lifecycle.proving import LifecycleError, checked, prove
from credentials_provider.lifecycle.replacing import find
from credentials_provider.minting import Failure
from credentials_provider.transport.retrying import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from credentials_provider.entra.graph import Application, Credentials, Key, Password
    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

LOCK = ".credentials-provider-rotation.lock"
_DEADLINE = 120.0  # seconds for all questions to Graph about one identity
_TIMEOUT = 20.0  # seconds for one request

State = Literal["rotated", "finished", "waiting", "young", "planned"]


class Plan(NamedTuple):
    """How to rotate. Times in seconds."""

    lifetime: float
    overlap: float
    wait: float  # for Entra ID to know the new credential
    older_than: float | None = None
    caller: str | None = None  # the identity that asks Graph; None: each for itself
    dry_run: bool = False
    finish_only: bool = False


class Step(NamedTuple):
    """What became of one identity, with a sentence for people."""

    state: State
    message: str


def rotate(
    settings: Settings,
    name: str,
    plan: Plan,
    *,
    progress: Callable[[str], None],
    now: Callable[[], float] = time.time,
) -> Step:
    """Take the rotation of one identity as far as it can go now. Only under the lock of rotations.

    Args:
        settings: where the identities are.
        name: of the identity.
        plan: what is asked for.
        progress: gets a line when it waits.
        now: epoch seconds.

    Raises:
        LifecycleError: a step failed; the identity has a credential that works, and the next run
            goes on from there.
        ConfigurationError: there is no such identity, or it cannot be rotated.

    """
    return _Rotator(settings, name, plan, progress, now).run()


@dataclass
class _Rotator:
    settings: Settings
    name: str
    plan: Plan
    progress: Callable[[str], None]
    now: Callable[[], float]

    def __post_init__(self) -> None:
        self._resolver = Resolver(self.settings, self.now, timeout=_TIMEOUT)
        self._transport = Transport(
            timeout=_TIMEOUT,
            max_attempts=3,
            deadline=time.monotonic() + _DEADLINE + self.plan.wait,
            connections=1,
            ca_bundle=self.settings.ca_bundle,
        )
        self._entry = find(self.settings, self.name)
        self._identity = valid_identity(self._entry)
        self._rotation = ROTATIONS.read(self.settings, self.name)
        field = self._rotation.field if self._rotation else self._identity.credential
        self._kind = kind_of(self.settings, self._entry, field, self.now())

    def run(self) -> Step:
        with contextlib.closing(self._transport):
            rotation = self._rotation
            if rotation is None:
                if self.plan.finish_only:
                    return Step("young", "no rotation is under way")
                begun = self._begin()
                if isinstance(begun, Step):
                    return begun
                rotation = begun
            elif self.plan.dry_run:
                return Step("planned", f"a rotation is under way: {self._description(rotation)}")
            state: State = "waiting"
            if rotation.remove_at is None:
                state, rotation = "rotated", self._switch(self._make(rotation))
            if rotation.remove_at is not None and self.now() < rotation.remove_at:
                return Step(state, self._description(rotation))
            return self._finish(rotation)

    def _begin(self) -> Rotation | Step:
        """Look at the present state, and write down what will be done."""
        if owner := self._shares_with():
            return Step("waiting", f"its credential is that of {owner}, which is rotated now")
        if self._identity.previous is not None:
            raise ConfigurationError(
                f"{self.name} has {self._identity.previous} already",
                hint="Somebody rotates it by hand. Once nobody needs the previous secret, delete "
                "it in App registrations and take the field out of the entry.",
            )
        field = self._identity.credential
        known = checked(self._application().credentials(to_change=True))
        credential = checked(self._resolver.resolve(self._identity, field))
        used = self._kind.in_use(known, credential, self._entry)
        self._check_others(credential)
        if self.plan.older_than and not self._is_old(used, self.plan.older_than):
            return Step("young", f"its {field} is younger than that")
        if self.plan.dry_run:
            ends = f", ends on {day_of(min(each.end for each in used))}" if used else ""
            return Step("planned", f"its {field}{ends}; a new one would be made")
        nonce = secrets.token_hex(4)
        rotation = Rotation(
            label=f"credentials-provider {self.name} {nonce}",
            place=f"{SECRETS_FOLDER}/{self.name}~{nonce}{self._kind.suffix}",
            old_key_id=used[0].key_id if len(used) == 1 else None,
            old_files=[
                value for name, value in self._entry.fields.items() if name.endswith("_file")
            ],
        )
        ROTATIONS.write(self.settings, self.name, rotation)
        return rotation

    def _is_old(self, used: Sequence[Password | Key], age: float) -> bool:
        """Whether the present credential is older than that; one of unknown age is."""
        limit = self.now() - age
        return not used or any(each.start is None or each.start < limit for each in used)

    def _make(self, rotation: Rotation) -> Rotation:
        if self._identity.credential not in self._kind.alike:
            raise ConfigurationError(
                f"{self.name} has another kind of credential than when its rotation began",
                hint="Delete what it made: in App registrations > (the app) > Certificates & "
                f"secrets “{rotation.label}”, and here {SECRETS_FOLDER}/{self.name}~rotation.",
            )
        end = self.now() + self.plan.lifetime
        made = self._kind.make(self._application(), rotation, end)
        ROTATIONS.write(self.settings, self.name, made)
        return made

    def _switch(self, rotation: Rotation) -> Rotation:
        """Prove the new credential, and let the identity use it."""
        if rotation.place not in self._entry.fields.values():
            self._prove({**self._entry.fields, **self._kind.changes(self._entry, rotation)})
            for entry in self._sharing():
                changes = self._kind.changes(entry, rotation)
                editing.update(self.settings, entry.name, changes)
        switched = replace(rotation, remove_at=self.now() + self.plan.overlap)
        ROTATIONS.write(self.settings, self.name, switched)
        return switched

    def _finish(self, rotation: Rotation) -> Step:
        """Remove the old credential: at Graph, in the entries, and its file."""
        self._entry = find(self.settings, self.name)
        self._identity = valid_identity(self._entry)
        self._prove(self._entry.fields)
        app = self._application()
        known = checked(app.credentials(to_change=True))
        self._check_switched(rotation, known)
        stale = {
            each.key_id
            for each in _all(known)
            if each.key_id == rotation.old_key_id
            # What has the new one's name was made by runs that ended; without its key id, it
            # could be the new one itself.
            or (each.name == rotation.label and rotation.new_key_id not in {None, each.key_id})
        }
        self._kind.remove(app, stale)
        for entry in self._same_application():
            if rotation.place in entry.fields.values():
                editing.update(self.settings, entry.name, dict.fromkeys(PREVIOUS_KINDS))
        unused = [
            editing.full_path(self.settings, each)
            for each in rotation.old_files
            if editing.is_own_alone(self.settings, each, "")
        ]
        editing.discard(unused)
        ROTATIONS.close(self.settings, self.name)
        if rotation.old_key_id is None:
            return Step(
                "finished",
                "the new credential is in use. Which one at Entra ID was the old one is not "
                "certain: delete it in App registrations > (the app) > Certificates & secrets",
            )
        return Step("finished", "the old credential is removed")

    # All identities of the application

    def _same_application(self) -> list[Entry]:
        client_id = self._identity.client_id.lower()
        return [
            entry
            for entry in read_entries(self.settings).entries
            if str(entry.fields.get("client_id")).lower() == client_id
        ]

    def _sharing(self) -> list[Entry]:
        """All with the same credential, which are switched together.

        Itself last: until it is switched, those that still have the old one can be found by it.
        """
        field = self._identity.credential
        own = self._entry.fields[field]
        found = [each for each in self._same_application() if each.fields.get(field) == own]
        return sorted(found, key=lambda each: each.name == self.name)

    def _shares_with(self) -> str | None:
        """The identity whose rotation made the credential of this one, while it is under way."""
        place = str(self._entry.fields.get(self._identity.credential))
        owner = place.removeprefix(f"{SECRETS_FOLDER}/").partition("~")[0]
        if not place.startswith(f"{SECRETS_FOLDER}/") or owner == self.name:
            return None
        rotation = ROTATIONS.read(self.settings, owner)
        return owner if rotation and rotation.place == place else None

    def _credential_of(self, entry: Entry) -> Credential | Failure | None:
        """Another identity's, if it can be the same; a failure if it cannot be read here."""
        found = validate_entry(entry)
        if not isinstance(found, Identity) or found.credential not in self._kind.alike:
            return None
        return self._resolver.resolve(found, found.credential)

    def _check_others(self, credential: Credential) -> None:
        """Refuse to take a secret away from identities that have it from another place."""
        along = {each.name for each in self._sharing()}
        for entry in self._same_application():
            theirs = None if entry.name in along else self._credential_of(entry)
            if isinstance(theirs, Failure) or (theirs and theirs.for_msal == credential.for_msal):
                other = entry.name
                raise ConfigurationError(
                    f"{other} has the same application, and perhaps the same secret from another "
                    "place: it would lose it",
                    hint=f"Let {other} name its credential as {self.name} does.",
                )

    def _check_switched(self, rotation: Rotation, known: Credentials) -> None:
        """Refuse to remove what an identity uses that was added, or changed, during the overlap."""
        old = rotation.old_key_id
        if old not in {each.key_id for each in _all(known)}:
            return
        for entry in self._same_application():
            switched = rotation.place in entry.fields.values()
            theirs = None if switched else self._credential_of(entry)
            if isinstance(theirs, Failure) or (
                theirs and old in {each.key_id for each in self._kind.in_use(known, theirs, entry)}
            ):
                raise LifecycleError(
                    f"{entry.name} has the same application, and perhaps still the old "
                    "credential, which stays valid",
                    f'In the entry of {entry.name}, put "{rotation.field}": "{rotation.place}" '
                    "in the place of its credential. Then run this again.",
                )

    # What the steps have in common

    def _prove(self, fields: Mapping[str, Any]) -> None:
        """Prove the credential of these fields alone, without a previous one."""
        alone = {
            name: value
            for name, value in fields.items()
            if value is not None and "_previous" not in name
        }
        entry = make_entry(self._entry.index, alone, self.settings)
        prove(self.settings, entry, wait=self.plan.wait, progress=self.progress)

    def _application(self) -> Application:
        """The identity's application at Graph, asked by itself or by the caller."""
        entry = find(self.settings, self.plan.caller or self.name)
        caller = valid_identity(entry)
        base = authority_base(entry.fields, self.settings)

        def asked(field: str) -> Application | Failure:
            credential = checked(self._resolver.resolve(caller, field))
            return application(caller, credential, base, self._transport, self._identity.client_id)

        made = asked(caller.credential)
        if isinstance(made, Failure) and caller.previous is not None:
            made = asked(caller.previous)
        return checked(made)

    def _description(self, rotation: Rotation) -> str:
        if rotation.remove_at is None:
            return "the new credential is not proven yet: run this again"
        left = max((rotation.remove_at - self.now()) / 3600, 0)
        ends = f", ends on {day_of(rotation.ends_at)}" if rotation.ends_at else ""
        return (
            f"the new credential is in use{ends}; the old one is removed by the next `rotate` in "
            f"{left:.0f} h or later"
        )


def _all(known: Credentials) -> list[Password | Key]:
    return [*known.passwords, *known.keys]
