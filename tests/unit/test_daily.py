"""`--quiet`: each warning once a day."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unit.making import NOW, Listener

if TYPE_CHECKING:
    from unit.making import Project

DAY = 86_400


def warnings(project: Project, now: float, *, quiet: bool = True) -> list[str]:
    """Those that a run gives at that time."""
    listener = Listener()
    project.run(observer=listener, now=now, quiet=quiet, refresh_ahead=True)
    return listener.warnings


def test_a_timer_gives_each_warning_once_a_day(project: Project) -> None:
    """Also when nothing is due; a person's runs give it always."""
    project.identities("ci")
    os.chmod(project.identities_file, 0o644)
    (warning,) = warnings(project, NOW)
    assert "chmod 600" in warning
    assert warnings(project, NOW + 300) == []
    assert warnings(project, NOW + DAY - 1) == []
    assert warnings(project, NOW + DAY - 1, quiet=False) == [warning]
    assert warnings(project, NOW + DAY) == [warning]


def test_another_warning_is_another(project: Project) -> None:
    project.identities("ci")
    os.chmod(project.identities_file, 0o644)
    assert len(warnings(project, NOW)) == 1
    project.identities("ci", "my-readable")
    os.chmod(project.identities_file, 0o644)
    (warning,) = warnings(project, NOW + 300)
    assert "my-readable" in warning


def test_a_clock_that_went_back_silences_nothing(project: Project) -> None:
    project.identities("ci")
    os.chmod(project.identities_file, 0o644)
    assert len(warnings(project, NOW + 10 * DAY)) == 1
    assert len(warnings(project, NOW)) >= 1
