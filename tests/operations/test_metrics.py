"""`--metrics-file`: read by Prometheus' own parser, counted across runs, whole at any time."""

from __future__ import annotations

import os
import stat
import threading
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from credentials_provider.emulator import Fault
from support import Project, apps, assert_no_secret

if TYPE_CHECKING:
    from operations.running import Program

Sample = dict[tuple[str, str | None], float]


def metrics(project: Project) -> Sample:
    """Every sample by name and identity."""
    with open(os.path.join(project.folder, "tokens.prom"), encoding="utf-8") as file:
        families = list(text_string_to_metric_families(file.read()))
    assert all(family.documentation for family in families)
    return {
        (sample.name.removeprefix("credentials_provider_"), sample.labels.get("identity")): (
            sample.value
        )
        for family in families
        for sample in family.samples
    }


def test_the_times_of_each_token_are_those_of_its_file(project: Project, run: Program) -> None:
    project.add_all(apps(2))
    before = time.time()
    assert run("--metrics-file", "tokens.prom").code == 0
    found = metrics(project)
    token = project.token("ci-agent")
    assert found["token_expiry_timestamp_seconds", "ci-agent"] == token["expires_on"]
    assert found["token_refresh_timestamp_seconds", "ci-agent"] < token["expires_on"]
    assert found["last_success_timestamp_seconds", "ci-agent"] >= int(before)
    assert before <= found["last_run_timestamp_seconds", None] <= time.time()
    assert 0 < found["last_run_duration_seconds", None] < 60
    assert found["last_run_exit_code", None] == 0
    assert_no_secret(repr(found), apps(2))


def test_counts_go_on_from_run_to_run(project: Project, run: Program) -> None:
    project.add_all(apps(2))
    run("--metrics-file", "tokens.prom")
    project.idp.inject(Fault("aadsts", code=7000222), None, apps(1)[0].client_id)
    assert run("--metrics-file", "tokens.prom").code == 1
    found = metrics(project)
    assert found["renewals_total", "ci-agent"] == 1
    assert found["failures_total", "ci-agent"] == 1
    assert found["renewals_total", "billing-agent"] == 2
    assert found["failures_total", "billing-agent"] == 0
    assert found["last_run_exit_code", None] == 1


def test_a_run_with_nothing_due_shows_that_it_ran(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    run("--metrics-file", "tokens.prom")
    first = metrics(project)["last_run_timestamp_seconds", None]
    run("--metrics-file", "tokens.prom", "--refresh-ahead")
    assert metrics(project)["last_run_timestamp_seconds", None] > first


def test_identities_that_were_not_selected_stay_in_the_metrics(
    project: Project, run: Program
) -> None:
    project.add_all(apps(2))
    run()
    run("generate", "ci-agent", "--metrics-file", "tokens.prom")
    assert ("token_expiry_timestamp_seconds", "billing-agent") in metrics(project)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_the_collector_can_read_it_whatever_the_umask(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    before = os.umask(0o077)
    try:
        run("--metrics-file", "tokens.prom")
    finally:
        os.umask(before)
    path = os.path.join(project.folder, "tokens.prom")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


def test_a_reader_always_finds_a_whole_file(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    run("--metrics-file", "tokens.prom")
    expected = set(metrics(project))
    stop = threading.Event()
    found: list[set[tuple[str, str | None]]] = []

    def read() -> None:
        while not stop.is_set():
            found.append(set(metrics(project)))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(3):
        run("--metrics-file", "tokens.prom", "--refresh-ahead")
    stop.set()
    reader.join()
    assert len(found) > 3
    assert all(each == expected for each in found)


def test_metrics_that_cannot_be_written_are_a_warning_and_no_failure(
    project: Project, run: Program
) -> None:
    project.add_all(apps(1))
    ran = run("--metrics-file", "nowhere/tokens.prom")
    assert ran.code == 0
    assert "nowhere" in ran.stderr
    assert os.path.exists(project.path("ci-agent"))
