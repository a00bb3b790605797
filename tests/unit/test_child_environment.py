"""What a program that we start inherits, and what a crash leaves behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from credentials_provider.identities.reading import make_entry
from credentials_provider.run.child_environment import allowed, without_secrets
from support import environment
from unit.making import SECRET, Project, sample_fields


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


@pytest.mark.parametrize(
    ("name", "value", "inherited"),
    [
        ("ENTRA_CLIENT_SECRET", "x", False),
        ("AZURE_CLIENT_SECRET", "x", False),
        ("AZURE_CLIENT_CERTIFICATE_PASSWORD", "x", False),
        ("AZURE_PASSWORD", "x", False),
        ("OF_AN_IDENTITY", "x", False),
        ("PASSWORD_OF_AN_IDENTITY", "x", False),
        ("COPY_OF_A_LITERAL", SECRET, False),
        ("COPY_OF_THE_SETTING", "s3cret-of-the-setting", False),
        ("AZURE_CLIENT_ID", "x", True),
        ("OTHER", "kept", True),
        ("NOTHING", "", True),
        ("FIELD", "OF_AN_IDENTITY", True),
    ],
)
def test_a_command_of_the_users_own_inherits_all_but_secrets(
    project: Project, name: str, value: str, *, inherited: bool
) -> None:
    """By the variable's name, or by its value, wherever else that stands."""
    settings = project.settings({"ENTRA_CLIENT_SECRET": "s3cret-of-the-setting"})
    password = {"certificate_file": "c.pem", "certificate_password_env": "PASSWORD_OF_AN_IDENTITY"}
    entries = [
        make_entry(number, fields, settings)
        for number, fields in enumerate(
            (
                sample_fields("literal"),
                sample_fields("env", client_secret=..., client_secret_env="OF_AN_IDENTITY"),
                sample_fields("certificate", client_secret=..., **password),
            )
        )
    ]
    found = without_secrets({name: value}, iter(entries), settings)
    assert found == ({name: value} if inherited else {})


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
