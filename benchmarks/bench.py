"""Measures how fast the program is, against what a user would otherwise do, and prints a table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from fleet import PACKAGES, ROOT, Place, fleet
from measuring import Command, Ratio, Took, console_script, in_turn, ratio, run
from provider import RETRY_AFTER, Provider
from serving import REQUESTS, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from provider import Counts

WORKERS = 32  # `generate --concurrency`, and the baseline's threads
LATENCY = 0.1  # seconds before each answer
MANY, VERY_MANY = 1_000, 10_000
SHORT, LONG = 40, 3  # rounds of what takes milliseconds, and of what takes seconds
BASELINES = os.path.join(ROOT, "benchmarks", "baselines")


class Row(NamedTuple):
    """One line of the table. `limit` None: there is nothing to reach, it is for comparison."""

    what: str
    unit: str
    best: float
    median: float
    limit: float | None = None

    @property
    def verdict(self) -> str:
        if self.limit is None:
            return ""
        return "reached" if self.best <= self.limit else "missed"


# How one tenant throttles, and seconds in which 1,000 identities can have their tokens anyway.
THROTTLED = (
    ("spread", "that refuses one in five once", 5.0),
    ("200/100/1", "that answers 200 a second", 4.5),
    ("50/50/2", "that answers 50 a second", 19.0),
)


class Minted(NamedTuple):
    """A place whose tokens are fresh, and the options with which they are known to be so."""

    place: Place
    host: Sequence[str]


class Bench:
    """Everything that is measured takes place in one folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._ours = console_script(folder)

    def start(self) -> Iterator[Row]:
        """Nothing due: what a timer and a shell's prompt pay for."""
        nowhere = Command([sys.executable, "-c", "import click"], self._folder)
        generate = ("generate", "--refresh-ahead")
        one, ten, many = (self._minted(count) for count in (1, 10, MANY))
        files = (*one.place.options, *one.host)
        entry = os.path.join(ROOT, "generate_creds.sh")
        click, due_1, due_1000, token, status, python, shell = in_turn(
            (
                nowhere,
                self._command(one, *generate),
                self._command(many, *generate),
                self._command(one, "token", "worker-00000"),
                self._command(ten, "status"),
                Command([sys.executable, PACKAGES, *generate, *files], self._folder),
                Command([entry, *generate[1:], *files], self._folder),
            ),
            SHORT,
        )
        yield _seconds("python -c 'import click'", click)
        yield _ratio("nothing due, 1 identity : import click", ratio(due_1, click), 1.3)
        yield _ratio("nothing due, 1,000 identities : import click", ratio(due_1000, click), 3)
        yield _ratio("token NAME from disk : import click", ratio(token, click), 1.3)
        yield _ratio("status, 10 identities : import click", ratio(status, click), 2.5)
        more = [(a.wall - b.wall) * 1000 for a, b in zip(shell, python, strict=True)]
        least = (min(each.wall for each in shell) - min(each.wall for each in python)) * 1000
        what = "generate_creds.sh on top of the program"
        yield Row(what, "ms", least, statistics.median(more), 15)

    def cold(self) -> Iterator[Row]:
        """One identity without a token: start, connect, ask, write."""
        for latency, limit in ((0.0, 1.25), (LATENCY, None)):
            with Provider(1, latency=latency) as provider:
                ours, theirs = in_turn(self._competitors(1, provider, "plain_requests.py"), SHORT)
            after = f", answer after {latency * 1000:.0f} ms" if latency else ""
            yield _ratio(f"1 identity, cold : minimal requests{after}", ratio(ours, theirs), limit)

    def batch(self) -> Iterator[Row]:
        """1,000 identities, answered after 100 ms each."""
        ours, theirs, counts = [], [], []
        for _ in range(LONG):  # a provider each: what is counted is one run's
            took, count = self._batch(MANY)
            ours.append(took)
            counts.append(count)
            theirs.append(self._batch(MANY, baseline="plain_msal.py")[0])
        bound = MANY / WORKERS * LATENCY
        yield _times("1,000 identities : N / 32 * 100 ms", ours, bound, 1.2)
        yield _times("plain msal, 32 threads : N / 32 * 100 ms", theirs, bound)
        loop, _ = self._batch(MANY // 10, baseline="plain_requests.py")
        yield _times("plain requests, 100 in a loop : as above", [loop], bound / 10)
        cpu = ratio(ours, theirs, lambda took: took.cpu)
        yield _ratio("CPU a token : plain msal", cpu, 1.3)
        each = [took.cpu / MANY * 1000 for took in ours]
        yield Row("CPU a token, start included", "ms", min(each), statistics.median(each))
        yield from _asked(counts)

    def throttled(self) -> Iterator[Row]:
        """One of many tenants refuses for a while; one tenant with everything is throttled."""
        bound = MANY / WORKERS * LATENCY
        runs = [self._batch(MANY, tenants=20, throttled="tenant")[0] for _ in range(LONG)]
        walls = [took.wall - bound for took in runs]
        what = f"1 of 20 tenants throttled for {RETRY_AFTER} s: beyond N / 32 * 100 ms"
        yield Row(what, "s", min(walls), statistics.median(walls), 2.5)
        for throttled, what, possible in THROTTLED:
            took, counts = self._batch(MANY, throttled=throttled)
            yield _times(f"one tenant {what} : what is possible", [took], possible, 1.3)
            share = counts.refused / counts.token_requests
            yield Row("    refused, of all requests", "", share, share, 0.15)
            lost = MANY - counts.identities
            yield Row("    identities that did not ask", "", lost, lost, 0)

    def fleet(self) -> Iterator[Row]:
        """10,000 identities."""
        small, _ = self._batch(MANY)
        large, counts = self._batch(VERY_MANY)
        yield _ratio("10,000 : 1,000 identities", ratio([large], [small]), 11)
        yield Row("resident with 10,000", "MB", *(large.resident / 1e6,) * 2, 120)
        yield from _asked([counts], "10,000 identities: ")
        fresh = self._command(self._minted(VERY_MANY), "generate", "--refresh-ahead")
        yield _seconds("nothing due, 10,000 identities", in_turn([fresh], LONG)[0])

    def serving(self) -> Iterator[Row]:
        """The local token endpoint, on one core."""
        minted = self._minted(MANY)
        command = self._command(minted, "serve", "worker-00000")
        runs = [ask(command, minted.place.tokens) for _ in range(LONG)]
        rates = [run.wall / REQUESTS * 1000 for run in runs]
        yield Row(
            "local endpoint, one core: a request", "ms", min(rates), statistics.median(rates), 1
        )
        slow = [run.percentile(99) * 1000 for run in runs]
        what = "local endpoint, 8 clients: 99 of 100 requests within"
        yield Row(what, "ms", min(slow), statistics.median(slow), 10)

    def _at(self, count: int, tenants: int = 1) -> Place:
        """The place with so many identities."""
        place = Place(os.path.join(self._folder, f"{count}-{tenants}"))
        if not os.path.isdir(place.folder):
            place.make(fleet(count, tenants))
        return place

    def _minted(self, count: int) -> Minted:
        """The place with so many identities, none of them due."""
        place = self._at(count)
        with Provider(count) as provider:
            run(self._generate(place, provider))
        return Minted(place, ("--login-base-url", provider.base_url))

    def _command(self, minted: Minted, *arguments: str) -> Command:
        return Command(
            [*self._ours, *arguments, *minted.place.options, *minted.host], minted.place.folder
        )

    def _generate(self, place: Place, provider: Provider) -> Command:
        host = ("--login-base-url", provider.base_url, "--ca-bundle", provider.ca_file)
        return Command([*self._ours, "generate", "-q", *place.options, *host], place.folder)

    def _baseline(self, script: str, place: Place, provider: Provider) -> Command:
        arguments = (place.identities_file, place.folder, provider.base_url, provider.ca_file)
        return Command([sys.executable, os.path.join(BASELINES, script), *arguments], place.folder)

    def _competitors(self, count: int, provider: Provider, script: str) -> Sequence[Command]:
        place = self._at(count)
        return self._generate(place, provider), self._baseline(script, place, provider)

    def _batch(
        self, count: int, tenants: int = 1, *, throttled: str = "", baseline: str = ""
    ) -> tuple[Took, Counts]:
        """One run of the batch or of a baseline, and what it asked for."""
        place = self._at(count, tenants)
        with Provider(count, tenants, latency=LATENCY, throttled=throttled) as provider:
            took = run(
                self._baseline(baseline, place, provider)
                if baseline
                else self._generate(place, provider)
            )
        return took, provider.counts


def _ratio(what: str, found: Ratio, limit: float | None = None) -> Row:
    return Row(what, "x", found.best, found.median, limit)


def _times(what: str, runs: Sequence[Took], bound: float, limit: float | None = None) -> Row:
    walls = [took.wall / bound for took in runs]
    return Row(what, "x", min(walls), statistics.median(walls), limit)


def _seconds(what: str, runs: Sequence[Took]) -> Row:
    walls = [took.wall for took in runs]
    return Row(what, "s", min(walls), statistics.median(walls))


def _asked(counts: Sequence[Counts], prefix: str = "") -> Iterator[Row]:
    """The worst of the runs: a count that is right most of the time is wrong."""
    most = max(count.most for count in counts)
    least = min(count.token_requests / count.identities for count in counts)
    yield Row(f"{prefix}token requests an identity", "", most, least, 1)
    yield Row(f"{prefix}other requests", "", *(max(each.other_requests for each in counts),) * 2, 0)
    yield Row(f"{prefix}connections", "", *(max(each.connections for each in counts),) * 2, WORKERS)


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    return (
        f"{platform.system()} {platform.machine()}, {cores} cores, Python "
        f"{platform.python_version()}, load {load:.1f} at the start"
    )


def _show(row: Row) -> None:
    limit = "" if row.limit is None else f"{row.limit:g}"
    print(
        f"{row.what:62} {row.best:8.3g} {row.median:8.3g} {row.unit:2} {limit:>5} {row.verdict}",
        flush=True,
    )


def main() -> None:
    """Measure what was asked for. The exit code says nothing of the verdicts: machines differ."""
    parts: dict[str, Callable[[Bench], Iterator[Row]]] = {
        "start": Bench.start,
        "cold": Bench.cold,
        "batch": Bench.batch,
        "throttled": Bench.throttled,
        "fleet": Bench.fleet,
        "serving": Bench.serving,
    }
    parser = argparse.ArgumentParser(prog="benchmarks/run", description=__doc__)
    parser.add_argument("--json", metavar="FILE", help="write the table there as well")
    parser.add_argument("--only", default=",".join(parts), help="default: %(default)s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        machine = _machine()
        print(f"{machine}\n\n{'':62} {'best':>8} {'median':>8}    limit")
        rows = []
        for name in options.only.split(","):
            for row in parts[name](Bench(folder)):
                _show(row)
                rows.append(row)
    if options.json:
        document = {
            "machine": machine,
            "rows": [{**row._asdict(), "verdict": row.verdict or None} for row in rows],
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
