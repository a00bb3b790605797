"""The user's crontab is replaced whole, from a finished file, and kept as it was before."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from credentials_provider.errors import ConfigurationError
from credentials_provider.schedule.cron import COPY, uninstall

if TYPE_CHECKING:
    from pathlib import Path

BEFORE = "# mine\n1 2 3 4 5 /bin/true\n*/5 * * * * x # credentials-provider (schedule cron)\n"

# As POSIX has it: -l lists, a file replaces; from `-` it would take whatever came until its end.
CRONTAB = """#!/bin/sh
case $1 in
    -l) cat "$HOME/spool" ;;
    -) echo "not from a pipe" >&2; exit 1 ;;
    *) {ends}; cat "$1" >"$HOME/spool" ;;
esac
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / "spool").write_text(BEFORE)
    program(tmp_path, ends=":")
    return tmp_path


def program(home: Path, *, ends: str) -> None:
    path = home / "crontab"
    path.write_text(CRONTAB.format(ends=ends))
    path.chmod(0o755)


def test_the_rest_of_a_crontab_stays_and_a_copy_is_kept(home: Path) -> None:
    assert uninstall("credentials-provider")
    assert (home / "spool").read_text() == "# mine\n1 2 3 4 5 /bin/true\n"
    assert (home / COPY).read_text() == BEFORE
    assert stat.S_IMODE((home / COPY).stat().st_mode) == 0o600
    assert not uninstall("credentials-provider")


def test_a_crontab_in_another_encoding_is_as_it_was(home: Path) -> None:
    """It would come back with other characters."""
    before = "# f\u00fcr mich\n".encode("latin-1") + BEFORE.encode()
    (home / "spool").write_bytes(before)
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        uninstall("credentials-provider")
    assert (home / "spool").read_bytes() == before


def test_a_crontab_that_is_refused_is_as_it_was(home: Path) -> None:
    program(home, ends="echo 'bad minute' >&2; exit 1")
    with pytest.raises(ConfigurationError, match="bad minute"):
        uninstall("credentials-provider")
    assert (home / "spool").read_text() == BEFORE
