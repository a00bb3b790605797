"""What is told to the command, and what it makes of a wrong word: flags, environment, files."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import jwt
import pytest

from credentials_provider.emulator import Emulator
from credentials_provider.errors import ConfigurationError
from support import OTHER_TENANT, Command, Project, apps, entry, environment, renew, wait

# Wrong identities files


class Wrong(NamedTuple):
    changes: dict[str, object]  # to the second of two entries
    field: str
    says: str = ""


WRONG = {
    "name that climbs": Wrong({"identity_name": "../x"}, "identity_name"),
    "name with a slash": Wrong({"identity_name": "a/b"}, "identity_name"),
    "name with a backslash": Wrong({"identity_name": "a\\b"}, "identity_name"),
    "name of a hidden file": Wrong({"identity_name": ".x"}, "identity_name"),
    "name with a NUL": Wrong({"identity_name": "a\0b"}, "identity_name"),
    "name that ends in a line": Wrong({"identity_name": "a\n"}, "identity_name"),
    "long name": Wrong({"identity_name": "a" * 129}, "identity_name"),
    "empty name": Wrong({"identity_name": ""}, "identity_name"),
    "no name": Wrong({"identity_name": None}, "identity_name", "missing"),
    "number for a name": Wrong({"identity_name": 7}, "identity_name", "string"),
    "the identities file": Wrong({"identity_name": "entra-identities"}, "identity_name"),
    "the registry's file": Wrong({"identity_name": "MCP"}, "identity_name"),
    "another of its files": Wrong({"identity_name": "vscode_mcp"}, "identity_name"),
    "device": Wrong({"identity_name": "CON"}, "identity_name", "Windows"),
    "device with a suffix": Wrong({"identity_name": "com1.x"}, "identity_name", "Windows"),
    "misspelt field": Wrong({"client_secrt": "x"}, "client_secrt", "unknown field"),
    "no secret": Wrong({"client_secret": None}, "client_secret", "missing"),
    "empty secret": Wrong({"client_secret": ""}, "client_secret", "empty"),
    "secret with a line's end": Wrong({"client_secret": "abc\n"}, "client_secret", "white space"),
    "secret that is a list": Wrong({"client_secret": ["x"]}, "client_secret", "string"),
    "no tenant": Wrong({"tenant_id": None}, "tenant_id", "ENTRA_TENANT_ID"),
    "common": Wrong({"tenant_id": "common"}, "tenant_id", "no tenant"),
    "Organizations": Wrong({"tenant_id": "Organizations"}, "tenant_id", "no tenant"),
    "tenant with a path": Wrong({"tenant_id": "../evil"}, "tenant_id"),
    "tenant with a host": Wrong({"tenant_id": "x.com@evil.com/"}, "tenant_id"),
    "number for a scope": Wrong({"scope": 7}, "scope", "string"),
    "scope of a user": Wrong({"scope": "api://x/read"}, "scope", "/.default"),
    "two scopes": Wrong({"scope": "api://x/.default api://y/.default"}, "scope", "one"),
    "plain http": Wrong({"login_base_url": "http://x.test"}, "login_base_url", "https"),
    "unknown cloud": Wrong({"cloud": "mars"}, "cloud"),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_entry_is_named_and_costs_its_own_token_alone(
    project: Project, idp: Emulator, wrong: Wrong
) -> None:
    """Entry and field are named; nothing is requested for it, and the other gets its token."""
    good, bad = apps(2)
    idp.add_app(good)
    idp.add_app(bad)
    project.write([entry(good), entry(bad, **wrong.changes)])

    report = renew(project)

    renewed, failed = report.results
    assert (renewed.kind, failed.kind, report.exit_code) == ("renewed", "failed", 1)
    failure = failed.failure
    assert failure is not None
    assert failure.kind == "configuration"
    problems = [each for each in failure.problems if each.field == wrong.field and each.entry == 2]
    assert len(problems) == 1, failure.problems
    assert wrong.says in problems[0].message
    assert str(problems[0].message) in failure.message
    assert bad.secrets[0] not in str(failure)
    assert (len(idp.requests), [*project.files()]) == (1, [f"{good.name}.json"])
    assert not os.path.exists(os.path.join(project.folder, "x.json"))


def test_all_mistakes_are_told_at_once(project: Project, run: Command, idp: Emulator) -> None:
    """One run tells every mistake of a file, in its order, as a document under --json."""
    one, two, three, four = apps(4)
    project.write(
        [
            entry(one, identity_name="../x"),
            entry(two, client_secrt="hunter2-hunter2", client_secret=None),
            entry(three),
            "not an object",
            entry(four, identity_name=three.name.upper(), scope="nothing"),
        ]
    )

    ran = run("--json")

    assert (ran.code, ran.json["exit_code"], ran.json["version"]) == (2, 2, 1)
    assert [(each["entry"], each["field"]) for each in ran.json["errors"]] == [
        (1, "identity_name"),
        (2, "client_secrt"),
        (2, "client_secret"),
        (3, "identity_name"),
        (4, None),
        (5, "identity_name"),
        (5, "scope"),
    ]
    assert ran.json["errors"][1]["identity_name"] == two.name
    assert "did you mean client_secret" in ran.json["errors"][1]["message"]
    assert "hunter2" not in ran.stdout + ran.stderr
    assert (idp.connections, project.files()) == (0, {})

    told = run()
    assert (told.code, told.stdout) == (2, "")
    assert f'entry 2, "{two.name}", client_secrt: unknown field' in told.stderr
    assert "7 mistakes" in told.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[{"identity_name": "ci", "client_sec', "cut off"),
        ("", "not valid JSON"),
        ('{"identity_name": "ci"}', "array"),
        ('"ci"', "array"),
        ("null", "array"),
        ("[" * 100_000, "entra-identities.json"),
        ("[1e999999]", "object"),
    ],
    ids=["cut", "empty", "object", "string", "null", "deep", "number"],
)
def test_a_file_that_is_no_list_is_refused(
    project: Project, run: Command, idp: Emulator, text: str, says: str
) -> None:
    """A truncated file or one of another form ends with 2 and says what it is."""
    project.write(text)

    ran = run("--json")

    assert ran.code == 2
    assert says in ran.json["errors"][0]["message"] + run().stderr
    assert (idp.connections, project.files()) == (0, {})


def test_a_file_that_is_no_text_is_refused(project: Project, run: Command) -> None:
    """Bytes that are not UTF-8 end with 2, not with a traceback."""
    with open(project.identities_file, "wb") as file:
        file.write(b"\xff\xfe[\x00]\x00")

    ran = run()

    assert ran.code == 2
    assert "UTF-8" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_a_missing_file_is_refused_with_how_to_make_one(run: Command) -> None:
    """No identities anywhere: exit 2, with the file's place and form."""
    ran = run()

    assert (ran.code, ran.stdout) == (2, "")
    assert "entra-identities.json" in ran.stderr
    assert "client_secret" in ran.stderr


# Usage


@pytest.mark.parametrize(
    "words",
    [["no-such-command"], ["generate", "--no-such-option"], ["generate", "-j", "0"], ["--frob"]],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(run: Command, words: list[str]) -> None:
    """An unknown command, option or value is told in a line, without a traceback."""
    ran = wait(run.start_line([sys.executable, "-m", "credentials_provider", *words]))

    assert (ran.code, ran.stdout) == (2, "")
    assert "Error" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("--login-base-url", "http://localhost"),
        ("--login-base-url", "https://user:pass@localhost"),
        ("--login-base-url", "https://localhost/path"),
        ("--ca-bundle", "nowhere.pem"),
        ("--ca-bundle", "empty.pem"),
        ("--env-file", "nowhere.env"),
        ("-i", "nowhere.json"),
    ],
    ids=" ".join,
)
def test_an_option_that_cannot_be_used_ends_with_2(
    project: Project, run: Command, idp: Emulator, args: tuple[str, ...]
) -> None:
    """A value that cannot be right costs no request."""
    project.add_all(apps(1))
    project.private("empty.pem", "")

    ran = run("--json", *args)

    assert (ran.code, ran.json["exit_code"]) == (2, 2)
    assert ran.json["errors"][0]["message"]
    assert (idp.connections, project.files()) == (0, {})


@pytest.mark.parametrize(
    "words",
    [
        ["doctor", "ci", "--curl", "--json"],
        ["schedule", "cron", "--install", "--uninstall"],
        ["schedule", "launchd", "--install", "--uninstall"],
        ["schedule", "systemd", "--install", "--uninstall"],
        ["exec", "--watch", "--restart", "--signal", "HUP", "ci", "true"],
    ],
    ids=" ".join,
)
def test_options_that_exclude_one_another_are_usage(run: Command, words: list[str]) -> None:
    """Neither of them decides."""
    ran = wait(run.start_line([sys.executable, "-m", "credentials_provider", *words]))
    assert ran.code == 2
    assert "exclude" in ran.stdout + ran.stderr


def test_an_option_that_cannot_be_parsed_is_told_as_json_too(run: Command) -> None:
    """Some options are believed or not before the command has its own."""
    ran = run("--json", "--trust-owner", "no-such-user")
    assert (ran.code, ran.json["exit_code"], ran.stderr) == (2, 2, "")
    assert "no user 'no-such-user'" in ran.json["errors"][0]["message"]


@pytest.mark.skipif(os.name == "nt", reason="paths there are text")
def test_a_path_that_is_no_text_is_told(project: Project, run: Command) -> None:
    """JSON could not name it; nothing is written."""
    (app,) = apps(1)
    project.add(app)
    before = project.entries()
    words = ["identities", "sink", "add", app.name, "\udcff"]
    ran = wait(run.start_line([sys.executable, "-m", "credentials_provider", *words]))
    assert (ran.code, project.entries()) == (2, before)
    assert "is not text in UTF-8" in ran.stderr


@pytest.mark.parametrize("words", [["inspect", "-"], ["identities", "secret", "ci"]], ids=" ".join)
def test_standard_input_that_is_no_text_is_told(project: Project, words: list[str]) -> None:
    """As what it is, and not as a mistake of this program."""
    ran = subprocess.run(
        [sys.executable, "-m", "credentials_provider", *words],
        cwd=project.folder,
        env=environment(project.folder, {"PYTHONIOENCODING": "utf-8:strict"}),
        input=b"\xff\xfe",
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 2
    assert b"mistake" not in ran.stderr


# The registry's options and environment


def test_a_mistake_in_the_environments_identity_names_no_entry_of_a_file(run: Command) -> None:
    """There is no file, so there is no entry 1."""
    variables = {"ENTRA_TENANT_ID": "common", "ENTRA_CLIENT_ID": "x", "ENTRA_CLIENT_SECRET": "y"}
    ran = run(env=variables)
    assert ran.code == 2
    assert "the environment (ENTRA_TENANT_ID" in ran.stderr
    assert "entry" not in ran.stderr
    assert run("--json", env=variables).json["errors"][0]["entry"] is None


@pytest.mark.parametrize("place", ["environment", ".env", "option"])
def test_another_auth_provider_is_refused(
    project: Project, run: Command, idp: Emulator, place: str
) -> None:
    """AUTH_PROVIDER=keycloak ends with 2 and one line, wherever it is said."""
    project.add_all(apps(1))
    args: tuple[str, ...] = ()
    env = {}
    if place == "environment":
        env = {"AUTH_PROVIDER": "keycloak"}
    elif place == ".env":
        project.private(".env", "AUTH_PROVIDER=keycloak\n")
    else:
        args = ("-a", "keycloak")

    ran = run(*args, env=env)

    assert (ran.code, ran.stdout) == (2, "")
    assert "'keycloak'" in ran.stderr.splitlines()[0]
    assert "entra" in ran.stderr
    assert idp.connections == 0


def test_the_registrys_options_are_accepted(project: Project, run: Command) -> None:
    """`-a entra -f -v --all-agents` mean what they meant, and mint every identity."""
    project.add_all(apps(2))

    ran = run("-a", "Entra", "-f", "-v", "--all-agents", env={"AUTH_PROVIDER": "keycloak"})

    assert ran.code == 0
    assert len(project.files()) == 2


def _ingress(project: Project) -> dict[str, str]:
    (app,) = apps(1)
    project.idp.add_app(app)
    return {
        "ENTRA_TENANT_ID": app.tenant_id,
        "ENTRA_CLIENT_ID": app.client_id,
        "ENTRA_CLIENT_SECRET": app.secrets[0],
    }


def _audience(project: Project, name: str) -> str:
    token = project.token(name)["access_token"]
    audience: str = jwt.decode(token, options={"verify_signature": False})["aud"]
    return audience


@pytest.mark.parametrize("place", ["environment", ".env", "--env-file", "options"])
def test_the_environment_defines_the_ingress_identity(
    project: Project, run: Command, idp: Emulator, place: str
) -> None:
    """ENTRA_… without an identities file make the one token that the registry asks for."""
    env = _ingress(project)
    args: tuple[str, ...] = ("--ingress-only", "--force")
    dotenv = "".join(f"{name}='{value}'\n" for name, value in env.items() if "'" not in value)
    if place == "environment":
        process = env
    elif place == "options":
        process = {}
        for name, value in env.items():
            args += (f"--{name.lower().replace('_', '-')}", value)
    else:
        process = {"ENTRA_CLIENT_SECRET": env["ENTRA_CLIENT_SECRET"]}
        text = f"# the registry's own\nUNKNOWN='$(false) `false`'\nAUTH_PROVIDER=entra\n{dotenv}"
        project.private(".env" if place == ".env" else "other.env", text)
        args += ("--env-file", "other.env") if place == "--env-file" else ()

    ran = run(*args, env=process)

    assert ran.code == 0, ran.stderr
    assert ran.last_line.startswith("Tokens saved:")
    assert list(project.files()) == ["ingress.json"]
    assert project.token("ingress")["identity_name"] == "ingress"
    assert _audience(project, "ingress") == env["ENTRA_CLIENT_ID"]
    assert len(idp.requests) == 1
    warned = "--entra-client-secret" in ran.stderr and "ENTRA_CLIENT_SECRET" in ran.stderr
    assert warned == (place == "options")
    assert env["ENTRA_CLIENT_SECRET"] not in ran.stdout + ran.stderr


def test_an_incomplete_environment_names_what_is_missing(project: Project, run: Command) -> None:
    """Two of the three variables: exit 2 and the name of the third."""
    env = _ingress(project)
    del env["ENTRA_CLIENT_SECRET"]

    ran = run("--ingress-only", env=env)

    assert ran.code == 2
    assert "ENTRA_CLIENT_SECRET" in ran.stderr


def test_the_environment_fills_in_tenant_and_scope(project: Project, run: Command) -> None:
    """An entry without tenant and scope takes the environment's; its own win."""
    plain, own = apps(1)[0], apps(1, OTHER_TENANT)[0]
    gateway = "11111111-2222-4333-8444-555555555555"
    project.add(plain, identity_name="plain", tenant_id=None, scope=None)
    project.add(own, identity_name="own")
    env = {"ENTRA_TENANT_ID": plain.tenant_id, "ENTRA_CLIENT_ID": gateway}

    assert run(env=env).code == 0
    assert project.token("plain")["tenant_id"] == plain.tenant_id
    assert project.token("plain")["scope"] == f"api://{gateway}/.default"
    assert project.token("own")["tenant_id"] == OTHER_TENANT
    assert _audience(project, "own") != gateway


@pytest.mark.parametrize("place", ["environment", ".env", "--entra-login-url", "entry"])
def test_the_login_host_may_be_said_anywhere(project: Project, run: Command, place: str) -> None:
    """Flag, environment, the named .env or an entry; a final slash is nothing, nor is the case."""
    (app,) = apps(1)
    url = f"{project.idp.base_url}/".replace("https", "HTTPS")
    project.add(app, login_base_url=url if place == "entry" else None)
    args: tuple[str, ...] = ("--ca-bundle", project.idp.ca_file)
    env = {}
    if place == "environment":
        env = {"ENTRA_LOGIN_BASE_URL": url}
    elif place == ".env":
        args += ("--env-file", project.private("my.env", f'ENTRA_LOGIN_BASE_URL="{url}" # here\n'))
    elif place == "entry":
        env = {"ENTRA_LOGIN_HOSTS": url.removeprefix("HTTPS://").strip("/")}
    elif place == "--entra-login-url":
        args += (place, url)

    assert run(*args, env=env, bare=True).code == 0
    assert len(project.idp.requests) == 1


def test_the_process_environment_wins_over_dotenv(project: Project, run: Command) -> None:
    """What is exported counts, not what .env says; a flag counts more than both."""
    project.add_all(apps(1))
    project.private(".env", "ENTRA_LOGIN_BASE_URL=https://wrong.invalid\n")
    ca = ("--ca-bundle", project.idp.ca_file)

    assert run(*ca, env={"ENTRA_LOGIN_BASE_URL": project.idp.base_url}, bare=True).code == 0
    assert run(env={"ENTRA_LOGIN_BASE_URL": "https://wrong.invalid"}).code == 0


def test_a_path_belongs_to_the_working_directory(project: Project, run: Command) -> None:
    """Default and typed paths are looked for where the command was started."""
    project.add_all(apps(1))
    os.mkdir(os.path.join(project.folder, "below"))
    below = os.path.join(project.folder, "below")

    assert run(cwd=below).code == 2
    ran = run("-i", "../.oauth-tokens/entra-identities.json", "-o", "mine", cwd=below)

    assert ran.code == 0
    assert sorted(name for name in os.listdir(os.path.join(below, "mine")) if name[0] != ".") == [
        f"{project.entries()[0]['identity_name']}.json"
    ]


def test_one_identity_may_have_its_own_cloud(project: Project, idp: Emulator) -> None:
    """`login_base_url` of an entry sends its secret there, if whoever runs it allows the host."""
    here, there = apps(1)[0], apps(1, OTHER_TENANT)[0]
    with Emulator([there], ca_file=os.path.join(project.folder, "there.pem")) as second:
        project.add(here, identity_name="here")
        project.write(
            [
                *project.entries(),
                entry(there, identity_name="there", login_base_url=second.base_url),
            ]
        )
        with contextlib.suppress(ConfigurationError):
            renew(project)
        assert (second.connections, project.tokens().keys() & {"there.json"}) == (0, set())
        process = {"ENTRA_LOGIN_HOSTS": second.base_url.removeprefix("https://")}
        report = renew(project, process=process)

        # Another authority signs for it, so it is not even trusted with the request.
        assert [each.kind for each in report.results] == ["renewed", "failed"]
        assert second.requests == []
    assert {each.tenant for each in idp.requests} == {here.tenant_id}


def test_json_is_ascii_safe(project: Project, run: Command) -> None:
    """A report is JSON in any locale."""
    project.add_all(apps(1))

    ran = run("--json", env={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0"})

    report: dict[str, Any] = json.loads(ran.stdout.encode("ascii"))
    assert (ran.code, report["exit_code"]) == (0, 0)


@pytest.mark.parametrize("form", ["HTTPS://LocalHost:{port}", "https://localhost:{port}/"])
def test_a_login_host_in_any_form_is_the_same(
    project: Project, run: Command, idp: Emulator, form: str
) -> None:
    """Capitals and a slash at the end change nothing, in an entry as on the command line."""
    url = form.format(port=idp.port)
    (app,) = apps(1)
    idp.add_app(app)
    project.write([entry(app, login_base_url=url)])
    assert run().code == 0
    project.write([entry(app)])
    assert run("--login-base-url", url).code == 0
    assert len(idp.token_requests) == 2


def test_without_any_identity_the_registrys_own_call_says_what_is_missing(run: Command) -> None:
    """Nobody typed the word `ingress`, so it is not called an unknown command."""
    ran = run("--ingress-only", "--force")
    assert ran.code == 2
    assert ran.stderr.startswith("error: there is no identities file at ")


@pytest.mark.parametrize(
    "words",
    [
        ("generate", "--metrics-file"),
        ("watch", "--metrics-file"),
        ("token", "ci", "--output"),
        ("token", "ci", "--audit-file"),
        ("serve", "--write-env"),
    ],
)
def test_no_option_has_the_identities_file_written_over(
    project: Project, run: Command, words: tuple[str, ...]
) -> None:
    """Not under another spelling of its path either: the secrets in it would be lost."""
    project.add(apps(1)[0], identity_name="ci")
    with open(project.identities_file, encoding="utf-8") as file:
        before = file.read()
    spelt = os.path.join(os.path.dirname(project.identities_file), ".", "link")
    os.symlink(project.identities_file, spelt)
    for path in (project.identities_file, spelt):
        program = [sys.executable, "-m", "credentials_provider", *words, path]
        ran = wait(run.start_line([*program, "-i", project.identities_file]))

        assert (ran.code, ran.stdout) == (2, "")
        assert "would be written over" in ran.stderr
    with open(project.identities_file, encoding="utf-8") as file:
        assert file.read() == before
