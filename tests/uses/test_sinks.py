"""Sinks: the token wherever a program wants it, whole, with the rights that were asked for."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Fault
from credentials_provider.errors import StorageError
from credentials_provider.identities.reading import read_entries
from credentials_provider.identities.sinks import Sink
from credentials_provider.run import sinks
from credentials_provider.settings import Flags, load_settings
from credentials_provider.tokens.history import STATE_NAME
from credentials_provider.tokens.store import TokenStore
from faults.tracing import LONG, tracing
from support import apps, assert_no_secret, environment, renew, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.emulator import App
    from support import Command, Project

FORMATS = ("json", "raw", "header", "dotenv", "netrc")
HOST = "api.example.com"
OTHERS = {"dotenv": "# mine\nOTHER=1\n", "netrc": "machine a login b password c\n"}
POSIX = pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
ROOT = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="two users need root and setpriv",
)
STRANGER = 54321  # a user number that nobody has


def minted(project: Project) -> int:
    return len(project.idp.token_requests)


def sink(form: str, path: str = "", **more: str) -> dict[str, str]:
    machine = {"machine": HOST} if form == "netrc" else {}
    return {"path": path or f"out.{form}", "format": form, **machine, **more}


def give(project: Project, *wanted: dict[str, str]) -> None:
    """The first identity's sinks."""
    entries = project.entries()
    project.write([{**entries[0], "sinks": list(wanted)}, *entries[1:]])


def place(project: Project, form: str) -> str:
    """Beside the identities file."""
    return os.path.join(project.output, f"out.{form}")


def text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def token_in(form: str, content: str) -> str:
    """What a program of that form's finds."""
    if form == "json":
        return str(json.loads(content)["access_token"])
    if form == "dotenv":
        (line,) = [each for each in content.splitlines() if each.startswith("ACCESS_TOKEN=")]
        return line.partition("=")[2]
    return content.rsplit(maxsplit=1)[-1]


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


# What is written, and when


def test_every_sink_gets_the_token_with_its_renewal(
    app: App, project: Project, run: Command
) -> None:
    """In its form, private, with the other lines of its file; the definition is the same."""
    run("generate")
    definition = project.token(app.name)["definition"]
    for form, others in OTHERS.items():
        project.private(place(project, form), others)
    give(project, *map(sink, FORMATS))
    assert run("generate").code == 0
    token = project.token(app.name)
    for form in FORMATS:
        content = text(place(project, form))
        assert token_in(form, content) == token["access_token"]
        assert content.startswith(OTHERS.get(form, ""))
        assert mode(place(project, form)) == 0o600
    assert json.loads(text(place(project, "json"))) == token
    assert token["definition"] == definition


@pytest.mark.parametrize("words", [("token",), ("exec", "--", "true"), ("generate",)])
def test_every_command_that_renews_writes_them(
    app: App, project: Project, run: Command, words: tuple[str, ...]
) -> None:
    """Whoever it was that needed the token."""
    give(project, sink("raw"))
    assert run(*words).code == 0
    assert text(place(project, "raw")) == project.token(app.name)["access_token"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("how", ["missing", "older", "changed", "empty", "mode"])
def test_a_sink_that_is_behind_is_written_without_a_request(
    app: App, project: Project, run: Command, form: str, how: str
) -> None:
    """By a run with nothing due; the next one leaves it alone."""
    give(project, sink(form, mode="0640"))
    run("generate")
    path, good = place(project, form), text(place(project, form))
    if how == "missing":
        os.unlink(path)
    elif how == "mode":
        os.chmod(path, 0o666)
    else:
        token = project.token(app.name)["access_token"]
        changed = {"older": good.replace(token, "eyJold.eyJold.old"), "changed": "x", "empty": ""}
        project.private(path, changed[how])
    assert run("generate", "--refresh-ahead").code == 0
    assert token_in(form, text(path)) == project.token(app.name)["access_token"]
    assert mode(path) == 0o640
    before = os.stat(path)
    assert run("generate", "--refresh-ahead").code == 0
    assert os.stat(path) == before
    assert minted(project) == 1


def test_a_run_with_nothing_due_loads_nothing_more(
    app: App, project: Project, run: Command
) -> None:
    """Looking at the sinks costs two readings each."""
    give(project, *map(sink, FORMATS))
    assert run("generate").code == 0
    line = run.line("generate", "--refresh-ahead")
    line[1:1] = ["-X", "importtime"]
    ran = wait(run.start_line(line))
    assert (ran.code, project.entries()[0]["identity_name"]) == (0, app.name)
    loaded = {row.rpartition("|")[2].strip().partition(".")[0] for row in ran.stderr.splitlines()}
    assert not loaded & {"pydantic", "msal", "urllib3", "filelock", "rich", "dotenv", "netrc"}


def test_a_dry_run_writes_none(app: App, project: Project, run: Command) -> None:
    """It only looks."""
    run("generate")
    give(project, sink("raw"))
    assert run("generate", "--dry-run").code == 0
    assert app.name not in os.listdir(project.output)
    assert not os.path.exists(place(project, "raw"))


def test_two_identities_share_a_file(project: Project, run: Command) -> None:
    """Each with its own variable; neither loses the other's."""
    pair = apps(2)
    project.add_all(pair)
    project.write(
        [
            {**each, "sinks": [sink("dotenv", "out.dotenv", variable=f"TOKEN_{number}")]}
            for number, each in enumerate(project.entries())
        ]
    )
    assert run("generate").code == 0
    found = dict(line.split("=", 1) for line in text(place(project, "dotenv")).splitlines())
    assert found == {
        f"TOKEN_{number}": project.token(app.name)["access_token"]
        for number, app in enumerate(pair)
    }


@pytest.mark.parametrize(
    "places",
    [
        [{"path": "out.raw"}] * 2,
        [{"path": "out.raw"}, {"path": "./a/../out.raw"}],
        [{"path": "out.raw"}, {"path": "FOLDER/out.raw"}],
        [{"kubernetes_secret": "agents"}] * 2,
    ],
)
def test_two_identities_do_not_write_over_one_another_s_token(
    project: Project, run: Command, places: list[dict[str, str]]
) -> None:
    """Both are mistakes: else a reader would get now the one and now the other."""
    project.add_all(apps(2))
    folder = os.path.dirname(project.identities_file)
    full = [{key: value.replace("FOLDER", folder) for key, value in p.items()} for p in places]
    entries = zip(project.entries(), full, strict=True)
    project.write([{**each, "sinks": [place]} for each, place in entries])
    ran = run("generate")
    assert (ran.code, ran.stderr.count("has the same sink")) == (2, 2), ran.stderr
    assert minted(project) == 0


@pytest.mark.parametrize("form", ["json", "dotenv"])
@pytest.mark.parametrize("which", ["identities", "token", "state"])
def test_a_sink_is_no_file_of_the_program_itself(
    project: Project, run: Command, which: str, form: str
) -> None:
    """The secrets in the identities file, or another identity's token, would be gone."""
    project.add_all(apps(2))
    first, second = project.entries()
    path = {
        "identities": project.identities_file,
        "token": project.path(second["identity_name"]),
        "state": os.path.join(project.output, STATE_NAME),
    }[which]
    project.write([{**first, "sinks": [{"path": path, "format": form}]}, second])
    before = Path(project.identities_file).read_bytes()
    ran = run("generate")
    assert ran.code == 1
    assert "number 1: path is a file of this program itself" in ran.stderr
    assert Path(project.identities_file).read_bytes() == before
    assert project.token(second["identity_name"])["identity_name"] == second["identity_name"]


# What cannot be written


WRONG: dict[str, dict[str, str]] = {
    "there is no folder": sink("raw", "absent/out.raw"),
    "Is a directory": sink("raw", "folder"),
    "no user or group": sink("raw", group="no-such-group-here"),
    "2 entries of the machine": sink("netrc"),
}


@pytest.mark.parametrize("told", WRONG)
def test_a_sink_that_cannot_be_written_is_its_identity_s_failure(
    app: App, project: Project, run: Command, told: str
) -> None:
    """Kind storage; the token file stands, and the other sinks and identities have theirs."""
    other = apps(2)[1]
    project.add(other)
    os.mkdir(os.path.join(project.output, "folder"))
    project.private(place(project, "netrc"), f"machine {HOST} login a password b\n" * 2)
    give(project, WRONG[told], sink("header"))
    ran = run("generate", "--json")
    assert ran.code == 1
    error = ran.results[app.name]["error"]
    assert (ran.results[app.name]["outcome"], error["kind"]) == ("failed", "storage")
    assert told in error["message"]
    assert error["remedy"]
    assert ran.results[other.name]["outcome"] == "renewed"
    token = project.token(app.name)["access_token"]
    assert token_in("header", text(place(project, "header"))) == token
    again = run("generate", "--refresh-ahead", "--json")
    assert (again.code, again.results[app.name]["outcome"]) == (78, "kept")
    assert_no_secret(ran.stderr + again.stderr + error["message"], [app])
    assert minted(project) == 2


def test_a_deadline_bounds_the_wait_for_the_lock(app: App, project: Project, run: Command) -> None:
    """Also where nothing is due but a sink."""
    give(project, sink("raw"))
    run("generate")
    os.unlink(place(project, "raw"))
    began = time.monotonic()
    with TokenStore(project.output).lock(1):
        report = renew(project, refresh_ahead=True, deadline=0.2)
    assert (report.exit_code, report.results[0].identity_name) == (75, app.name)
    assert time.monotonic() - began < 10


def test_a_lock_that_stays_busy_is_tried_later(app: App, project: Project, run: Command) -> None:
    """Another run is at it: nobody has to act."""
    from filelock import FileLock

    give(project, sink("raw"))
    run("generate")
    os.unlink(place(project, "raw"))
    with FileLock(os.path.join(project.output, ".credentials-provider.lock")):
        ran = run("generate", "--refresh-ahead", "--lock-timeout", "0", "--json")
    assert (ran.code, ran.results[app.name]["outcome"]) == (75, "kept")


@POSIX
def test_a_device_is_not_replaced(app: App, project: Project, run: Command) -> None:
    """Nor is a pipe: nobody could tell whether it holds the token."""
    pipe = os.path.join(project.output, "pipe")
    os.mkfifo(pipe)
    give(project, sink("raw", "/dev/null"), sink("raw", "pipe"))
    ran = run("generate")
    assert (ran.code, app.name in ran.stderr) == (1, True)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert stat.S_ISFIFO(os.stat(pipe).st_mode)


# Rights


@POSIX
def test_rights_stay_as_the_administrator_set_them(
    app: App, project: Project, run: Command
) -> None:
    """Mode, owner and group of the file, where the sink names none; none for everybody."""
    give(project, sink("raw"), sink("dotenv"))
    run("generate")
    os.chmod(place(project, "raw"), 0o640)
    os.chmod(place(project, "dotenv"), 0o644)
    if os.geteuid() == 0:
        os.chown(place(project, "raw"), 0, 100)
    before = os.stat(place(project, "raw"))
    assert run("generate").code == 0
    after = os.stat(place(project, "raw"))
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        *(before.st_mode, before.st_uid, before.st_gid),
    )
    assert mode(place(project, "dotenv")) == 0o640
    assert text(place(project, "raw")) == project.token(app.name)["access_token"]


def as_stranger(*line: str) -> subprocess.CompletedProcess[str]:
    """A command as another user, without root's rights."""
    return subprocess.run(
        ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", *line],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def shared(project: Project) -> Iterator[str]:
    """A folder that the other user can reach."""
    import tempfile

    assert project
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        yield folder


@ROOT
@pytest.mark.parametrize("form", FORMATS)
def test_a_service_of_another_user_reads_its_sink_and_nothing_else(
    app: App, project: Project, run: Command, shared: str, form: str
) -> None:
    """By owner, or by group; the token file itself stays closed."""
    owned, grouped = f"{shared}/owned", f"{shared}/grouped"
    give(
        project,
        sink(form, owned, owner=str(STRANGER)),
        sink(form, grouped, group=str(STRANGER), mode="0640"),
        sink(form, f"{shared}/mine"),
    )
    assert run("generate").code == 0
    token = project.token(app.name)["access_token"]
    for path in (owned, grouped):
        assert token_in(form, as_stranger("cat", path).stdout) == token
    assert as_stranger("cat", f"{shared}/mine").returncode != 0
    assert as_stranger("cat", project.path(app.name)).returncode != 0
    assert as_stranger("sh", "-c", f"echo x >> {grouped}").returncode != 0
    assert run("generate").code == 0
    assert (os.stat(owned).st_uid, os.stat(grouped).st_gid) == (STRANGER, STRANGER)


@ROOT
def test_a_sink_on_a_shared_volume_serves_a_container_of_another_user(
    project: Project, run: Command, shared: str
) -> None:
    """As the sidecar's manifest says: a volume and its files belong to the pod's fsGroup."""
    from credentials_provider.schedule.kubernetes import Form, Needs, manifests

    text_of = manifests(Form("sidecar", "i", 5, 1, "n"), Needs())
    (shown,) = re.findall(r'^#   "sinks": (\[.*\])$', text_of, re.MULTILINE)
    os.chown(shared, 0, STRANGER)
    os.chmod(shared, 0o2777)
    (made,) = apps(1)
    project.add(made)
    give(project, *json.loads(shown.replace("/tokens/NAME", f"{shared}/ci")))
    assert run("generate").code == 0
    token = project.token(made.name)["access_token"]
    assert as_stranger("cat", f"{shared}/ci.token").stdout == token


@ROOT
def test_a_file_that_a_stranger_put_there_gets_no_token(
    app: App, project: Project, run: Command, shared: str
) -> None:
    """In a folder where anybody may write: neither by owner nor by a link."""
    os.chmod(shared, 0o1777)
    planted, link = f"{shared}/planted", f"{shared}/link"
    victim = project.private("victim", "untouched")
    assert (
        as_stranger("sh", "-c", f"umask 0; touch {planted}; ln -s {victim} {link}").returncode == 0
    )
    for path in (planted, link):
        give(project, sink("raw", path))
        ran = run("generate")
        assert ran.code == 1
        assert "belongs to" in ran.stderr
    assert text(planted) == ""
    assert text(victim) == "untouched"
    assert os.path.islink(link)
    assert project.token(app.name)["access_token"]


# Whole


def one(form: str, path: Path) -> Sink:
    return Sink(str(path), form, None, None, None, "ACCESS_TOKEN", HOST)


@pytest.mark.parametrize("form", FORMATS)
def test_a_reader_never_sees_half_a_sink(form: str, tmp_path: Path) -> None:
    """While it is written again and again: old or new, with every other line."""
    path = tmp_path / "out"
    documents: list[dict[str, Any]] = [{"access_token": each * 3000} for each in "ab"]
    path.write_text(OTHERS.get(form, ""))
    path.chmod(0o600)
    sinks.write(one(form, path), documents[0])
    seen: set[str] = set()
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            content = path.read_text()
            assert content.startswith(OTHERS.get(form, ""))
            seen.add(token_in(form, content))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(100):
        sinks.write(one(form, path), documents[number % 2])
    ended.set()
    reader.join()
    assert seen
    assert seen <= {"a" * 3000, "b" * 3000}
    assert os.listdir(tmp_path) == ["out"]


@tracing
@pytest.mark.parametrize("form", FORMATS)
def test_killed_at_any_step_it_leaves_a_whole_sink(
    app: App, project: Project, run: Command, form: str, tmp_path: Path
) -> None:
    """The old one or the new one; the next run finishes, and leaves nothing behind."""
    folder = tmp_path / "sinks"
    folder.mkdir()
    path = str(folder / "out")
    give(project, sink(form, path))
    assert run("generate").code == 0
    token = project.token(app.name)["access_token"]
    old = text(path).replace(token, "eyJold.eyJold.old")
    kills = 0
    for call in ("fchmod", "write", "fsync", "rename", "renameat", "flock"):
        for number in range(1, 4 if LONG else 2):
            project.private(path, old)
            line = run.line("generate", "--refresh-ahead", "--quiet")
            injection = f"inject={call}:signal=SIGKILL:when={number}"
            trace = ["strace", "-f", "-qq", "-o", os.devnull, f"-etrace={call}", f"-e{injection}"]
            kills += wait(run.start_line([*trace, *line])).code != 0
            assert text(path) in {old, old.replace("eyJold.eyJold.old", token)}
            assert run("generate", "--refresh-ahead").code == 0
            assert token_in(form, text(path)) == token
            assert os.listdir(folder) == ["out"]
    assert kills >= 3
    assert minted(project) == 1


def test_a_sink_is_kept_through_an_outage(app: App, project: Project, run: Command) -> None:
    """With the provider down, one that is missing gets the token that is still valid."""
    give(project, sink("raw"))
    run("generate")
    project.age(app.name, left=100)
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    os.unlink(place(project, "raw"))
    assert run("generate", "--refresh-ahead").code == 78
    assert text(place(project, "raw")) == project.token(app.name)["access_token"]


# What is said of them


def test_status_shows_each_sink(app: App, project: Project, run: Command) -> None:
    """Of one identity; whether it holds the token."""
    give(project, sink("raw"), sink("header"), sink("json"))
    run("generate")
    os.unlink(place(project, "header"))
    project.private(place(project, "json"), "{}")
    shown = " ".join(status(project, app.name).split())
    assert f"Sink {place(project, 'raw')} (raw) holds the token." in shown
    assert f"Sink {place(project, 'header')} (header) is not there" in shown
    document = json.loads(status(project, app.name, "--json"))
    assert [each["state"] for each in document["identities"][0]["sinks"]] == [
        *("current", "missing", "other"),
    ]


def status(project: Project, *args: str) -> str:
    """It needs no provider, and takes no options about one."""
    line = [sys.executable, "-m", "credentials_provider", "status", *args]
    files = ["-i", project.identities_file, "-o", project.output]
    env = environment(project.folder, {"COLUMNS": "500"})
    return subprocess.run(
        [*line, *files], cwd=project.folder, env=env, capture_output=True, text=True, check=False
    ).stdout


@ROOT
def test_doctor_reads_each_sink_as_its_user(
    app: App, project: Project, run: Command, shared: str
) -> None:
    """The rights of the file and of the folders above it."""
    good, closed = f"{shared}/good", f"{shared}/closed/out"
    os.mkdir(f"{shared}/closed", 0o700)
    give(
        project,
        sink("raw", good, owner=str(STRANGER), group=str(STRANGER + 1), mode="0640"),
        sink("raw", closed, owner=str(STRANGER)),
        sink("raw", f"{shared}/grouped", group=str(STRANGER)),
        sink("raw", f"{shared}/gone"),
    )
    assert run("generate").code == 0
    os.unlink(f"{shared}/gone")
    checks = [each for each in run("doctor", "--json").json["checks"] if each["name"] == "sinks"]
    assert [each["verdict"] for each in checks] == ["ok", "failure", "failure", "warning"]
    assert f"the user {STRANGER} cannot read the sink {closed}" in checks[1]["seen"]
    assert f"the group {STRANGER} cannot read" in checks[2]["seen"]
    assert checks[0]["identity_names"] == [app.name]


# identities sink


def command(project: Project, *args: str) -> subprocess.CompletedProcess[str]:
    """`identities …`, which needs no provider."""
    line = [sys.executable, "-m", "credentials_provider", "identities", *args]
    files = ["-i", project.identities_file, "-o", project.output]
    env = environment(project.folder, {"ENTRA_LOGIN_BASE_URL": project.idp.base_url})
    return subprocess.run(
        [*line, *files], cwd=project.folder, env=env, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("form", FORMATS)
def test_a_sink_is_added_and_removed(app: App, project: Project, run: Command, form: str) -> None:
    """It has the token at once, and loses it again; what else is in the file stays."""
    run("generate")
    path = os.path.join(project.folder, "out")
    others = OTHERS.get(form, "")
    project.private(path, others)
    more = {"dotenv": ["--variable", "ACCESS_TOKEN"], "netrc": ["--machine", HOST]}.get(form, [])
    done = command(project, "sink", "add", app.name, "out", "--format", form, *more)
    assert done.returncode == 0, done.stderr
    token = project.token(app.name)["access_token"]
    assert token_in(form, text(path)) == token
    assert project.entries()[0]["sinks"][0]["path"] == path
    done = command(project, "sink", "remove", app.name, "out")
    assert (done.returncode, token in done.stdout) == (0, False)
    assert "sinks" not in project.entries()[0]
    assert os.path.exists(path) == bool(others)
    assert not others or text(path) == others
    assert minted(project) == 1


def test_a_sink_without_a_token_waits_for_the_next_run(
    app: App, project: Project, run: Command
) -> None:
    """It is relative to the identities file where it lies below that."""
    place_ = os.path.join(project.output, "token")
    done = command(project, "sink", "add", app.name, place_)
    assert (done.returncode, "the next run writes it" in done.stderr) == (0, True)
    assert project.entries()[0]["sinks"] == [{"path": place_, "format": "raw"}]
    again = command(project, "sink", "add", app.name, place_)
    assert (again.returncode, "already" in again.stderr) == (2, True)
    assert run("generate").code == 0
    assert text(place_) == project.token(app.name)["access_token"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("entra-identities.json",), "holds something"),
        (("absent/x",), "no folder"),
        (("x", "--mode", "0777"), "mode"),
        (("x", "--format", "netrc"), "machine is missing"),
        (("x", "--format", "dotenv", "--variable", "A B"), "variable"),
    ],
)
def test_a_sink_that_makes_no_sense_is_not_added(
    app: App, project: Project, words: tuple[str, ...], told: str
) -> None:
    """A file that holds something else is never given up for a token."""
    before = text(project.identities_file)
    path = os.path.join(project.output, words[0])
    done = command(project, "sink", "add", app.name, path, *words[1:])
    assert (done.returncode, told in done.stderr) == (2, True), done.stderr
    assert text(project.identities_file) == before
    done = command(project, "sink", "remove", app.name, "x")
    assert (done.returncode, "has no sink" in done.stderr) == (2, True)


def test_a_token_is_not_looked_for_where_it_cannot_be(app: App, project: Project) -> None:
    """In a file that is no text, and where the token file has none."""
    path = place(project, "dotenv")
    there = Sink(path, "dotenv", None, None, None, "TOKEN", "")
    with open(path, "wb") as file:
        file.write(b"TOKEN=a.b.c\n\xff")
    assert not sinks.withdraw(there, {})
    with pytest.raises(StorageError, match="not UTF-8"):
        sinks.withdraw(there, {"access_token": "a.b.c"})
    assert sinks.withdraw(there._replace(format="raw"), {"access_token": "a.b.c"})
    give(project, sink("raw"))
    store = TokenStore(project.output)
    (entry,) = read_entries(load_settings(Flags(), {}, project.folder)).entries
    assert entry.name == app.name
    store.write(entry.name, {"no": "token"})
    ((_, state),) = sinks.states(store, entry, project.identities_file)
    assert state == "missing"


def test_remove_takes_the_sinks_along(app: App, project: Project, run: Command) -> None:
    """Those that hold the token; another file in a sink's place stays."""
    project.private(place(project, "dotenv"), OTHERS["dotenv"])
    give(project, sink("raw"), sink("header"), sink("dotenv"))
    run("generate")
    project.private(place(project, "header"), "mine")
    done = command(project, "remove", app.name)
    assert done.returncode == 0, done.stderr
    assert not os.path.exists(place(project, "raw"))
    assert text(place(project, "header")) == "mine"
    assert text(place(project, "dotenv")) == OTHERS["dotenv"]
    assert f"{place(project, 'header')} is still there" in done.stdout
