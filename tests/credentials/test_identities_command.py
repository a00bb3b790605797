"""`identities`: the file is made, listed, checked and changed by commands, and shows no secret."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from credentials.commanding import PLAIN, Tell, converse, ids, mode
from credentials.making import certificate, key_pem, pem
from credentials_provider.cli.identities.options import KINDS
from support import SCOPE, Project, assert_no_secret, entry, renew

if TYPE_CHECKING:
    from credentials_provider.emulator import App

# init, add, import


@pytest.mark.parametrize("how", ["init", "add"])
def test_an_identity_by_options_mints_a_token(
    project: Project, tell: Tell, app: App, how: str
) -> None:
    """Its secret comes from stdin and goes to a private file that git ignores."""
    ran = tell(how, "ci", *ids(app), "--client-secret-stdin", stdin=f"{app.secrets[0]}\n")
    assert ran.code == 0, ran.stderr
    assert_no_secret(ran.stdout + ran.stderr, [app])
    (made,) = project.entries()
    assert made == {
        "identity_name": "ci",
        "tenant_id": app.tenant_id,
        "client_id": app.client_id,
        "scope": SCOPE,
        "client_secret_file": ".secrets/ci",
    }
    secrets = os.path.join(project.output, ".secrets")
    assert mode(project.identities_file) == 0o600
    assert mode(secrets) == 0o700
    assert mode(os.path.join(secrets, "ci")) == 0o600
    with open(os.path.join(secrets, ".gitignore"), encoding="utf-8") as file:
        assert file.read() == "*\n"
    assert renew(project).exit_code == 0


def test_init_never_touches_a_file_that_is_there(project: Project, tell: Tell, app: App) -> None:
    """Not even an empty one."""
    project.write("")
    ran = tell("init", "ci", *ids(app), "--client-secret-env", "A")
    assert (ran.code, ran.stdout) == (2, "")
    assert "is there already" in ran.stderr
    with open(project.identities_file, encoding="utf-8") as file:
        assert file.read() == ""


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (["--client-secret-env", "CI"], {"client_secret_env": "CI"}),
        (["--client-secret-file", "$DIR/ci"], {"client_secret_file": "$DIR/ci"}),
        (["--client-secret-file", ".oauth-tokens/ci"], {"client_secret_file": "ci"}),
        (
            ["--client-secret-keyvault", "https://v.vault.azure.net/secrets/a"],
            {"client_secret_keyvault": "https://v.vault.azure.net/secrets/a"},
        ),
        (
            ["--certificate-file", "$DIR/c.pem", "--certificate-password-env", "P"],
            {"certificate_file": "$DIR/c.pem", "certificate_password_env": "P"},
        ),
        (
            ["--federated-token-file", "$AZURE_FEDERATED_TOKEN_FILE"],
            {"federated_token_file": "$AZURE_FEDERATED_TOKEN_FILE"},
        ),
        (["--managed-identity"], {"managed_identity": True}),
        (
            ["--client-secret-env", "CI", "--client-secret-expires-on", "2031-01-31"],
            {"client_secret_env": "CI", "client_secret_expires_on": "2031-01-31"},
        ),
        (["--client-secret-env", "A", "--cloud", "usgov"], {"client_secret_env": "A"}),
    ],
)
def test_each_kind_of_credential_can_be_added(
    project: Project, tell: Tell, app: App, options: list[str], fields: dict[str, object]
) -> None:
    """A path that was typed for the working directory is stored for the file's folder."""
    ran = tell.add("ci", app, *options)
    assert ran.code == 0, ran.stderr
    (made,) = project.entries()
    assert made.items() >= fields.items()


def test_a_path_outside_the_folder_is_stored_whole(project: Project, tell: Tell, app: App) -> None:
    """Relative to the identities file it would be another one."""
    tell.add("ci", app, "--client-secret-file", "secret")
    (made,) = project.entries()
    assert made["client_secret_file"] == os.path.join(project.folder, "secret")


def test_a_managed_identity_is_its_own_client(project: Project, tell: Tell, app: App) -> None:
    """No need to say it twice."""
    ran = tell(
        *("add", "vm", "--tenant-id", app.tenant_id, "--scope", SCOPE),
        *("--managed-identity", app.client_id),
    )
    assert ran.code == 0, ran.stderr
    (made,) = project.entries()
    assert made["client_id"] == made["managed_identity"] == app.client_id


def test_tenant_and_scope_come_from_the_environment(project: Project, tell: Tell, app: App) -> None:
    """And are written down."""
    ran = tell(
        *("add", "ci", "--client-id", app.client_id, "--client-secret-env", "A"),
        env={"ENTRA_TENANT_ID": app.tenant_id, "ENTRA_CLIENT_ID": "gateway"},
    )
    assert ran.code == 0, ran.stderr
    (made,) = project.entries()
    assert (made["tenant_id"], made["scope"]) == (app.tenant_id, "api://gateway/.default")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--client-secret-env", "A"], "Missing --tenant-id"),
        (["--tenant-id", "common", "--client-id", "c", "--scope", "s"], "--client-secret-stdin"),
        (
            [
                "--tenant-id",
                "common",
                "--client-id",
                "c",
                "--scope",
                SCOPE,
                "--client-secret-env",
                "A",
            ],
            "names no tenant",
        ),
        (
            [
                "--tenant-id",
                "a.example",
                "--client-id",
                "c",
                "--scope",
                SCOPE,
                "--client-secret-env",
                "A",
                "--managed-identity",
            ],
            "managed_identity and client_secret_env",
        ),
        (
            [
                "--tenant-id",
                "a.example",
                "--client-id",
                "c",
                "--scope",
                SCOPE,
                "--client-secret-stdin",
            ],
            "credential",
        ),
        (["--client-secret", PLAIN], "o such option"),
    ],
)
def test_a_wrong_entry_is_refused_before_anything_is_written(
    project: Project, tell: Tell, args: list[str], says: str
) -> None:
    """With exit code 2, and the field that is wrong. A secret is never an argument."""
    ran = tell("add", "ci", *args)
    assert ran.code == 2
    assert says in ran.stderr
    assert not os.path.exists(project.identities_file)
    assert not os.path.exists(os.path.join(project.output, ".secrets"))


def test_a_name_that_is_taken_is_refused(project: Project, tell: Tell, app: App) -> None:
    """Whatever its case, and with the secret that is there left alone."""
    tell.add("ci", app, "--client-secret-stdin", stdin="first-secret")
    before = project.entries()
    ran = tell.add("CI", app, "--client-secret-stdin", stdin="second-secret")
    assert ran.code == 2
    assert "the same name" in ran.stderr
    assert project.entries() == before
    assert os.listdir(os.path.join(project.output, ".secrets")) != ["CI"]


def test_many_at_once_all_get_in(project: Project, tell: Tell, app: App) -> None:
    """One after the other, under the lock of the folder."""
    names = [f"n{number}" for number in range(6)]
    with ThreadPoolExecutor(6) as pool:
        ran = list(pool.map(lambda name: tell.add(name, app, "--client-secret-env", "A"), names))
    assert [each.code for each in ran] == [0] * 6
    assert sorted(each["identity_name"] for each in project.entries()) == names


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("where", ["stdin", "file"])
def test_what_the_registry_answers_is_imported(
    project: Project, tell: Tell, app: App, form: str, where: str
) -> None:
    """And mints a token; its secret is in a private file."""
    secret = app.secrets[0].partition(" ")[0]
    project.idp.add_app(
        type(app)(tenant_id=app.tenant_id, client_id=app.client_id, secrets=(secret,))
    )
    answer = (
        json.dumps({"client_id": app.client_id, "client_secret": secret, "groups": []})
        if form == "json"
        else f"Client ID: {app.client_id}\nClient Secret: {secret}\nGroups: a\n"
    )
    args = ["import", "ci", "--tenant-id", app.tenant_id, "--scope", SCOPE]
    if where == "file":
        ran = tell(*args, project.private("answer", answer))
    else:
        ran = tell(*args, stdin=answer)
    assert ran.code == 0, ran.stderr
    assert secret not in ran.stdout + ran.stderr
    assert renew(project).exit_code == 0


def test_a_masked_secret_is_not_imported(project: Project, tell: Tell, app: App) -> None:
    """Exit code 2, nothing written."""
    answer = f"Client ID: {app.client_id}\nClient Secret: abcdefgh...wxyz\n"
    ran = tell("import", "ci", "--tenant-id", app.tenant_id, "--scope", SCOPE, stdin=answer)
    assert ran.code == 2
    assert "masked" in ran.stderr
    assert not os.path.exists(project.identities_file)


# On a terminal


def test_init_asks_on_a_terminal_and_hides_the_secret(project: Project, app: App) -> None:
    """A wrong answer is asked for again; what is typed as the secret is not shown."""
    code, screen = converse(
        project,
        "init",
        answers=[
            ("Name", "ci"),
            ("Tenant ID", "common"),
            ("Tenant ID", app.tenant_id),
            ("Client ID", app.client_id),
            ("Scope", SCOPE),
            ("Number", "1"),
            ("Client secret", app.secrets[0]),
        ],
    )
    assert code == 0, screen
    assert "names no tenant" in screen
    assert_no_secret(screen, [app])
    assert renew(project).exit_code == 0


# list and check


def fill(project: Project, app: App) -> None:
    """An entry of every kind that needs no network."""
    path = os.path.join(project.output, "cert.pem")
    project.private(path, key_pem() + pem(certificate()))
    project.private(os.path.join(project.output, "secret"), PLAIN)
    common = {"client_secret": None}
    project.write(
        [
            entry(app, identity_name="literal"),
            entry(app, identity_name="env", client_secret_env="CI_SECRET", **common),
            entry(app, identity_name="file", client_secret_file="secret", **common),
            entry(app, identity_name="cert", certificate_file="cert.pem", **common),
            entry(app, identity_name="vm", managed_identity=True, **common),
            entry(app, identity_name="dated", client_secret_expires_on="2031-01-31"),
            entry(app, identity_name="two", client_secret_previous=PLAIN),
        ]
    )


def test_list_says_that_a_secret_is_in_the_environment(tell: Tell, app: App) -> None:
    """Not in an identities file that is not there."""
    given = {"TENANT_ID": app.tenant_id, "CLIENT_ID": app.client_id, "CLIENT_SECRET": PLAIN}
    ran = tell("list", env={f"ENTRA_{name}": value for name, value in given.items()})
    assert "client_secret in the environment" in ran.stdout, ran.stderr


def test_list_shows_where_every_credential_is_and_none_itself(
    project: Project, tell: Tell, app: App
) -> None:
    """With its end where that is known; nothing needs to be there for it."""
    fill(project, app)
    ran = tell("list")
    assert ran.code == 0, ran.stderr
    lines = {line.split()[0]: line for line in ran.stdout.splitlines()}
    day = certificate().not_valid_after_utc.date().isoformat()
    assert "client_secret in the identities file" in lines["literal"]
    assert "client_secret_env CI_SECRET" in lines["env"]
    assert "client_secret_file secret" in lines["file"]
    assert "certificate_file cert.pem" in lines["cert"]
    assert day in lines["cert"]
    assert "system-assigned" in lines["vm"]
    assert "2031-01-31" in lines["dated"]
    assert "client_secret_previous" in lines["two"]
    assert_no_secret(ran.stdout + ran.stderr, [app])


def test_list_as_json_is_one_document(project: Project, tell: Tell, app: App) -> None:
    """The same, for programs."""
    fill(project, app)
    ran = tell("list", "--json")
    document = ran.json
    assert document["version"] == 1
    found = {each["identity_name"]: each for each in document["identities"]}
    assert found["env"]["credential"] == "client_secret_env"
    assert found["env"]["source"] == "CI_SECRET"
    assert found["literal"]["source"] is None
    assert found["dated"]["expires_on"] == "2031-01-31"
    assert_no_secret(ran.stdout + ran.stderr, [app])


def test_list_shows_wrong_entries_too(project: Project, tell: Tell, app: App) -> None:
    """It is where one looks for them; what stands in a wrong place may be a secret."""
    swapped = entry(app, identity_name="swapped", client_id=app.secrets[0], client_secret=PLAIN)
    stray = entry(app, identity_name="stray", client_secret=None, client_secret_env=app.secrets[0])
    odd = {"identity_name": "[/odd]", "tenant_id": ["x"], "client_secret": {"value": 1}}
    half = {"identity_name": "half", "client_secret_expires_on": "soon"}
    project.write([half, {"x": 1}, swapped, stray, odd])
    for option in ((), ("--json",)):
        ran = tell("list", *option)
        assert ran.code == 0, ran.stderr
        for name in ("half", "swapped", "stray", "[/odd]"):
            assert name in ran.stdout
        assert "client_secret_env" in ran.stdout
        assert_no_secret(ran.stdout + ran.stderr, [app])


def test_check_resolves_every_source_without_asking_for_a_token(
    project: Project, tell: Tell, app: App
) -> None:
    """Exit code 0 once all are there."""
    fill(project, app)
    ran = tell("check", env={"CI_SECRET": PLAIN})
    assert ran.code == 0, ran.stderr
    assert "All in order: 7" in ran.stdout
    assert tell("check", "--json", env={"CI_SECRET": PLAIN}).json["exit_code"] == 0
    assert project.idp.requests == []
    assert_no_secret(ran.stdout + ran.stderr, [app])


def test_check_tells_every_missing_source_at_once(project: Project, tell: Tell, app: App) -> None:
    """Exit code 2, by entry; the previous secrets' as well."""
    fill(project, app)
    os.unlink(os.path.join(project.output, "secret"))
    project.write(
        [
            *project.entries(),
            entry(app, identity_name="old", client_secret_previous_env="NO_SUCH"),
        ]
    )
    ran = tell("check")
    assert ran.code == 2
    assert [part in ran.stderr for part in ('"env"', '"file"', '"old"', '"cert"')] == [
        *(True, True, True, False)
    ]
    document = tell("check", "--json").json
    assert [each["identity_name"] for each in document["errors"]] == ["env", "file", "old"]


def test_check_tells_every_mistake_of_the_entries(project: Project, tell: Tell, app: App) -> None:
    """As generate would."""
    project.write([entry(app, scope="x"), entry(app, identity_name="b", client_secret="")])
    ran = tell("check")
    assert ran.code == 2
    assert "scope" in ran.stderr
    assert "client_secret: is empty" in ran.stderr


# remove and migrate

STYLED = """[
\t{ "identity_name": "one", "tenant_id": "%(tenant)s",
\t  "client_secret" : "%(secret)s",
\t  "client_id": "%(client)s", "scope": "%(scope)s" },

\t{
\t\t"scope": "%(scope)s", "client_secret": "%(secret)s2",
\t\t"client_secret_previous": "%(secret)s3",
\t\t"identity_name": "my.agent", "tenant_id": "%(tenant)s", "client_id": "%(client)s"
\t}
]"""


def styled(app: App) -> str:
    values = {"tenant": app.tenant_id, "client": app.client_id, "scope": SCOPE, "secret": PLAIN}
    return STYLED % values


def text_of(path: str) -> str:
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def test_remove_leaves_the_rest_as_it_was_written(project: Project, tell: Tell, app: App) -> None:
    """To the letter; the file stays private."""
    text = styled(app)
    project.write(text)
    os.chmod(project.identities_file, 0o644)
    assert tell("remove", "one", "one").stdout.count("one removed") == 1
    first = text.index("{")
    second = text.index("{", first + 1)
    assert text_of(project.identities_file) == text[:first] + text[second:]
    assert mode(project.identities_file) == 0o600


def test_remove_purges_what_was_made_for_it(project: Project, tell: Tell, app: App) -> None:
    """Token and secret; with --keep it only names them."""
    tell.add("ci", app, "--client-secret-stdin", stdin=app.secrets[0])
    renew(project)
    secret = os.path.join(project.output, ".secrets", "ci")
    ran = tell("remove", "ci", "--keep")
    assert ".secrets/ci is still there" in ran.stdout
    tell.add("ci", app, "--client-secret-env", "A")
    assert tell("remove", "ci").code == 0
    assert not os.path.exists(secret)
    assert not os.path.exists(project.path("ci"))
    assert project.entries() == []


def test_migrate_and_remove_leave_no_secret(project: Project, tell: Tell, app: App) -> None:
    """Not the previous one either; what another entry uses stays."""
    shared = entry(app, identity_name="other", client_secret=None, client_secret_file=".secrets/b")
    project.write(
        [
            entry(app, identity_name="a", client_secret_previous=PLAIN),
            entry(app, identity_name="b"),
            shared,
        ]
    )
    assert tell("migrate").code == 0
    secrets = os.path.join(project.output, ".secrets")
    assert {*os.listdir(secrets)} == {".gitignore", "a", "a.previous", "b"}
    assert tell("remove", "a", "b").code == 0
    assert {*os.listdir(secrets)} == {".gitignore", "b"}
    assert project.entries() == [shared]


def test_remove_deletes_nothing_outside_its_folders(project: Project, tell: Tell, app: App) -> None:
    """Whatever an entry is called, and whatever it names."""
    victim = project.private("victim.json", "{}")
    named = project.private("elsewhere", PLAIN)
    for name in ("../victim", os.path.splitext(victim)[0], "../../victim"):
        project.write([entry(app, identity_name=name, client_secret_file=named)])
        assert tell("remove", name).code == 0
        assert project.entries() == []
    assert os.path.exists(victim)
    assert os.path.exists(named)


def test_remove_reports_what_it_cannot_delete(project: Project, tell: Tell, app: App) -> None:
    """After everything else is gone; a folder in the place of a file is no mistake of ours."""
    tell.add("ci", app, "--client-secret-stdin", stdin=app.secrets[0])
    os.mkdir(project.path("ci"))
    ran = tell("remove", "ci")
    assert ran.code == 1
    assert "ci.json" in ran.stderr
    assert "mistake of this program" not in ran.stderr
    assert not os.path.exists(os.path.join(project.output, ".secrets", "ci"))
    assert project.entries() == []


@pytest.mark.parametrize("content", [None, "", "no key", "certificate alone"])
def test_a_certificate_that_cannot_work_is_refused_at_once(
    project: Project, tell: Tell, app: App, content: str | None
) -> None:
    """Not at the first run; one whose path only a service knows is taken as it is."""
    if content is not None:
        text = pem(certificate()) if content == "certificate alone" else content
        project.private("c.pem", text)
    ran = tell.add("ci", app, "--certificate-file", "c.pem")
    assert ran.code == 2
    assert "nothing was added" in ran.stderr
    assert not os.path.exists(project.identities_file)


def test_a_mistake_elsewhere_keeps_nobody_from_adding(
    project: Project, tell: Tell, app: App
) -> None:
    """It costs its own entry."""
    project.write([entry(app, identity_name="wrong", scope=5)])
    assert tell.add("ci", app, "--client-secret-env", "A").code == 0
    assert [each["identity_name"] for each in project.entries()] == ["wrong", "ci"]


def test_remove_of_an_unknown_name_changes_nothing(project: Project, tell: Tell, app: App) -> None:
    """And helps with the spelling."""
    project.write(styled(app))
    ran = tell("remove", "one", "my-agent")
    assert ran.code == 2
    assert "did you mean my.agent?" in ran.stderr
    assert text_of(project.identities_file) == styled(app)


def test_migrate_moves_secrets_into_private_files(project: Project, tell: Tell, app: App) -> None:
    """Nothing but the secrets' members changes; a second run finds nothing to do."""
    project.write(styled(app))
    ran = tell("migrate")
    assert ran.code == 0, ran.stderr
    expected = (
        styled(app)
        .replace(f'"client_secret" : "{PLAIN}"', '"client_secret_file" : ".secrets/one"')
        .replace(f'"client_secret": "{PLAIN}2"', '"client_secret_file": ".secrets/my.agent"')
        .replace(
            f'"client_secret_previous": "{PLAIN}3"',
            '"client_secret_previous_file": ".secrets/my.agent.previous"',
        )
    )
    assert text_of(project.identities_file) == expected
    secrets = {
        name: text_of(os.path.join(project.output, ".secrets", name))
        for name in ("one", "my.agent", "my.agent.previous")
    }
    assert secrets == {
        "one": f"{PLAIN}\n",
        "my.agent": f"{PLAIN}2\n",
        "my.agent.previous": f"{PLAIN}3\n",
    }
    assert "nothing to do" in tell("migrate").stdout


def test_no_file_of_another_identitys_secret_is_written_over(
    project: Project, tell: Tell, app: App
) -> None:
    """Not by `add`, nor by `migrate`, nor for a name that is like one with a previous secret."""
    other = entry(app, identity_name="other", client_secret=None, client_secret_file=".secrets/ci")
    project.write([other])
    os.mkdir(os.path.join(project.output, ".secrets"), 0o700)
    project.private(os.path.join(project.output, ".secrets", "ci"), "theirs\n")
    assert tell.add("ci", app, "--client-secret-stdin", stdin=f"{app.secrets[0]}\n").code == 0
    assert text_of(os.path.join(project.output, ".secrets", "ci")) == "theirs\n"
    old, like, twin = (
        entry(app, identity_name=name, client_secret=f"{PLAIN}{number}")
        for number, name in enumerate(("old", "old.previous", "ci"))
    )
    project.write([other, {**old, "client_secret_previous": f"{PLAIN}3"}, like, twin])
    assert tell("migrate").code == 0
    assert text_of(os.path.join(project.output, ".secrets", "ci")) == "theirs\n"
    _, old, like, twin = project.entries()
    files = [old["client_secret_file"], old["client_secret_previous_file"]]
    files += [like["client_secret_file"], twin["client_secret_file"]]
    kept = [text_of(os.path.join(project.output, file)) for file in files]
    assert kept == [f"{PLAIN}{number}\n" for number in (0, 3, 1, 2)]


def test_migrate_moves_secrets_into_dotenv(project: Project, tell: Tell, app: App) -> None:
    """What is there stays; a variable that is taken is not; tokens are minted as before."""
    project.add(app)
    project.private(".env", "# mine\nOTHER='x'\nCI_AGENT_CLIENT_SECRET=taken")
    ran = tell("migrate", "--to", "env")
    assert ran.code == 0, ran.stderr
    (made,) = project.entries()
    assert made["client_secret_env"] == "CI_AGENT_CLIENT_SECRET_2"
    env_file = os.path.join(project.folder, ".env")
    lines = text_of(env_file).splitlines()
    assert lines[:3] == ["# mine", "OTHER='x'", "CI_AGENT_CLIENT_SECRET=taken"]
    assert mode(env_file) == 0o600
    assert_no_secret(ran.stdout + ran.stderr, [app])
    assert renew(project).exit_code == 0


def test_migrate_does_not_renew_anything(project: Project, tell: Tell, app: App) -> None:
    """The identity is the same one."""
    project.add(app)
    renew(project)
    before = project.files()
    tell("migrate")
    assert renew(project, refresh_ahead=True).results[0].kind == "fresh"
    assert project.files() == before


def test_what_a_dotenv_file_cannot_hold_stays_where_it_is(
    project: Project, tell: Tell, app: App
) -> None:
    """Nothing is written at all."""
    before = project.write([entry(app, client_secret="a${HOME}b")])
    text = text_of(before)
    # Braces are a guide's sample value to the check of the file, which comes first.
    ran = tell("migrate", "--to", "env")
    assert ran.code == 2
    assert text_of(before) == text
    assert not os.path.exists(os.path.join(project.folder, ".env"))


def test_a_linked_identities_file_stays_a_link(project: Project, tell: Tell, app: App) -> None:
    """The edit goes where it points to."""
    os.makedirs(os.path.join(project.folder, "real"), mode=0o700)
    real = project.write([entry(app)], "real/ids.json")
    os.symlink(real, project.identities_file)
    assert tell.add("two", app, "--client-secret-env", "A").code == 0
    assert os.path.islink(project.identities_file)
    assert [each["identity_name"] for each in project.entries()] == [app.name, "two"]


@pytest.mark.parametrize("command", ["list", "check", "remove x", "migrate"])
def test_without_a_file_each_command_says_so(tell: Tell, command: str) -> None:
    """Exit code 2."""
    ran = tell(*command.split())
    assert ran.code == 2
    assert "no identities file" in ran.stderr


def test_init_asks_for_the_kind_of_credential(project: Project, app: App) -> None:
    """And for what that kind needs."""
    questions = [
        ("Name", "ci"),
        ("Tenant ID", app.tenant_id),
        ("Client ID", app.client_id),
        ("Scope", SCOPE),
    ]
    number = str(KINDS.index("client_secret_env") + 2)
    code, screen = converse(
        project,
        "init",
        answers=[*questions, ("Number", number), ("client_secret_env", "CI_SECRET")],
    )
    assert code == 0, screen
    (made,) = project.entries()
    assert made["client_secret_env"] == "CI_SECRET"
