"""`watch`: stays in the foreground and renews each token ahead of its end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli import generate
from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import JsonLog, event, is_json, log, set_shard, show_requests
from credentials_provider.cli.options import ADDRESS
from credentials_provider.cli.output import Console, local_time, show_report
from credentials_provider.cli.process import limit_writing, stoppable
from credentials_provider.diagnostics.status import read_status
from credentials_provider.endpoint.answers import Answer
from credentials_provider.errors import CredentialsProviderError
from credentials_provider.identities.reading import read_entries
from credentials_provider.model import Observer
from credentials_provider.policy import shard_of
from credentials_provider.run import batch
from credentials_provider.run.watching import LONGEST_SLEEP, Notifier, PassResult, Watch
from credentials_provider.tokens.history import LastRun
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credentials_provider.identities.reading import IdentitiesFile
    from credentials_provider.model import Outcome, Report, RunOptions
    from credentials_provider.run.metrics import Subject
    from credentials_provider.run.watching import Read
    from credentials_provider.settings import Settings

# What a service decides for itself, or has no use for.
_OMITTED_OPTIONS = {
    *("refresh_before", "help_all", "refresh_ahead", "force", "dry_run", "as_json", "interval"),
}
_WRITE_TIMEOUT = 0.2  # seconds that a pass waits for the reader of its messages
_METRICS_INTERVAL = 60.0  # seconds
_HEARTBEAT_TIMEOUT = 300.0  # seconds without a sign of life after which the service is not well


@click.command(
    "watch",
    cls=Command,
    examples="""
    # As a service
    credentials-provider watch --quiet
    # In a container, with a health check
    credentials-provider watch --health-port 8080 --log-format json
    """,
    params=[each for each in generate.command.params if each.name not in _OMITTED_OPTIONS],
    epilog="Renews at once after a change of the identities file. Reads its settings again on "
    "SIGHUP. For containers, and for systemd with Type=notify or notify-reload.",
)
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    help="Answer on loopback: / with 200 while every token is valid, else 503, and /metrics.",
)
@click.option(
    "--listen",
    type=ADDRESS,
    metavar="HOST:PORT",
    help="The same on an address that others reach, such as a pod's.",
)
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Stay in the foreground and renew each token before it expires."""
    health_port, listen = options.pop("health_port"), options.pop("listen")
    addresses = {} if health_port is None else {"--health-port": ("127.0.0.1", health_port)}
    addresses |= {} if listen is None else {"--listen": listen}
    options |= {"refresh_ahead": "auto", "refresh_before": None, "force": False, "dry_run": False}
    options["interval"] = _METRICS_INTERVAL
    run_options = generate.options_of(root, options)
    if options["verbose"] > 1:
        show_requests()
    notifier = Notifier(os.environ)
    service = _Service(run_options, options, notifier)
    limit_writing(timeout=_WRITE_TIMEOUT)
    answers = {"/": service.answer_health, "/metrics": service.answer_metrics}
    with stoppable(), _sighup() as wait, contextlib.ExitStack() as opened:
        if addresses:
            from credentials_provider.endpoint.health import serving_health  # asyncio

            for url in opened.enter_context(serving_health(addresses, answers)):
                log(f"health at {url}")
        try:
            Watch(
                run_options,
                run=service.run,
                reload=lambda: generate.options_of(root, options),
                now=time.time,
                wait=lambda seconds: wait(
                    min(seconds, (notifier.watchdog or LONGEST_SLEEP * 2) / 2)
                ),
                on_pass=service.on_pass,
                heartbeat=service.heartbeat,
                on_reload=service.on_reload,
            ).serve()
        finally:
            notifier.notify("STOPPING=1")
    return 0


class _Service:
    """What the outside sees: the log, systemd, the health port."""

    def __init__(
        self, run_options: RunOptions, options: dict[str, Any], notifier: Notifier
    ) -> None:
        self.options = run_options
        set_shard(run_options.shard)
        self._verbose = bool(options["verbose"])
        self._notifier = notifier
        self._ready = False
        self._problem: str | None = None  # of the identities file, while it is broken
        self._heartbeat_at = time.monotonic()
        self._metrics_at = 0.0
        self._last_run: LastRun | None = None
        self._read: Read = read_entries

    def run(self, run_options: RunOptions, read: Read) -> Report:
        self.options = self.options._replace(settings=run_options.settings)
        found: list[IdentitiesFile] = []

        def noted(settings: Settings) -> IdentitiesFile:
            found.append(read(settings))
            return found[-1]

        console = self._console()
        console.heartbeat = self.heartbeat
        with contextlib.closing(console):
            report = batch.run(run_options, console, read=noted)
        self._read = lambda _: found[-1]  # until the next pass: a broken file is not the service's
        return report

    def _console(self) -> _ServiceConsole | _ServiceLog:
        if is_json():
            return _ServiceLog(quiet=self.options.quiet)
        return _ServiceConsole(quiet=self.options.quiet, verbose=self._verbose)

    def heartbeat(self) -> None:
        self._heartbeat_at = time.monotonic()
        self._notifier.ping_watchdog()
        metrics_file = self.options.metrics_file
        if metrics_file and self._heartbeat_at - self._metrics_at >= _METRICS_INTERVAL:
            self._metrics_at = self._heartbeat_at
            from credentials_provider.run.metrics import write_metrics  # prometheus

            with contextlib.suppress(CredentialsProviderError):
                write_metrics(metrics_file, self._subject())

    def _subject(self) -> Subject:
        """What the metrics are about."""
        from credentials_provider.run.metrics import Subject  # prometheus

        now = time.time()
        entries = batch.shard_entries(self._read(self.options.settings).entries, self.options.shard)
        run = self._last_run or LastRun(now, now, 0)
        # A service that sleeps is well: what a run's age says of a timer, this says of a service.
        run = run._replace(finished_at=now, started_at=now - (run.finished_at - run.started_at))
        store = TokenStore(self.options.settings.output_dir)
        return Subject(store, entries, self.options.shard, run, _METRICS_INTERVAL)

    def answer_metrics(self) -> Answer:
        from credentials_provider.run.metrics import metrics_text  # prometheus

        try:
            text = metrics_text(self._subject())
        except CredentialsProviderError as error:
            return Answer(503, f"{error.message}\n".encode(), content_type="text/plain")
        return Answer(200, text.encode(), content_type="text/plain; version=0.0.4; charset=utf-8")

    def answer_health(self) -> Answer:
        healthy, document = self.health()
        body = json.dumps(document).encode() + b"\n"
        return Answer(200 if healthy else 503, body)

    def on_reload(self, begins: bool) -> None:
        if begins:
            monotonic = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._notifier.notify("RELOADING=1", f"MONOTONIC_USEC={monotonic}")
        else:
            self._notifier.notify("READY=1")

    def on_pass(self, result: PassResult) -> None:
        report, now = result.report, time.time()
        self._problem = None if result.error is None else self._log_error(result)
        if report is not None:
            self._last_run = LastRun(report.started_at, report.finished_at, report.exit_code)
            self._show(report)
        state = "the last pass failed"
        if report is not None:
            bad = report.count("failed") + report.count("kept")
            state = f"{len(report.results) - bad} good, {bad} not renewed"
        if self._problem and report is not None:
            state += f"; {self._problem}"
        self._notifier.notify(f"STATUS={state}; next look {local_time(result.next_at, now)}")
        if not self._ready:
            self._ready = True
            self._notifier.notify("READY=1")

    def _show(self, report: Report) -> None:
        """Whatever is worth a line: a pass that renewed or failed something, and the first one."""
        if self._ready and report.hook is None and report.count("fresh") == len(report.results):
            return
        if is_json():
            JsonLog(quiet=self.options.quiet).report(report)
            return
        show_report(report, self.options, verbose=self._verbose)

    def _log_error(self, result: PassResult) -> str:
        error = result.error
        problems = error.problems if isinstance(error, CredentialsProviderError) else [error]
        message = "; ".join(map(str, problems))
        if result.report is not None:
            message += "; the identities file of before is used until this is corrected"
        if is_json():
            event("error", "error", message=message)
        else:
            log(f"{click.style('error:', fg='red')} {message}", "error")
        return message

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well: the service runs and every token is valid; and whose is not."""
        now = time.time()
        silent = time.monotonic() - self._heartbeat_at
        try:
            status = read_status(self.options.settings, self.options.names, now, read=self._read)
        except CredentialsProviderError as error:
            return False, {"healthy": False, "error": error.message}
        shard = self.options.shard
        wanted = [
            row
            for row in status.rows
            if row.state != "orphan"
            and (shard is None or shard_of(row.identity_name, shard[1]) == shard[0])
        ]
        without = [row.identity_name for row in wanted if not row.has_valid_token]
        healthy = not without and silent < self.options.deadline + _HEARTBEAT_TIMEOUT
        return healthy, {
            "healthy": healthy,
            "identities": len(wanted),
            "without_token": without,
            "refused": [row.identity_name for row in wanted if row.state in {"invalid", "refused"}],
            "hook_pending": status.hook_failure is not None,
            "silent_for": round(silent),
            **({"error": self._problem} if self._problem else {}),
        }


class _Alive(Observer):
    """Counts each outcome as a sign of life."""

    heartbeat: Callable[[], None]

    def finish(self, outcome: Outcome) -> None:
        self.heartbeat()
        super().finish(outcome)


class _ServiceConsole(_Alive, Console):
    pass


class _ServiceLog(_Alive, JsonLog):
    pass


@contextlib.contextmanager
def _sighup() -> Iterator[Callable[[float], bool]]:
    """A wait that SIGHUP ends, with True; one that came in between ends the next wait."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)

    def wait(seconds: float) -> bool:
        if not select.select([here], [], [], seconds)[0]:
            return False
        with contextlib.suppress(BlockingIOError):
            here.recv(1 << 10)
        return True

    def wake(*_: object) -> None:
        with contextlib.suppress(BlockingIOError):
            there.send(b"h")

    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    before = signal.signal(hang_up, wake) if hang_up else None
    try:
        yield wait
    finally:
        if hang_up:
            signal.signal(hang_up, before)
        here.close()
        there.close()
