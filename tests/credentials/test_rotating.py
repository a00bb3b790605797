"""Rotation through Microsoft Graph: never without a credential that works, each step repeatable."""

from __future__ import annotations

import os
import re
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from credentials.making import certificate, key_pem, pem
from credentials_provider.emulator import App, Emulator
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.lifecycle import graph_credentials, rotating
from credentials_provider.lifecycle.journal import ROTATIONS, Journal, Rotation
from credentials_provider.lifecycle.proving import LifecycleError
from credentials_provider.lifecycle.rotating import Plan, Step
from support import Listener, Project, apps, assert_no_secret, entry, renew

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from credentials.commanding import Tell
    from credentials_provider.settings import Settings

DAY = 86400.0
PLAN = Plan(lifetime=180 * DAY, overlap=DAY, wait=30.0)
pytestmark = [pytest.mark.usefixtures("no_backoff"), pytest.mark.timeout(60)]


@pytest.fixture
def idp(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """An emulator; some tests let it need a moment to know what Graph made."""
    with Emulator(propagation=getattr(request, "param", 0.0)) as emulator:
        yield emulator


slow = pytest.mark.parametrize("idp", [1.2], indirect=True)


@pytest.fixture
def owner(idp: Emulator) -> App:
    """An application that owns itself, with one secret."""
    (made,) = apps(1)
    mine = replace(
        made, roles=("Application.ReadWrite.OwnedBy",), owners=(made.client_id,), name="ci"
    )
    mine = replace(mine, secrets_end=("2027-05-01T00:00:00Z",))
    idp.add_app(mine)
    return mine


@dataclass
class Rotations:
    """Rotations of one identity, with a clock that a test moves."""

    project: Project
    app: App
    later: float = 0.0

    @property
    def settings(self) -> Settings:
        return self.project.settings()

    def __call__(self, plan: Plan = PLAN, **changes: Any) -> Step:
        return rotating.rotate(
            self.settings,
            "ci",
            plan._replace(**changes),
            progress=lambda _: None,
            now=lambda: time.time() + self.later,
        )

    @property
    def entry(self) -> dict[str, Any]:
        (found,) = self.project.entries()
        return found

    def at_graph(self) -> App:
        """The application as Entra ID has it now."""
        found = self.project.idp._directory.find(self.app.tenant_id, self.app.client_id)
        assert found is not None
        return found

    def files(self) -> set[str]:
        return set(os.listdir(os.path.join(self.project.output, ".secrets"))) - {".gitignore"}


@pytest.fixture
def rotate(project: Project, owner: App) -> Rotations:
    project.write([entry(owner, identity_name="ci")])
    return Rotations(project, owner)


@slow
def test_a_secret_is_made_proven_switched_to_and_removed(rotate: Rotations) -> None:
    """The old one stays valid, and named, for the overlap."""
    old = rotate.app.secrets[0]
    step = rotate()
    assert step.state == "rotated"
    assert "client_secret" not in rotate.entry
    assert rotate.entry["client_secret_previous"] == old
    assert rotate.entry["client_secret_file"].startswith(".secrets/ci~")
    assert rotate.entry["client_secret_expires_on"]
    assert len(rotate.at_graph().all_passwords) == 2
    listener = Listener()
    assert renew(rotate.project, listener).exit_code == 0
    assert listener.warnings == []
    assert rotate().state == "waiting"
    assert len(rotate.at_graph().all_passwords) == 2

    rotate.later = DAY + 60
    assert rotate().state == "finished"
    assert not [name for name in rotate.entry if "previous" in name]
    (left,) = rotate.at_graph().all_passwords
    assert left.name.startswith("credentials-provider ci ")
    assert left.content != old
    assert len(rotate.files()) == 1
    assert renew(rotate.project).exit_code == 0


def test_the_next_rotation_takes_the_first_ones_file_along(rotate: Rotations) -> None:
    """Nothing is left behind, however often it is done."""
    for number in range(3):
        assert rotate().state == "rotated"
        rotate.later += DAY + 60
        assert rotate().state == "finished"
        assert len(rotate.files()) == 1, number
        assert len(rotate.at_graph().all_passwords) == 1


def certified(rotate: Rotations, *names: str) -> None:
    """Let identities of these names have a certificate of their application."""
    mine = pem(certificate())
    rotate.project.idp.add_app(replace(rotate.app, certificates=(mine,)))
    rotate.project.private(os.path.join(rotate.project.output, "c.pem"), key_pem() + mine)
    rotate.project.write(
        [
            entry(rotate.app, identity_name=name, client_secret=None, certificate_file="c.pem")
            for name in names
        ]
    )


def test_a_certificate_is_made_beside_the_others(rotate: Rotations) -> None:
    """The private key stays here; the certificates that were there stay, but for the old one."""
    certified(rotate, "ci")
    assert rotate().state == "rotated"
    assert rotate.entry["certificate_file"].endswith(".pem")
    assert len(rotate.at_graph().all_keys) == 2
    assert renew(rotate.project).exit_code == 0
    rotate.later = DAY + 60
    assert rotate().state == "finished"
    (left,) = rotate.at_graph().all_keys
    assert left.name.startswith("credentials-provider ci ")
    assert renew(rotate.project).exit_code == 0
    assert os.path.exists(os.path.join(rotate.project.output, "c.pem"))  # it is not ours


@pytest.mark.parametrize("name", ["ci", "\u65e5" * 64, "\u00e9" * 100])
def test_a_certificate_is_made_for_every_name(name: str) -> None:
    """A common name has 64 bytes at most."""
    now = time.time()
    made = graph_credentials.make_certificate(name, now, now + DAY)
    assert x509.load_pem_x509_certificate(made.encode()).not_valid_after_utc.timestamp() > now


def test_identities_that_share_a_certificate_are_rotated_once(rotate: Rotations) -> None:
    certified(rotate, "ci", "other")
    rotate()
    step = rotating.rotate(rotate.settings, "other", PLAN, progress=lambda _: None)
    assert step.state == "waiting"
    assert len(rotate.at_graph().all_keys) == 2


def test_a_new_certificate_that_graph_did_not_list_yet_is_not_removed(rotate: Rotations) -> None:
    """Its key id is then unknown, and it has the name of what a run that ended has left."""
    certified(rotate, "ci")
    rotate()
    rotation = ROTATIONS.read(rotate.settings, "ci")
    assert rotation is not None
    ROTATIONS.write(rotate.settings, "ci", replace(rotation, new_key_id=None))
    rotate.later = DAY + 60
    assert rotate().state == "finished"
    assert renew(rotate.project).exit_code == 0
    (left,) = rotate.at_graph().all_keys
    assert left.name == rotation.label


def test_only_what_is_older_is_rotated(rotate: Rotations) -> None:
    """A secret whose age nobody knows is old."""
    assert rotate(older_than=150 * DAY).state == "rotated"
    rotate.later = DAY + 60
    assert rotate(older_than=150 * DAY).state == "finished"
    assert rotate(older_than=150 * DAY).state == "young"
    rotate.later = 151 * DAY
    assert rotate(older_than=150 * DAY).state == "rotated"


def test_a_dry_run_changes_nothing(rotate: Rotations) -> None:
    """At Graph, in the file, or beside it."""
    before = rotate.entry
    assert rotate(dry_run=True).state == "planned"
    assert rotate(finish_only=True).state == "young"
    assert rotate.entry == before
    assert len(rotate.at_graph().all_passwords) == 1
    assert not os.path.exists(os.path.join(rotate.project.output, ".secrets"))


def test_another_identity_can_ask(rotate: Rotations, idp: Emulator, owner: App) -> None:
    """One that owns the application."""
    (_, admin) = apps(2)
    admin = replace(admin, name="admin", roles=("Application.ReadWrite.OwnedBy",))
    idp.add_app(admin)
    idp.add_app(replace(owner, roles=(), owners=(admin.client_id,)))
    rotate.project.write([entry(owner, identity_name="ci"), entry(admin)])
    with pytest.raises(LifecycleError, match="no right"):
        rotate()
    assert rotate(caller="admin").state == "rotated"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"password_policy": "forbidden"}, "forbids"),
        ({"password_policy": 90}, "so long a life"),
        ({"owners": ()}, "no right"),
    ],
)
def test_a_refusal_of_graph_is_explained_and_nothing_changes(
    rotate: Rotations, idp: Emulator, changes: dict[str, Any], says: str
) -> None:
    """A shorter life, or a right that is granted, and the next run goes on."""
    before = rotate.entry
    idp.add_app(replace(rotate.app, **changes))
    with pytest.raises(LifecycleError, match=says):
        rotate()
    assert rotate.entry == before
    idp.add_app(rotate.app)
    assert rotate().state == "rotated"


@pytest.mark.parametrize(
    "credential",
    [
        {"managed_identity": True},
        {"client_secret_keyvault": "https://v.vault.azure.net/secrets/a"},
        {"federated_token_file": "x"},
    ],
    ids=str,
)
def test_what_others_keep_is_not_rotated(rotate: Rotations, credential: dict[str, Any]) -> None:
    """There is no secret here to replace."""
    rotate.project.write([entry(rotate.app, identity_name="ci", client_secret=None, **credential)])
    with pytest.raises(ConfigurationError, match="nothing to rotate"):
        rotate()


@pytest.mark.parametrize("where", ["literal", "file"])
def test_identities_that_share_a_secret_are_rotated_together(
    rotate: Rotations, tell: Tell, where: str
) -> None:
    """Else the removal would take it from the others."""
    secret: dict[str, str | None] = {"client_secret": rotate.app.secrets[0]}
    if where == "file":
        rotate.project.private(os.path.join(rotate.project.output, "shared"), rotate.app.secrets[0])
        secret = {"client_secret": None, "client_secret_file": "shared"}
    rotate.project.write(
        [entry(rotate.app, identity_name=name, **secret) for name in ("ci", "reader")]
    )
    assert rotate().state == "rotated"
    assert tell("rotate", "reader").stdout.startswith("reader: its credential is that of ci")
    assert tell("rotate", "--all").code == 0
    rotate.later = DAY + 60
    assert rotate().state == "finished"
    assert len(rotate.at_graph().all_passwords) == 1
    assert renew(rotate.project, force=True).exit_code == 0
    for found in rotate.project.entries():
        assert found["client_secret_file"].startswith(".secrets/ci~")
        assert not [name for name in found if "previous" in name]


def test_all_finishes_what_was_begun_for_one_of_those_that_share(
    rotate: Rotations, tell: Tell
) -> None:
    """Though another of them comes first in the file."""
    rotate.project.write([entry(rotate.app, identity_name=name) for name in ("a", "ci")])
    rotate()
    rotation = ROTATIONS.read(rotate.settings, "ci")
    assert rotation is not None
    ROTATIONS.write(rotate.settings, "ci", replace(rotation, remove_at=1.0))
    ran = tell("rotate", "--all")
    assert (ran.code, ran.stdout) == (0, "ci: the old credential is removed\n"), ran.stderr


def test_a_secret_that_another_has_from_elsewhere_is_not_taken_away(rotate: Rotations) -> None:
    """The removal would end its tokens."""
    path = rotate.project.private("copy", rotate.app.secrets[0])
    other = entry(rotate.app, identity_name="other", client_secret=None, client_secret_file=path)
    rotate.project.write([entry(rotate.app, identity_name="ci"), other])
    with pytest.raises(ConfigurationError, match="other has the same application"):
        rotate()


@pytest.mark.parametrize("added", ["other", "ci"])
@pytest.mark.parametrize("where", ["literal", "file", "unreadable", "certificate"])
def test_an_old_credential_that_an_identity_still_uses_is_not_removed(
    rotate: Rotations, tell: Tell, where: str, added: str
) -> None:
    """One was added during the overlap, or a copy of the file was put back."""
    credential: dict[str, str] = {"client_secret": rotate.app.secrets[0]}
    if where == "certificate":
        certified(rotate, "ci")
        credential = {"certificate_file": "c.pem"}
    assert rotate().state == "rotated"
    if where == "file":
        path = rotate.project.private("copy", rotate.app.secrets[0])
        credential = {"client_secret_file": path}
    elif where == "unreadable":
        credential = {"client_secret_env": "OF_ANOTHER_SHELL"}
    with_old = entry(rotate.app, identity_name=added, **{"client_secret": None, **credential})
    others = [each for each in rotate.project.entries() if each["identity_name"] != added]
    rotate.project.write([*others, with_old])
    before = rotate.at_graph()

    rotate.later = DAY + 60
    with pytest.raises(LifecycleError) as raised:
        rotate()
    assert (rotate.at_graph().all_passwords, rotate.at_graph().all_keys) == (
        before.all_passwords,
        before.all_keys,
    )
    if where == "unreadable" and added == "ci":
        return  # it cannot be proven
    assert added in raised.value.message
    if where != "unreadable":
        assert renew(rotate.project, force=True).exit_code == 0

    field, place = re.findall(r'"([^"]+)"', raised.value.hint or "")
    cure = {field: place}
    fixed = entry(rotate.app, identity_name=added, **{"client_secret": None, **cure})
    rotate.project.write([*others, fixed])
    assert tell("check").code == 0
    assert rotate().state == "finished"
    app = rotate.at_graph()
    assert [len(app.all_passwords), len(app.all_keys)] == (
        [1, 1] if where == "certificate" else [1, 0]
    )
    assert renew(rotate.project, force=True).exit_code == 0


@pytest.mark.parametrize(
    "now", [{"managed_identity": True}, {"certificate_file": "c.pem"}], ids=str
)
def test_the_old_secret_is_removed_where_the_identity_has_another_kind_of_credential_by_then(
    rotate: Rotations, monkeypatch: pytest.MonkeyPatch, now: dict[str, Any]
) -> None:
    """Nobody uses it any more; a rotation that has not come so far says what is in its way."""
    monkeypatch.setattr(rotating, "prove", lambda *_, **__: None)  # there is no such machine here
    _, admin = apps(2)
    admin = replace(admin, name="admin", roles=("Application.ReadWrite.OwnedBy",))
    rotate.project.idp.add_app(admin)
    mine = pem(certificate())
    rotate.app = replace(rotate.app, owners=(admin.client_id,), certificates=(mine,))
    rotate.project.idp.add_app(rotate.app)
    rotate.project.private(os.path.join(rotate.project.output, "c.pem"), key_pem() + mine)
    rotate.project.write([entry(rotate.app, identity_name="ci"), entry(admin)])
    assert rotate(caller="admin").state == "rotated"
    changed = entry(rotate.app, identity_name="ci", client_secret=None, **now)
    rotate.project.write([changed, entry(admin)])
    rotation = ROTATIONS.read(rotate.settings, "ci")
    assert rotation is not None

    ROTATIONS.write(rotate.settings, "ci", replace(rotation, remove_at=None))
    with pytest.raises(ConfigurationError, match="another kind of credential"):
        rotate(caller="admin")
    ROTATIONS.write(rotate.settings, "ci", rotation)
    rotate.later = DAY + 60
    assert rotate(caller="admin").state == "finished"
    assert [each.name for each in rotate.at_graph().all_passwords] == [rotation.label]
    assert len(rotate.at_graph().all_keys) == 1


def test_another_kind_of_credential_of_the_same_application_is_no_obstacle(
    rotate: Rotations,
) -> None:
    """A platform's token cannot be had here, and is no secret that could be taken away."""
    other = entry(rotate.app, identity_name="job", client_secret=None, federated_token="github")
    rotate.project.write([entry(rotate.app, identity_name="ci"), other])
    assert rotate().state == "rotated"


def test_where_it_is_not_certain_which_secret_was_the_old_one_none_is_removed(
    rotate: Rotations, idp: Emulator
) -> None:
    """Graph shows how a secret begins: another one's may begin alike, and would be gone."""
    old = rotate.app.secrets[0]
    alike = f"{old[:3]}-of-somebody-else"
    both = replace(rotate.app, secrets=(old, alike), secrets_end=rotate.app.secrets_end * 2)
    idp.add_app(both)
    assert rotate().state == "rotated"
    rotate.later = DAY + 60
    step = rotate()
    assert (step.state, "not certain" in step.message) == ("finished", True)
    assert {old, alike} < {each.content for each in rotate.at_graph().all_passwords}
    assert renew(rotate.project).exit_code == 0


def test_the_old_secret_stays_as_long_as_the_new_one_does_not_work(
    rotate: Rotations, idp: Emulator
) -> None:
    """It is proven once more before the removal: somebody may have deleted it meanwhile."""
    assert rotate().state == "rotated"
    idp.add_app(rotate.app)  # without the new one
    rotate.later = DAY + 60
    with pytest.raises(LifecycleError):
        rotate(wait=0.0)
    (left,) = rotate.at_graph().all_passwords
    assert left.content == rotate.app.secrets[0]
    assert "client_secret_previous" in rotate.entry
    assert renew(rotate.project).exit_code == 0


def test_an_old_secret_that_somebody_has_deleted_already_is_no_failure(
    rotate: Rotations, idp: Emulator
) -> None:
    """Graph would refuse to remove what is not there, at every run anew."""
    assert rotate().state == "rotated"
    idp.add_app(replace(rotate.at_graph(), secrets=(), secrets_end=()))
    rotate.later = DAY + 60
    assert rotate().state == "finished"
    assert not [name for name in rotate.entry if "previous" in name]
    assert renew(rotate.project).exit_code == 0


def test_a_rotation_by_hand_is_not_disturbed(rotate: Rotations) -> None:
    """Its previous secret would be lost."""
    rotate.project.write([entry(rotate.app, identity_name="ci", client_secret_previous_env="A")])
    with pytest.raises(ConfigurationError, match="client_secret_previous_env already"):
        rotate()


def test_a_journal_that_nobody_can_read_is_an_error(rotate: Rotations) -> None:
    """It is not overwritten."""
    rotate()
    path = os.path.join(rotate.project.output, ".secrets", "ci~rotation")
    rotate.project.private(path, "[]")
    with pytest.raises(ConfigurationError, match="not what this program wrote"):
        rotate()


STEPS = [
    (Journal, "write"),
    (Journal, "close"),
    (editing, "keep"),
    (editing, "update"),
    (editing, "discard"),
    (rotating, "prove"),
]


class _KilledError(BaseException):
    pass


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("module", "function"), STEPS, ids=lambda each: getattr(each, "__name__", each)
)
def test_a_run_that_ends_at_any_step_is_finished_by_the_next(
    rotate: Rotations, monkeypatch: pytest.MonkeyPatch, module: Any, function: str, when: str
) -> None:
    """At every one of its steps, a credential works; in the end one secret is left."""
    real = getattr(module, function)
    for number in range(1, 6):
        calls = 0

        def broken(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number and when == "before":  # noqa: B023  called in this round
                raise _KilledError
            result = real(*args, **kwargs)
            if calls == number:  # noqa: B023
                raise _KilledError
            return result

        monkeypatch.setattr(module, function, broken)
        killed = 0
        for _ in range(2):
            try:
                rotate()
            except _KilledError:
                killed += 1
            rotate.later += DAY + 60
        monkeypatch.setattr(module, function, real)
        assert renew(rotate.project).exit_code == 0
        for _ in range(3):
            if rotate().state == "finished":
                break
            rotate.later += DAY + 60
        assert renew(rotate.project).exit_code == 0
        assert len(rotate.at_graph().all_passwords) == 1
        assert len(rotate.files()) == 1
        if not killed:
            return


def test_of_two_secrets_that_were_made_the_one_in_use_stays(
    rotate: Rotations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that were killed made both, and Graph shows first the one that no file has."""
    real = Journal.write

    def killed(kept: Journal[Rotation], settings: Settings, name: str, rotation: Rotation) -> None:
        if rotation.new_key_id:
            raise _KilledError
        real(kept, settings, name, rotation)

    monkeypatch.setattr(Journal, "write", killed)
    with pytest.raises(_KilledError):
        rotate()
    monkeypatch.setattr(Journal, "write", real)
    app = rotate.at_graph()
    (made,) = app.passwords
    lost = replace(made, key_id="00000000-0000-0000-0000-000000000001", content="lost")
    rotate.project.idp.add_app(replace(app, passwords=(lost, made)))
    assert rotate().state == "rotated"
    rotate.later = DAY + 60
    assert rotate().state == "finished"
    assert renew(rotate.project).exit_code == 0
    assert len(rotate.at_graph().all_passwords) == 1


@slow
def test_two_runs_at_once_make_one_secret(project: Project, rotate: Rotations, tell: Tell) -> None:
    """The second waits for the first, and finds nothing left to do."""
    ran: list[Any] = []
    threads = [threading.Thread(target=lambda: ran.append(tell("rotate", "ci"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.code for each in ran] == [0, 0], ran
    assert len(rotate.at_graph().all_passwords) == 2
    for each in ran:
        assert_no_secret(each.stdout + each.stderr, [rotate.app])
        for password in rotate.at_graph().passwords:
            assert password.content not in each.stdout + each.stderr
    assert len(project.entries()) == 1


def test_all_rotates_those_that_can_be(
    project: Project, rotate: Rotations, tell: Tell, owner: App
) -> None:
    """One that fails does not stop the others, and the exit code says so."""
    (_, stranger) = apps(2)
    project.idp.add_app(stranger)
    project.write(
        [
            entry(owner, identity_name="vm", client_secret=None, managed_identity=True),
            entry(stranger, identity_name="stranger"),
            entry(owner, identity_name="ci"),
        ]
    )
    ran = tell("rotate", "--all")
    assert ran.code == 1
    assert "stranger: Microsoft Graph refuses" in ran.stderr
    assert ran.stdout.startswith("ci: the new credential is in use")
    assert "vm" not in ran.stdout + ran.stderr
    assert len(rotate.at_graph().all_passwords) == 2
    assert tell("rotate").code == 2
    assert tell("rotate", "ci", "--all").code == 2
    assert tell("remove", "ci").code == 0
    assert rotate.files() == set()


@slow
def test_a_secret_that_is_not_accepted_yet_is_not_used(rotate: Rotations) -> None:
    """The old one stays where it is, and the next run goes on with the same new one."""
    before = rotate.entry
    with pytest.raises(LifecycleError):
        rotate(wait=0.0)
    assert rotate.entry == before
    assert renew(rotate.project).exit_code == 0
    assert rotate().state == "rotated"
    assert len(rotate.at_graph().all_passwords) == 2


@pytest.mark.timeout(300)
def test_no_renewal_of_a_day_fails_while_secrets_are_rotated(tmp_path: Path) -> None:
    """A token every minute, a rotation every ten; Entra ID needs 12 minutes to know a secret."""
    (made,) = apps(1)
    mine = replace(
        made,
        roles=("Application.ReadWrite.OwnedBy",),
        owners=(made.client_id,),
        secrets_end=("2027-05-01T00:00:00Z",),
    )
    later = 0.0
    with Emulator([mine], propagation=720, clock=lambda: time.time() + later) as idp:
        project = Project(str(tmp_path), idp)
        project.write([entry(mine, identity_name="ci")])
        rotate = Rotations(project, mine)
        states: list[str] = []
        for minute in range(24 * 60):
            if minute % 10 == 0:
                try:
                    states.append(rotate(wait=0.0, overlap=3600.0).state)
                except LifecycleError:
                    states.append("refused")
            assert renew(project, force=True).exit_code == 0
            later += 60
            rotate.later = later
    assert states.count("finished") >= 10
    assert states.count("refused") >= 10
