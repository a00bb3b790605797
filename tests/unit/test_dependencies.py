"""What is installed is what was pinned, and the checks of the source leave nothing out."""

from __future__ import annotations

import contextlib
import re
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import tomlkit
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support import CHECKOUT, PACKAGES

PROJECT: Any = tomlkit.parse(Path(CHECKOUT, "pyproject.toml").read_text(encoding="utf-8")).unwrap()
RUN, TEST = "requirements.lock", "tests/requirements.lock"
WANTED = {
    RUN: PROJECT["project"]["dependencies"],
    TEST: [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["test"]],
}
_PINNED = re.compile(
    r"([a-z0-9.-]+)(\[[a-z0-9,.-]+\])?==([^\s;]+)( ; [^\\]+)?"
    r"((?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)


class Pin(NamedTuple):
    name: str
    extras: frozenset[str]
    version: str
    marker: str


def pins(lock: str) -> list[Pin]:
    text = Path(CHECKOUT, lock).read_text(encoding="utf-8")
    return [
        Pin(found[1], frozenset((found[2] or "[]")[1:-1].split(",")), found[3], found[4] or "")
        for found in _PINNED.finditer(text)
    ]


@pytest.mark.parametrize("lock", WANTED)
def test_every_package_is_pinned_by_hash(lock: str) -> None:
    """A lock is wheels alone and pins with their files' hashes: no index, no address, no range."""
    text = Path(CHECKOUT, lock).read_text(encoding="utf-8")
    assert pins(lock)
    assert _PINNED.sub("", text) == "--only-binary :all:\n\n"


@pytest.mark.parametrize("lock", WANTED)
def test_a_pin_has_the_extras_that_others_ask_of_it(lock: str) -> None:
    """Where a pin lacks them, pip before 23.3 looks for the newest release of `coverage[toml]`.

    An index that holds a newer release than the lock then ends the set-up, for want of its hash.
    """
    locked = {pin.name: pin.extras for pin in pins(lock)}
    asked = [Requirement(each) for each in WANTED[lock]]
    for name in locked:
        with contextlib.suppress(PackageNotFoundError):  # for another platform or Python
            asked += map(Requirement, requires(name) or ())
    found = 0
    for each in asked:
        if each.extras and (each.marker is None or each.marker.evaluate({"extra": ""})):
            found += 1
            assert each.extras <= locked[canonicalize_name(each.name)], each
    assert found  # msal asks for PyJWT[crypto]


@pytest.mark.parametrize("lock", WANTED)
def test_the_locks_are_those_of_the_project(lock: str) -> None:
    """Whatever pyproject.toml asks for is locked, in versions that it takes."""
    for each in WANTED[lock]:
        wanted = Requirement(each)
        locked = [pin for pin in pins(lock) if pin.name == canonicalize_name(wanted.name)]
        assert locked, each
        # Several, where Pythons need different ones; then every one has its marker.
        assert len(locked) == 1 or all(pin.marker for pin in locked), each
        for pin in locked:
            assert wanted.specifier.contains(pin.version, prereleases=True), each


def test_the_tests_run_what_is_installed() -> None:
    """Both locks agree on every package that the program needs."""
    assert set(pins(RUN)) <= set(pins(TEST))


def test_no_rule_about_security_is_left_out() -> None:
    """Ruff's S rules hold for the program; each exception stands in its line, with a reason."""
    lint = PROJECT["tool"]["ruff"]["lint"]
    security = re.compile(r"S(\d+)?")
    assert lint["select"] == ["ALL"]
    assert not [rule for rule in lint["ignore"] if security.fullmatch(rule)]
    for where, rules in lint["per-file-ignores"].items():
        assert where in {"tests/**", "benchmarks/**"} or not [
            rule for rule in rules if security.fullmatch(rule)
        ]
    for path in Path(PACKAGES).rglob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            if found := re.search(r"# (ruff: )?noqa:? ?((?:[A-Z]+\d+,? ?)*)(.*)", line):
                assert found[2], f"{path.name}: {line}"
                assert found[3] or not re.search(r"\bS\d", found[2]), f"{path.name}: {line}"
