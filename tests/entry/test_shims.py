"""The Python files that start the program without the shell entry."""

import ast
import os
import sys

import pytest

from entry.conftest import FAKE_UV, PROJECT, PYTHON, Checkout

PROGRAM = "credentials-provider/credentials_provider/__main__.py"
SHIMS = [f"credentials-provider/entra/{name}.py" for name in ("generate_tokens", "get_m2m_token")]
STARTERS = pytest.mark.parametrize(
    ("starter", "before"),
    [
        ("credentials-provider", []),
        ("credentials-provider/__main__.py", []),
        *((shim, ["generate"]) for shim in SHIMS),
    ],
)


@STARTERS
def test_program_and_root(checkout: Checkout, starter: str, before: list[str]) -> None:
    """From any directory and through a link: the arguments as given, the checkout as root."""
    checkout.set_up()
    os.symlink(checkout.path(starter), os.path.join(checkout.bin, "linked"))
    for command, cwd in (
        (checkout.path(starter), "/"),
        (starter, checkout.root),
        (f"../{os.path.basename(checkout.root)}/{starter}", checkout.root),
        ("bin/linked", os.path.dirname(checkout.bin)),
    ):
        seen = checkout.run(PYTHON, command, "-v", "a b", cwd=cwd).seen
        assert seen["args"] == [*before, "-v", "a b"], command
        assert (seen["root"], seen["cwd"]) == (checkout.root, cwd), command


@STARTERS
def test_exit_status(checkout: Checkout, starter: str, before: list[str]) -> None:
    """The program's exit status is the process's."""
    assert before in ([], ["generate"])
    checkout.set_up()
    assert checkout.run(PYTHON, starter, "busy").code == 75


@STARTERS
@pytest.mark.parametrize("late", [False, True], ids=["at import", "in a command"])
def test_missing_module(checkout: Checkout, starter: str, before: list[str], late: bool) -> None:
    """A Python without the dependencies gets one line that names the shell entry."""
    assert before in ([], ["generate"])
    absent = "import absent.part\n"
    checkout.write(PROGRAM, f"def main(args, *_, **__):\n    {absent}" if late else absent)
    checkout.set_up()
    done = checkout.run(PYTHON, starter)
    assert (done.code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "absent" in done.stderr
    assert checkout.path("generate_creds.sh") in done.stderr


def test_damaged_venv(checkout: Checkout) -> None:
    """Where .venv itself lacks a module, removing it is part of the cure."""
    checkout.set_up()
    checkout.write(".venv/pyvenv.cfg", f"home = {os.path.dirname(PYTHON)}\n")
    checkout.write(PROGRAM, "import absent\n")
    done = checkout.start()
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert f"{checkout.venv} is damaged" in done.stderr


def test_missing_part_of_the_program(checkout: Checkout) -> None:
    """A module of our own that is missing is a defect, and shows as one."""
    checkout.write(PROGRAM, "import credentials_provider.absent\n")
    done = checkout.run(PYTHON, "credentials-provider")
    assert done.code == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("shim", SHIMS)
def test_the_guides_line_sets_up(checkout: Checkout, shim: str) -> None:
    """A Python without the packages, as uv's own for a script, leaves the work to the shell entry.

    What `uv run` would install for it by itself is nothing: no index decides a version.
    """
    checkout.tool("uv", FAKE_UV)
    done = checkout.run(PYTHON, shim, "--verbose")
    assert done.seen["args"] == ["generate", "--verbose"]
    assert done.seen["python"] == checkout.path(".venv/bin/python")
    assert len(done.calls) == 2
    with open(os.path.join(PROJECT, shim), encoding="utf-8") as file:
        assert "# dependencies = []\n" in file.read().partition("# ///\n")[0]


def test_a_venv_that_has_the_packages_is_used(checkout: Checkout) -> None:
    """Whoever keeps an environment for it, as the tests do, needs no second one."""
    done = checkout.run(sys.executable, SHIMS[0], "-v", env={"PYTHONPATH": ""})
    assert done.seen["args"] == ["generate", "-v"]
    assert not os.path.exists(checkout.venv)


@pytest.mark.parametrize("starter", ["credentials-provider/__main__.py"])
def test_old_python(checkout: Checkout, starter: str) -> None:
    """A Python before 3.10 can read the file, and says in one line what is needed."""
    with open(os.path.join(PROJECT, starter), encoding="utf-8") as file:
        ast.parse(file.read(), feature_version=(3, 6))
    code = (
        "import runpy, sys; sys.version_info = (3, 9, 18); sys.argv[0:1] = [];"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = checkout.run(PYTHON, "-c", code, starter)
    assert (done.code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "3.10" in done.stderr
    assert "3.9" in done.stderr
    assert checkout.path("generate_creds.sh") in done.stderr
