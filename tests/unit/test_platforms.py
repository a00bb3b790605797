"""Other systems than the one that runs the tests: what can be shown here, and what is claimed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from support import CHECKOUT, PACKAGES, environment

# As on Windows: these modules and names are missing, for us. Libraries look after themselves.
IMPORT_ALL = """
import asyncio, builtins, http.server, importlib, os, pkgutil, shutil, signal, socket, subprocess
import click, cryptography.x509, filelock, msal, prometheus_client, rich, ruamel.yaml, trustme
import credentials_provider

NAME = "credentials_provider"
MISSING = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
found = builtins.__import__

def look(name, globals=None, *more):
    if name in MISSING and globals and globals.get("__name__", "").startswith(NAME):
        raise ImportError(name)
    return found(name, globals, *more)

builtins.__import__ = look
for module, names in (
    (os, "O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK fchmod fchown chown geteuid getuid mkfifo"),
    (signal, "SIGALRM SIGHUP SIGKILL SIGPIPE SIGQUIT SIGUSR1"),
    (socket, "AF_UNIX"),
):
    for name in names.split():
        delattr(module, name)
for module in pkgutil.walk_packages(credentials_provider.__path__, f"{NAME}."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def test_every_module_can_be_imported_where_posix_is_missing(tmp_path: Path) -> None:
    """A function may need more; then it says so."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        env=environment(str(tmp_path), {"PYTHONPATH": PACKAGES, "PYTHONWARNINGS": "default"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_no_system_is_claimed_without_a_list_of_what_is_untested_there() -> None:
    """The classifiers name the systems that the table calls supported."""
    project = Path(CHECKOUT, "pyproject.toml").read_text(encoding="utf-8")
    claimed = set(re.findall(r'"Operating System :: (?:POSIX :: )?(\w+)"', project))
    text = Path(CHECKOUT, "docs", "platforms.md").read_text(encoding="utf-8")
    table = dict(re.findall(r"^\| (\w+) \| (yes|no) \|", text, re.MULTILINE))
    assert {name for name, supported in table.items() if supported == "yes"} == {
        {"MacOS": "macOS"}.get(each, each) for each in claimed
    }
    for name in table.keys() - {"Linux"}:
        assert f"\n## {name}\n" in text
