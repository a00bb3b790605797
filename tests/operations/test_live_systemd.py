"""Timers under a systemd that runs: the system's manager and a user's.

Slow, debootstrap makes the system: `tests/run.sh -n 0 -m slow tests/operations`.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from credentials_provider.emulator import Emulator
from debian import CERTIFICATES, Machine, boot, check_out, copy_of, make, run
from support import apps, entry, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from credentials_provider.emulator import App

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
USER = 1000
HOME = "/home/user"
CHECKOUT = f"{HOME}/a checkout, 100% odd $HOME"


class Bench(NamedTuple):
    machine: Machine
    root: Path
    app: App
    idp: Emulator

    def schedule(self, *options: str, user: int = 0) -> subprocess.CompletedProcess[str]:
        program = f"{CHECKOUT}/generate_creds.sh"
        named = ("-i", f"{CHECKOUT}/.oauth-tokens/entra-identities.json")
        line = [program, "schedule", "systemd", *named, "--environment", "NO_PROXY", *options]
        more = ["--login-base-url", self.idp.base_url, "--ca-bundle", f"{CHECKOUT}/ca.pem"]
        sudo = {} if user else {"SUDO_UID": str(USER), "SUDO_GID": str(USER), "SUDO_USER": "user"}
        return self.machine.run(*line, "--", *more, user=user, NO_PROXY="localhost", **sudo)

    @property
    def token(self) -> Path:
        return self.root / CHECKOUT[1:] / f".oauth-tokens/{self.app.name}.json"

    def write(self, app: App) -> None:
        file = self.root / CHECKOUT[1:] / ".oauth-tokens/entra-identities.json"
        file.write_text(json.dumps([entry(app)]))
        file.chmod(0o600)
        os.chown(file, USER, USER)


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A machine with a user, whose checkout is set up; systemd is 252 or 257."""
    root = tmp_path_factory.mktemp("machine") / "root"
    if request.param == "bookworm":
        copy_of(request.getfixturevalue("debian"), root)
    else:
        make(root, request.param)
    added = run(root, f"useradd --uid {USER} --create-home user")
    assert added.returncode == 0, added.stderr
    check_out(root / CHECKOUT[1:], USER)
    ready = run(
        root,
        ["/bin/sh", f"{CHECKOUT}/generate_creds.sh", "--version"],
        user=USER,
        variables={"HOME": "/home/user", "PIP_CERT": CERTIFICATES},
    )
    assert ready.returncode == 0, ready.stderr
    (app,) = apps(1)
    with Emulator([app], ca_file=str(root / CHECKOUT[1:] / "ca.pem")) as idp, boot(root) as machine:
        yield Bench(machine, root, app, idp)
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture(autouse=True)
def fresh(bench: Bench) -> None:
    bench.token.unlink(missing_ok=True)
    bench.write(bench.app)


def test_the_system_s_manager_runs_it_closed_in(bench: Bench) -> None:
    """Installed, run once as the folder's owner, kept by the timer, and removed without a trace."""
    done = bench.schedule("--install")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "The first run ended with exit code 0." in done.stdout
    status = bench.token.stat()
    assert (status.st_uid, status.st_mode & 0o777) == (USER, 0o600)
    timer = bench.machine.run("systemctl", "is-active", "credentials-provider.timer")
    assert timer.stdout.strip() == "active"
    environment = bench.root / "etc/systemd/system/credentials-provider.env"
    assert environment.stat().st_mode & 0o777 == 0o600
    assert 'NO_PROXY="localhost"' in environment.read_text()
    gone = bench.schedule("--uninstall")
    assert gone.returncode == 0, gone.stderr
    left = [each.name for each in (bench.root / "etc/systemd/system").iterdir()]
    assert not [name for name in left if name.startswith("credentials-provider")]


def test_a_user_s_manager_runs_it_or_says_what_would(bench: Bench) -> None:
    """Where it cannot close the service in it names the option that works, which then works."""
    bench.machine.run("loginctl", "enable-linger", "user")
    bench.machine.run("systemctl", "start", f"user@{USER}.service")
    done = bench.schedule("--user", "--install", user=USER)
    if done.returncode:
        assert "--no-sandbox" in done.stderr, done.stdout + done.stderr
        done = bench.schedule("--user", "--install", "--no-sandbox", user=USER)
    assert done.returncode == 0, done.stdout + done.stderr
    assert bench.token.exists()
    assert bench.schedule("--user", "--uninstall", user=USER).returncode == 0


def test_a_job_that_fails_is_told_at_once(bench: Bench) -> None:
    """With what it said, by exit code 1."""
    bench.write(replace(bench.app, secrets=("wrong",)))
    done = bench.schedule("--name", "wrong", "--install")
    assert done.returncode == 1
    assert "AADSTS7000215" in done.stderr
    assert bench.schedule("--name", "wrong", "--uninstall").returncode == 0


def test_the_journal_has_a_line_for_a_token_that_was_handed_out(bench: Bench) -> None:
    """By syslog's own way, under authpriv."""
    line = [f"{CHECKOUT}/generate_creds.sh", "token", "--audit-syslog", bench.app.name]
    line += ["--login-base-url", bench.idp.base_url, "--ca-bundle", f"{CHECKOUT}/ca.pem"]
    done = bench.machine.run(*line, user=USER, NO_PROXY="localhost")
    assert done.returncode == 0, done.stderr
    tag = ["SYSLOG_FACILITY=10", "SYSLOG_IDENTIFIER=credentials-provider"]
    said = bench.machine.run("journalctl", "-o", "cat", "--no-pager", *tag).stdout
    (found,) = [json.loads(each) for each in said.splitlines()]
    assert (found["identity"], found["uid"]) == (bench.app.name, USER)
    assert done.stdout.strip() not in said


@pytest.mark.parametrize("name", ["dbus", "systemd-journald"])
def test_no_unit_of_others_is_replaced_or_hidden(bench: Bench, name: str) -> None:
    """Be it the distribution's or an administrator's."""
    done = bench.schedule("--name", name, "--install")
    assert done.returncode == 2
    assert "was not made by this program" in done.stderr
    assert not (bench.root / f"etc/systemd/system/{name}.service").is_file()
    assert bench.schedule("--name", name, "--uninstall").returncode == 0


def test_watch_stays_as_a_service(bench: Bench) -> None:
    """Started is ready: the tokens are there. A reload ends when the new settings are in use."""
    done = bench.schedule("--watch", "--name", "stays", "--install")
    assert done.returncode == 0, done.stdout + done.stderr
    assert bench.token.exists()
    show = ["systemctl", "show", "stays.service", "-p", "ActiveState", "-p", "StatusText"]
    assert "ActiveState=active" in bench.machine.run(*show).stdout
    verified = bench.machine.run("systemd-analyze", "verify", "stays.service")
    assert (verified.returncode, verified.stderr) == (0, "")
    version = int(bench.machine.run("systemctl", "--version").stdout.split()[1])
    kind = bench.machine.run("systemctl", "show", "stays.service", "-p", "Type", "--value")
    assert kind.stdout.strip() == ("notify-reload" if version >= 253 else "notify")
    bench.token.unlink()
    assert bench.machine.run("systemctl", "reload", "stays.service").returncode == 0
    until(bench.token.exists)
    assert bench.schedule("--name", "stays", "--uninstall").returncode == 0
    assert "ActiveState=inactive" in bench.machine.run(*show).stdout


def test_a_second_timer_rotates_secrets_closed_in(bench: Bench) -> None:
    """It may write where the identities are, and `doctor` finds it beside the renewal."""
    owned = replace(
        bench.app, roles=("Application.ReadWrite.OwnedBy",), owners=(bench.app.client_id,)
    )
    bench.idp.add_app(owned)
    try:
        done = bench.schedule("--rotate", "--install")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "The first rotation ended with exit code 0." in done.stdout
        folder = bench.root / CHECKOUT[1:] / ".oauth-tokens"
        (now,) = json.loads((folder / "entra-identities.json").read_text())
        secret = folder / now["client_secret_file"]
        assert (secret.stat().st_uid, secret.stat().st_mode & 0o777) == (USER, 0o600)
        file = f"{CHECKOUT}/.oauth-tokens/entra-identities.json"
        told = bench.machine.run(
            f"{CHECKOUT}/generate_creds.sh", "status", bench.app.name, "-i", file, user=USER
        )
        assert "the system's credentials-provider.rotation.timer rotates it" in told.stdout
        renewed = ("systemctl", "start", "credentials-provider.service")
        assert bench.machine.run(*renewed).returncode == 0
        assert bench.schedule("--uninstall").returncode == 0
        left = [each.name for each in (bench.root / "etc/systemd/system").iterdir()]
        assert not [name for name in left if name.startswith("credentials-provider")]
    finally:
        bench.idp.add_app(bench.app)
