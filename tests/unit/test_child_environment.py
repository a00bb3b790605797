"""What a program that we start inherits, and what a crash leaves behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from credentials_provider.run.child_environment import allowed
from support import environment


@pytest.mark.parametrize(
    ("name", "inherited"),
    [
        *((name, True) for name in ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "XDG_RUNTIME_DIR")),
        *((name, True) for name in ("HTTPS_PROXY", "no_proxy", "SSH_AUTH_SOCK", "TMPDIR")),
        *((name, False) for name in ("ENTRA_CLIENT_SECRET", "IDENTITY_HEADER", "MSI_SECRET")),
        *((name, False) for name in ("AZURE_CLIENT_SECRET", "ANYTHING", "LD_PRELOAD", "LCX")),
        *((name, False) for name in ("PYTHONPATH", "GITHUB_TOKEN", "MY_PATH", "PATHS")),
        ("NAMED", True),
    ],
)
def test_a_child_inherits_what_is_on_the_list(name: str, *, inherited: bool) -> None:
    """And what was named for it; nothing that nobody thought of."""
    found = allowed({name: "value", "OTHER": "x"}, ["NAMED", "ABSENT"])
    assert found == ({name: "value"} if inherited else {})


@pytest.mark.skipif(sys.platform != "linux", reason="asks prctl(2)")
def test_a_process_with_secrets_leaves_no_core_dump() -> None:
    """Also where a dump goes to a handler, which minds no limit."""
    program = (
        "import ctypes; from credentials_provider.run.child_environment import *;"
        "dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0);"
        "print(dumpable()); keep_out_of_dumps(); print(dumpable())"
    )
    line = [sys.executable, "-c", program]
    done = subprocess.run(
        line, env=environment("/"), capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["1", "0"]
