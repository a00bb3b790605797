"""generate_creds.sh once .venv is set up: finds its place, maps its arguments, is the program."""

import os
import shutil
import subprocess

import pytest

from credentials_provider.cli import COMMANDS, _with_default_command
from entry.conftest import FAKE_PYTHON, FAKE_UV, Checkout

BOTH = pytest.mark.parametrize(
    "script", ["generate_creds.sh", "credentials-provider/generate_creds.sh"]
)
SHELLS = [
    pytest.param(shell, marks=pytest.mark.skipif(not shutil.which(shell[0]), reason="not here"))
    for shell in (["dash"], ["bash", "--posix"], ["zsh"], ["busybox", "sh"], ["ksh"])
]


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    checkout.set_up()
    return checkout


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ([], ["generate"]),
        (["-f", "-v"], ["generate", "-f", "-v"]),
        (["ci"], ["generate", "ci"]),
        (["", "ci"], ["generate", "", "ci"]),
        (["generate", "ci"], ["generate", "ci"]),
        (["exec", "ci", "--", "sh", "-c", "--demo"], ["exec", "ci", "--", "sh", "-c", "--demo"]),
        (["-f", "status"], ["generate", "-f", "status"]),
        (["--demo"], ["demo"]),
        (["--demo", "--keep"], ["demo", "--keep"]),
        (["-h"], ["generate", "-h"]),
        (["--help"], ["generate", "--help"]),
        (["--version"], ["--version"]),
        (["help", "status"], ["help", "status"]),
        (["--ingress-only", "--force"], ["generate", "--ingress-only", "--force"]),
        *(([name, "x"], [name, "x"]) for name in COMMANDS),
    ],
)
def test_arguments(given: list[str], meant: list[str]) -> None:
    """A command stays what it is, --demo is one, and everything else belongs to generate."""
    assert _with_default_command(given) == meant


@BOTH
def test_arguments_arrive_as_typed(ready: Checkout, script: str) -> None:
    """No word is split, expanded or run on its way to the program."""
    words = ["a b", "*", "$(touch bad)", "`touch bad`", "ü\n\n", "'", '"', "\\", "--", "-n", ""]
    done = ready.run(ready.path(script), "token", *words)
    assert (done.seen["args"], done.seen["script"]) == (["token", *words], True)
    assert not os.path.exists(ready.path("bad"))


@BOTH
def test_working_directory(ready: Checkout, script: str) -> None:
    """Its own place is the root of default paths; the user's stays the working directory."""
    elsewhere = os.path.dirname(ready.root)
    name = os.path.basename(ready.root)
    for command, cwd in (
        ([ready.path(script)], "/"),
        ([f"./{script}"], ready.root),
        ([f"{name}/{script}"], elsewhere),
        ([f"../{name}/{script}"], ready.root),
        (["/bin/sh", script], ready.root),
        (["/bin/sh", os.path.basename(script)], os.path.dirname(ready.path(script))),
    ):
        seen = ready.run(*command, cwd=cwd).seen
        assert (seen["root"], seen["cwd"]) == (ready.root, cwd), command
        assert seen["python"] == ready.path(".venv/bin/python")


def test_cdpath(ready: Checkout) -> None:
    """A CDPATH that holds a folder of the same name leads nowhere."""
    os.makedirs(ready.path("trap/credentials-provider"))
    done = ready.run(
        "/bin/sh", "credentials-provider/generate_creds.sh", env={"CDPATH": ready.path("trap")}
    )
    assert done.seen["root"] == ready.root


@BOTH
def test_symbolic_links(ready: Checkout, script: str) -> None:
    """Links to the script, relative, chained, on PATH or through a linked folder, find its root."""
    folder = os.path.dirname(ready.root)
    os.makedirs(os.path.join(folder, "deep/er"))
    os.symlink(ready.path(script), os.path.join(ready.bin, "absolute"))
    os.symlink("../bin/absolute", os.path.join(folder, "deep/chained"))
    os.symlink("deep/er", os.path.join(folder, "short"))
    os.symlink(f"../../{os.path.basename(ready.root)}/{script}", os.path.join(folder, "short/cut"))
    os.symlink(ready.root, os.path.join(folder, "linked folder"))
    for entry in ("bin/absolute", "deep/chained", "short/cut", f"linked folder/{script}"):
        assert ready.run(os.path.join(folder, entry)).seen["root"] == ready.root, entry
        assert ready.run(f"./{entry}", cwd=folder).seen["root"] == ready.root, entry
    assert ready.run("/bin/sh", "-c", "absolute").seen["root"] == ready.root


@BOTH
@pytest.mark.parametrize("shell", SHELLS)
def test_shells(ready: Checkout, script: str, shell: list[str]) -> None:
    """Any POSIX shell runs it."""
    found = shutil.which(shell[0])
    assert found
    seen = ready.run(found, *shell[1:], ready.path(script), "--demo", "a b").seen
    assert (seen["args"], seen["root"]) == (["--demo", "a b"], ready.root)


def test_exit_status(ready: Checkout) -> None:
    """The program's exit status is the script's."""
    assert ready.start("busy").code == 75


def test_one_process(ready: Checkout) -> None:
    """The script becomes the program, so signals and limits reach it."""
    ready.write(
        "credentials-provider/credentials_provider/__main__.py",
        "import os\ndef main(args, *_, **__): print(os.getpid())\n",
    )
    process = ready.popen([ready.path("credentials-provider/generate_creds.sh")])
    assert process.communicate(timeout=60)[0].strip() == str(process.pid)


def test_set_up_once(ready: Checkout) -> None:
    """A later run asks neither uv nor pip nor another Python, and writes nothing on stderr."""
    ready.tool("uv", FAKE_UV)
    ready.tool("python3", FAKE_PYTHON)
    done = ready.start()
    assert (done.code, done.calls, done.stderr) == (0, [], "")


def test_bare_environment(ready: Checkout) -> None:
    """An empty environment with the system's PATH is enough."""
    done = subprocess.run(
        [ready.path("generate_creds.sh"), "status"],
        env={"PATH": "/usr/bin:/bin"},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        start_new_session=True,
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_isolated(ready: Checkout) -> None:
    """Neither the user's variables nor the working directory decide what is imported."""
    trap = os.path.join(os.path.dirname(ready.root), "trap")
    ready.write(os.path.join(trap, "json.py"), "raise SystemExit('trapped')\n")
    variables = {"PYTHONPATH": trap, "PYTHONHOME": trap, "PYTHONSTARTUP": trap}
    seen = ready.start("status", cwd=trap, env=variables).seen
    assert trap not in seen["path"]
    assert "" not in seen["path"]


@pytest.mark.parametrize(("umask", "compiled"), [(0o000, False), (0o002, False), (0o022, True)])
def test_byte_code(ready: Checkout, umask: int, compiled: bool) -> None:
    """Where others could write into the folder of the byte code, none is made."""
    assert ready.start("status", umask=umask).code == 0
    package = ready.path("credentials-provider/credentials_provider")
    assert os.path.exists(os.path.join(package, "__pycache__")) == compiled


def test_on_windows(ready: Checkout) -> None:
    """Git Bash finds the Python of a virtual environment where Windows has it."""
    os.rename(ready.path(".venv/bin"), ready.path(".venv/Scripts"))
    os.rename(ready.path(".venv/Scripts/python"), ready.path(".venv/Scripts/python.exe"))
    assert ready.start("status").seen["python"] == ready.path(".venv/Scripts/python.exe")


def test_dotenv_is_data(ready: Checkout) -> None:
    """A .env file is never executed."""
    ready.write(".env", "touch bad\nX=$(touch bad)\n")
    assert ready.start().code == 0
    assert not os.path.exists(ready.path("bad"))


def test_read_only_checkout(ready: Checkout) -> None:
    """A checkout that nobody may write to works, once set up."""
    os.remove(ready.path(".venv/bin/python"))  # whose target others may not reach
    os.chmod(ready.write(".venv/bin/python", '#!/bin/sh\necho "$4"\n'), 0o755)
    done = ready.start("status", **ready.protect())
    assert (done.code, done.stdout, done.stderr) == (0, "status\n", "")
