"""What people see of a run: each failure named, and its cure said once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from credentials_provider.cli.output import local_time, show_report
from credentials_provider.model import Outcome, Report, RunOptions
from credentials_provider.settings import Flags, load_settings
from unit.making import NOW, REJECTED, UNREACHABLE

if TYPE_CHECKING:
    import pytest

    from credentials_provider.minting import Failure


def told(capsys: pytest.CaptureFixture[str], *failures: Failure) -> str:
    outcomes = [
        Outcome(f"id-{number}", "failed", f"id-{number}.json", failure=failure)
        for number, failure in enumerate(failures)
    ]
    report = Report(NOW, NOW, tuple(outcomes))
    show_report(report, RunOptions(load_settings(Flags(output_dir="f"), {}, "/nonexistent")))
    return capsys.readouterr().err


def test_a_cure_that_several_need_in_a_row_is_said_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Below the last of them; each has its name, its cause and its trace id."""
    lines = told(
        capsys, replace(UNREACHABLE, trace_id="t"), UNREACHABLE, REJECTED, UNREACHABLE
    ).splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == [
        *("id-0", "    Trace ID t", "id-1", "    check the network"),
        *("id-2", "    make a new one", "id-3", "    check the network"),
    ]
    assert all("failed: " in line for line in lines if line.startswith("id-"))


def test_a_cure_names_the_identity_that_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    """As a command to copy. Where several share the cure, the command keeps its NAME."""
    wrong = replace(REJECTED, remedy="Use `credentials-provider identities secret NAME`.")
    assert "identities secret id-0`" in told(capsys, wrong)
    assert "identities secret id-1`" in told(capsys, UNREACHABLE, wrong)
    shared = told(capsys, wrong, wrong)
    assert "identities secret NAME`" in shared
    assert "secret id-" not in shared


def test_the_day_is_told_where_the_hour_alone_could_mean_another() -> None:
    """Not for what is at most half a day away, midnight or not."""
    assert len(local_time(NOW + 3600, NOW)) < len("2026-01-01")
    assert len(local_time(NOW + 11 * 3600, NOW)) < len("2026-01-01")
    assert local_time(NOW + 30 * 3600, NOW)[:3] == "202"
    assert local_time(NOW - 30 * 3600, NOW)[:3] == "202"
