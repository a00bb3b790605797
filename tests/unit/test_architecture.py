"""How the modules hang together, and what a run with nothing due does without."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import credentials_provider
from credentials_provider.policy import LONGEST_LIFE
from unit.making import sample_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unit.making import Project

NAME = credentials_provider.__name__
PACKAGE = Path(str(credentials_provider.__file__)).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path != PACKAGE / "__init__.py"
}

# Imports run one way: a room may import itself and the rooms before it.
ROOMS = [
    *(
        "errors",
        "extras",
        "policy",
        "permissions",
        "files",
        "json_text",
        "dotenv_file",
        "environment",
        "settings",
        "minting",
        "model",
    ),
    *("transport", "tokens", "identities", "credentials", "entra", "run", "lifecycle"),
    *("endpoint", "python_api", "assistants", "schedule", "diagnostics", "cli", "__main__"),
]
OWNERS = {
    "dotenv": {"dotenv_file"},
    "filelock": {"tokens.store"},
    "msal": {"entra.client_credentials"},
    "prometheus_client": {"run.metrics"},
    "pydantic": {"identities.problems"},
    "pydantic_core": {"identities.problems"},
    "rich": {"cli.output"},
    "tenacity": {"files", "transport.retrying"},  # the former on Windows alone
    "urllib3": {"transport.connections", "transport.sockets", "transport.streaming"},
}
# Each costs more than all the rest of a run with nothing due.
HEAVY = {
    *("pydantic", "pydantic_core", "msal", "requests", "urllib3", "tenacity", "filelock", "rich"),
    *("dotenv", "cryptography", "jwt", "trustme", "prometheus_client"),
}

# Rooms that everything relies on.
CORE = {"policy", "permissions", "files", "json_text", "settings"}
CORE |= {"transport", "tokens", "identities", "credentials", "entra", "run", "lifecycle"}
LONGEST_MODULE, LONGEST_FUNCTION = 400, 50  # lines


class Import(NamedTuple):
    """One module that is imported, and by whom."""

    by: str
    of: str  # full name

    @property
    def own(self) -> str | None:
        """The module of ours that it is, if it is one."""
        name = self.of.removeprefix(f"{NAME}.")
        while self.of.startswith(f"{NAME}.") and name:
            if name in MODULES:
                return name
            name = name.rpartition(".")[0]
        return None


def imports(module: str) -> Iterator[Import]:
    """All of a module, those in functions and for types included."""
    path = MODULES[module]
    package = [NAME, *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (Import(module, each.name) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield from (Import(module, f"{source}.{each.name}") for each in node.names)


ALL = [each for module in MODULES for each in imports(module)]


def room(module: str) -> str:
    return module.partition(".")[0]


def test_every_room_and_library_is_there() -> None:
    """Else the tests below would hold without saying anything."""
    found = {room(module) for module in MODULES} - {"emulator"}
    assert found <= {*ROOMS}
    assert {room(each.of) for each in ALL} >= OWNERS.keys()
    assert {each.own for each in ALL if each.by == "run.batch"} >= {"tokens.plan", "model"}


def test_a_room_imports_only_itself_and_the_rooms_before_it() -> None:
    """Types included: one way, no circle."""
    for each in ALL:
        if each.own and room(each.by) != "emulator" and room(each.own) != "emulator":
            assert ROOMS.index(room(each.own)) <= ROOMS.index(room(each.by)), each


def test_the_emulator_and_the_program_know_nothing_of_one_another() -> None:
    """Else it would be no oracle; the commands that start it are all that joins them."""
    for each in ALL:
        if room(each.by) == "emulator":
            assert each.own is None or room(each.own) == "emulator", each
        elif each.own and room(each.own) == "emulator":
            assert room(each.by) == "cli", each


def test_modules_and_functions_are_short() -> None:
    """A module fits in the head, a function on a screen. Ruff holds their complexity."""
    for path in MODULES.values():
        text = path.read_text()
        assert len(text.splitlines()) <= LONGEST_MODULE, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                assert node.end_lineno is not None
                assert node.end_lineno - node.lineno < LONGEST_FUNCTION, (path, node.name)


def test_the_tests_of_a_core_module_are_found_by_its_name() -> None:
    """Or tests/README.md says where they are; what it names is there."""
    tests = Path(__file__).parents[1]
    page = (tests / "README.md").read_text()
    present = {path.stem for path in tests.glob("*/test_*.py")}
    for module, path in MODULES.items():
        if room(module) in CORE and path.name != "__init__.py":
            assert f"test_{path.stem}" in present or f"`{module.replace('.', '/')}`" in page, module
    for name in re.findall(r"`(\w+/test_\w+\.py)`", page):
        assert (tests / name).exists(), name
    folders = {path.name for path in tests.iterdir() if (path / "__init__.py").exists()}
    assert folders <= {*re.findall(r"`(\w+)/`", page)}


@pytest.mark.parametrize("library", OWNERS)
def test_a_library_is_imported_by_its_owner_alone(library: str) -> None:
    """What it can do wrong is explained in our words in one place."""
    assert {each.by for each in ALL if room(each.of) == library} == OWNERS[library]


RUN = f"""
import json, sys
from {NAME}.cli import main
try:
    main(["generate", *sys.argv[1:]])
except SystemExit as end:
    code = end.code
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def run(project: Project, *arguments: str) -> tuple[int, set[str], str]:
    """Exit code, modules that were loaded, and what a process of its own printed."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PACKAGE.parent),
        "CREDENTIALS_PROVIDER_HOME": ".",
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=project.root,
        env=environment,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules), done.stdout


def test_a_run_with_nothing_due_loads_no_library_but_click(project: Project) -> None:
    """It costs little more than starting Python."""
    project.identities("ci", "other")
    for name in ("ci", "other"):
        project.token(
            name, issued_at=int(time.time()), life=LONGEST_LIFE, renew_at=int(time.time()) + 3600
        )
    code, modules, stdout = run(project, "--refresh-ahead")
    assert code == 0
    assert stdout.startswith("Tokens saved:")
    assert modules & HEAVY == set()
    assert "click" in modules


def test_a_timer_s_run_loads_nothing_for_warnings_that_it_has_not(project: Project) -> None:
    """What says each of them once a day reads and hashes when there is one."""
    project.identities("ci")
    project.token("ci", issued_at=int(time.time()), life=LONGEST_LIFE)
    _, modules, _ = run(project, "--refresh-ahead")
    _, quiet, _ = run(project, "--refresh-ahead", "--quiet")
    assert quiet - modules == {f"{NAME}.run.daily"}


def test_short_options_load_nothing_that_helps_with_mistakes(project: Project) -> None:
    """As a timer writes them; mistyped ones get their suggestion all the same."""
    project.identities("ci")
    project.token("ci", issued_at=int(time.time()), life=LONGEST_LIFE)
    file, folder = str(project.identities_file), str(project.folder)
    code, modules, _ = run(project, "-i", file, "-o", folder, "--refresh-ahead")
    assert code == 0
    assert modules & {"difflib", "locale"} == set()


def test_only_a_mistake_needs_pydantic(project: Project) -> None:
    """What keeps the rules beyond doubt is spared its import, most of a cold start."""
    project.identities("ci")
    code, modules, _ = run(project, "--dry-run")
    assert code == 0
    assert modules & HEAVY == set()
    project.folder.joinpath(".credentials-provider.lock").mkdir()  # ends the run before msal
    code, modules, _ = run(project)
    assert code == 1
    assert modules & HEAVY == {"filelock"}
    project.identities("ci", sample_fields(scope="api://somewhere"))
    code, modules, _ = run(project)
    assert code == 2
    assert modules & HEAVY == {"pydantic", "pydantic_core"}


def test_a_run_with_a_dotenv_file_loads_dotenv_alone(project: Project) -> None:
    """For what it is there for."""
    project.identities("ci")
    project.token(
        "ci", issued_at=int(time.time()), life=LONGEST_LIFE, renew_at=int(time.time()) + 3600
    )
    (project.root / ".env").write_text("AUTH_PROVIDER=entra\n")
    code, modules, _ = run(project, "--refresh-ahead")
    assert code == 0
    assert modules & HEAVY == {"dotenv"}
