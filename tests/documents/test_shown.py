"""What the documents show and list is what the program has."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from credentials_provider.cli.emulator import FaultType
from credentials_provider.cli.logs import JsonLog
from credentials_provider.emulator import FAULT_KINDS
from credentials_provider.model import Failure, Outcome
from support import CHECKOUT

if TYPE_CHECKING:
    import pytest


def text_of(document: str) -> str:
    with open(os.path.join(CHECKOUT, document), encoding="utf-8") as file:
        return file.read()


def test_the_log_line_has_the_programs_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """As a renewal that failed is told."""
    (line,) = re.findall(r'^\{"time".*$', text_of("docs/operations.md"), re.MULTILINE)
    failure = Failure("rejected", "m", "r", error="invalid_client", aadsts=1, trace_id="t")
    JsonLog().finish(
        Outcome("ci", "failed", "f", attempts=1, reason="refresh", failure=failure, duration=0.2)
    )
    assert list(json.loads(line)) == list(json.loads(capsys.readouterr().err))


def test_every_fault_is_listed_and_every_one_that_is_listed_works() -> None:
    """With the parameters that it is shown with."""
    (table,) = re.findall(
        r"^\| faults .*?\n\n", text_of("docs/emulator.md") + "\n", re.MULTILINE | re.DOTALL
    )
    listed = re.findall(r"`([a-z_]+)(:[^`]*)?`", table)
    assert {name for name, _ in listed} == set(FAULT_KINDS)
    for name, parameters in listed:
        FaultType().convert(f"{name}{parameters}".replace("…", "x"), None, None)
