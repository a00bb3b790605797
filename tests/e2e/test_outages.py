"""What never gets worse: tokens on disk, whatever is in the way of new ones."""

from __future__ import annotations

import os
import shlex
import sys

import filelock
import pytest

from credentials_provider.emulator import Emulator, Fault
from support import Command, Project, apps, wait

LOCK = ".credentials-provider.lock"


def _debris(project: Project) -> list[str]:
    return [name for name in os.listdir(project.output) if name.endswith(".tmp")]


DUE = ("--refresh-before", "100%")


def test_an_outage_leaves_tokens_that_serve(project: Project, run: Command) -> None:
    """With the provider down the files stay byte for byte, exit 75, and each is reported kept."""
    many = apps(3)
    project.add_all(many)
    assert run().code == 0
    before = project.files()
    project.idp.close()

    ran = run("--json", "--max-attempts", "1", *DUE)

    assert ran.code == ran.json["exit_code"] == 75
    assert ran.json["summary"] == {
        "identities": 3,
        "renewed": 0,
        "fresh": 0,
        "kept": 3,
        "failed": 0,
    }
    for app in many:
        result = ran.results[app.name]
        assert (result["outcome"], result["error"]["kind"]) == ("kept", "unreachable")
        assert result["error"]["transient"] is True
        assert result["expires_at"] == project.token(app.name)["expires_at"]
    assert project.files() == before


def test_a_passing_fault_that_entra_sends_with_http_400_is_for_a_later_run(
    project: Project, run: Command, idp: Emulator
) -> None:
    """The status alone would call it a refusal that no retry heals."""
    project.add(apps(1)[0])
    assert run().code == 0
    idp.inject(Fault("aadsts", code=90033), None)
    ran = run("--json", "--max-attempts", "1", *DUE)
    (result,) = ran.json["results"]
    assert ran.code == 75
    assert result["error"]["transient"] is True
    assert "Run again" in result["error"]["remedy"]


def test_a_kept_token_is_told_with_the_time_it_has_left(
    project: Project, run: Command, idp: Emulator
) -> None:
    """People read how long a kept token lives on, why it was not renewed, and to try later."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    project.age(app.name, left=25 * 60 + 30)
    idp.inject(Fault("unavailable"), None)

    ran = run("--refresh-ahead=30m", "--max-attempts", "1")

    assert (ran.code, ran.stdout) == (75, "")
    assert f"{app.name}: kept (the token on disk is valid for another 25 min)" in ran.stderr
    assert "HTTP 503" in ran.stderr
    assert "Try again later" in ran.stderr


def test_a_mistake_in_an_entry_takes_no_valid_token_away(
    project: Project, run: Command, idp: Emulator
) -> None:
    """`token` gives the one on disk, with the mistake, until it ends. --force is exit code 2."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    (right,) = project.entries()
    project.write([{**right, "client_secert": "x"}])
    idp.close()
    line = [sys.executable, "-m", "credentials_provider", "token", app.name]

    for left in (1800, 60):  # more than --min-ttl, and less
        project.age(app.name, left=left)
        ran = wait(run.start_line([*line, "--login-base-url", idp.base_url]))
        assert (ran.code, ran.stdout.strip()) == (0, project.token(app.name)["access_token"])
        assert "client_secert: unknown field" in ran.stderr

    forced = wait(run.start_line([*line, "--login-base-url", idp.base_url, "--force"]))
    project.age(app.name, left=-1)
    expired = wait(run.start_line([*line, "--login-base-url", idp.base_url]))
    assert (forced.code, forced.stdout, expired.code, expired.stdout) == (2, "", 2, "")


def test_a_name_that_climbs_gives_no_file_of_another_folder(
    project: Project, run: Command, idp: Emulator
) -> None:
    """Its entry has a mistake, too, but nothing outside of the output folder is a token on disk."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    (right,) = project.entries()
    project.write([{**right, "identity_name": "../x"}])
    os.rename(project.path(app.name), project.path("../x"))
    line = [sys.executable, "-m", "credentials_provider", "token", "../x"]

    ran = wait(run.start_line([*line, "--login-base-url", idp.base_url]))

    assert (ran.code, ran.stdout) == (2, "")
    assert "identity_name" in ran.stderr


@pytest.mark.parametrize("state", ["missing", "expired", "garbage", "of another definition"])
def test_one_unusable_token_makes_an_outage_a_failure(
    project: Project, run: Command, state: str
) -> None:
    """With one identity that has nothing to show the exit code is 1; the others are kept."""
    one, two = many = apps(2)
    project.add_all(many)
    assert run().code == 0
    if state == "missing":
        os.unlink(project.path(one.name))
    elif state == "expired":
        project.age(one.name, left=-1)
    elif state == "garbage":
        project.private(project.path(one.name), '{"access_token": "eyJ')
    else:
        first, second = project.entries()
        project.write([{**first, "scope": "api://another/.default"}, second])
    before = project.files()
    project.idp.close()

    ran = run("--json", "--max-attempts", "1", *DUE)

    assert ran.code == 1
    outcomes = {name: result["outcome"] for name, result in ran.results.items()}
    assert outcomes == {one.name: "failed", two.name: "kept"}
    assert project.files() == before


def test_a_plain_run_that_fails_is_a_failure_and_keeps_the_file(
    project: Project, run: Command
) -> None:
    """Who asked for a new token hears that there is none; the old file stays."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    before = project.files()
    project.idp.close()

    ran = run("--max-attempts", "1")

    assert (ran.code, ran.stdout) == (1, "")
    assert f"{app.name}: failed (the token on disk is valid for another" in ran.stderr
    assert project.files() == before


def test_a_refused_renewal_keeps_the_token(project: Project, run: Command, idp: Emulator) -> None:
    """A secret that was rotated away does not take the token that it once bought."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    before = project.files()
    idp.remove_app(app)

    ran = run("--json", *DUE)

    assert (ran.code, ran.results[app.name]["error"]["aadsts"]) == (78, 700016)
    assert project.files() == before


@pytest.mark.parametrize(
    ("kind", "code"), [("wrong_tenant", 78), ("opaque", 78), ("no_access_token", 78), ("html", 75)]
)
def test_a_bad_answer_never_replaces_a_token(
    project: Project, run: Command, idp: Emulator, kind: str, code: int
) -> None:
    """What is not the token that was asked for stays off the disk."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    before = project.files()
    idp.inject(Fault(kind))

    assert run(*DUE).code == code
    assert project.files() == before


def test_the_run_after_an_outage_catches_up(project: Project, run: Command, idp: Emulator) -> None:
    """Kept tokens are renewed by the next run that reaches somebody."""
    project.add_all(apps(3))
    assert run().code == 0
    before = project.files()
    idp.close()
    assert run("--max-attempts", "1", *DUE).code == 75
    idp.start()

    ran = run("--json", *DUE)

    assert (ran.code, ran.json["summary"]["renewed"]) == (0, 3)
    assert not set(before.values()) & set(project.files().values())


def test_a_retry_as_a_process(project: Project, run: Command, idp: Emulator) -> None:
    """A reset and a 503 on the way to a token show in its attempts alone."""
    project.add_all(apps(1))
    idp.inject(Fault("throttle", retry_after=0))

    ran = run("--json", "--max-attempts", "2")

    (result,) = ran.json["results"]
    assert (ran.code, result["outcome"], result["attempts"]) == (0, "renewed", 2)


# Many runs at once


def test_twenty_runs_at_once_make_one_request_an_identity(
    project: Project, run: Command, idp: Emulator
) -> None:
    """Whoever waits for the lock plans anew: twenty timers that fire together cost one run."""
    project.add_all(apps(5))

    processes = [run.start("--refresh-ahead", "--json") for _ in range(20)]
    ended = [wait(process) for process in processes]

    assert [ran.code for ran in ended] == [0] * 20
    assert len(idp.requests) == 5
    assert sum(ran.json["summary"]["renewed"] for ran in ended) == 5
    assert len(project.files()) == 5
    assert _debris(project) == []


def test_a_busy_lock_is_a_reason_to_try_later(
    project: Project, run: Command, idp: Emulator
) -> None:
    """While another run holds the lock, tokens that serve are kept: exit 75, nothing requested."""
    project.add_all(apps(2))
    assert run().code == 0
    before, asked = project.files(), len(idp.requests)

    with filelock.FileLock(os.path.join(project.output, LOCK)):
        for args in (DUE, ()):
            ran = run("--json", "--lock-timeout", "0.2s", *args)

            assert ran.code == 75
            assert {each["outcome"] for each in ran.json["results"]} == {"kept"}
            assert {each["error"]["kind"] for each in ran.json["results"]} == {"storage"}

    assert (project.files(), len(idp.requests)) == (before, asked)


def test_a_busy_lock_without_a_token_is_a_failure(project: Project, run: Command) -> None:
    """Who has no token at all is not told that all is well."""
    project.add_all(apps(1))
    with filelock.FileLock(os.path.join(project.output, LOCK)):
        assert run("--lock-timeout", "0").code == 1


def test_a_run_with_nothing_due_never_waits(project: Project, run: Command) -> None:
    """A held lock is nothing to a run whose tokens are fresh."""
    project.add_all(apps(2))
    assert run().code == 0
    with filelock.FileLock(os.path.join(project.output, LOCK)):
        assert run("--refresh-ahead", "--lock-timeout", "0").code == 0


def test_what_a_killed_run_left_is_swept(project: Project, run: Command, idp: Emulator) -> None:
    """A temporary file of a dead run goes with the next one, even if nothing is due."""
    project.add_all(apps(1))
    assert run().code == 0
    left = project.private(
        os.path.join(project.output, ".credentials-provider-1-0a1b2c3d4e5f.tmp"), '{"access_t'
    )
    other = project.private(os.path.join(project.output, "notes.tmp"), "mine")

    assert run("--refresh-ahead").code == 0
    assert not os.path.exists(left)
    assert os.path.exists(other)
    assert len(idp.requests) == 1


# The disk


def test_a_full_disk_harms_no_file(project: Project, run: Command, idp: Emulator) -> None:
    """A token that cannot be written is told as such; old files stay whole, without debris."""
    many = apps(3)
    project.add_all(many)
    assert run().code == 0
    before = project.files()
    limited = f"ulimit -f 0; exec {shlex.join(run.line('--json'))}"

    ran = wait(run.start_line(["sh", "-c", limited]))

    assert ran.code == 1
    for result in ran.json["results"]:
        assert (result["outcome"], result["error"]["kind"]) == ("failed", "storage")
        assert result["error"]["remedy"]
    assert project.files() == before
    assert _debris(project) == []
    assert len(idp.requests) == 6


@pytest.mark.parametrize("limit", ["-n 64", "-S -n 64"], ids=["hard", "soft"])
def test_few_open_files_make_it_slower_and_lose_nothing(
    project: Project, run: Command, limit: str
) -> None:
    """Asked for more at once than the process may have files open for, it makes do."""
    project.add_all(apps(100))
    project.idp.inject(Fault("slow", seconds=0.2), times=None)  # so that they are at once
    limited = f"ulimit {limit}; exec {shlex.join(run.line('--json', '-j', '200'))}"

    ran = wait(run.start_line(["sh", "-c", limited]))

    assert (ran.code, ran.json["summary"]["renewed"]) == (0, 100), ran.stderr


def test_a_directory_in_place_of_a_token_file_harms_no_other(
    project: Project, run: Command
) -> None:
    """One identity whose file cannot be put in place fails alone, by name."""
    one, two = many = apps(2)
    project.add_all(many)
    os.mkdir(project.path(one.name))

    ran = run("--json")

    assert ran.code == 1
    assert (ran.results[one.name]["outcome"], ran.results[two.name]["outcome"]) == (
        "failed",
        "renewed",
    )
    error = ran.results[one.name]["error"]
    assert error["kind"] == "storage"
    assert f"{one.name}.json" in error["message"]
    assert _debris(project) == []


def test_an_output_folder_that_is_a_file_is_a_wrong_configuration(
    project: Project, run: Command, idp: Emulator
) -> None:
    """Exit 2 before anything is requested; the file that is in the way stays."""
    project.add_all(apps(1))
    project.private("taken", "precious")

    for folder in ("taken", "taken/below"):
        ran = run("--json", "-o", folder)

        assert ran.code == ran.json["exit_code"] == 2, ran
        assert "taken" in ran.json["errors"][0]["message"]
    assert idp.connections == 0
    with open(os.path.join(project.folder, "taken"), encoding="utf-8") as file:
        assert file.read() == "precious"


def test_a_folder_that_cannot_be_locked_is_told_before_any_request(
    project: Project, run: Command, idp: Emulator
) -> None:
    """Without a lock nothing is requested, and every identity is told why."""
    project.add_all(apps(2))
    os.mkdir(os.path.join(project.output, LOCK))

    ran = run("--json")

    assert ran.code == 1
    assert {each["error"]["kind"] for each in ran.json["results"]} == {"storage"}
    assert (idp.connections, project.files()) == (0, {})


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="needs Linux's /sys")
def test_a_folder_that_nobody_can_write_is_told_before_any_request(
    project: Project, run: Command, idp: Emulator
) -> None:
    """An output folder in which not even root may write costs no request."""
    project.add_all(apps(2))

    for folder in ("/sys", "/sys/tokens"):
        ran = run("--json", "-o", folder)

        assert ran.code == 1
        assert {each["error"]["kind"] for each in ran.json["results"]} == {"storage"}
        assert {bool(each["error"]["remedy"]) for each in ran.json["results"]} == {True}
    assert idp.connections == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_keeps_its_tokens(project: Project, run: Command, idp: Emulator) -> None:
    """Tokens in a folder that may not be written serve on: exit 75, nothing requested."""
    project.add_all(apps(2))
    assert run().code == 0
    before, asked = project.files(), len(idp.requests)
    os.unlink(os.path.join(project.output, LOCK))
    os.chmod(project.output, 0o500)
    try:
        ran = run("--json", *DUE)
    finally:
        os.chmod(project.output, 0o700)

    assert ran.code == 75
    assert {each["error"]["kind"] for each in ran.json["results"]} == {"storage"}
    assert (project.files(), len(idp.requests)) == (before, asked)
