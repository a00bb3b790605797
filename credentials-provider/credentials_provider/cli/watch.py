"""`watch`: stays in the foreground and renews each token ahead of its end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli import generate, streams
from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import JsonLog, event, show_requests, tell
from credentials_provider.cli.output import Console, local_time, show_report
from credentials_provider.cli.stopping import stoppable
from credentials_provider.diagnostics.status import read_status
from credentials_provider.errors import ConfigurationError, CredentialsProviderError
from credentials_provider.identities.reading import read_entries
from credentials_provider.policy import shard_of
from credentials_provider.run import batch
from credentials_provider.run.watching import NAP, Moment, Notifier, Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credentials_provider.model import Outcome, Report, RunOptions
    from credentials_provider.run.watching import Read

# What a service decides for itself, or has no use for.
_NOT_HERE = {"refresh_before", "help_all", "refresh_ahead", "force", "dry_run", "as_json"}
_PATIENCE = 0.2  # seconds that a pass waits for the reader of its messages
_SILENCE = 300.0  # seconds without a sign of life after which the service is not well


@click.command(
    "watch",
    cls=Command,
    examples="""
    # As a service
    credentials-provider watch --quiet
    # In a container, with a health check
    credentials-provider watch --health-port 8080 --log-format json
    """,
    params=[each for each in generate.command.params if each.name not in _NOT_HERE],
    epilog="Renews at once after a change of the identities file; reads its settings again on "
    "SIGHUP. For containers, and for systemd with Type=notify.",
)
@click.option(
    "--health-port",
    type=click.IntRange(0, 65535),
    help="Answer 200 on loopback while every token is valid, else 503.",
)
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Stay in the foreground and renew each token before it expires."""
    health_port = options.pop("health_port")
    options |= {"refresh_ahead": "auto", "refresh_before": None, "force": False, "dry_run": False}
    run_options = generate.options_of(root, options)
    if options["verbose"] > 1:
        show_requests(as_json=options["log_format"] == "json")
    notifier = Notifier(os.environ)
    service = _Service(run_options, options, notifier)
    streams.limit(patience=_PATIENCE)
    with stoppable(), _hang_up() as nap, _health(health_port, service):
        try:
            Watch(
                run_options,
                run=service.run,
                reload=lambda: generate.options_of(root, options),
                now=time.time,
                nap=lambda seconds: nap(min(seconds, (notifier.watchdog or NAP * 2) / 2)),
                told=service.told,
                alive=service.alive,
                reloading=service.reloading,
            ).serve()
        finally:
            notifier.tell("STOPPING=1")
    return 0


class _Service:
    """What the outside sees: the log, systemd, the health port."""

    def __init__(
        self, run_options: RunOptions, options: dict[str, Any], notifier: Notifier
    ) -> None:
        self.options = run_options
        self._as_json = options["log_format"] == "json"
        self._quiet, self._verbose = options["quiet"], bool(options["verbose"])
        self._notifier = notifier
        self._ready = False
        self._problem: str | None = None  # of the identities file, while it is broken
        self._alive_at = time.monotonic()
        self._read: Read = read_entries

    def run(self, run_options: RunOptions, read: Read) -> Report:
        self.options = self.options._replace(settings=run_options.settings)
        self._read = read
        console = _Log(self) if self._as_json else _Talk(self)
        with contextlib.closing(console):
            return batch.run(run_options, console, read=read)

    def alive(self) -> None:
        self._alive_at = time.monotonic()
        self._notifier.alive()

    def reloading(self, begins: bool) -> None:
        if begins:
            monotonic = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            self._notifier.tell("RELOADING=1", f"MONOTONIC_USEC={monotonic}")
        else:
            self._notifier.tell("READY=1")

    def told(self, moment: Moment) -> None:
        report, now = moment.report, time.time()
        self._problem = None if moment.error is None else self._tell_error(moment.error)
        if report is not None:
            self._show(report)
        state = "the last pass failed"
        if report is not None:
            bad = report.count("failed") + report.count("kept")
            state = f"{len(report.results) - bad} good, {bad} not renewed"
        if self._problem and report is not None:
            state += f"; {self._problem}"
        self._notifier.tell(f"STATUS={state}; next look {local_time(moment.next_at, now)}")
        if not self._ready:
            self._ready = True
            self._notifier.tell("READY=1")

    def _show(self, report: Report) -> None:
        """Whatever is worth a line: a pass that renewed or failed something, and the first one."""
        if self._ready and report.hook is None and report.count("fresh") == len(report.results):
            return
        if self._as_json:
            _Log(self).report(report)
            return
        show_report(
            report,
            folder=self.options.settings.output_dir,
            as_json=False,
            dry_run=False,
            quiet=self._quiet,
            verbose=self._verbose,
        )

    def _tell_error(self, error: CredentialsProviderError | str) -> str:
        message = error if isinstance(error, str) else "; ".join(map(str, error.problems))
        if self._as_json:
            event("error", "error", message=message)
        else:
            tell(f"{click.style('error:', fg='red')} {message}; tried again", "error")
        return message

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Whether all is well: the service runs and every token is valid; and whose is not."""
        now = time.time()
        silent = time.monotonic() - self._alive_at
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
        without = [row.identity_name for row in wanted if not row.serves]
        healthy = not without and silent < self.options.deadline + _SILENCE
        return healthy, {
            "healthy": healthy,
            "identities": len(wanted),
            "without_token": without,
            "silent_for": round(silent),
            **({"error": self._problem} if self._problem else {}),
        }


class _Talk(Console):
    """A console that counts as a sign of life."""

    def __init__(self, service: _Service) -> None:
        super().__init__(quiet=service._quiet, verbose=service._verbose)  # noqa: SLF001  one module
        self._service = service

    def finish(self, outcome: Outcome) -> None:
        self._service.alive()
        super().finish(outcome)


class _Log(JsonLog):
    """The same for events."""

    def __init__(self, service: _Service) -> None:
        super().__init__(quiet=service._quiet)  # noqa: SLF001  one module
        self._service = service

    def finish(self, outcome: Outcome) -> None:
        self._service.alive()
        super().finish(outcome)


@contextlib.contextmanager
def _hang_up() -> Iterator[Callable[[float], bool]]:
    """A nap that SIGHUP ends, with True; one that came in between ends the next nap."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)

    def nap(seconds: float) -> bool:
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
        yield nap
    finally:
        if hang_up:
            signal.signal(hang_up, before)
        here.close()
        there.close()


@contextlib.contextmanager
def _health(port: int | None, service: _Service) -> Iterator[None]:
    """Answers on loopback, in a thread."""
    if port is None:
        yield
        return

    class Handler(BaseHTTPRequestHandler):
        timeout = 10  # seconds; one that says nothing does not stay

        def do_GET(self) -> None:
            healthy, document = service.health()
            body = json.dumps(document).encode() + b"\n"
            self.send_response(200 if healthy else 503)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A probe every few seconds is not worth a log line."""

    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise ConfigurationError(
            f"--health-port {port} cannot be used: {error.strerror}", hint="Choose another one."
        ) from None
    server.daemon_threads = True
    tell(f"health at http://127.0.0.1:{server.server_port}/")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
