"""Processes: how long they take, in turn, and what they do, counted."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fleet import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_CONSOLE = "import sys; from credentials_provider.__main__ import main; sys.exit(main())"
_KILOBYTE = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss
_MODULES = """
import json, sys
try:
    {}
except SystemExit:
    pass
print(json.dumps([*sys.modules]), file=sys.stderr)
"""


class Command(NamedTuple):
    """A command line and the folder that it runs in."""

    line: Sequence[str]
    folder: str

    def start(self, **options: Any) -> subprocess.Popen[bytes]:
        """In a bare environment and without input. `options` are Popen's."""
        options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.line, cwd=self.folder, env=environment(self.folder), **options)


class Took(NamedTuple):
    """What a process took: seconds of time and of processor, bytes resident at most."""

    wall: float
    cpu: float
    resident: int


class Ratio(NamedTuple):
    """How one command compares with another that ran in turn with it."""

    best: float  # of each one's shortest run: what is left when nobody disturbs
    median: float  # of the pairs


def environment(folder: str) -> dict[str, str]:
    """A bare one: nothing of the tester's proxies, authorities and tokens."""
    return {"PATH": os.environ["PATH"], "HOME": folder, "LANG": "C.UTF-8", "PYTHONPATH": PACKAGES}


def console_script(folder: str) -> list[str]:
    """The command line of what pip installs as `credentials-provider`."""
    path = os.path.join(folder, "credentials-provider")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(_CONSOLE.split("; ")) + "\n")
    return [sys.executable, path]


def run(command: Command) -> Took:
    """Run a command to its end. Raises `SystemExit` with what it printed if it fails."""
    with tempfile.TemporaryFile() as output:
        began = time.perf_counter()
        process = command.start(stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            said = output.read().decode(errors="replace")
            raise SystemExit(f"{command.line} ended with {process.returncode}: {said[-2000:]}")
    return Took(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * _KILOBYTE)


def in_turn(commands: Iterable[Command], rounds: int) -> list[list[Took]]:
    """Each command's runs, `rounds` of them after one that does not count, as in A B C A B C."""
    each = [*commands]
    table = [[run(command) for command in each] for _ in range(rounds + 1)]
    return [list(column) for column in zip(*table[1:], strict=True)]


def ratio(
    ours: Sequence[Took],
    theirs: Sequence[Took],
    of: Callable[[Took], float] = lambda took: took.wall,
) -> Ratio:
    """Runs over the runs that were made in turn with them."""
    pairs = [of(a) / of(b) for a, b in zip(ours, theirs, strict=True)]
    return Ratio(min(map(of, ours)) / min(map(of, theirs)), statistics.median(pairs))


# What is counted is counted without `site`: a virtual environment may load modules of its own.


def modules(statement: str, folder: str, *arguments: str) -> set[str]:
    """The modules that are loaded when a statement has run in a process of its own."""
    line = [sys.executable, "-S", "-c", _MODULES.format(statement), *arguments]
    return set(json.loads(_run_without_site(line, folder).stderr.splitlines()[-1]))


def can_trace() -> bool:
    """Whether there is an strace that may trace."""
    if shutil.which("strace") is None:
        return False
    probe = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, check=False)
    return probe.returncode == 0


def system_calls(statement: str, folder: str, *arguments: str) -> Counter[str]:
    """The system calls of a statement in a process of its own, threads included, by name."""
    path = os.path.join(folder, "calls.strace")
    line = ["strace", "-f", "-qq", "-s", "0", "-o", path]
    _run_without_site([*line, sys.executable, "-S", "-c", statement, *arguments], folder)
    with open(path, encoding="utf-8", errors="replace") as file:
        calls = [line.split(None, 1)[1].partition("(")[0] for line in file]
    return Counter(call for call in calls if call.isidentifier())


def _run_without_site(line: Sequence[str], folder: str) -> subprocess.CompletedProcess[str]:
    packages = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    env = {**environment(folder), "PYTHONPATH": os.pathsep.join([PACKAGES, *packages])}
    return subprocess.run(line, cwd=folder, env=env, capture_output=True, check=True, text=True)
