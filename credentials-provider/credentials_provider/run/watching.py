"""A service that keeps tokens fresh: a pass whenever one is due, and sleep between them.

Time, sleep and the pass itself are handed in. Sleep is taken in short naps, by the wall clock: so a
machine that was suspended, a clock that was set and a file that changed are noticed within one.
"""

from __future__ import annotations

import contextlib
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from credentials_provider.errors import ConfigurationError, CredentialsProviderError, unexpected
from credentials_provider.identities.reading import read_entries
from credentials_provider.permissions import stamp
from credentials_provider.policy import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credentials_provider.identities.reading import IdentitiesFile
    from credentials_provider.model import Outcome, Report, RunOptions
    from credentials_provider.settings import Settings

    Read = Callable[[Settings], IdentitiesFile]

LONGEST_SLEEP = 5.0  # seconds at most between two looks at clock and files
SHORTEST_PAUSE = 5.0  # seconds between two passes: what falls due together goes together
LONGEST_PAUSE = 3600.0
SINK_INTERVAL = 300.0  # seconds between two looks at the sinks, which are anywhere
FIRST_BACKOFF = 30.0  # seconds after an identity's first failure, doubling
LONGEST_BACKOFF = 300.0
URGENT_BACKOFF = 15.0  # at most, while a token has expired or is about to
ABOUT_TO_EXPIRE = 300.0  # seconds
LOOK_INTERVAL = 60.0  # between two looks whether somebody removed a token file
LEAP = 30.0  # seconds by which the clock differs from a wait when it was set
_RUN = ""  # stands for the run as a whole, or its hook, among the names that failed


class Backoff(NamedTuple):
    """An identity that failed is not asked for before `until` (epoch seconds)."""

    until: float
    failures: int


class PassResult(NamedTuple):
    """What the service reports after each pass."""

    report: Report | None  # None: the pass itself failed
    error: CredentialsProviderError | str | None  # of the pass, or of a file that it went without
    next_at: float  # epoch seconds


@dataclass
class Watch:
    """Renews what is due, waits, and begins again."""

    options: RunOptions  # those of each pass, which renews what is due
    run: Callable[[RunOptions, Read], Report]  # a pass, with a way to read the identities file
    reload: Callable[[], RunOptions]  # the options anew, settings and all; after a SIGHUP
    now: Callable[[], float]  # epoch seconds
    wait: Callable[[float], bool]  # for that number of seconds; True if a SIGHUP ended it
    on_pass: Callable[[PassResult], None]
    heartbeat: Callable[[], None]  # called at each wait
    on_reload: Callable[[bool], None] = lambda _: None  # True before the reload, False after it

    def __post_init__(self) -> None:
        self.options = _renewing(self.options)
        self._backing_off: dict[str, Backoff] = {}
        self._selected: tuple[str, ...] = ()
        self._due: dict[str, float] = {}  # by identity, when its token is
        self._next_at = 0.0
        self._folder: object = None  # as the last pass left it
        self._looked_at = 0.0
        self._file_read: IdentitiesFile | None = None  # as it was when it could be used last

    def serve(self) -> None:
        """Keep the tokens fresh until an exception that is no `Exception` ends it.

        Raises:
            CredentialsProviderError: the first pass found a configuration that cannot be used.

        """
        file = self._file()
        self._pass(first=True)
        while True:
            woken = self._sleep(file)
            if woken == "SIGHUP":
                self._reload_settings()
            elif woken == "change":
                self._reset()
            file = self._file()
            self._pass()

    def _sleep(self, file: object) -> Literal["due", "SIGHUP", "change"]:
        """Until a pass is needed, and why it is."""
        while (left := self._next_at - (before := self.now())) > 0:
            length = min(left, LONGEST_SLEEP)
            hung_up = self.wait(length)
            self.heartbeat()
            if hung_up:
                return "SIGHUP"
            # A wait may end early; that much too late, and the machine slept or the clock was set.
            passed = self.now() - before
            if not -LEAP < passed < length + LEAP or self._file() != file:
                return "change"
            if self._is_folder_changed():
                return "due"
        return "due"

    def _is_folder_changed(self) -> bool:
        """Whether a file came or went since the last pass; looked at once a minute."""
        if 0 <= self.now() - self._looked_at < LOOK_INTERVAL:
            return False
        self._looked_at = self.now()
        return stamp(self.options.settings.output_dir) != self._folder

    def _reload_settings(self) -> None:
        self.on_reload(True)
        self._reset()
        try:
            self.options = _renewing(self.reload())
        except CredentialsProviderError as error:
            self.on_pass(PassResult(None, error, self.now()))
        self.on_reload(False)

    def _reset(self) -> None:
        self._backing_off.clear()
        self._due.clear()
        self._selected = ()

    def _pass(self, *, first: bool = False) -> None:
        options = self.options
        now = self.now()
        backing_off = {name for name, backoff in self._backing_off.items() if backoff.until > now}
        if backing_off and self._selected:
            names = tuple(name for name in self._selected if name not in backing_off)
            options = options._replace(names=names)
        report: Report | None = None
        error: CredentialsProviderError | str | None = None
        if options.names or not (backing_off and self._selected):
            try:
                report, error = self._run_with_last_good_file(options)
            except CredentialsProviderError as problem:
                if first and isinstance(problem, ConfigurationError):
                    raise
                error = problem
            except Exception as problem:  # noqa: BLE001  a service outlives what nobody foresaw
                error = unexpected(problem)
        self._plan(report, failed=report is None and error is not None)
        self._folder = stamp(self.options.settings.output_dir)
        self._looked_at = self.now()
        self.heartbeat()
        if report is not None or error is not None:
            self.on_pass(PassResult(report, error, self._next_at))

    def _run_with_last_good_file(
        self, options: RunOptions
    ) -> tuple[Report, CredentialsProviderError | None]:
        """A pass; with the identities file of before, and what is wrong, if it cannot be used."""
        found: list[IdentitiesFile] = []

        def read(settings: Settings) -> IdentitiesFile:
            found.append(read_entries(settings))
            return found[0]

        try:
            report = self.run(options, read)
        except ConfigurationError as error:
            good = self._file_read
            if good is None:
                raise
            return self.run(options, lambda _: good), error
        self._file_read = found[-1] if found else None
        return report, None

    def _plan(self, report: Report | None, *, failed: bool) -> None:
        """When the next pass is due."""
        now = self.now()
        entries = self._file_read.entries if self._file_read else ()
        with_sinks = any(each.fields.get("sinks") for each in entries)
        times = [now + (SINK_INTERVAL if with_sinks else LONGEST_PAUSE)]
        if failed:  # it would be the same for every identity
            self._selected = ()
            self._back_off(_RUN, now)
            self._next_at = self._backing_off[_RUN].until
            return
        if report is not None:
            # One with a mistake in its entry waits for the file to change.
            valid = [
                each
                for each in report.results
                if each.failure is None or each.failure.kind != "configuration"
            ]
            names = tuple(each.identity_name for each in valid)
            self._selected = tuple(dict.fromkeys((*self._selected, *names)))
            if report.hook is not None and report.hook.message is not None:
                self._back_off(_RUN, now)
            else:
                self._backing_off.pop(_RUN, None)
            for result in valid:
                if result.failure is not None or result.refresh_at is None:
                    self._back_off(result.identity_name, now, urgent=_is_urgent(result, now))
                else:
                    self._backing_off.pop(result.identity_name, None)
                    self._due[result.identity_name] = result.refresh_at
        times += [backoff.until for backoff in self._backing_off.values()]
        times += [at for name, at in self._due.items() if name not in self._backing_off]
        self._next_at = max(min(times), now + SHORTEST_PAUSE)

    def _back_off(self, name: str, now: float, *, urgent: bool = False) -> None:
        failures = self._backing_off[name].failures + 1 if name in self._backing_off else 1
        pause = min(FIRST_BACKOFF * 2 ** min(failures - 1, 10), LONGEST_BACKOFF)
        if urgent:  # spread, so that a fleet does not come back as one
            pause = min(pause, URGENT_BACKOFF * (1 - spread(name, int(now)) / 3))
        self._backing_off[name] = Backoff(now + pause, failures)

    def _file(self) -> object:
        return stamp(self.options.settings.identities_file)


def _is_urgent(result: Outcome, now: float) -> bool:
    """Whether somebody is, or soon will be, without a token, and trying again can help."""
    failure = result.failure
    if failure is None or not (failure.transient or failure.kind == "storage"):
        return False
    left = (result.expires_at or 0.0) - now
    return result.kind == "failed" or left < ABOUT_TO_EXPIRE


def _renewing(options: RunOptions) -> RunOptions:
    return options._replace(refresh_ahead=True, lead=None, force=False, dry_run=False)


class Notifier:
    """Reports the state of a service to systemd (sd_notify(3)), if it asked for that."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        if self._address.startswith("@"):  # an abstract socket
            self._address = "\0" + self._address[1:]
        mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period = environment.get("WATCHDOG_USEC", "") if mine else ""
        self.watchdog = int(period) / 1e6 if period.isascii() and period.isdigit() else None

    def notify(self, *lines: str) -> None:
        """Assignments such as READY=1; a socket that does not answer does no harm."""
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.connect(self._address)
            sock.sendall("\n".join(lines).encode())

    def ping_watchdog(self) -> None:
        if self.watchdog is not None:
            self.notify("WATCHDOG=1")
