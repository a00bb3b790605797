"""The Python files that start the program without the shell entry."""

import ast
import os

import pytest

from entry.conftest import PROJECT, PYTHON, Checkout

PROGRAM = "credentials-provider/credentials_provider/cli.py"
GENERATE = "credentials-provider/entra/generate_tokens.py"
STARTERS = pytest.mark.parametrize(
    ("starter", "before"),
    [
        ("credentials-provider", []),
        ("credentials-provider/__main__.py", []),
        (GENERATE, ["generate"]),
    ],
)


@STARTERS
def test_program_and_root(checkout: Checkout, starter: str, before: list[str]) -> None:
    """From any directory and through a link: the arguments as given, the checkout as root."""
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
    assert checkout.run(PYTHON, starter, "busy").code == 75


@STARTERS
@pytest.mark.parametrize("late", [False, True], ids=["at import", "in a command"])
def test_missing_module(checkout: Checkout, starter: str, before: list[str], late: bool) -> None:
    """A Python without the dependencies gets one line that names the shell entry."""
    assert before in ([], ["generate"])
    absent = "import absent.part\n"
    checkout.write(PROGRAM, f"def main(args, *, root):\n    {absent}" if late else absent)
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


@pytest.mark.parametrize("starter", ["credentials-provider/__main__.py", GENERATE])
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
