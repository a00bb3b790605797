"""tests/run.sh: pytest in its own environment, whatever the shell around it holds."""

import os

import pytest

from entry.conftest import FAKE_UV, Checkout

# A stand-in for the Python in tests/.venv that tells what it was called with.
TELL = '#!/bin/sh\npwd\necho "$*"\nexport -p\nexit 5\n'


@pytest.fixture
def ready(checkout: Checkout) -> Checkout:
    """A copy whose set-up makes a Python that tells."""
    python = checkout.write("tell", TELL)
    os.chmod(python, 0o755)
    checkout.tool("uv", FAKE_UV.replace("$PYTHON", python))
    return checkout


def test_pytest_from_the_root(ready: Checkout) -> None:
    """From any directory: sets up tests/.venv once, then is pytest in the project's root."""
    script = ready.path("tests/run.sh")
    first = ready.run(script, "tests/unit", "-k", "a b", cwd="/")
    where, called, *_ = first.stdout.splitlines()
    assert (first.code, where) == (5, ready.root)
    assert called.startswith("-m pytest ")
    assert called.endswith(" tests/unit -k a b")
    assert len(first.calls) == 2
    assert ready.read("tests/.venv/requirements.lock") == ready.read("tests/requirements.lock")
    assert not os.path.exists(ready.venv)
    assert ready.run(script).calls == []


def test_set_up_only(ready: Checkout) -> None:
    """--setup sets up, and runs nothing."""
    done = ready.run(ready.path("tests/run.sh"), "--setup")
    assert (done.code, done.stdout, len(done.calls)) == (0, "", 2)


def test_surroundings(ready: Checkout) -> None:
    """Set-up sees the user's proxy and certificates; the tests see neither, nor other Pythons."""
    meant_for_set_up = ["HTTPS_PROXY", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"]
    never = ["PYTHONPATH", "PYTHONHOME"]
    others = ["PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV", "ENTRA_CLIENT_SECRET"]
    ready.tool("uv", ready.read(os.path.join(ready.bin, "uv")) + 'export -p >>"$CALLS"\n')
    done = ready.run(
        ready.path("tests/run.sh"),
        env=dict.fromkeys(meant_for_set_up + never + others, "disturbing"),
    )
    calls = "\n".join(done.calls)
    assert "disturbing" not in done.stdout
    assert all(name in calls for name in meant_for_set_up)
    assert not any(name in calls for name in never)
