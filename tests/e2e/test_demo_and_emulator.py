"""The demo and the emulator as commands."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from credentials.making import certificate, key_pem, pem
from support import Ran, apps, closed_port, entry, environment, wait

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Mapping

PROGRAM = [sys.executable, "-m", "credentials_provider"]


def start(
    folder: pathlib.Path, *args: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*PROGRAM, *args],
        cwd=folder,
        env=env or environment(str(folder)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: pathlib.Path, *args: str) -> Ran:
    return wait(start(folder, *args))


class Running:
    """`emulator --json` as a process."""

    def __init__(self, folder: pathlib.Path, *args: str) -> None:
        self.process = start(folder, "emulator", "--json", *args)
        assert self.process.stdout is not None
        self.where: dict[str, Any] = json.loads(self.process.stdout.readline())

    def __enter__(self) -> Running:  # noqa: PYI034 - typing.Self needs Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert wait(self.process).code == 0

    def mint(self, folder: pathlib.Path, *args: str) -> Ran:
        where = self.where
        return run(
            folder,
            "generate",
            *("-i", where["identities_file"], "--login-base-url", where["login_base_url"]),
            *("--ca-bundle", where["ca_file"], *args),
        )


def test_the_demo_fails_repairs_and_then_finds_nothing_to_do(tmp_path: pathlib.Path) -> None:
    """It ends with 0, tells of the one wrong secret, and leaves nothing but its own folder."""
    ran = run(tmp_path, "demo")

    assert ran.code == 0
    assert "AADSTS7000215" in ran.stderr
    assert "Tokens saved: 1 renewed, 3 fresh" in ran.stdout
    assert "Tokens saved: 4 fresh" in ran.stdout
    assert os.listdir(tmp_path) == [".oauth-tokens"]
    assert os.listdir(tmp_path / ".oauth-tokens") == ["demo"]
    names = {name for name in os.listdir(tmp_path / ".oauth-tokens/demo") if name[0] != "."}
    assert len(names) == 5
    (again,) = [line for line in ran.stdout.splitlines() if " status -i " in line]
    tables = ran.stdout.partition("What is there now")[2], run(tmp_path, *again.split()[1:]).stdout
    assert [table.count("  fresh  ") for table in tables] == [4, 4]


def test_the_demo_works_again_whatever_the_users_settings_are(tmp_path: pathlib.Path) -> None:
    """Another provider in .env, and what an earlier demo left, change nothing."""
    (tmp_path / ".env").write_text("AUTH_PROVIDER=keycloak\nENTRA_TENANT_ID=common\n")

    assert [run(tmp_path, "demo").code for _ in range(2)] == [0, 0]


def test_the_emulator_says_where_it_is_and_serves_sample_identities(tmp_path: pathlib.Path) -> None:
    """What it prints is all that `generate` needs; SIGTERM ends it with 0."""
    with Running(tmp_path, "--identities", "2") as emulator:
        ran = emulator.mint(tmp_path, "--json")

        assert ran.code == 0
        assert ran.json["summary"]["renewed"] == 2
        assert os.stat(emulator.where["identities_file"]).st_mode & 0o777 == 0o600


def test_the_command_that_the_emulator_prints_works_behind_a_proxy(tmp_path: pathlib.Path) -> None:
    """No proxy leads to this machine."""
    program = tmp_path / "credentials-provider"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(PROGRAM)} "$@"\n')
    program.chmod(0o755)
    env = environment(str(tmp_path)) | {"HTTPS_PROXY": f"http://127.0.0.1:{closed_port()}"}
    env["PATH"] = f"{tmp_path}:{os.environ['PATH']}"
    with start(tmp_path, "emulator", env=env) as emulator:
        assert emulator.stdout is not None
        lines = [emulator.stdout.readline() for _ in range(4)]
        ran = subprocess.run(["sh", "-c", "".join(lines[2:])], cwd=tmp_path, env=env, check=False)
        emulator.terminate()
    assert ran.returncode == 0


def test_the_emulator_serves_an_identities_file_with_faults_and_short_lives(
    tmp_path: pathlib.Path,
) -> None:
    """`-i`, `--fault` and `--token-lifetime` do what they say."""
    made = [entry(app) for app in apps(2)]
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(made))
    fault = f"aadsts:code=7000222,client_id={made[0]['client_id']}"
    with Running(
        tmp_path, "-i", str(file), "--fault", fault, "--token-lifetime", "20m"
    ) as emulator:
        ran = emulator.mint(tmp_path, "--json")

        assert ran.code == 1
        assert ran.results[made[0]["identity_name"]]["error"]["aadsts"] == 7000222
        with open(ran.results[made[1]["identity_name"]]["token_file"], encoding="utf-8") as token:
            assert json.load(token)["expires_in"] == 1200


def test_the_emulator_serves_secret_files_and_certificates(tmp_path: pathlib.Path) -> None:
    """What `identities init` writes; what it cannot be is left out and named."""
    one, two, three = apps(3)
    (tmp_path / "secret").write_text(one.secrets[0])
    (tmp_path / "both.pem").write_text(key_pem() + pem(certificate()))
    os.chmod(tmp_path / "both.pem", 0o600)
    made = [
        entry(one, client_secret=None, client_secret_file="secret"),
        entry(two, client_secret=None, certificate_file="both.pem"),
        entry(three, client_secret=None, managed_identity=True),
    ]
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(made))
    with Running(tmp_path, "-i", str(file)) as emulator:
        ran = emulator.mint(tmp_path, one.name, two.name)
        assert ran.code == 0, ran.stderr
        assert emulator.process.stderr is not None
        assert f"{three.name} is left out" in emulator.process.stderr.readline()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--fault", "earthquake"], "throttle"),
        (["--latency", "soon"], "not a duration"),
        (["--identities", "0"], "range"),
        (["-i", "absent.json"], "no identities file"),
    ],
)
def test_wrong_usage_of_the_emulator_is_told(
    tmp_path: pathlib.Path, args: list[str], told: str
) -> None:
    """Exit code 2, and what would be right."""
    ran = run(tmp_path, "emulator", *args)

    assert ran.code == 2
    assert told in ran.stderr


def test_a_port_that_is_taken_is_named(tmp_path: pathlib.Path) -> None:
    """A second emulator on a port ends with one line that says which."""
    with Running(tmp_path) as emulator:
        port = emulator.where["login_base_url"].rpartition(":")[2]
        ran = run(tmp_path, "emulator", "--folder", "other", "--port", port)

        assert ran.code == 1
        assert port in ran.stderr
        assert "Traceback" not in ran.stderr
