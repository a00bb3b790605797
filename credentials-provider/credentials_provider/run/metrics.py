"""Metrics for Prometheus: what is on disk, and what became of runs.

Every series has the labels `folder` and `shard`: two installations on one machine stay apart.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from credentials_provider import __version__
from credentials_provider.files import write_whole
from credentials_provider.identities.fields import secret_end
from credentials_provider.model import TokenRecord
from credentials_provider.tokens.history import History, read_state

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
    return generate_latest(_Run(subject)).decode()


class _Run(Collector):
    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._state = state = read_state(subject.store)
        entries = subject.entries
        # Without the file, those that are known from runs before: a series must not just vanish.
        self._names = sorted(
            state.identities if entries is None else {each.name for each in entries if each.name}
        )
        part = "" if subject.shard is None else f"{subject.shard[0]}/{subject.shard[1]}"
        self._labels = {"folder": os.path.abspath(subject.store.folder), "shard": part}

    def collect(self) -> Iterable[Metric]:
        yield from self._of_tokens()
        yield from self._of_renewals()
        yield from self._of_runs()

    def _of_tokens(self) -> Iterable[Metric]:
        on_disk, _ = self._subject.store.read(self._names)
        records = {name: each for name, each in on_disk.items() if isinstance(each, TokenRecord)}
        yield self._gauge(
            "token_expiry_timestamp_seconds",
            "When the token on disk expires; 0: there is none.",
            {name: records[name].expires_on if name in records else 0 for name in self._names},
        )
        ours = {name: each for name, each in records.items() if each.fingerprint is not None}
        yield self._gauge(
            "token_refresh_timestamp_seconds",
            "When the token on disk is due.",
            {name: each.refresh_at for name, each in ours.items()},
        )
        yield self._gauge(
            "last_success_timestamp_seconds",
            "When the token on disk was requested.",
            {name: each.generated_at for name, each in ours.items()},
        )
        # What the entry says is newer than what the last renewal saw in a certificate or vault.
        said = {each.name: secret_end(each.fields) for each in self._subject.entries or ()}
        ends = {name: said.get(name) or self._state.credential_end(name) for name in self._names}
        yield self._gauge(
            "credential_expiry_timestamp_seconds",
            "When the identity's secret or certificate expires, where that is known.",
            {name: end for name, end in ends.items() if end is not None},
        )

    def _of_renewals(self) -> Iterable[Metric]:
        known = {name: self._state.identities.get(name, History()) for name in self._names}
        yield self._by_identity(
            CounterMetricFamily,
            "renewals",
            "Tokens that were minted.",
            {name: each.renewals for name, each in known.items()},
        )
        yield self._by_identity(
            CounterMetricFamily,
            "failures",
            "Runs in which a token could not be renewed.",
            {name: each.failures for name, each in known.items()},
        )
        yield self._gauge(
            "renewal_refused",
            "1: the last renewal was refused, and no retry can help.",
            {
                name: float(each.failure is not None and not each.failure.transient)
                for name, each in known.items()
            },
        )

    def _of_runs(self) -> Iterable[Metric]:
        run, hook, interval = self._subject.run, self._state.hook_failure, self._subject.interval
        pending = max(hook.pending, 1) if hook else 0
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
            ("run_interval_seconds", "The time between two runs.", interval),
            ("hook_pending", "Tokens that --on-renew does not know yet.", pending),
        ):
            yield self._one(name, about, value)
        about = "The program's version, and the time between two runs in seconds."
        yield self._one("info", about, 1, version=__version__, interval=f"{interval:.0f}")

    def _one(self, name: str, about: str, value: float, **labels: str) -> Metric:
        all_labels = {**labels, **self._labels}
        family = GaugeMetricFamily(f"{_PREFIX}_{name}", about, labels=[*all_labels])
        family.add_metric([*all_labels.values()], value)
        return family

    def _gauge(self, name: str, about: str, values: Mapping[str, float]) -> Metric:
        return self._by_identity(GaugeMetricFamily, name, about, values)

    def _by_identity(
        self,
        kind: type[CounterMetricFamily | GaugeMetricFamily],
        name: str,
        about: str,
        values: Mapping[str, float],
    ) -> Metric:
        family = kind(f"{_PREFIX}_{name}", about, labels=["identity", *self._labels])
        for identity, value in values.items():
            family.add_metric([identity, *self._labels.values()], value)
        return family
