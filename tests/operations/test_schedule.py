"""Timers as their daemons take them: systemd's own judges, cron itself."""

from __future__ import annotations

import json
import os
import plistlib
import shlex
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from credentials_provider.schedule import launchd
from support import CHECKOUT, PATIENCE, Project, apps, until

if TYPE_CHECKING:
    import pathlib


CRON = {"HOME": "/", "LOGNAME": "root", "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
SYSTEMD = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze"
)
PRIVATE_CRONTAB = ["unshare", "--mount", "/bin/sh", "-c"]


def _may_unshare() -> bool:
    if not (shutil.which("crontab") and shutil.which("unshare")):
        return False
    spool = "/var/spool/cron/crontabs"
    mount = f"mount -t tmpfs tmpfs {spool} && mount -t tmpfs tmpfs /run"
    done = subprocess.run([*PRIVATE_CRONTAB, mount], capture_output=True, check=False)
    return done.returncode == 0


REAL_CRON = pytest.mark.skipif(
    not _may_unshare(), reason="needs cron, and the right to give it a spool of its own"
)


class Checkout:
    """A copy of the scripts and the package, set up with this environment's packages."""

    def __init__(self, root: str, project: Project) -> None:
        self.root = root
        self.project = project
        for name in ("generate_creds.sh", "requirements.lock"):
            shutil.copy2(os.path.join(CHECKOUT, name), os.path.join(root, name))
        shutil.copytree(
            os.path.join(CHECKOUT, "credentials-provider"),
            os.path.join(root, "credentials-provider"),
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        venv = os.path.join(root, ".venv")
        os.makedirs(os.path.join(venv, "bin"))
        shutil.copy2(os.path.join(root, "requirements.lock"), venv)
        python = os.path.join(venv, "bin", "python")
        with open(python, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
        os.chmod(python, 0o755)
        os.mkdir(os.path.join(root, ".oauth-tokens"), 0o700)
        shutil.copy2(project.identities_file, os.path.join(root, ".oauth-tokens"))
        project.private(
            os.path.join(root, ".env"),
            f"ENTRA_LOGIN_BASE_URL={project.idp.base_url}\n"
            f"REQUESTS_CA_BUNDLE={project.idp.ca_file}\n",
        )

    def run(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [os.path.join(self.root, "generate_creds.sh"), *args],
            cwd="/",
            env={**CRON, **env},
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    @property
    def named(self) -> tuple[str, str]:
        """The `.env` has the login host: it counts where somebody names the file."""
        return "--env-file", os.path.join(self.root, ".env")

    @property
    def token(self) -> str:
        return os.path.join(self.root, ".oauth-tokens", "ci-agent.json")

    def has_token(self) -> bool:
        return os.path.exists(self.token)


@pytest.fixture
def checkout(project: Project, tmp_path: pathlib.Path) -> Checkout:
    project.add_all(apps(1))
    root = tmp_path / "a folder, 100% odd $HOME"
    root.mkdir()
    return Checkout(str(root), project)


# systemd


@SYSTEMD
@pytest.mark.parametrize(
    "options",
    [(), ("--user",), ("--run-as", "daemon", "--every", "1"), ("--rotate",), ("--watch",)],
)
def test_systemds_own_judges_pass_the_units(
    checkout: Checkout, tmp_path: pathlib.Path, options: tuple[str, ...]
) -> None:
    done = checkout.run("schedule", "systemd", *checkout.named, *options)
    assert done.returncode == 0
    paths = write_units(done.stdout, tmp_path / "units")
    assert len(paths) == {"--rotate": 4, "--watch": 1}.get("".join(options), 2)
    services = [path for path in paths if path.endswith(".service")]
    manager = ["--user"] if "--user" in options else []
    runtime = {"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)}
    for command in (
        ["verify", *manager, *paths],
        ["security", "--offline=true", "--threshold=15", "--no-pager", *services],
    ):
        judged = subprocess.run(
            ["systemd-analyze", *command],
            env={**CRON, **runtime},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert judged.returncode == 0, judged.stdout + judged.stderr
        if command[0] == "verify":
            assert judged.stderr == ""


def write_units(text: str, folder: pathlib.Path) -> list[str]:
    """The printed units as files, each service before its timer."""
    folder.mkdir()
    paths: list[str] = []
    for part in text.split("# /")[1:]:
        head, _, content = part.partition("\n")
        path = folder / os.path.basename(head)
        path.write_text(content.rstrip() + "\n")
        paths.append(str(path))
    kinds = [os.path.splitext(path)[1] for path in paths]
    assert kinds == [".service", ".timer"] * (len(paths) // 2) or kinds == [".service"]
    return paths


@pytest.mark.parametrize(("version", "new"), [("252", False), ("253~rc1", True), ("257", True)])
def test_a_service_reloads_as_its_systemd_does(
    checkout: Checkout, tmp_path: pathlib.Path, version: str, new: bool
) -> None:
    """From 253 on, systemd sends the signal itself and waits for the end of the reload."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(f"#!/bin/sh\necho 'systemd {version} ({version}-1)'\n")
    systemctl.chmod(0o755)
    path = f"{tmp_path}:{CRON['PATH']}"
    text = checkout.run("schedule", "systemd", "--watch", *checkout.named, PATH=path).stdout
    assert ("Type=notify-reload\n" in text, "ExecReload=" in text) == (new, not new)


@SYSTEMD
def test_the_timer_comes_every_five_minutes_and_makes_up_for_missed_runs(
    checkout: Checkout,
) -> None:
    text = checkout.run("schedule", "systemd", *checkout.named).stdout
    assert "Persistent=true" in text
    assert "RandomizedDelaySec=30" in text
    calendar = text.split("OnCalendar=")[1].splitlines()[0]
    told = subprocess.run(
        ["systemd-analyze", "calendar", "--iterations=2", "--base-time=2026-01-01", calendar],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert "00:05:00" in told.stdout
    assert "00:10:00" in told.stdout


def test_secrets_can_come_through_systemd(checkout: Checkout) -> None:
    text = checkout.run(
        "schedule",
        "systemd",
        *checkout.named,
        "--load-credential",
        "entra-identities.json:/etc/keys/50%.json",
    ).stdout
    assert "LoadCredential=entra-identities.json:/etc/keys/50%%.json\n" in text
    assert "--identities-file ${CREDENTIALS_DIRECTORY}/entra-identities.json" in text


def test_the_metrics_files_folder_may_be_written(checkout: Checkout) -> None:
    text = checkout.run(
        "schedule", "systemd", *checkout.named, "--", "--metrics-file", "/var/lib/m/t.prom"
    ).stdout
    writes = text.split("ReadWritePaths=")[1].splitlines()[0]
    assert writes.endswith(" /var/lib/m")
    assert "100%%" in writes
    refused = checkout.run("schedule", "systemd", "--", "--metrics-file", "t.prom")
    assert refused.returncode == 2


def test_the_metrics_know_how_often_the_timer_runs(checkout: Checkout) -> None:
    """An alert judges a run's age by it; what the user says wins."""
    line = (
        "schedule",
        "cron",
        *checkout.named,
        "--every",
        "20",
        "--",
        "--metrics-file",
        "/m/t.prom",
    )
    assert "--interval 20m" in checkout.run(*line).stdout
    assert "--interval" not in checkout.run(*line[:-3]).stdout
    words = checkout.run(*line, "--interval", "1h").stdout
    assert words.index("--interval 20m") < words.index("--interval 1h")


def test_installing_and_removing_units_tells_the_manager_and_spares_what_is_not_ours(
    checkout: Checkout, tmp_path: pathlib.Path
) -> None:
    # The manager itself is not to be had in a test; what it is told is.
    home = tmp_path / "home"
    units = home / ".config/systemd/user"
    shim = tmp_path / "bin" / "systemctl"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/told"\n')
    shim.chmod(0o755)
    env = {"HOME": str(home), "PATH": f"{shim.parent}:/usr/bin:/bin"}
    for _ in range(2):
        done = checkout.run("schedule", "systemd", *checkout.named, "--user", "--install", **env)
        assert done.returncode == 0, done.stderr
    assert {path.name for path in units.iterdir()} == {
        "credentials-provider.service",
        "credentials-provider.timer",
    }
    assert stat.S_IMODE((units / "credentials-provider.timer").stat().st_mode) == 0o644
    (units / "credentials-provider.service").write_text("[Unit]\n# edited by hand\n")
    assert checkout.run("schedule", "systemd", "--user", "--uninstall", **env).returncode == 0
    assert [path.name for path in units.iterdir()] == ["credentials-provider.service"]
    again = checkout.run("schedule", "systemd", "--user", "--uninstall", **env)
    assert "none of that name" in again.stdout
    asked = [
        f"--user show -p FragmentPath --value credentials-provider.{kind}"
        for kind in ("service", "timer")
    ]
    install = [
        "--user daemon-reload",
        "--user enable --now credentials-provider.timer",
        "--user start credentials-provider.service",
        "--user show credentials-provider.service -p ExecMainStatus -p Result",
    ]
    assert (tmp_path / "told").read_text().splitlines() == [
        *asked,
        *install,
        *install,
        "--user disable --now credentials-provider.timer",
        "--user daemon-reload",
    ]


def test_what_others_made_is_neither_replaced_nor_hidden(
    checkout: Checkout, tmp_path: pathlib.Path
) -> None:
    """A file of that name, or a unit of the distribution's, is refused before anything is made."""
    home = tmp_path / "home"
    units = home / ".config/systemd/user"
    units.mkdir(parents=True)
    shim = tmp_path / "bin" / "systemctl"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\ncase $* in *theirs.timer) echo /usr/lib/x/theirs.timer ;; esac\n")
    shim.chmod(0o755)
    env = {"HOME": str(home), "PATH": f"{shim.parent}:/usr/bin:/bin"}
    (units / "mine.service").write_text("[Unit]\n")
    for name, file in (("mine", "mine.service"), ("theirs", "/usr/lib/x/theirs.timer")):
        install = ["schedule", "systemd", *checkout.named, "--user", "--name", name, "--install"]
        done = checkout.run(*install, **env)
        assert done.returncode == 2
        assert file in done.stderr
        assert "--name" in done.stderr
    assert [each.name for each in units.iterdir()] == ["mine.service"]
    assert (units / "mine.service").read_text() == "[Unit]\n"


@pytest.mark.parametrize(
    "options",
    [
        ("--run-as", "root\nExecStartPre=/bin/false"),
        ("--on-failure-unit", "a.service\nExecStartPre=/bin/false"),
        ("--", "--on-renew", "a\nb"),
    ],
)
def test_nothing_ends_the_line_that_it_stands_in(
    checkout: Checkout, options: tuple[str, ...]
) -> None:
    done = checkout.run("schedule", "systemd", *checkout.named, *options)
    assert done.returncode == 2
    assert "ExecStart" not in done.stdout


def test_the_job_dumps_no_core_and_imports_nothing_of_the_working_directory(
    checkout: Checkout,
) -> None:
    text = checkout.run("schedule", "systemd", *checkout.named).stdout
    assert "\nLimitCORE=0\n" in text
    start = text.split("ExecStart=")[1].splitlines()[0]
    assert "generate_creds.sh" in start
    assert f"--output-dir {systemd_word(checkout.root)}" in start.replace("/.oauth-tokens", "")


def systemd_word(path: str) -> str:
    return '"' + path.replace("%", "%%").replace("$", "$$") + '"'


def test_the_environment_goes_along_in_a_private_file_and_is_not_printed(
    checkout: Checkout,
) -> None:
    """What only this shell has is warned of, unless it goes along."""
    env = {"HTTPS_PROXY": 'http://u:p"$x@proxy:1'}
    line = ["schedule", "systemd", *checkout.named]
    assert "HTTPS_PROXY" in checkout.run(*line, **env).stderr
    done = checkout.run(*line, "--environment", "HTTPS_PROXY", **env)
    assert "HTTPS_PROXY" not in done.stderr
    assert "EnvironmentFile=/etc/systemd/system/credentials-provider.env" in done.stdout
    assert "HTTPS_PROXY=(this shell's)" in done.stdout
    assert "proxy:1" not in done.stdout
    assert checkout.run(*line, "--environment", "NOT_SET").returncode == 2


def test_launchd_and_windows_get_what_their_formats_ask_for(checkout: Checkout) -> None:
    """Well formed, every word as it is. Neither ran: there is no macOS and no Windows here."""
    plist = checkout.run("schedule", "launchd", *checkout.named).stdout
    agent = plistlib.loads(plist.partition("\n")[2].encode())
    assert agent["ProgramArguments"][1:3] == ["generate", "--refresh-ahead"]
    assert agent["StartInterval"] == 300
    task = checkout.run("schedule", "windows", *checkout.named, "--every", "10").stdout
    root = ET.fromstring(task.partition("\n")[2])
    found = {node.tag.partition("}")[2]: node.text or "" for node in root.iter()}
    assert found["Interval"] == "PT10M"
    assert found["Command"] == agent["ProgramArguments"][0]
    assert "generate --refresh-ahead" in found["Arguments"]


def test_an_agent_of_somebody_else_stays(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is no property list, too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = Path(launchd.path_of("mine"))
    path.parent.mkdir(parents=True)
    for text in ("", "<?xml version='1.0'?><plist><dict>", plistlib.dumps({"Label": "x"}).decode()):
        path.write_text(text)
        assert launchd.uninstall("mine") == []
        assert path.read_text() == text


def test_printing_installs_nothing(checkout: Checkout, tmp_path: pathlib.Path) -> None:
    before = sorted(os.listdir(checkout.root))
    for kind in ("systemd", "cron", "launchd", "windows", "kubernetes"):
        done = checkout.run("schedule", kind, *checkout.named, HOME=str(tmp_path / "none"))
        assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(checkout.root)) == before
    assert not (tmp_path / "none").exists()


# Rotation


def test_secrets_are_rotated_only_where_that_was_asked_for(checkout: Checkout) -> None:
    """By a second job, daily, which may write where the identities are and asks the same host."""
    line = ("schedule", "systemd", *checkout.named)
    assert "identities rotate" not in checkout.run(*line).stdout
    asks = ("--", "--login-base-url", "https://login.example", "--ca-bundle", "/etc/ca.pem")
    both = checkout.run(*line, "--rotate", "--rotate-with", "--as admin --lifetime 60d", *asks)
    renewal, rotation = both.stdout.split("# /etc/systemd/system/credentials-provider.rotation.s")
    assert "identities rotate" not in renewal
    assert "\nOnCalendar=daily\n" in rotation
    assert "\nPersistent=true\n" in rotation
    command = rotation.split("ExecStart=")[1].splitlines()[0]
    assert "identities rotate --all" in command
    assert command.endswith(
        "--login-base-url https://login.example --ca-bundle /etc/ca.pem --as admin --lifetime 60d"
    )
    writes = rotation.split("ReadWritePaths=")[1].splitlines()[0]
    assert writes == systemd_word(f"{checkout.root}/.oauth-tokens").replace("$$", "$")


@pytest.mark.parametrize(
    ("kind", "options", "reason"),
    [
        ("kubernetes", (), "a Secret, which the pod cannot change"),
        ("systemd", ("--load-credential", "entra-identities.json:/etc/k"), "credential of systemd"),
        ("cron", ("--rotate-with", "--no-such-option"), "--no-such-option"),
        ("cron", ("--rotate-with", "ci"), "all identities"),
        ("cron", ("--rotate-with", "--dry-run"), "all identities"),
        ("cron", ("--rotate-with", "'"), "No closing quotation"),
    ],
)
def test_a_rotation_that_cannot_be_is_refused_with_the_reason(
    checkout: Checkout, kind: str, options: tuple[str, ...], reason: str
) -> None:
    named = () if kind == "kubernetes" else checkout.named
    done = checkout.run("schedule", kind, *named, "--rotate", *options)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stdout == ""


@REAL_CRON
def test_crons_lines_of_both_jobs_go_together(checkout: Checkout) -> None:
    """The rotation ran once when it was installed, in cron's environment, and renews go on."""
    (app,) = apps(1)
    app = replace(app, roles=("Application.ReadWrite.OwnedBy",), owners=(app.client_id,))
    checkout.project.idp.add_app(app)
    program = shlex.quote(os.path.join(checkout.root, "generate_creds.sh"))
    named = shlex.join(checkout.named)
    script = f"""
        set -e
        mount -t tmpfs tmpfs /var/spool/cron/crontabs
        {program} schedule cron {named} --rotate --install >/dev/null
        {program} schedule cron {named} --every 10 --install >/dev/null 2>&1
        crontab -l
        echo ==
        {program} doctor {named} | grep crontab
        {program} schedule cron --uninstall
        crontab -l
    """
    done = subprocess.run(
        [*PRIVATE_CRONTAB, script],
        env=CRON,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "The first rotation ended with exit code 0." in done.stderr
    lines, _, rest = done.stdout.partition("==\n")
    rotation, renewal = lines.splitlines()  # what is not installed anew stays as it was
    assert rotation.startswith("23 10 * * * ")
    assert renewal.startswith("*/10 * * * * ")
    assert rest.count("a line in the crontab") == 2
    assert rest.endswith("Removed from the crontab\n")
    (entry_now,) = json.loads(
        Path(checkout.root, ".oauth-tokens/entra-identities.json").read_text()
    )
    assert entry_now["client_secret_file"].startswith(".secrets/ci-agent~")
    assert checkout.run("generate", *checkout.named).returncode == 0


def test_installing_both_and_removing_them_tells_the_manager_of_both(
    checkout: Checkout, tmp_path: pathlib.Path
) -> None:
    home = tmp_path / "home"
    units = home / ".config/systemd/user"
    shim = tmp_path / "bin" / "systemctl"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\necho "$@" >>"{tmp_path}/told"\n')
    shim.chmod(0o755)
    env = {"HOME": str(home), "PATH": f"{shim.parent}:/usr/bin:/bin"}
    line = ["schedule", "systemd", *checkout.named, "--user"]
    done = checkout.run(*line, "--rotate", "--watch", "--install", **env)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in units.iterdir()} == {
        "credentials-provider.service",
        "credentials-provider.rotation.service",
        "credentials-provider.rotation.timer",
    }
    assert checkout.run("schedule", "systemd", "--user", "--uninstall", **env).returncode == 0
    assert list(units.iterdir()) == []
    told = (tmp_path / "told").read_text()
    for words in ("enable --now", "disable --now"):
        assert f"--user {words} credentials-provider.rotation.timer\n" in told
    assert "--user start credentials-provider.rotation.service\n" in told


def test_launchd_and_windows_have_a_daily_job(checkout: Checkout) -> None:
    """An agent of its own; for Windows the second task alone, because a file holds one."""
    agents = checkout.run("schedule", "launchd", *checkout.named, "--rotate").stdout
    (*_, text) = agents.split("<!-- ")
    agent = plistlib.loads(text.partition("\n")[2].encode())
    assert agent["Label"] == "credentials-provider.rotation"
    assert agent["StartInterval"] == 86400
    assert agent["ProgramArguments"][1:4] == ["identities", "rotate", "--all"]
    task = checkout.run("schedule", "windows", *checkout.named, "--rotate").stdout
    root = ET.fromstring(task.partition("\n")[2])
    found = {node.tag.partition("}")[2]: node.text or "" for node in root.iter()}
    assert found["Interval"] == "PT1440M"
    assert found["Arguments"].startswith("identities rotate --all")


# cron


def test_the_line_works_in_crons_environment_and_is_quiet(checkout: Checkout) -> None:
    (line,) = checkout.run("schedule", "cron", *checkout.named).stdout.splitlines()
    minutes, hour, day, month, weekday, command = line.split(" ", 5)
    assert (minutes, hour, day, month, weekday) == ("*/5", "*", "*", "*", "*")
    assert "%" not in command.replace("\\%", "")
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace("\\%", "%")],
        cwd="/",
        env=CRON,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert checkout.has_token()


def test_a_command_that_cron_would_cut_off_is_refused(checkout: Checkout) -> None:
    long = checkout.run("schedule", "cron", "--", "--on-renew", "x" * 1000)
    assert long.returncode == 2
    split = checkout.run("schedule", "cron", "--", "--on-renew", "a\nb")
    assert split.returncode == 2


def test_a_mistake_in_the_options_is_told_at_once(checkout: Checkout) -> None:
    done = checkout.run("schedule", "cron", "--", "--no-such-option")
    assert done.returncode == 2
    assert "--no-such-option" in done.stderr


@REAL_CRON
def test_the_crontab_is_edited_idempotently_and_nothing_else_in_it_touched(
    checkout: Checkout,
) -> None:
    program = shlex.quote(os.path.join(checkout.root, "generate_creds.sh"))
    named = shlex.join(checkout.named)
    others = "# mine\\nMAILTO=me\\n1 2 3 4 5 /bin/true\\n"
    script = f"""
        set -e
        mount -t tmpfs tmpfs /var/spool/cron/crontabs
        printf '{others}' | crontab -
        {program} schedule cron {named} --install >/dev/null 2>&1
        {program} schedule cron {named} --install --every 10 >/dev/null 2>&1
        crontab -l
        echo ==
        {program} schedule cron --uninstall >/dev/null
        {program} schedule cron --uninstall >/dev/null
        crontab -l
    """
    done = subprocess.run(
        [*PRIVATE_CRONTAB, script],
        env=CRON,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    installed, _, removed = done.stdout.partition("==\n")
    kept = "# mine\nMAILTO=me\n1 2 3 4 5 /bin/true\n"
    assert removed == kept
    assert installed.startswith(kept)
    (line,) = installed.removeprefix(kept).splitlines()
    assert line.startswith("*/10 * * * * ")


@REAL_CRON
@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("cron"), reason="needs cron")
@pytest.mark.timeout(180)
def test_cron_itself_runs_the_installed_line(checkout: Checkout) -> None:
    """Takes up to a minute: cron's clock cannot be handed in."""
    program = shlex.quote(os.path.join(checkout.root, "generate_creds.sh"))
    script = f"""
        set -e
        mount -t tmpfs tmpfs /var/spool/cron/crontabs
        mount -t tmpfs tmpfs /run
        {program} schedule cron {shlex.join(checkout.named)} --install --every 1
        rm {shlex.quote(checkout.token)}
        exec cron -f
    """
    daemon = subprocess.Popen(
        [*PRIVATE_CRONTAB, script],
        env={**CRON, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(checkout.has_token, patience=PATIENCE)  # of the first run
        until(lambda: not checkout.has_token(), patience=PATIENCE)
        until(checkout.has_token, patience=100)
    finally:
        daemon.terminate()
        daemon.wait(PATIENCE)
