"""A machine that gives little: few threads, little memory. Fewer workers, told in a line."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from credentials_provider.cli import _known
from support import apps, wait

from .tracing import tracing

if TYPE_CHECKING:
    from support import Command, Project, Ran

MANY = 40


def with_threads(run: Command, count: int, *args: str) -> Ran:
    """The command in a process that may start so many threads (EAGAIN, as RLIMIT_NPROC says it)."""
    refuse = f"inject=/^clone3?$:error=EAGAIN:when={count + 1}+"
    tracer = ["strace", "-qq", "-o", os.devnull, "-e", "trace=/^clone3?$", "-e", refuse]
    return wait(run.start_line([*tracer, *run.line(*args)]))


def with_memory(run: Command, megabytes: int, *args: str) -> Ran:
    """The command in a process with an address space of that size."""
    script = f'ulimit -v {megabytes * 1024}; exec "$@"'
    return wait(run.start_line(["sh", "-c", script, "sh", *run.line(*args)]))


@tracing
def test_where_few_threads_can_be_started_fewer_work(project: Project, run: Command) -> None:
    """All is done, and the warning says why it takes longer."""
    project.add_all(apps(MANY))
    ran = with_threads(run, 4)  # the first one passes signals on
    assert (ran.code, len(project.tokens())) == (0, MANY), ran.stderr
    assert "warning: this process may start only 3 threads (ulimit -u, ulimit -v)" in ran.stderr


@tracing
def test_where_no_thread_can_be_started_the_tokens_on_disk_stay(
    project: Project, run: Command
) -> None:
    project.add_all(apps(2))
    assert run().code == 0
    for app in apps(2):
        project.age(app.name, left=120)
    before = project.files()
    ran = with_threads(run, 0, "--refresh-ahead", "--json")
    assert ran.code == 78
    assert {each["outcome"] for each in ran.json["results"]} == {"kept"}
    assert "may not start a single thread" in ran.stdout
    assert "Traceback" not in ran.stderr
    assert project.files() == before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux holds the limit")
@pytest.mark.parametrize("megabytes", [90, 130, 200, 400, 800])
def test_where_the_address_space_is_small_fewer_work(
    project: Project, run: Command, megabytes: int
) -> None:
    """What a thread takes is left for the work of all: OpenSSL calls anything a bad certificate."""
    project.add_all(apps(MANY))
    ran = with_memory(run, megabytes, "--deadline", "20s")
    assert (ran.code, len(project.tokens())) == (0, MANY), ran.stderr
    assert ran.stderr.count("warning: this process may start only") == 1


def test_a_want_of_memory_is_no_mistake_of_this_program() -> None:
    assert "too little memory" in _known(MemoryError()).message
