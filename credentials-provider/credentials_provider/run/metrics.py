"""Metrics for Prometheus: what is on disk, and what became of runs.

Every series has the labels `folder` and `shard`: two installations on one machine stay apart.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from credentials_provider import __version__
from credentials_provider.files import write_whole
from credentials_provider.identities.fields import secret_end
from credentials_provider.model import TokenRecord
from credentials_provider.tokens.history import read_state

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from credentials_provider.model import Entry
    from credentials_provider.tokens.history import LastRun
    from credentials_provider.tokens.store import TokenStore

_PREFIX = "credentials_provider"
_READABLE = 0o644  # the collector is another user, and nothing here is secret


class Subject(NamedTuple):
    """The subject of metrics: the identities of an output folder, or one shard of them."""

    store: TokenStore
    entries: Sequence[Entry] | None  # None: the identities file cannot be used
    shard: tuple[int, int] | None
    run: LastRun  # the last one, whether or not anything was due
    interval: float  # seconds between two runs


def write_metrics(path: str, subject: Subject) -> None:
    """Put the metrics file in place, whole, readable by all.

    Raises:
        StorageError: it could not be written.

    """
    write_whole(os.path.abspath(path), metrics_text(subject), _READABLE)


def metrics_text(subject: Subject) -> str:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Run(subject))
    return generate_latest(registry).decode()


class _Run(Collector):
    def __init__(self, subject: Subject) -> None:
        state = read_state(subject.store)
        self._state = state
        self._run = subject.run
        entries = subject.entries
        # Without the file, those that are known from runs before: a series must not just vanish.
        self._names = sorted(
            state.identities if entries is None else {each.name for each in entries if each.name}
        )
        # What the entry says is newer than what the last renewal saw in a certificate or vault.
        seen = {name: each.credential_ends for name, each in state.identities.items()}
        said = {each.name: end for each in entries or () if (end := secret_end(each.fields))}
        ends = {name: said.get(name) or seen.get(name) for name in self._names}
        self._ends = {name: end for name, end in ends.items() if end is not None}
        self._interval = subject.interval
        on_disk, _ = subject.store.read(self._names)
        self._records = {
            name: each for name, each in on_disk.items() if isinstance(each, TokenRecord)
        }
        part = "" if subject.shard is None else f"{subject.shard[0]}/{subject.shard[1]}"
        self._labels = {"folder": os.path.abspath(subject.store.folder), "shard": part}

    def collect(self) -> Iterable[Metric]:
        yield from self._of_tokens()
        yield from self._of_renewals()
        yield from self._of_runs()

    def _of_tokens(self) -> Iterable[Metric]:
        records = self._records
        yield self._by_identity(
            "token_expiry_timestamp_seconds",
            "When the token on disk expires; 0: there is none.",
            {name: records[name].expires_on if name in records else 0 for name in self._names},
        )
        ours = {name: each for name, each in records.items() if each.fingerprint is not None}
        yield self._by_identity(
            "token_refresh_timestamp_seconds",
            "When the token on disk is due.",
            {name: each.refresh_at for name, each in ours.items()},
        )
        yield self._by_identity(
            "last_success_timestamp_seconds",
            "When the token on disk was requested.",
            {name: each.generated_at for name, each in ours.items()},
        )
        yield self._by_identity(
            "credential_expiry_timestamp_seconds",
            "When the identity's secret or certificate expires, where that is known.",
            self._ends,
        )

    def _of_renewals(self) -> Iterable[Metric]:
        known = self._state.identities
        renewals = CounterMetricFamily(
            f"{_PREFIX}_renewals", "Tokens that were minted.", labels=self._names_of_labels()
        )
        failures = CounterMetricFamily(
            f"{_PREFIX}_failures",
            "Runs in which a token could not be renewed.",
            labels=self._names_of_labels(),
        )
        refused = {}
        for name in self._names:
            history = known.get(name)
            renewals.add_metric(self._values(name), history.renewals if history else 0)
            failures.add_metric(self._values(name), history.failures if history else 0)
            failure = history.failure if history else None
            refused[name] = float(failure is not None and not failure.transient)
        yield renewals
        yield failures
        yield self._by_identity(
            "renewal_refused", "1: the last renewal was refused, and no retry can help.", refused
        )

    def _of_runs(self) -> Iterable[Metric]:
        run, hook = self._run, self._state.hook_failure
        for name, about, value in (
            (
                "last_run_timestamp_seconds",
                "When the last run ended, whether or not anything was due.",
                run.finished_at,
            ),
            (
                "last_run_duration_seconds",
                "How long the last run took.",
                run.finished_at - run.started_at,
            ),
            ("last_run_exit_code", "As in the documentation: 0, 1, 2, 75 or 78.", run.exit_code),
            ("run_interval_seconds", "The time between two runs.", self._interval),
            (
                "hook_pending",
                "Tokens that --on-renew does not know yet.",
                max(hook.pending, 1) if hook else 0,
            ),
        ):
            family = GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=[*self._labels])
            family.add_metric([*self._labels.values()], value)
            yield family
        info = GaugeMetricFamily(
            f"{_PREFIX}_info",
            "The program's version, and the time between two runs in seconds.",
            labels=["version", "interval", *self._labels],
        )
        info.add_metric([__version__, f"{self._interval:.0f}", *self._labels.values()], 1)
        yield info

    def _by_identity(self, name: str, about: str, values: Mapping[str, float]) -> Metric:
        family = GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=self._names_of_labels())
        for identity, value in values.items():
            family.add_metric(self._values(identity), value)
        return family

    def _names_of_labels(self) -> list[str]:
        return ["identity", *self._labels]

    def _values(self, identity: str) -> list[str]:
        return [identity, *self._labels.values()]
