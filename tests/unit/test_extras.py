"""What is said where packages are missing; tests/entry/test_wheel.py has other installations."""

from __future__ import annotations

import os

from credentials_provider.extras import cure
from support import CHECKOUT


def test_a_checkout_is_set_up_again() -> None:
    """Its lock has every extra: no index is asked for anything else."""
    script = os.path.join(CHECKOUT, "generate_creds.sh")
    venv = os.path.join(CHECKOUT, ".venv")
    for extra in ("keyvault", "emulator", ""):
        assert cure(extra) == f"Remove {venv} and run {script}, which installs it."
