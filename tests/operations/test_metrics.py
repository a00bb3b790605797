"""`--metrics-file`: read by Prometheus' own parser, counted across runs, whole at any time."""

from __future__ import annotations

import os
import stat
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from credentials.making import certificate, key_pem, pem
from credentials_provider.emulator import Fault
from support import Project, apps, assert_no_secret, entry

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


def test_an_identity_without_a_token_has_its_series(project: Project, run: Program) -> None:
    """With an end of 0: an alert on what expires soon strikes."""
    project.add_all(apps(2))
    project.idp.inject(Fault("aadsts", code=7000222), None, apps(1)[0].client_id)
    run("--metrics-file", "tokens.prom")
    found = metrics(project)
    assert found["token_expiry_timestamp_seconds", "ci-agent"] == 0
    assert found["renewal_refused", "ci-agent"] == 1
    assert found["renewal_refused", "billing-agent"] == 0


def test_a_secret_that_ends_has_its_series(project: Project, run: Program) -> None:
    project.add(apps(1)[0], client_secret_expires_on="2031-01-01")
    run("--metrics-file", "tokens.prom")
    assert metrics(project)["credential_expiry_timestamp_seconds", "ci-agent"] == 1_924_992_000


def test_a_certificate_that_ends_has_its_series(project: Project, run: Program) -> None:
    """From the renewal that used it; a run with nothing due knows it still."""
    (app,) = apps(1)
    found = certificate()
    project.idp.add_app(replace(app, certificates=(pem(found),)))
    path = project.private("cert.pem", key_pem() + pem(found))
    fields = {key: value for key, value in entry(app).items() if key != "client_secret"}
    project.write([{**fields, "certificate_file": path}])
    end = found.not_valid_after_utc.timestamp()
    for options in ((), ("--refresh-ahead",)):
        assert run("--metrics-file", "tokens.prom", *options).code == 0
        assert metrics(project)["credential_expiry_timestamp_seconds", "ci-agent"] == end


def test_the_time_between_two_runs_has_its_series(project: Project, run: Program) -> None:
    project.add_all(apps(1))
    for options, expected in (((), 300), (("--interval", "20m"), 1200)):
        run("--metrics-file", "tokens.prom", *options)
        assert metrics(project)["run_interval_seconds", None] == expected
        text = Path(project.folder, "tokens.prom").read_text(encoding="utf-8")
        assert f'interval="{expected}"' in text


def test_a_configuration_that_cannot_be_used_is_exit_code_2_there(
    project: Project, run: Program
) -> None:
    """The series of the identities that are known stay."""
    project.add_all(apps(2))
    run("--metrics-file", "tokens.prom")
    project.write("[")
    assert run("--metrics-file", "tokens.prom").code == 2
    found = metrics(project)
    assert found["last_run_exit_code", None] == 2
    assert found["token_expiry_timestamp_seconds", "ci-agent"] > time.time()


def test_a_hook_that_fails_is_pending(project: Project, run: Program) -> None:
    project.add_all(apps(2))
    run("--metrics-file", "tokens.prom", "--on-renew", "exit 1")
    assert metrics(project)["hook_pending", None] == 2
    assert metrics(project)["last_run_exit_code", None] == 75
    run("--refresh-ahead", "--metrics-file", "tokens.prom", "--on-renew", "true")
    assert metrics(project)["hook_pending", None] == 0


def test_two_installations_have_labels_of_their_own(project: Project, run: Program) -> None:
    """A collector drops the second of two equal series; shards of one folder, too."""
    project.add_all(apps(4))
    labels = set()
    for shard in ("0/2", "1/2"):
        run("--metrics-file", "tokens.prom", "--shard", shard)
        with open(os.path.join(project.folder, "tokens.prom"), encoding="utf-8") as file:
            for family in text_string_to_metric_families(file.read()):
                for sample in family.samples:
                    assert sample.labels["folder"] == os.path.realpath(project.output)
                    labels.add(sample.labels["shard"])
    assert labels == {"0/2", "1/2"}
