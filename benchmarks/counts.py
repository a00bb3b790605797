"""Counts what the program does where time would depend on the machine; fails on gross regressions.

Requests, connections, modules, system calls (where there is an strace that may trace). The limits
leave room for another Python or another release of a library, not for another way of doing things.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

from fleet import Place, fleet
from measuring import can_trace, modules, system_calls
from provider import Provider

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

MANY = 100
CONNECTIONS = 8
NOTHING = "import click"
HERE = ("-i", ".oauth-tokens/entra-identities.json", "-o", ".oauth-tokens")
PROGRAM = "import sys; from credentials_provider.cli import main; main(sys.argv[1:])"

# Happen as often as the scheduler or the allocator likes.
_BY_CHANCE = frozenset(
    {"brk", "clock_nanosleep", "exit", "exit_group", "futex", "getpid", "gettid", "madvise", "mmap"}
    | {"mprotect", "munmap", "poll", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask"}
    | {"rt_sigreturn", "sched_yield", "set_robust_list"}
)

Check = tuple[str, float, float]  # what, how many, how many at most


def main() -> None:
    """Print every count with its limit; exit with 1 if one of them is beyond it."""
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        failed = False
        for what, found, limit in _checks(folder):
            failed = failed or found > limit
            print(f"{what:58} {found:8g} {limit:8g} {'TOO MANY' if found > limit else ''}")
        sys.exit(1 if failed else 0)


def _checks(folder: str) -> Iterator[Check]:
    one, many = (Place(os.path.join(folder, str(count))) for count in (1, MANY))
    one.make(fleet(1))
    many.make(fleet(MANY))
    with Provider(MANY) as provider:
        host = (*HERE, "--login-base-url", provider.base_url)
        trust = ("--ca-bundle", provider.ca_file)
        cold = modules(PROGRAM, one.folder, "generate", *host, *trust)
    with Provider(MANY, port=provider.port) as provider:
        trust = ("--ca-bundle", provider.ca_file)
        modules(PROGRAM, many.folder, "generate", "-j", str(CONNECTIONS), *host, *trust)
    yield "batch: requests of one identity", provider.counts.most, 1
    yield "batch: identities that did not ask", MANY - provider.counts.identities, 0
    yield "batch: requests for anything but tokens", provider.counts.other_requests, 0
    yield "batch: connections", provider.counts.connections, CONNECTIONS

    with Provider(MANY, port=provider.port, latency=0.05, throttled="50/10/1") as provider:
        trust = ("--ca-bundle", provider.ca_file)
        modules(PROGRAM, many.folder, "generate", "--force", *host, *trust)
    yield "throttled: identities without a request", MANY - provider.counts.identities, 0
    yield (
        "throttled: requests beyond tokens and refusals",
        (provider.counts.token_requests - provider.counts.refused - MANY),
        0,
    )
    yield "throttled: refusals a token", provider.counts.refused / MANY, 1.5

    click = modules(NOTHING, one.folder)
    ahead = ("generate", "--refresh-ahead", *host)
    status, token = ("status", *host), ("token", "worker-00000", *host)
    yield "cold: modules beyond click's", len(cold - click), 350
    yield (
        "nothing due: modules beyond click's",
        len(modules(PROGRAM, one.folder, *ahead) - click),
        36,
    )
    yield "token: modules beyond click's", len(modules(PROGRAM, one.folder, *token) - click), 36
    yield "status: modules beyond click's", len(modules(PROGRAM, one.folder, *status) - click), 40
    if not can_trace():
        print("no strace that may trace: no system calls are counted")
        return

    single = system_calls(PROGRAM, one.folder, *ahead)
    several = system_calls(PROGRAM, many.folder, *ahead)
    beyond = _steps(single) - _steps(system_calls(NOTHING, one.folder))
    yield "nothing due: system calls beyond click's", beyond, 650
    yield (
        "nothing due: system calls an identity",
        (_steps(several) - _steps(single)) / (MANY - 1),
        7,
    )
    with Provider(MANY, port=provider.port) as provider:
        renew = ("generate", "-j", str(CONNECTIONS), *host, "--ca-bundle", provider.ca_file)
        single = system_calls(PROGRAM, one.folder, *renew)
        several = system_calls(PROGRAM, many.folder, *renew)
    yield "batch: system calls a token", (_steps(several) - _steps(single)) / (MANY - 1), 46
    yield "batch: fsync(2) beyond one a token", several["fsync"] - MANY, 2


def _steps(calls: Counter[str]) -> int:
    return sum(count for name, count in calls.items() if name not in _BY_CHANCE)


if __name__ == "__main__":
    main()
