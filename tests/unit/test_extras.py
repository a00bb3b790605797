"""What is said where packages are missing; tests/entry/test_wheel.py has other installations."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from credentials_provider import extras
from credentials_provider.extras import cure
from support import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_checkout_is_set_up_again() -> None:
    """Its lock has every extra: no index is asked for anything else."""
    script = os.path.join(CHECKOUT, "generate_creds.sh")
    venv = os.path.join(CHECKOUT, ".venv")
    for extra in ("keyvault", "emulator", ""):
        assert cure(extra) == f"Remove {venv} and run {script}, which installs it."


def test_a_copy_of_the_package_alone_is_to_be_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing says what its extras are."""
    monkeypatch.setattr(extras, "CHECKOUT", str(tmp_path))
    monkeypatch.setattr(extras, "NAME", "no-such-distribution")
    assert cure("keyvault") == "Install this program again."
