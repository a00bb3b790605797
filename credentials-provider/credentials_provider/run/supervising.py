"""A child process that runs for longer than a token is valid."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

from credentials_provider.errors import CredentialsProviderError, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from credentials_provider.run.access import ValidToken
    from credentials_provider.run.source import TokenSource

STOP_TIMEOUT = 10.0  # seconds for a child to end before a restart
LOOK_EVERY = 5.0  # seconds between two looks at the token: it may be renewed by another process
_AFTER_FAILURE = 30.0  # seconds until the next try
_FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT")
_ENDING = ("SIGINT", "SIGTERM", "SIGQUIT")
_OF_A_TERMINAL = ("SIGINT", "SIGQUIT")  # sent to the child, too, where both are in the foreground


class Child:
    """A command, its signals forwarded. Use it from the main thread; `send` and `restart` anywhere.

    Raises:
        OSError: it cannot be started.

    """

    def __init__(self, line: Sequence[str]) -> None:
        self._line = list(line)
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []  # signals that came before it was there
        self._next: Mapping[str, str] | None = None  # the environment of the one that follows
        self._lock = threading.RLock()  # a signal's handler may come in between

    def run(self, environment: Mapping[str, str]) -> int:
        """Its exit code, or 128 and the signal that ended it, as shells have it."""
        with self._forwarding():
            self._start(environment)
            while True:
                assert self._process is not None  # noqa: S101  it was started
                code = self._process.wait()
                with self._lock:
                    if self._next is None:
                        return code if code >= 0 else 128 - code
                    following, self._next = self._next, None
                    self._process = None  # a signal that comes now is for the next one
                self._start(following)

    def send(self, number: int) -> None:
        """Send it a signal."""
        with self._lock:
            if self._process is None:
                self._early.append(number)
            else:
                self._process.send_signal(number)

    def restart(self, environment: Mapping[str, str]) -> None:
        """End it, and start it anew; it is killed if it does not end in ten seconds."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            self._next = environment
            process.terminate()
        timer = threading.Timer(STOP_TIMEOUT, process.kill)
        timer.daemon = True
        timer.start()

    def _start(self, environment: Mapping[str, str]) -> None:
        with self._lock:
            self._process = subprocess.Popen(self._line, env=dict(environment))  # noqa: S603  the user's own command
            early, self._early = self._early, []
            for number in early:
                self.send(number)

    @contextlib.contextmanager
    def _forwarding(self) -> Iterator[None]:
        def forward(number: int, _: FrameType | None) -> None:
            name = signal.Signals(number).name
            if name in _ENDING:
                self._next = None  # what is to end is not started anew
            if name not in _OF_A_TERMINAL or not _in_foreground():
                self.send(number)

        names = [name for name in _FORWARDED if hasattr(signal, name)]
        before = {name: signal.signal(getattr(signal, name), forward) for name in names}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(getattr(signal, name), handler)


def _in_foreground() -> bool:
    """Whether a terminal sends its signals to our child as well."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except (OSError, AttributeError):
        return False


def keep_fresh(
    source: TokenSource,
    name: str,
    access: ValidToken,
    *,
    renewed: Callable[[ValidToken], None],
    warn: Callable[[str], None],
) -> None:
    """Renew an identity's token ahead of its expiry, from a thread that ends with the process.

    `access` is its token so far. `renewed` is called with each new token, also where another
    process has renewed it; `warn` with why a token was not renewed, once for each reason.
    """
    known = ""  # the problem of the last look

    def look(current: ValidToken) -> tuple[ValidToken, str]:
        try:
            new = source.get(name, current.expires_on - current.refresh_at)
        except CredentialsProviderError as error:
            return current, f"{error.message} {error.hint or ''}".strip()
        except Exception as error:  # noqa: BLE001  the next look may fare better
            return current, f"{name}: the token was not renewed: {unexpected(error)}"
        return new, f"{name}: the token was not renewed: {new.kept.message}" if new.kept else ""

    def work() -> None:
        nonlocal known, access
        pause = threading.Event()  # never set
        while not pause.wait(_AFTER_FAILURE if known else LOOK_EVERY):
            new, problem = look(access)
            if problem and problem != known:
                warn(problem)
            known = problem
            if new.token != access.token:
                access = new
                renewed(new)

    threading.Thread(target=work, daemon=True).start()
