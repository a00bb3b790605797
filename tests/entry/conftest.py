"""Copies of the checkout to start the real scripts in, with recorded stand-ins for the tools.

checkout.tool("uv", FAKE_UV)        # earlier on PATH than anything real
done = checkout.start("status")     # ./generate_creds.sh status
assert done.calls == []             # what the stand-ins were asked to do
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = os.path.realpath(sys.executable)
NOBODY = 65534

# The real tools that the scripts may use: nothing here can make a virtual environment.
TOOLS = """
    cat chmod cmp cp date dirname find ln mkdir mv readlink rm sed sleep tail touch uname
"""

SCRIPTS = (
    "generate_creds.sh",
    "credentials-provider/generate_creds.sh",
    "credentials-provider/setup_venv.sh",
    "credentials-provider/__main__.py",
    "credentials-provider/entra/generate_tokens.py",
    "credentials-provider/entra/get_m2m_token.py",
    "tests/run.sh",
)

# Prints what it was called with. The package itself is not the subject here.
FAKE_PACKAGE = """
import json, os, sys

def main(args=None, root="", *, script=False):
    print(json.dumps({"args": args, "root": root, "script": script, "cwd": os.getcwd(),
                      "python": sys.executable, "path": sys.path}))
    sys.exit(75 if "busy" in args else 0)
"""

FAKE_UV = """#!/bin/sh
echo "uv $*" >>"$CALLS"
case $1 in
    venv)
        for venv; do :; done
        mkdir -p "$venv/bin" && ln -sf "$PYTHON" "$venv/bin/python"
        ;;
esac
"""

FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
    '-I -c')
        [ $# -gt 4 ] && exec "$PYTHON" "$@"
        echo "$0" && exit
        ;;
    '-I -m')
        shift
        [ "$2" != venv ] || { mkdir -p "$4/bin" && cp "$0" "$4/bin/python"; }
        ;;
    *) exec "$PYTHON" "$@" ;;
esac
echo "python $*" >>"$CALLS"
"""


@dataclass(frozen=True)
class Done:
    """A finished run."""

    code: int
    stdout: str
    stderr: str
    calls: list[str]

    @property
    def seen(self) -> Any:
        """What the program said that it was called with."""
        assert self.stdout, self.stderr
        return json.loads(self.stdout)


@dataclass(frozen=True)
class Checkout:
    root: str
    bin: str
    tools: str

    @property
    def venv(self) -> str:
        return self.path(".venv")

    @property
    def busy(self) -> str:
        return self.path(".venv.lock")

    @property
    def complete(self) -> bool:
        """Whether a next run would take the virtual environment for set up."""
        try:
            return self.read(".venv/requirements.lock") == self.read("requirements.lock")
        except FileNotFoundError:
            return False

    def path(self, name: str) -> str:
        return os.path.join(self.root, name)

    def read(self, name: str) -> str:
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def write(self, name: str, text: str) -> str:
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def tool(self, name: str, script: str) -> None:
        """Puts a stand-in first on PATH."""
        path = self.write(os.path.join(self.bin, name), script)
        os.chmod(path, 0o755)

    def calls(self) -> list[str]:
        try:
            return self.read("calls").splitlines()
        except FileNotFoundError:
            return []

    def environment(self, **more: str) -> dict[str, str]:
        """As bare as cron's: no HOME, no locale, no terminal."""
        path = os.pathsep.join((self.bin, self.tools))
        return {"PATH": path, "CALLS": self.path("calls"), "PYTHON": PYTHON, **more}

    def popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[str]":
        options.setdefault("cwd", self.root)
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=self.environment(**options.pop("env", {})),
            **options,
        )

    def run(self, *command: str, **options: Any) -> Done:
        before = len(self.calls())
        process = self.popen(command, **options)
        stdout, stderr = process.communicate(timeout=60)
        return Done(process.returncode, stdout, stderr, self.calls()[before:])

    def start(self, *args: str, **options: Any) -> Done:
        """Runs ``./generate_creds.sh``."""
        return self.run(self.path("generate_creds.sh"), *args, **options)

    def set_up(self) -> None:
        """Leaves behind what a first run does, without running one."""
        os.makedirs(self.path(".venv/bin"))
        os.symlink(PYTHON, self.path(".venv/bin/python"))
        shutil.copy(self.path("requirements.lock"), self.venv)

    def protect(self) -> dict[str, int]:
        """Makes everything read-only; returns the options for a run that this holds for."""
        for folder, _, names in os.walk(self.root):
            for path in (folder, *(os.path.join(folder, name) for name in names)):
                if not os.path.islink(path):
                    os.chmod(path, stat.S_IMODE(os.stat(path).st_mode) & ~0o222)
        return {"user": NOBODY, "group": NOBODY} if os.geteuid() == 0 else {}

    def unprotect(self) -> None:
        for folder, _, _ in os.walk(self.root):
            os.chmod(folder, 0o755)


@pytest.fixture
def checkout() -> Iterator[Checkout]:
    """A copy whose path has what paths have in the wild, and that other users can reach."""
    with tempfile.TemporaryDirectory(prefix="entry-") as folder:
        os.chmod(folder, 0o755)
        copy = Checkout(
            *(
                os.path.join(os.path.realpath(folder), name)
                for name in ("Prüf ' stand", "bin", "tools")
            )
        )
        for name in SCRIPTS:
            os.makedirs(os.path.dirname(copy.path(name)), exist_ok=True)
            shutil.copy(os.path.join(PROJECT, name), copy.path(name))
        copy.write("requirements.lock", "nothing==1\n")
        copy.write("tests/requirements.lock", "nothing==2\n")
        copy.write("credentials-provider/credentials_provider/__init__.py", "")
        copy.write("credentials-provider/credentials_provider/__main__.py", FAKE_PACKAGE)
        os.mkdir(copy.bin)
        os.mkdir(copy.tools)
        for tool in TOOLS.split():
            real = shutil.which(tool)
            assert real, tool
            os.symlink(real, os.path.join(copy.tools, tool))
        yield copy
        copy.unprotect()
