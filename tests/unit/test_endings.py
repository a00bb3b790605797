"""When a credential ends, and what makes a new one: as far as files of this machine say."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from credentials.making import DAY, certificate, key_pem, pem, pfx
from credentials_provider.diagnostics.endings import BY_HAND, Ending, ending
from credentials_provider.identities.reading import read_entries
from credentials_provider.schedule.found import Timer
from unit.making import NOW, Project, sample_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

ENDS = 1_790_000_000  # 2026-09-21


def look(
    project: Project,
    *,
    timers: Sequence[Timer] = (),
    before: float = math.inf,
    seen: float | None = None,
    **changes: Any,
) -> Ending | None:
    fields = {**sample_fields("ci"), **changes}
    project.identities({name: value for name, value in fields.items() if value is not None})
    (found,) = read_entries(project.settings()).entries
    return ending(project.settings(), found, seen, lambda: timers, before)


def test_the_entry_says_when_its_secret_ends(project: Project) -> None:
    found = look(project, client_secret_expires_on="2026-09-21")
    assert found is not None
    assert found.told(ENDS - 30 * 86400) == "its client secret expires on 2026-09-21, in 29 days"
    assert found.told(NOW) == "its client secret expired on 2026-09-21"


@pytest.mark.parametrize("day", [None, "2026-13-01", 5])
def test_an_end_that_nobody_wrote_down_is_not_known(project: Project, day: object) -> None:
    found = look(project, client_secret_expires_on=day)
    assert found == Ending("client_secret", rotated_by=BY_HAND)
    assert found.told(NOW) == "it is not known when its client secret expires"
    assert found.rotation("the agent") == (
        "rotate it by hand: `credentials-provider identities rotate 'the agent'`"
    )


@pytest.mark.parametrize("form", ["pem", "pfx"])
def test_a_certificate_says_itself_when_it_ends(project: Project, form: str) -> None:
    made = certificate(end=40 * DAY)
    path = project.folder / "ci.pem"
    path.write_bytes((key_pem() + pem(made)).encode() if form == "pem" else pfx(made))
    path.chmod(0o600)
    found = look(project, client_secret=None, certificate_file="ci.pem")
    assert found is not None
    assert found.expires_on == made.not_valid_after_utc.timestamp()
    assert "its certificate expires on" in found.told(time.time())
    path.write_bytes(b"nothing")
    found = look(project, client_secret=None, certificate_file="ci.pem")
    assert found == Ending("certificate_file", rotated_by=BY_HAND)


@pytest.mark.parametrize(
    "credential", [{"managed_identity": True}, {"federated_token_file": "/var/run/token"}]
)
def test_what_never_ends_has_no_end(project: Project, credential: dict[str, Any]) -> None:
    assert look(project, client_secret=None, **credential) is None


def test_nothing_is_known_of_who_rotates_a_secret_of_a_vault(project: Project) -> None:
    vault = "https://v.vault.azure.net/secrets/ci"
    timers = [Timer("a line in the crontab", rotation=("--all",))]
    found = look(project, timers=timers, seen=5.0, client_secret=None, client_secret_keyvault=vault)
    assert found is not None
    assert found.expires_on == 5.0  # as the last renewal saw it
    assert found.rotation("ci") == "nothing is known that rotates it"


def test_the_timer_that_works_is_the_one_that_counts(project: Project) -> None:
    """One that fails is better than none, and says so."""
    broken = Timer("the user's r.timer", "it is not active", rotation=("--all",))
    other = Timer("the system's o.timer", rotation=("someone",))
    good = Timer("a line in the crontab", rotation=("ci", "-i", str(project.identities_file)))
    for timers, by in (
        ([broken, other, good], "a line in the crontab"),
        ([broken, other], "the user's r.timer (it is not active)"),
        ([other], BY_HAND),
    ):
        found = look(project, timers=timers)
        assert found is not None
        assert found.rotated_by == by


def test_a_quick_look_asks_only_about_what_ends_soon(project: Project) -> None:
    """The table of `status` starts no systemctl for secrets that are good for months."""
    for day, asked in (("2026-09-20", True), ("2026-12-31", False), (None, False)):
        found = look(project, before=ENDS, client_secret_expires_on=day)
        assert found is not None
        assert (found.rotated_by == BY_HAND) is asked


def test_the_one_before_it_goes_when_the_rotation_wrote_so(project: Project) -> None:
    """A journal that cannot be read is the next rotation's business."""
    folder = project.folder / ".secrets"
    folder.mkdir(mode=0o700)
    journal = folder / "ci~rotation"
    rotation = {"label": "l", "place": "p", "old_key_id": None, "remove_at": NOW + 60.0}
    for text, until in ((json.dumps({"rotation 1": rotation}), NOW + 60.0), ("[]", None)):
        journal.write_text(text)
        journal.chmod(0o600)
        found = look(project)
        assert found is not None
        assert found.old_until == until
