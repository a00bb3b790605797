"""A service on a clock that is handed in: what wakes it, what it asks for, what it survives."""

from __future__ import annotations

import gc
import os
import socket
import statistics
import sys
import tracemalloc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.errors import ConfigurationError, StorageError
from credentials_provider.minting import Failure
from credentials_provider.model import HookResult, Outcome, Report, RunOptions
from credentials_provider.run import batch
from credentials_provider.run.watching import (
    FIRST_BACKOFF,
    LEAP,
    LONGEST_BACKOFF,
    LONGEST_SLEEP,
    LOOK_INTERVAL,
    SHORTEST_PAUSE,
    SINK_INTERVAL,
    URGENT_BACKOFF,
    Notifier,
    PassResult,
    Watch,
)
from unit.making import (
    NOW,
    REJECTED,
    UNREACHABLE,
    Listener,
    Project,
    Provider,
    sample_fields,
    sample_minted,
)

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable

    from credentials_provider.minting import Minted
    from credentials_provider.run.watching import Read

WEEK = 7 * 86400


class Ended(BaseException):
    """The time that the test has is over."""


class World:
    """A project, a clock that naps move on, and a service between them until `until`."""

    def __init__(self, project: Project, *, until: float = NOW + 3 * 3600) -> None:
        self.project = project
        self.now = float(NOW)
        self.until = until
        self.asked: list[tuple[float, str]] = []
        self.failing: set[str] = set()
        self.failure = UNREACHABLE
        self.moments: list[PassResult] = []
        self.passes: list[tuple[float, tuple[str, ...]]] = []
        self.naps = 0
        self.oversleep = 0.0
        self.hang_ups: set[int] = set()  # naps that are ended by one
        self.at_wait: Callable[[World], None] = lambda _: None
        self.run: Callable[[RunOptions, Read], Report] = self._run

    def serve(self, **request: Any) -> None:
        asked = RunOptions(self.project.settings(), **request)
        watch = Watch(
            asked,
            run=self.run,
            reload=lambda: asked,
            now=lambda: self.now,
            wait=self._wait,
            on_pass=self.moments.append,
            heartbeat=lambda: None,
        )
        with pytest.raises(Ended):
            watch.serve()

    def _run(self, request: RunOptions, read: Read) -> Report:
        self.passes.append((self.now, request.names))
        return batch.run(
            request,
            Listener(),
            make_minter=self._provider().make_minter,
            now=lambda: self.now,
            read=read,
        )

    def _provider(self) -> Provider:
        def answer(name: str) -> Callable[[], Minted | Failure]:
            def mint() -> Minted | Failure:
                self.asked.append((self.now, name))
                if name in self.failing:
                    return self.failure
                return sample_minted(name, issued_at=int(self.now))

            return mint

        return Provider(**{name: answer(name) for name in ("a", "b", "c")})

    def _wait(self, seconds: float) -> bool:
        assert 0 < seconds <= LONGEST_SLEEP
        self.naps += 1
        self.now += seconds + self.oversleep
        self.at_wait(self)
        if self.now >= self.until:
            raise Ended
        return self.naps in self.hang_ups

    def asked_for(self, name: str) -> list[float]:
        return [at for at, each in self.asked if each == name]


@pytest.fixture
def world(project: Project) -> World:
    project.identities("a", "b", "c")
    return World(project)


def test_each_token_is_renewed_at_its_own_time_and_not_before(world: World) -> None:
    world.serve()
    for name in "abc":
        times = world.asked_for(name)
        assert times[0] == NOW
        life = [after - before for before, after in pairwise(times)]
        # Two thirds of an hour, less a share of 5 %; never later than a wait and a pause after.
        assert all(
            0.61 * 3600 < each < 0.67 * 3600 + LONGEST_SLEEP + SHORTEST_PAUSE for each in life
        )
        assert len(times) >= 4


def test_between_passes_it_does_nothing(world: World) -> None:
    world.serve()
    assert len(world.passes) <= len(world.asked)


def test_a_sink_that_somebody_removes_is_written_again_without_a_request(world: World) -> None:
    """A file here; a Secret is no other case."""
    sink = world.project.root / "out"
    world.project.identities(sample_fields("a", sinks=[{"path": str(sink)}]))
    removed: list[float] = []

    def remove(world: World) -> None:
        if sink.exists() and not removed:
            sink.unlink()
            removed.append(world.now)
        elif sink.exists() and len(removed) == 1:
            removed.append(world.now)

    world.at_wait = remove
    world.until = NOW + 1200
    world.serve()
    assert removed[1] - removed[0] <= SINK_INTERVAL + LONGEST_SLEEP
    assert len(world.asked) == 1


def test_what_fails_is_asked_for_ever_more_rarely_and_the_others_are_left_alone(
    world: World,
) -> None:
    world.failing, world.failure = {"b"}, REJECTED
    world.serve()
    times = world.asked_for("b")
    pauses = [after - before for before, after in pairwise(times)]
    assert pauses[:4] == [FIRST_BACKOFF, 60, 120, 240]
    assert all(LONGEST_BACKOFF <= each <= LONGEST_BACKOFF + LONGEST_SLEEP for each in pauses[4:])
    assert len(world.asked_for("a")) == len(world.asked_for("c")) <= 6


def test_an_outage_is_survived_and_tokens_come_back_after_it(world: World) -> None:
    def outage(world: World) -> None:
        world.failing = {"a", "b", "c"} if NOW + 1000 < world.now < NOW + 2 * 3600 else set()

    world.at_wait = outage
    world.serve()
    assert all(world.asked_for(name)[-1] >= NOW + 2 * 3600 for name in "abc")
    assert (
        min(at for at, _ in world.asked if at >= NOW + 2 * 3600)
        <= NOW + 2 * 3600 + URGENT_BACKOFF + SHORTEST_PAUSE
    )


def test_a_changed_identities_file_wakes_it_within_a_wait(world: World) -> None:
    def change(world: World) -> None:
        if world.naps == 10:
            world.project.token("c", issued_at=int(world.now))  # so that only its file changed
            os.utime(world.project.identities_file, ns=(1, 1))

    world.at_wait = change
    world.until = NOW + 300
    world.serve()
    assert [at for at, _ in world.passes] == [NOW, NOW + 10 * LONGEST_SLEEP]


def test_a_hang_up_wakes_it_and_ends_every_rest(world: World) -> None:
    world.failing, world.failure = {"a", "b", "c"}, REJECTED
    world.hang_ups = {2}
    world.until = NOW + 25
    world.serve()
    assert [at for at, _ in world.passes] == [NOW, NOW + 2 * LONGEST_SLEEP]


@pytest.mark.parametrize("leap", [-7200.0, 7200.0])
def test_a_clock_that_was_set_or_a_machine_that_slept_is_noticed_at_once(
    world: World, leap: float
) -> None:
    def jump(world: World) -> None:
        if world.naps == 3:
            world.now += leap

    world.at_wait = jump
    world.until = NOW + 1.5 * 7200
    if leap < 0:
        world.at_wait = lambda world: jump(world) or _stop(world, after=5)  # type: ignore[func-returns-value]
    world.serve()
    assert world.passes[1][0] == NOW + 3 * LONGEST_SLEEP + leap
    assert sorted(name for at, name in world.asked if at == world.passes[1][0]) == ["a", "b", "c"]


def _stop(world: World, after: int) -> None:
    if world.naps > after:
        raise Ended


def test_the_first_pass_ends_it_when_the_configuration_is_broken(project: Project) -> None:
    project.content("{")
    world = World(project)
    with pytest.raises(ConfigurationError):
        Watch(
            RunOptions(project.settings()),
            run=world.run,
            reload=lambda: RunOptions(project.settings()),
            now=lambda: world.now,
            wait=world._wait,
            on_pass=world.moments.append,
            heartbeat=lambda: None,
        ).serve()


def test_a_file_that_breaks_later_costs_no_token(world: World) -> None:
    """The one that could be used last goes on to be used, and each pass says so."""

    def breaks(world: World) -> None:
        if world.naps == 2:
            world.project.content("{")
        if world.now > NOW + 3 * 3600:
            world.project.identities("a")

    world.at_wait = breaks
    world.until = NOW + 4 * 3600
    world.serve()
    errors = [moment for moment in world.moments if moment.error is not None]
    assert len(errors) > 3
    assert all(moment.report is not None for moment in errors)
    assert len([at for at in world.asked_for("b") if at < NOW + 3 * 3600]) >= 4
    last = world.moments[-1].report
    assert last is not None
    assert [each.identity_name for each in last.results] == ["a"]


@pytest.mark.parametrize("error", [StorageError("the disk is full"), ZeroDivisionError("x")])
def test_whatever_a_pass_raises_it_goes_on(world: World, error: Exception) -> None:
    good = world.run
    calls: list[float] = []

    def run(request: RunOptions, read: Read) -> Report:
        calls.append(world.now)
        if len(calls) in {2, 3}:
            raise error
        return good(request, read)

    world.run = run
    world.serve()
    assert len([moment for moment in world.moments if moment.error]) == 2
    assert calls[2] - calls[1] == FIRST_BACKOFF
    assert world.moments[-1].report is not None


def test_a_token_file_that_somebody_removes_is_made_again_within_a_minute(world: World) -> None:
    removed_at: list[float] = []

    def remove(world: World) -> None:
        if world.now > NOW + 600 and not removed_at:
            world.project.path("b").unlink()
            removed_at.append(world.now)

    world.at_wait = remove
    world.until = NOW + 900
    world.serve()
    assert removed_at[0] < world.asked_for("b")[1] <= removed_at[0] + LOOK_INTERVAL + LONGEST_SLEEP
    assert world.asked_for("a") == [NOW]


def test_while_a_token_has_expired_it_looks_every_fifteen_seconds(world: World) -> None:
    """However long the outage was; a fleet does not come back at one moment."""
    world.failing = {"a"}
    world.until = NOW + 7200
    world.serve()
    pauses = [after - before for before, after in pairwise(world.asked_for("a"))]
    assert all(10 <= pause <= URGENT_BACKOFF + SHORTEST_PAUSE for pause in pauses)
    assert len({round(pause, 3) for pause in pauses}) > 1


def test_a_full_disk_is_tried_again_soon(world: World) -> None:
    """Somebody frees it, and nobody tells the service."""
    failure = Failure("storage", "the disk is full", "free some space")
    calls: list[float] = []

    def run(_: RunOptions, __: Read) -> Report:
        calls.append(world.now)
        result = Outcome("a", "failed", "a.json", failure=failure)
        return Report(world.now, world.now, (result,))

    world.run = run
    world.until = NOW + 1800
    world.serve()
    assert all(after - before <= 20 for before, after in pairwise(calls))


def test_a_failed_hook_is_tried_again(world: World) -> None:
    calls: list[float] = []

    def run(_: RunOptions, __: Read) -> Report:
        calls.append(world.now)
        result = Outcome("a", "fresh", "a.json", NOW + 3600, NOW + 2400)
        hook = HookResult(("a",), 1, "exit code 1") if len(calls) < 3 else None
        return Report(world.now, world.now, (result,), hook)

    world.run = run
    world.until = NOW + 2000
    world.serve()
    assert calls == [NOW, NOW + 30, NOW + 90]


@pytest.mark.skipif(
    sys.gettrace() is not None, reason="whoever traces the code keeps what it saw, in its memory"
)
def test_a_week_of_it_keeps_every_token_alive_in_flat_memory(world: World) -> None:
    alive: list[bool] = []
    sizes: list[int] = []

    def look(world: World) -> None:
        world.moments.clear()
        world.passes.clear()
        if world.naps % 600 == 0:
            world.asked[:] = world.asked[-3:]
            alive.append(world.project.document("a")["expires_on"] > world.now)
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])

    world.project.identities("a")  # each renewal waits for the disk
    world.at_wait = look
    world.until = NOW + WEEK
    world.oversleep = LEAP - 5  # as much as is no leap: a week has fewer naps then
    tracemalloc.start()
    try:
        world.serve()
    finally:
        tracemalloc.stop()
    assert len(alive) > 25
    assert all(alive)
    # Some eight renewals lie between two looks. What leaks does so in each of them; what something
    # else in this process loads meanwhile is no leak.
    growth = [after - before for before, after in pairwise(sizes)]
    assert statistics.median(growth) < 5_000  # bytes


# systemd's protocol, with a socket as systemd has one


def listen(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind("\0" + address[1:] if address.startswith("@") else address)
    sock.settimeout(10)
    return sock


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_over_its_socket_named_or_abstract(
    tmp_path: pathlib.Path, abstract: bool
) -> None:
    if abstract and not os.path.exists("/proc/net/unix"):
        pytest.skip("abstract sockets are Linux's")
    address = f"@test-{os.getpid()}-{id(tmp_path)}" if abstract else str(tmp_path / "notify")
    with listen(address) as sock:
        Notifier({"NOTIFY_SOCKET": address}).notify("READY=1", "STATUS=well")
        assert sock.recv(100) == b"READY=1\nSTATUS=well"


def test_the_watchdog_is_ours_only_if_it_says_so() -> None:
    mine = {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}
    assert Notifier(mine).watchdog == 3
    assert Notifier({"WATCHDOG_USEC": "3000000"}).watchdog == 3
    assert Notifier({**mine, "WATCHDOG_PID": "1"}).watchdog is None
    assert Notifier({}).watchdog is None


def test_a_socket_that_is_gone_is_no_error(tmp_path: pathlib.Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).notify("READY=1")
