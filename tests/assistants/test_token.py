"""`token` and `exec`: a token that lives, in the form its reader wants, and nowhere else."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from credentials_provider.emulator import Fault
from support import SCOPE, apps, assert_no_secret, entry, environment, until, wait

if TYPE_CHECKING:
    from credentials_provider.emulator import App
    from support import Command, Project, Ran

HEAVY = {"pydantic", "msal", "requests", "urllib3", "tenacity", "filelock", "rich"}


def minted(project: Project) -> int:
    return len(project.idp.token_requests)


def test_mints_where_there_is_none_and_answers_from_disk_after(
    app: App, project: Project, run: Command
) -> None:
    """The first call mints, the second gives the same token without a request."""
    first, second = run("token", app.name), run("token", app.name)
    assert (first.code, first.stderr) == (0, "")
    assert first.stdout == project.token(app.name)["access_token"] + "\n"
    assert second == first
    assert minted(project) == 1


def test_from_disk_loads_nothing_that_only_a_renewal_needs(app: App, run: Command) -> None:
    """Answering from disk imports none of the heavy libraries."""
    assert run("token", app.name).code == 0
    line = run.line("token", app.name)
    line[1:1] = ["-X", "importtime"]
    ran = wait(run.start_line(line))
    assert ran.code == 0
    loaded = {row.rpartition("|")[2].strip().partition(".")[0] for row in ran.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize(("left", "requests"), [(299, 2), (330, 1)])
def test_renews_first_below_the_least_life(
    app: App, project: Project, run: Command, left: float, requests: int
) -> None:
    """A token with less than five minutes is renewed, one with more is given."""
    run("token", app.name)
    project.age(app.name, left=left)
    ran = run("token", app.name)
    assert ran.stdout.strip() == project.token(app.name)["access_token"]
    assert minted(project) == requests


def test_tokens_that_never_live_as_long_are_given_with_half_their_life(
    app: App, project: Project, run: Command
) -> None:
    """Short-lived tokens are not minted anew at every call."""
    project.idp.inject(Fault("short_life", expires_in=120), times=None)
    tokens = {run("token", app.name).stdout for _ in range(3)}
    assert len(tokens) == 1
    project.age(app.name, left=59)
    assert run("token", app.name).stdout not in tokens
    assert minted(project) == 2


def test_many_at_once_make_one_request(app: App, project: Project, run: Command) -> None:
    """Eight processes that find no token at the same time mint one between them."""
    processes = [run.start("token", app.name) for _ in range(8)]
    done = [wait(process) for process in processes]
    assert {ran.code for ran in done} == {0}
    assert len({ran.stdout for ran in done}) == 1
    assert minted(project) == 1


def test_force_renews_a_fresh_token(app: App, project: Project, run: Command) -> None:
    """`--force` mints whatever is on disk."""
    first = run("token", app.name).stdout
    assert run("token", app.name, "--force").stdout not in {first, ""}
    assert minted(project) == 2


def test_an_old_token_that_lives_is_given_with_a_warning(
    app: App, project: Project, run: Command
) -> None:
    """With the provider down, a token that lives is better than none, and stderr says so."""
    first = run("token", app.name).stdout
    project.age(app.name, left=100)
    project.idp.inject(Fault("unavailable"), times=None)
    ran = run("token", app.name, "--deadline", "2s")
    assert (ran.code, ran.stdout) == (0, first)
    assert "expires in 1 min" in ran.stderr
    assert "not renewed" in ran.stderr
    assert_no_secret(ran.stderr, [app])


@pytest.mark.parametrize("left", [-1, None])
def test_no_token_that_lives_is_exit_1_and_an_empty_stdout(
    app: App, project: Project, run: Command, left: float | None
) -> None:
    """A dead token is never printed; neither is anything else."""
    if left is not None:
        run("token", app.name)
        project.age(app.name, left=left)
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    ran = run("token", app.name)
    assert (ran.code, ran.stdout) == (1, "")
    assert "the client secret is wrong" in ran.stderr
    assert_no_secret(ran.stderr, [app])


def test_a_refusal_names_identity_cause_codes_trace_and_cure(
    app: App, project: Project, run: Command
) -> None:
    """As `generate` does: a ticket at Microsoft needs the trace ID."""
    project.idp.inject(Fault("aadsts", code=7000222))
    ran = run("token", app.name)
    assert ran.stderr.startswith(
        f"error: no token for {app.name}: the client secret has expired "
        "(invalid_client, AADSTS7000222); Trace ID "
    )
    assert f"identities secret {app.name} " in ran.stderr


def test_a_forced_renewal_that_fails_gives_nothing(
    app: App, project: Project, run: Command
) -> None:
    """After a 401 the old token is of no use: `--force` gives a new one or exit 1."""
    run("token", app.name)
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    ran = run("token", app.name, "--force")
    assert (ran.code, ran.stdout) == (1, "")


def test_another_identity_s_broken_entry_does_not_take_a_token_that_serves(
    app: App, project: Project, run: Command
) -> None:
    """A token on disk is given although somebody is editing another entry."""
    run("token", app.name)
    project.write([*project.entries(), {"identity_name": "half-written"}])
    assert run("token", app.name).code == 0


@pytest.mark.parametrize("content", ["x\r\nX-Evil: 1", "a' ; rm -rf ~ ; '", "tok\u00e9n"])
def test_what_is_no_bearer_token_is_not_printed(
    app: App, project: Project, run: Command, content: str
) -> None:
    """A token file that was tampered with cannot end a header or a shell word: it is replaced."""
    run("token", app.name)
    project.private(
        project.path(app.name),
        json.dumps({**project.token(app.name), "access_token": content}),
    )
    ran = run("token", app.name, "--format", "env")
    token = project.token(app.name)["access_token"]
    assert (ran.code, ran.stdout) == (0, f"export ACCESS_TOKEN='{token}'\n")
    assert token != content


def test_unknown_identity_is_usage(app: App, run: Command) -> None:
    """A name that is not in the file is exit 2, with the nearest one."""
    ran = run("token", app.name[:-1])
    assert (ran.code, ran.stdout) == (2, "")
    assert f"did you mean {app.name}?" in ran.stderr


# Forms


def formatted(app: App, run: Command, *args: str, **env: str) -> Ran:
    return run("token", app.name, *args, env=env)


def test_forms(app: App, project: Project, run: Command) -> None:
    """Each form is what its reader takes."""
    token = formatted(app, run).stdout.strip()
    header = formatted(app, run, "--format", "header", "--header-name", "X-Authorization")
    assert header.stdout == f"X-Authorization: Bearer {token}\n"
    headers = formatted(
        app, run, "--format", "headers-json", *("--header-name", "A"), *("--header-name", "X-B")
    )
    assert headers.json == {"A": f"Bearer {token}", "X-B": f"Bearer {token}"}
    assert formatted(app, run, "--format", "headers-json").json == {
        "Authorization": f"Bearer {token}"
    }
    assert formatted(app, run, "--format", "json").json == project.token(app.name)
    powershell = formatted(app, run, "--format", "powershell", "--env-var", "T")
    assert powershell.stdout == f"$env:T = '{token}'\n"


def test_env_is_set_by_a_shell(app: App, run: Command) -> None:
    """`eval` of the env form exports the token."""
    ran = formatted(app, run, "--format", "env", "--env-var", "MY_TOKEN")
    shell = subprocess.run(
        ["/bin/sh", "-c", f"{ran.stdout}\nexec printenv MY_TOKEN"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout == formatted(app, run).stdout


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_exec_credential_has_the_version_that_was_asked_for(
    app: App, project: Project, run: Command, version: str
) -> None:
    """Kubectl refuses another version than its own, and needs the expiry."""
    api = f"client.authentication.k8s.io/{version}"
    info = json.dumps({"apiVersion": api, "kind": "ExecCredential", "spec": {"interactive": False}})
    given = formatted(app, run, "--format", "exec-credential", KUBERNETES_EXEC_INFO=info).json
    assert (given["apiVersion"], given["kind"]) == (api, "ExecCredential")
    told = time.strptime(given["status"]["expirationTimestamp"], "%Y-%m-%dT%H:%M:%SZ")
    on_disk = project.token(app.name)
    assert time.gmtime(on_disk["expires_on"])[:6] == told[:6]
    assert given["status"]["token"] == on_disk["access_token"]


@pytest.mark.parametrize("info", ["{", "[]", '{"apiVersion": "client.authentication.k8s.io/v9"}'])
def test_exec_credential_of_an_unknown_version_is_refused(
    app: App, run: Command, info: str
) -> None:
    """What kubectl would not understand is not printed."""
    ran = formatted(app, run, "--format", "exec-credential", KUBERNETES_EXEC_INFO=info)
    assert (ran.code, ran.stdout) == (2, "")


@pytest.mark.parametrize(
    "args",
    [
        ("--header-name", "X: 1"),
        ("--header-name", ""),
        ("--env-var", "A B"),
        ("--env-var", "1A"),
        ("--min-ttl", "soon"),
        ("--format", "yaml"),
    ],
)
def test_wrong_input_is_usage(app: App, run: Command, args: tuple[str, str]) -> None:
    """Nothing is minted for a command line that makes no sense."""
    ran = run("token", app.name, *args)
    assert (ran.code, ran.stdout) == (2, "")
    assert minted(run.project) == 0


def test_output_is_whole_and_private(app: App, project: Project, run: Command) -> None:
    """`--output` writes a file of mode 0600, whatever was there, and prints nothing."""
    target = os.path.join(project.folder, "api.token")
    with open(target, "w", encoding="utf-8") as file:
        file.write("old")
    os.chmod(target, 0o666)
    ran = run("token", app.name, "--output", target)
    assert (ran.code, ran.stdout) == (0, "")
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o600
    with open(target, encoding="utf-8") as file:
        assert file.read().strip() == project.token(app.name)["access_token"]


# exec


def test_exec_hands_over_the_token_and_the_exit_code(app: App, run: Command) -> None:
    """The command has the token in the named variable and its own options; its exit code counts."""
    script = "import os, sys; print(os.environ['MY_TOKEN']); sys.exit(int(sys.argv[2]))"
    ran = run(
        "exec", "--env-var", "MY_TOKEN", app.name, "--", sys.executable, "-c", script, "--json", "7"
    )
    assert ran.code == 7
    assert ran.stdout == run("token", app.name).stdout


_ARGUMENTS = (sys.executable, "-c", "import sys; print(sys.argv[1:])")


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_options_behind_the_command_are_its_own(
    app: App, run: Command, dashes: tuple[str, ...]
) -> None:
    """As in env, sudo and kubectl exec; a second `--` is the command's."""
    ran = run("exec", app.name, *dashes, *_ARGUMENTS, "-f", "x", "-h", "--help", "--", "-i")
    assert (ran.code, ran.stdout) == (0, "['-f', 'x', '-h', '--help', '--', '-i']\n")


def test_two_dashes_take_the_place_of_the_only_name(
    app: App, project: Project, run: Command
) -> None:
    """Where there are two identities one has to be named."""
    ran = run("exec", "--env-var", "T", "--", "printenv", "T")
    assert (ran.code, ran.stdout) == (0, run("token").stdout)
    assert ran.stdout.count(".") == 2
    for line in (["true"], ["env", "A=1", "true"]):
        ran = run("exec", *line)
        assert (ran.code, "exec -- COMMAND" in ran.stderr) == (2, True)
    project.add(apps(2)[1])
    for words in (("exec", "--", "true"), ("token",)):
        ran = run(*words)
        assert (ran.code, ran.stdout) == (2, "")
        assert app.name in ran.stderr


@pytest.mark.parametrize("dashes", [(), ("--",)])
def test_options_of_ours_may_stand_behind_the_name(
    app: App, run: Command, dashes: tuple[str, ...]
) -> None:
    """No command is called `--env-var`; what is none of ours is refused."""
    ran = run("exec", app.name, "--env-var", "T", *dashes, "printenv", "T")
    assert (ran.code, ran.stdout) == (0, run("token").stdout)
    ran = run("exec", app.name, "--nothing", "true")
    assert (ran.code, ran.stdout) == (2, "")


def test_the_command_inherits_no_secret_of_an_identity(project: Project, run: Command) -> None:
    """It has the token in its place, and all the other variables."""
    (made,) = apps(1)
    project.add(made, client_secret=None, client_secret_env="CI_SECRET")
    ran = run("exec", made.name, "env", env={"CI_SECRET": made.secrets[0], "OTHER": "kept"})
    assert ran.code == 0
    assert "OTHER=kept" in ran.stdout
    assert "CI_SECRET" not in ran.stdout
    assert made.secrets[0] not in ran.stdout


# No file


def snapshot(folder: str) -> set[str]:
    return {os.path.join(at, name) for at, _, names in os.walk(folder) for name in [*names, ""]}


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("words", [("token",), ("exec", "--", "printenv", "ACCESS_TOKEN")])
def test_no_store_writes_no_file(project: Project, run: Command, words: tuple[str, ...]) -> None:
    """Nor a folder or a lock; each call mints."""
    os.rename(project.identities_file, os.path.join(project.folder, "i.json"))
    os.rmdir(project.output)
    before = snapshot(project.folder)
    done = [run(words[0], "--no-store", "-i", "i.json", *words[1:]) for _ in range(2)]
    assert [ran.code for ran in done] == [0, 0]
    assert all(ran.stdout.count(".") == 2 for ran in done)
    assert minted(project) == 2
    assert snapshot(project.folder) == before


@pytest.mark.parametrize("settings", [True, False])
def test_an_identity_of_options_needs_no_file(
    project: Project, run: Command, settings: bool
) -> None:
    """Options or variables say whose token it is, a variable has the secret; nothing is stored."""
    (made,) = apps(1)
    project.idp.add_app(made)
    os.rmdir(project.output)
    before = snapshot(project.folder)
    secret = {"ENTRA_CLIENT_SECRET": made.secrets[0]}
    place = {"ENTRA_TENANT_ID": made.tenant_id, "ENTRA_SCOPE": SCOPE} if settings else {}
    options = () if settings else ("--tenant-id", made.tenant_id, "--scope", SCOPE)
    ran = run("token", "--client-id", made.client_id, *options, env={**secret, **place})
    assert (ran.code, ran.stdout.count(".")) == (0, 2)
    assert snapshot(project.folder) == before
    assert_no_secret(ran.stderr, [made])


def test_an_identity_of_options_may_have_a_federated_token(run: Command, tmp_path: Path) -> None:
    """The variable of a cluster's webhook names its file."""
    ran = run(
        *("token", "--client-id", SCOPE[6:42], "--tenant-id", "contoso.com", "--scope", SCOPE),
        env={"AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "missing")},
    )
    assert (ran.code, ran.stdout) == (1, "")
    assert str(tmp_path / "missing") in ran.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--client-id", "x"), "ENTRA_TENANT_ID and ENTRA_CLIENT_SECRET"),
        (("--scope", SCOPE), "--client-id"),
        (("ci", "--client-id", "x"), "exclude"),
    ],
)
def test_half_an_identity_of_options_is_usage(
    project: Project, run: Command, words: tuple[str, ...], told: str
) -> None:
    """What is missing is named."""
    ran = run("token", *words)
    assert (ran.code, ran.stdout) == (2, "")
    assert told in ran.stderr
    assert minted(project) == 0


@pytest.mark.skipif(os.name == "nt", reason="a process there cannot be replaced")
def test_exec_becomes_the_command(app: App, run: Command) -> None:
    """The process is replaced: same id, the token not in its command line."""
    run("token", app.name)
    process = run.start("exec", app.name, "--", "sleep", "60")
    try:
        until(lambda: command_line(process.pid)[0].endswith("sleep"))
        assert command_line(process.pid) == ["sleep", "60"]
    finally:
        process.kill()
        wait(process)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="Linux shows it")
def test_exec_leaves_the_command_its_signals(app: App, run: Command) -> None:
    """A command at the head of a pipe ends with the pipe, as it does in a shell."""
    for words in (("exec",), ("exec", "--watch")):
        ran = run(*words, app.name, "grep", "SigIgn", "/proc/self/status")
        assert int(ran.stdout.split()[1], 16) & 1 << (signal.SIGPIPE - 1) == 0


def command_line(pid: int) -> list[str]:
    ran = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return ran.stdout.split() or [""]


def test_exec_without_a_token_runs_nothing(app: App, project: Project, run: Command) -> None:
    """The command does not start where there is no token that lives."""
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    ran = run("exec", app.name, "--", "echo", "started")
    assert (ran.code, ran.stdout) == (1, "")


@pytest.mark.parametrize(("line", "code"), [(["no-such-command"], 127), ([os.curdir], 126)])
def test_exec_of_what_cannot_run(app: App, run: Command, line: list[str], code: int) -> None:
    """Exit codes are those of a shell, with one line that names the command."""
    ran = run("exec", app.name, "--", *line)
    assert ran.code == code
    assert line[0] in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_two_identities_are_never_mixed_up(project: Project, run: Command) -> None:
    """Each name gets its own client's token."""
    import jwt

    pair = apps(2)
    project.add_all(pair)
    for app in pair:
        token = run("token", app.name).stdout.strip()
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["azp"] == app.client_id


def test_works_from_anywhere_with_an_empty_environment(
    app: App, project: Project, run: Command
) -> None:
    """An assistant starts the command from its own folder without any environment."""
    bare = {"PYTHONPATH": environment(project.folder)["PYTHONPATH"]}
    line = run.line(
        *("token", app.name, "--identities-file", project.identities_file),
        *("--output-dir", project.output),
    )
    ran = subprocess.run(line, cwd="/", env=bare, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert entry(app)["identity_name"] == app.name


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such paths")
@pytest.mark.parametrize("place", ["/dev/stdout", "/dev/fd/1", "pipe"])
def test_output_onto_a_device_or_a_pipe_goes_there(
    app: App, project: Project, run: Command, place: str
) -> None:
    """It is written to, not replaced by a file."""
    path = os.path.join(project.folder, place)
    got = []
    if place == "pipe":
        os.mkfifo(path)
        reader = threading.Thread(target=lambda: got.append(Path(path).read_text(encoding="utf-8")))
        reader.start()
    ran = run("token", app.name, "--output", path)
    if place == "pipe":
        reader.join()
        assert stat.S_ISFIFO(os.stat(path).st_mode)
    token = project.token(app.name)["access_token"]
    assert (ran.code, ran.stdout + "".join(got)) == (0, f"{token}\n")
