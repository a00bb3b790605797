"""Which token the bridge puts on a request: a valid one, and none that was refused."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

from credentials_provider.assistants.bridge.tokens import Tokens
from credentials_provider.assistants.bridge.trouble import TroubleError
from credentials_provider.emulator import Fault
from credentials_provider.model import RunOptions
from credentials_provider.run.access import NoTokenError
from credentials_provider.run.source import FORCED_INTERVAL, OLD_TOKEN_FOR, TokenSource
from credentials_provider.tokens.store import LOCK_NAME
from support import Listener, renew, until

if TYPE_CHECKING:
    from credentials_provider.emulator import App
    from support import Project


class Holding(Listener):
    """Lets a renewal begin once all others of `threads` wait."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[threading.Thread] = []

    def start(self, count: int) -> None:
        del count
        others = [each for each in self.threads if each is not threading.current_thread()]
        until(lambda: all(self._waits(each) for each in others))

    def _waits(self, thread: threading.Thread) -> bool:
        frame = sys._current_frames().get(thread.ident or 0)
        return frame is not None and frame.f_code is threading.Condition.wait.__code__


class Bench:
    """The bridge's tokens of one identity, and a clock that only moves by hand."""

    def __init__(self, project: Project, app: App) -> None:
        self.project = project
        self.name = app.name
        self.clock = 1000.0
        self.listener = Holding()
        self.options = RunOptions(project.settings(), max_attempts=1, lock_timeout=0.05)
        self.tokens = Tokens(
            self.options, app.name, 300.0, self.listener, monotonic=lambda: self.clock
        )

    @property
    def minted(self) -> int:
        return len(self.project.idp.token_requests)

    @property
    def on_disk(self) -> str:
        return str(self.project.token(self.name)["access_token"])


@pytest.fixture
def bench(project: Project, app: App) -> Bench:
    return Bench(project, app)


def test_a_refused_token_is_replaced_and_not_given_again(bench: Bench) -> None:
    """By the answer to the refusal, and by all that come after."""
    refused = bench.tokens.get()
    another = bench.tokens.after_refusal(refused)
    assert another not in {refused, None}
    assert bench.tokens.get() == another == bench.on_disk
    assert bench.minted == 2


def test_a_token_that_somebody_else_has_minted_meanwhile_is_taken_first(bench: Bench) -> None:
    """A refusal of the old one causes no request."""
    refused = bench.tokens.get()
    renew(bench.project)
    assert bench.tokens.after_refusal(refused) == bench.on_disk != refused
    assert bench.minted == 2


def test_where_another_run_holds_the_lock_the_refused_token_is_not_given(bench: Bench) -> None:
    """The renewal is that run's, and what is on disk until then was refused."""
    refused = bench.tokens.get()
    with FileLock(f"{bench.project.output}/{LOCK_NAME}"):
        assert bench.tokens.after_refusal(refused) is None
    assert bench.on_disk == refused


def test_a_renewal_that_fails_gives_no_refused_token(bench: Bench) -> None:
    """The reason comes in its place."""
    refused = bench.tokens.get()
    bench.project.idp.inject(Fault("aadsts", code=7000215), times=None)
    with pytest.raises(TroubleError, match="the client secret is wrong"):
        bench.tokens.after_refusal(refused)


@pytest.mark.parametrize(("later", "renewed"), [(FORCED_INTERVAL - 1, 0), (FORCED_INTERVAL, 1)])
def test_a_server_that_refuses_new_tokens_causes_one_renewal_in_five_minutes(
    bench: Bench, later: float, renewed: int
) -> None:
    """The next refusal gets no token until then."""
    second = bench.tokens.after_refusal(bench.tokens.get())
    assert second is not None
    bench.clock += later
    third = bench.tokens.after_refusal(second)
    assert (third is not None, bench.minted) == (bool(renewed), 2 + renewed)


@pytest.mark.parametrize(("later", "asked"), [(OLD_TOKEN_FOR - 0.1, 0), (OLD_TOKEN_FOR, 1)])
def test_an_old_token_that_is_valid_is_given_for_a_while_before_the_next_try(
    bench: Bench, later: float, asked: int
) -> None:
    """With a warning for each try; a provider that is down is not asked at every request."""
    old = bench.tokens.get()
    bench.project.age(bench.name, left=100)
    bench.project.idp.inject(Fault("unavailable"), times=None)
    assert bench.tokens.get() == old
    before = bench.minted
    assert any("keeps its old token" in each for each in bench.listener.warnings)
    bench.clock += later
    assert bench.tokens.get() == old
    assert bench.minted == before + asked


@pytest.mark.parametrize("user", ["bridge", "endpoint and Credential"])
def test_calls_that_wait_for_a_renewal_share_its_failure(bench: Bench, user: str) -> None:
    """One request and one answer for all; who asks later tries anew."""
    bench.project.idp.inject(Fault("unavailable"), times=None)
    source = TokenSource(bench.options, bench.listener)
    told: list[str] = []

    def ask() -> None:
        with pytest.raises((TroubleError, NoTokenError)) as error:
            bench.tokens.get() if user == "bridge" else source.get(bench.name, 300.0)
        told.append(str(error.value))

    bench.listener.threads = threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert (len(told), len(set(told)), bench.minted) == (8, 1, 1)
    bench.listener.threads = []
    ask()
    assert bench.minted == 2
