"""Rotation through Microsoft Graph: make, prove, switch, wait, remove; each step can be repeated.

There is never a moment without a credential that works. The new one is proven before the identity
uses it, the old one stays until the overlap is over, and it is removed by its key id. What is under
way is written down first (`journal`), so that the next run finishes what a killed one began.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from credentials_provider.credentials.resolver import Credential, Resolver
from credentials_provider.entra.graph import application
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.identities.fields import SECRET_KINDS, SECRETS_FOLDER, day_of
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.reading import authority_base, make_entry, read_entries
from credentials_provider.identities.validation import valid_identity, validate_entry
from credentials_provider.lifecycle import journal
from credentials_provider.lifecycle.graph_credentials import checked, kind_of
from credentials_provider.lifecycle.proving import LifecycleError, prove
from credentials_provider.lifecycle.replacing import find
from credentials_provider.minting import Failure
from credentials_provider.transport.retrying import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from credentials_provider.entra.graph import Application, Key, Password
    from credentials_provider.lifecycle.journal import Rotation
    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

LOCK = ".credentials-provider-rotation.lock"
_DEADLINE = 120.0  # seconds for all questions to Graph about one identity
_TIMEOUT = 20.0  # seconds for one request
_DAY = 86400.0

State = Literal["rotated", "finished", "waiting", "young", "planned"]


class Plan(NamedTuple):
    """How to rotate. Times in seconds."""

    lifetime: float
    overlap: float
    wait: float  # for Entra ID to know the new credential
    older_than: float = 0.0
    caller: str | None = None  # the identity that asks Graph; None: each for itself
    dry_run: bool = False
    finish_only: bool = False


class Step(NamedTuple):
    """What became of one identity, with a sentence for people."""

    identity_name: str
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


class _Rotator:
    def __init__(
        self,
        settings: Settings,
        name: str,
        plan: Plan,
        progress: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._name = name
        self._plan = plan
        self._progress = progress
        self._now = now
        self._resolver = Resolver(settings, now, timeout=_TIMEOUT)
        self._transport = Transport(
            timeout=_TIMEOUT,
            max_attempts=3,
            deadline=time.monotonic() + _DEADLINE + plan.wait,
            connections=1,
            ca_bundle=settings.ca_bundle,
        )
        self.entry, self.identity = self._validated(name)
        self._kind = kind_of(settings, self.entry, self.identity.credential, now())

    def run(self) -> Step:
        try:
            rotation = journal.read(self._settings, self._name)
            if rotation is None:
                if self._plan.finish_only:
                    return self._step("young", "no rotation is under way")
                step = self._begin()
                if isinstance(step, Step):
                    return step
                rotation = step
            elif self._plan.dry_run:
                return self._step(
                    "planned", f"a rotation is under way: {self._description(rotation)}"
                )
            state: State = "waiting"
            if rotation.remove_at is None:
                state, rotation = "rotated", self._switch(self._make(rotation))
            if rotation.remove_at is not None and self._now() < rotation.remove_at:
                return self._step(state, self._description(rotation))
            return self._finish(rotation)
        finally:
            self._transport.close()

    def _begin(self) -> Rotation | Step:
        """Look at the present state, and write down what will be done."""
        if owner := self._shares_with():
            return self._step("waiting", f"its credential is that of {owner}, which is rotated now")
        if self.identity.previous is not None:
            raise ConfigurationError(
                f"{self._name} has {self.identity.previous} already",
                hint="Somebody rotates it by hand. Once nobody needs the previous secret, delete "
                "it in App registrations and take the field out of the entry.",
            )
        field = self.identity.credential
        known = checked(self._application().credentials(to_change=True))
        credential = self._credential(self.identity, field)
        used = self._kind.in_use(known, credential, self.entry)
        self._check_others(credential)
        if self._plan.older_than and not self._is_old(used):
            return self._step("young", f"its {field} is younger than that")
        if self._plan.dry_run:
            ends = f", ends on {day_of(min(each.end for each in used))}" if used else ""
            return self._step("planned", f"its {field}{ends}; a new one would be made")
        nonce = secrets.token_hex(4)
        fields = self.entry.fields
        named = [value for name, value in fields.items() if name.endswith("_file")]
        rotation = journal.Rotation(
            label=f"credentials-provider {self._name} {nonce}",
            place=f"{SECRETS_FOLDER}/{self._name}~{nonce}{self._kind.suffix}",
            old_key_id=used[0].key_id if len(used) == 1 else None,
            old_files=named,
        )
        journal.write(self._settings, self._name, rotation)
        return rotation

    def _is_old(self, used: Sequence[Password | Key]) -> bool:
        """Whether the present credential is older than asked; one of unknown age is."""
        begun = [each.start for each in used]
        limit = self._now() - self._plan.older_than
        return not begun or any(each is None or each < limit for each in begun)

    def _make(self, rotation: Rotation) -> Rotation:
        path = editing.full_path(self._settings, rotation.place)
        end = self._now() + self._plan.lifetime
        made = self._kind.make(self._application(), rotation, path, end)
        journal.write(self._settings, self._name, made)
        return made

    def _switch(self, rotation: Rotation) -> Rotation:
        """Prove the new credential, and let the identity use it."""
        if rotation.place not in self.entry.fields.values():
            self._prove({**self.entry.fields, **self._kind.changes(self.entry, rotation)})
            # Itself last: those that have the old credential are the ones not switched yet.
            for other in (*self._sharing(), self.entry):
                changed = self._kind.changes(other, rotation)
                editing.update(self._settings, other.name, changed)
        switched = dataclasses.replace(rotation, remove_at=self._now() + self._plan.overlap)
        journal.write(self._settings, self._name, switched)
        return switched

    def _finish(self, rotation: Rotation) -> Step:
        """Remove the old credential: at Graph, in the entry, and its file."""
        self.entry, self.identity = self._validated(self._name)
        self._prove(self.entry.fields)
        app = self._application()
        known = self._kind.listed(checked(app.credentials(to_change=True)))
        stale = {
            each.key_id
            for each in known
            if each.key_id == rotation.old_key_id
            # What has the new one's name was made by runs that ended; without its key id, it
            # could be the new one itself.
            or (each.name == rotation.label and rotation.new_key_id not in {None, each.key_id})
        }
        self._kind.remove(app, stale)
        for entry in read_entries(self._settings).entries:
            if rotation.place in entry.fields.values():
                editing.update(self._settings, entry.name, self._kind.leftovers(entry))
        unused = [
            editing.full_path(self._settings, each)
            for each in rotation.old_files
            if editing.is_own_alone(self._settings, each, "")
        ]
        editing.discard(unused)
        journal.close(self._settings, self._name)
        if rotation.old_key_id is None:
            return self._step(
                "finished",
                "the new credential is in use. Which one at Entra ID was the old one is not "
                "certain: delete it in App registrations > (the app) > Certificates & secrets",
            )
        return self._step("finished", "the old credential is removed")

    # Other identities of the same application

    def _others(self) -> list[Entry]:
        return [
            entry
            for entry in read_entries(self._settings).entries
            if entry.name != self._name
            and str(entry.fields.get("client_id")).lower() == self.identity.client_id.lower()
        ]

    def _sharing(self) -> list[Entry]:
        """Those with the same credential: they are switched along."""
        field = self.identity.credential
        own = self.entry.fields[field]
        return [each for each in self._others() if each.fields.get(field) == own]

    def _shares_with(self) -> str | None:
        """The identity whose rotation made the credential of this one, while it is under way."""
        place = str(self.entry.fields.get(self.identity.credential))
        owner = place.removeprefix(f"{SECRETS_FOLDER}/").partition("~")[0]
        if not place.startswith(f"{SECRETS_FOLDER}/") or owner == self._name:
            return None
        rotation = journal.read(self._settings, owner)
        return owner if rotation and rotation.place == place else None

    def _check_others(self, credential: Credential) -> None:
        """Refuse to take a secret away from identities that have it from another place."""
        sharing = {each.name for each in self._sharing()}
        of_secret = self.identity.credential in SECRET_KINDS
        alike = SECRET_KINDS if of_secret else ("certificate_file",)
        for entry in self._others():
            found = validate_entry(entry)
            if entry.name in sharing or not isinstance(found, Identity):
                continue
            if found.credential not in alike:
                continue
            theirs = self._resolver.resolve(found, found.credential)
            if isinstance(theirs, Failure) or theirs.for_msal == credential.for_msal:
                raise ConfigurationError(
                    f"{entry.name} has the same application, and perhaps the same secret from "
                    "another place: it would lose it",
                    hint=f"Let {entry.name} name its credential as {self._name} does.",
                )

    # What the steps have in common

    def _prove(self, fields: Mapping[str, Any]) -> None:
        """Prove the credential of these fields alone, without a previous one."""
        alone = {
            name: value
            for name, value in fields.items()
            if value is not None and "_previous" not in name
        }
        entry = make_entry(self.entry.index, alone, self._settings)
        prove(self._settings, entry, wait=self._plan.wait, progress=self._progress)

    def _application(self) -> Application:
        """The identity's application at Graph, asked by itself or by the caller."""
        entry, caller = self._validated(self._plan.caller or self._name)
        base = authority_base(entry.fields, self._settings)
        credential = self._credential(caller, caller.credential)
        client_id = self.identity.client_id
        made = application(caller, credential, base, self._transport, client_id)
        if isinstance(made, Failure) and caller.previous is not None:
            credential = self._credential(caller, caller.previous)
            made = application(caller, credential, base, self._transport, client_id)
        found: Application = checked(made)
        return found

    def _credential(self, identity: Identity, field: str) -> Credential:
        found = self._resolver.resolve(identity, field)
        if isinstance(found, Failure):
            raise LifecycleError(found.message, found.remedy, transient=found.transient)
        return found

    def _validated(self, name: str) -> tuple[Entry, Identity]:
        entry = find(self._settings, name)
        return entry, valid_identity(entry)

    def _description(self, rotation: Rotation) -> str:
        if rotation.remove_at is None:
            return "the new credential is not proven yet: run this again"
        left = max((rotation.remove_at - self._now()) / 3600, 0)
        ends = f", ends on {day_of(rotation.ends_at)}" if rotation.ends_at else ""
        return (
            f"the new credential is in use{ends}; the old one is removed by the next `rotate` in "
            f"{left:.0f} h or later"
        )

    def _step(self, state: State, message: str) -> Step:
        return Step(self._name, state, message)
