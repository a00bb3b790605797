"""Metrics for Prometheus' textfile collector: what is on disk, and what became of runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from credentials_provider.files import write_whole
from credentials_provider.model import TokenRecord
from credentials_provider.tokens.history import read_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from credentials_provider.model import Entry, Report
    from credentials_provider.tokens.history import State
    from credentials_provider.tokens.plan import OnDisk
    from credentials_provider.tokens.store import TokenStore

_PREFIX = "credentials_provider"
_READABLE = 0o644  # the collector is another user, and nothing here is secret


def write_metrics(path: str, store: TokenStore, entries: Sequence[Entry], report: Report) -> None:
    """Put the metrics file in place, whole, readable by all.

    Raises:
        StorageError: it could not be written.

    """
    on_disk, _ = store.read(entry.name for entry in entries)
    names = [entry.name for entry in entries]
    registry = CollectorRegistry()
    registry.register(_Run(names, on_disk, read_state(store), report))
    write_whole(os.path.abspath(path), generate_latest(registry).decode(), _READABLE)


class _Run(Collector):
    def __init__(
        self, names: Sequence[str], on_disk: Mapping[str, OnDisk], state: State, report: Report
    ) -> None:
        self._names = names
        self._records = {
            name: each for name, each in on_disk.items() if isinstance(each, TokenRecord)
        }
        self._state = state
        self._report = report

    def collect(self) -> Iterable[Metric]:
        records = self._records
        yield _times(
            "token_expiry_timestamp_seconds",
            "When the token on disk expires.",
            {name: each.expires_on for name, each in records.items()},
        )
        ours = {name: each for name, each in records.items() if each.fingerprint is not None}
        yield _times(
            "token_refresh_timestamp_seconds",
            "When the token on disk is due.",
            {name: each.refresh_at for name, each in ours.items()},
        )
        yield _times(
            "last_success_timestamp_seconds",
            "When the token on disk was asked for.",
            {name: each.generated_at for name, each in ours.items()},
        )
        renewals = _counter("renewals", "Tokens that were minted.")
        failures = _counter("failures", "Runs in which a token could not be renewed.")
        for name in self._names:
            history = self._state.identities.get(name)
            renewals.add_metric([name], history.renewals if history else 0)
            failures.add_metric([name], history.failures if history else 0)
        yield renewals
        yield failures
        report = self._report
        yield GaugeMetricFamily(
            f"{_PREFIX}_last_run_timestamp_seconds",
            "When the last run ended, whether or not anything was due.",
            report.finished_at,
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_last_run_duration_seconds",
            "How long the last run took.",
            report.finished_at - report.started_at,
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_last_run_exit_code", "0 all good, 1 failed, 75 try later.", report.exit_code
        )


def _times(name: str, about: str, times: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=["identity"])
    for identity, time in times.items():
        family.add_metric([identity], time)
    return family


def _counter(name: str, about: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"{_PREFIX}_{name}", about, labels=["identity"])
