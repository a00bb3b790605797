"""The main job as its users start it: identities in, token files and a report out."""

from __future__ import annotations

import json
import os
import re
import ssl
import stat
import sys
import time
import unicodedata
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal

import jwt
import pytest

from credentials_provider.emulator import Emulator, Fault
from support import API, PACKAGES, SCOPE, Command, Project, apps, entry, wait

if TYPE_CHECKING:
    from collections.abc import Mapping

# The setup guide's own examples, word for word.
GUIDE_SINGLE = """[
  {
    "identity_name": "my-ai-agent",
    "tenant_id": "your-tenant-id",
    "client_id": "your-m2m-client-id",
    "client_secret": "your-m2m-client-secret",
    "scope": "api://your-app-client-id/.default"
  }
]
"""
GUIDE_MULTIPLE = """[
  {
    "identity_name": "cursor-assistant",
    "tenant_id": "your-tenant-id",
    "client_id": "cursor-m2m-client-id",
    "client_secret": "cursor-m2m-client-secret",
    "scope": "api://your-app-client-id/.default"
  },
  {
    "identity_name": "ci-pipeline",
    "tenant_id": "your-tenant-id",
    "client_id": "cicd-m2m-client-id",
    "client_secret": "cicd-m2m-client-secret",
    "scope": "api://your-app-client-id/.default"
  }
]
"""


def _fill_in(text: str, project: Project) -> str:
    """The guide's text with an app of the emulator's for each placeholder."""
    for app, kind in zip(apps(3), ("your", "cursor", "cicd"), strict=True):
        project.idp.add_app(app)
        secret = app.secrets[0].replace("\\", "\\\\").replace('"', '\\"')
        text = text.replace(f"{kind}-m2m-client-id", app.client_id)
        text = text.replace(f"{kind}-m2m-client-secret", secret)
        text = text.replace("your-tenant-id", app.tenant_id)
    return text.replace("your-app-client-id", API)


def _verified(token: str, idp: Emulator, tenant: str) -> dict[str, Any]:
    """The claims as the registry's own validation reads them."""
    keys = jwt.PyJWKClient(
        f"{idp.base_url}/{tenant}/discovery/v2.0/keys",
        ssl_context=ssl.create_default_context(cafile=idp.ca_file),
    )
    claims: dict[str, Any] = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token).key,
        algorithms=["RS256"],
        audience=[API, f"api://{API}"],
        issuer=[f"{idp.base_url}/{tenant}/v2.0", f"https://sts.windows.net/{tenant}/"],
    )
    return claims


def _at(iso: str) -> float:
    moment = datetime.fromisoformat(iso)
    assert moment.utcoffset() is not None
    return moment.timestamp()


def _assert_token_file(document: Mapping[str, Any], idp: Emulator) -> None:
    """DESIGN's token file, and what each reader in the registry wants of one."""
    wanted = {
        "identity_name": str,
        "access_token": str,
        "token_type": str,
        "expires_in": int,
        "generated_at": str,
        "expires_at": str,
        "refresh_at": str,
        "expires_on": int,
        "provider": str,
        "tenant_id": str,
        "client_id": str,
        "scope": str,
        "definition": str,
        "clock_skew": int,
        "tokens": dict,
    }
    if sys.platform == "linux":  # what shows that the clock was set back
        wanted |= {"boot_id": str, "booted_at": float}
    assert {name: type(value) for name, value in document.items()} == wanted
    claims = _verified(document["access_token"], idp, document["tenant_id"])
    assert (claims["azp"], claims["tid"]) == (document["client_id"], document["tenant_id"])
    assert (document["token_type"], document["provider"]) == ("Bearer", "entra")
    # The token refresher: an ISO time with its offset. The CLI: a number, nested.
    assert _at(document["expires_at"]) == document["expires_on"] <= claims["exp"]
    assert document["tokens"] == {
        "access_token": document["access_token"],
        "expires_at": document["expires_on"],
    }
    assert _at(document["generated_at"]) + document["expires_in"] == document["expires_on"]
    assert _at(document["generated_at"]) < _at(document["refresh_at"])
    assert _at(document["refresh_at"]) <= document["expires_on"] - 300
    assert abs(_at(document["generated_at"]) - time.time()) < 120


@pytest.mark.parametrize(
    ("text", "names"),
    [(GUIDE_SINGLE, ["my-ai-agent"]), (GUIDE_MULTIPLE, ["cursor-assistant", "ci-pipeline"])],
    ids=["single", "multiple"],
)
def test_the_guides_examples_mint(
    project: Project, run: Command, idp: Emulator, text: str, names: list[str]
) -> None:
    """The guide's identities file, filled in, makes token files that verify, private ones."""
    project.write(_fill_in(text, project))

    ran = run()

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.last_line.startswith("Tokens saved:")
    assert sorted(project.files()) == sorted(f"{name}.json" for name in names)
    for name in names:
        document = project.token(name)
        assert document["identity_name"] == name
        _assert_token_file(document, idp)
        assert stat.S_IMODE(os.stat(project.path(name)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(project.output).st_mode) == 0o700
    assert len([r for r in idp.requests if r.endpoint == "token"]) == len(names)
    assert not [r for r in idp.requests if r.endpoint == "discovery"]


@pytest.mark.parametrize("text", [GUIDE_SINGLE, GUIDE_MULTIPLE], ids=["single", "multiple"])
def test_the_guides_examples_as_they_stand_are_refused(
    project: Project, run: Command, idp: Emulator, text: str
) -> None:
    """Placeholders are told before anything is requested."""
    project.write(text)

    ran = run("--json")

    assert ran.code == 2
    assert {each["field"] for each in ran.json["errors"]} == {
        "tenant_id",
        "client_id",
        "client_secret",
        "scope",
    }
    assert (idp.connections, project.files()) == (0, {})


def test_the_guides_own_command_line(project: Project, run: Command, idp: Emulator) -> None:
    """`generate_tokens.py --identities-file F --output-dir D --verbose` does the whole job."""
    project.write(_fill_in(GUIDE_SINGLE, project), "my-identities.json")
    script = os.path.join(PACKAGES, "entra", "generate_tokens.py")
    args = ("--identities-file", "my-identities.json", "--output-dir", "out", "--verbose")
    env = {"ENTRA_LOGIN_BASE_URL": idp.base_url, "REQUESTS_CA_BUNDLE": idp.ca_file}

    ran = wait(run.start_line([sys.executable, script, *args], env))

    assert ran.code == 0
    assert ran.last_line.startswith("Tokens saved:")
    assert "my-ai-agent: renewed" in ran.stderr
    assert os.listdir(os.path.join(project.folder, "out")).count("my-ai-agent.json") == 1


ERROR_TYPES: dict[str, type | tuple[type, ...]] = {
    "kind": str,
    "error": (str, type(None)),
    "aadsts": (int, type(None)),
    "message": str,
    "remedy": str,
    "transient": bool,
    "trace_id": (str, type(None)),
    "correlation_id": (str, type(None)),
}


def test_the_report_has_the_documented_form(project: Project, run: Command, idp: Emulator) -> None:
    """`--json` puts one document on stdout whose every key has its documented type."""
    fresh, kept, failed, renewed = many = apps(4)
    project.add_all(many)
    assert run(fresh.name, kept.name).code == 0
    project.age(kept.name, left=60)
    for app in (kept, failed):
        idp.inject(Fault("aadsts", code=7000222), None, app.client_id)
    before = time.time()

    ran = run("--json", "--refresh-ahead")

    report = ran.json
    assert ran.code == report["exit_code"] == 1
    assert list(report) == [
        "version",
        "started_at",
        "finished_at",
        "exit_code",
        "summary",
        "results",
    ]
    assert report["version"] == 1
    assert before - 1 <= _at(report["started_at"]) <= _at(report["finished_at"]) <= time.time() + 1
    assert report["summary"] == {
        "identities": 4,
        "renewed": 1,
        "fresh": 1,
        "kept": 1,
        "failed": 1,
    }
    outcomes = [(each["identity_name"], each["outcome"]) for each in report["results"]]
    assert outcomes == [
        (fresh.name, "fresh"),
        (kept.name, "kept"),
        (failed.name, "failed"),
        (renewed.name, "renewed"),
    ]
    for each in report["results"]:
        assert set(each) == {
            "identity_name",
            "outcome",
            "reason",
            "token_file",
            "expires_at",
            "refresh_at",
            "attempts",
            "credential",
            "error",
        }
        assert os.path.basename(each["token_file"]) == f"{each['identity_name']}.json"
        assert each["attempts"] == (0 if each["outcome"] == "fresh" else 1)
        if each["outcome"] == "failed":
            assert each["expires_at"] is each["refresh_at"] is None
        else:
            assert _at(each["refresh_at"]) < _at(each["expires_at"])
            token = project.token(each["identity_name"])
            assert _at(each["expires_at"]) == token["expires_on"]
        if each["outcome"] in {"kept", "failed"}:
            assert set(each["error"]) == set(ERROR_TYPES)
            for name, kind in ERROR_TYPES.items():
                assert isinstance(each["error"][name], kind)
            assert each["error"]["kind"] == "rejected"
            assert (each["error"]["error"], each["error"]["aadsts"]) == ("invalid_client", 7000222)
        else:
            assert each["error"] is None


def test_a_command_line_error_is_a_document_too(run: Command) -> None:
    """Exit 2 under --json is one document with every field of an error."""
    for args in (("--refresh-ahead=10x",), ("--no-such-option",), ("--timeout", "soon")):
        ran = run("--json", *args)

        assert (ran.code, ran.json["exit_code"], ran.json["version"]) == (2, 2, 1)
        (error,) = ran.json["errors"]
        assert set(error) == {"entry", "identity_name", "field", "message"}
        assert error["message"]
        assert args[0].partition("=")[0] in error["message"]


@pytest.mark.parametrize("version", [1, 2])
def test_both_token_versions_are_accepted(
    project: Project, run: Command, idp: Emulator, version: Literal[1, 2]
) -> None:
    """The API decides between v1 and v2 tokens; either is checked and saved."""
    (app,) = apps(1)
    project.add(replace(app, token_version=version))

    assert run().code == 0
    claims = _verified(project.token(app.name)["access_token"], idp, app.tenant_id)
    assert claims["ver"] == f"{version}.0"
    assert claims["azp" if version == 2 else "appid"] == app.client_id


def test_a_tenant_may_be_named_by_its_domain(project: Project, run: Command, idp: Emulator) -> None:
    """A domain name in place of the tenant's GUID mints as well."""
    (app,) = apps(1, "contoso.onmicrosoft.com")
    project.add(app)

    assert run().code == 0
    assert project.token(app.name)["tenant_id"] == "contoso.onmicrosoft.com"
    assert [each.tenant for each in idp.requests] == ["contoso.onmicrosoft.com"]


def test_named_identities_alone_are_minted(project: Project, run: Command, idp: Emulator) -> None:
    """Names on the command line select; nobody else is asked for or touched."""
    one, two, three = many = apps(3)
    project.add_all(many)

    ran = run(one.name, three.name, "--json")

    assert (ran.code, list(ran.results)) == (0, [one.name, three.name])
    assert {each.client_id for each in idp.requests} == {one.client_id, three.client_id}
    assert sorted(project.files()) == sorted(f"{app.name}.json" for app in (one, three))
    assert two.name not in ran.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["token", "NAME"],
        ["inspect", "NAME"],
        ["mcp-config", "cursor", "--identity", "NAME", "--server", "a=https://a.example/mcp"],
        ["identities", "remove", "NAME"],
    ],
)
def test_a_name_may_be_typed_with_its_accents_apart(
    project: Project, run: Command, words: list[str]
) -> None:
    """As macOS has it on its disk, and a shell there completes it (Unicode's form D)."""
    name = "ag\N{LATIN SMALL LETTER E WITH GRAVE}nt"
    project.add(replace(apps(1)[0], name=name))
    assert run().code == 0
    apart = unicodedata.normalize("NFD", name)
    line = run.line()
    typed = [apart if word == "NAME" else word for word in words]
    place = line.index("generate")
    line[place:] = typed if words[0] == "identities" else [*typed, *line[place + 1 :]]
    ran = wait(run.start_line(line))
    assert (ran.code, apart in ran.stdout) == (0, False)


def test_an_unknown_name_is_refused_with_the_nearest(
    project: Project, run: Command, idp: Emulator
) -> None:
    """A misspelt name costs nothing and is answered with the one that was meant."""
    (app,) = apps(1)
    project.add(app)

    ran = run("ci-agnt")

    assert ran.code == 2
    assert "did you mean ci-agent" in ran.stderr
    assert idp.connections == 0


def test_a_command_in_an_error_has_the_paths_that_were_typed(
    project: Project, run: Command
) -> None:
    """So that it can be copied as it is."""
    project.add(apps(1)[0])
    path = project.path("my identities")
    os.rename(project.path("entra-identities"), path)

    ran = run("nobody", "-i", path)

    assert ran.code == 2
    assert f"`credentials-provider identities list --identities-file '{path}'" in ran.stderr


def test_a_fresh_token_costs_no_request(project: Project, run: Command, idp: Emulator) -> None:
    """`--refresh-ahead` right after a run leaves every file as it is and asks nobody."""
    project.add_all(apps(3))
    assert run().code == 0
    before, asked = project.files(), len(idp.requests)

    ran = run("--refresh-ahead")

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.last_line.startswith("Tokens saved: 3 fresh")
    assert (project.files(), len(idp.requests)) == (before, asked)


def test_force_renews_what_is_fresh(project: Project, run: Command, idp: Emulator) -> None:
    """`--refresh-ahead --force` asks for every selected token again."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0
    before = project.token(app.name)["access_token"]

    assert run("--refresh-ahead", "--force").code == 0
    assert project.token(app.name)["access_token"] != before
    assert len(idp.requests) == 2


@pytest.mark.parametrize(
    ("option", "left", "due"),
    [
        ("10m", 590, True),
        ("10m", 700, False),
        ("1h30m", 3000, True),
        ("25%", 700, True),
        ("25%", 2000, False),
        ("0", 5, False),
        ("auto", 3590, False),
        ("auto", 200, True),
    ],
)
def test_refresh_ahead_is_how_much_life_is_left(
    project: Project, option: str, left: int, due: bool
) -> None:
    """A duration or a percentage makes due what has that much of its life left, or less."""
    with Emulator(token_lifetime=3600) as idp:
        other = Project(project.folder + "2", idp)
        (app,) = apps(1)
        other.add(app)
        there = Command(other)
        assert there().code == 0
        other.age(app.name, left=left)

        ran = there("--dry-run", "--json", f"--refresh-ahead={option}")

    assert (ran.code, ran.results[app.name]["outcome"]) == (0, "due" if due else "fresh")


def test_refresh_ahead_may_stand_before_a_name(
    project: Project, run: Command, idp: Emulator
) -> None:
    """`--refresh-ahead NAME` renews that name, not a lead of that name."""
    one, two = many = apps(2)
    project.add_all(many)

    ran = run("--json", "--refresh-ahead", one.name)

    assert (ran.code, list(ran.results)) == (0, [one.name])
    assert [each.client_id for each in idp.requests] == [one.client_id]
    assert two.name not in project.files()


@pytest.mark.parametrize("name", ["2d", "10m", "auto", "90"])
def test_an_identity_may_be_called_like_a_duration(
    project: Project, run: Command, name: str
) -> None:
    """`--refresh-ahead NAME` is that identity; a value is joined by `=`."""
    project.add(apps(1)[0], identity_name=name)

    ran = run("--json", "--refresh-ahead", name)

    assert (ran.code, list(ran.results)) == (0, [name])


@pytest.mark.parametrize("lead", ["10m", "auto", "25%", "2d"])
def test_a_value_behind_a_blank_that_names_no_identity_is_the_lead(
    project: Project, run: Command, idp: Emulator, lead: str
) -> None:
    """`--refresh-ahead 10m` renews what has 10 minutes left, with a note; names may follow."""
    one, two = apps(2)
    project.add_all([one, two])
    assert run(one.name).code == 0  # an hour is left

    ran = run("--refresh-ahead", lead, one.name, "--json")

    assert (ran.code, list(ran.results)) == (0, [one.name])
    assert ran.results[one.name]["outcome"] == ("renewed" if lead == "2d" else "fresh")
    assert f"write --refresh-ahead={lead}" in ran.stderr
    assert {each.client_id for each in idp.requests} == {one.client_id}


def test_a_nonsensical_lead_is_refused(project: Project, run: Command, idp: Emulator) -> None:
    """`--refresh-ahead 10x` and `101%` end with 2 and one message, before anything happens."""
    project.add_all(apps(1))
    for lead in ("10x", "101%", "5 m"):
        for option in ("--refresh-ahead", "--refresh-before"):
            ran = run(f"{option}={lead}")

            assert (ran.code, ran.stdout) == (2, "")
            assert option in ran.stderr
            assert lead in ran.stderr
    assert (idp.connections, project.files()) == (0, {})


def test_a_lead_longer_than_the_life_is_told(project: Project, run: Command) -> None:
    """A lead that makes every run renew everything is warned of, once."""
    project.add_all(apps(3))

    ran = run("--refresh-before", "3h")

    assert ran.code == 0
    assert ran.stderr.count("the lead is longer") == 1


def test_a_dry_run_requests_and_writes_nothing(
    project: Project, run: Command, idp: Emulator
) -> None:
    """`--dry-run` says what is due and why, and leaves no trace."""
    project.add_all(apps(2))
    before = sorted(os.listdir(project.output))

    ran = run("--dry-run", "--refresh-ahead")

    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout.count("there is no token file") == 2
    assert "Tokens saved" not in ran.stdout
    assert (idp.connections, sorted(os.listdir(project.output))) == (0, before)


def test_quiet_is_silent_on_success_alone(project: Project, run: Command, idp: Emulator) -> None:
    """`-q` prints nothing when all is well, and still tells what failed and why."""
    (app,) = apps(1)
    project.add(app)

    ran = run("-q")
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")

    idp.inject(Fault("aadsts", code=7000222))
    ran = run("-q")
    assert (ran.code, ran.stdout) == (1, "")
    assert app.name in ran.stderr
    assert "AADSTS7000222" in ran.stderr


def test_an_empty_list_is_a_warning(project: Project, run: Command, idp: Emulator) -> None:
    """No identity is no failure: exit 0, and a word about it."""
    project.write([])

    ran = run("--json")

    assert (ran.code, ran.json["results"]) == (0, [])
    assert "names no identity" in ran.stderr
    assert idp.connections == 0


def test_a_byte_order_mark_is_no_mistake(project: Project, run: Command) -> None:
    """A file that a Windows editor wrote is read like any other."""
    (app,) = apps(1)
    project.idp.add_app(app)
    project.write("\N{ZERO WIDTH NO-BREAK SPACE}" + json.dumps([entry(app)]))

    assert run().code == 0


def test_an_open_identities_file_is_warned_of(project: Project, run: Command) -> None:
    """A file of secrets that others may read is told, with the cure, and still used."""
    project.add_all(apps(1))
    os.chmod(project.identities_file, 0o644)

    ran = run()

    assert ran.code == 0
    assert "chmod 600" in ran.stderr


@pytest.mark.parametrize("name", ["agent-7", "x-egress", "my-readable", "oauth-x", "ci-token"])
def test_a_name_that_the_registry_treats_specially_is_warned_of(
    project: Project, run: Command, name: str
) -> None:
    """Such a name works here; the warning says what the registry's scripts make of it."""
    (app,) = apps(1)
    project.add(app, identity_name=name)

    ran = run()

    assert ran.code == 0
    assert f"{name}: the MCP Gateway Registry treats this name specially" in ran.stderr


def test_a_changed_definition_makes_a_token_due(
    project: Project, run: Command, idp: Emulator
) -> None:
    """Another scope needs another token, however fresh; another secret does not."""
    (app,) = apps(1)
    project.add(app)
    assert run().code == 0

    project.write([entry(app, client_secret="another-one")])
    assert run("--refresh-ahead").code == 0
    assert len(idp.requests) == 1

    project.write([entry(app, scope=SCOPE.replace("7f1b", "8f1b"))])
    assert run("--refresh-ahead").code == 0
    assert len(idp.requests) == 2


def test_a_symbolic_link_is_replaced_never_followed(
    project: Project, run: Command, idp: Emulator
) -> None:
    """A link in a token file's place is somebody else's trick: its target stays as it is."""
    (app,) = apps(1)
    project.add(app)
    victim = project.private("victim", "precious")
    os.symlink(victim, project.path(app.name))

    assert run().code == 0
    assert not os.path.islink(project.path(app.name))
    assert stat.S_IMODE(os.stat(project.path(app.name)).st_mode) == 0o600
    with open(victim, encoding="utf-8") as file:
        assert file.read() == "precious"
    assert len(idp.requests) == 1


@pytest.mark.parametrize("umask", ["000", "077", "777"])
def test_the_umask_changes_no_mode(project: Project, run: Command, umask: str) -> None:
    """Folder 0700, files 0600, whatever the shell's umask."""
    (app,) = apps(1)
    project.add(app)
    line = run.line("-o", "deep/out")

    ran = wait(run.start_line(["sh", "-c", f'mkdir deep; umask {umask}; exec "$@"', "sh", *line]))

    assert ran.code == 0, ran.stderr
    out = os.path.join(project.folder, "deep", "out")
    assert stat.S_IMODE(os.stat(out).st_mode) == 0o700
    for name in os.listdir(out):
        assert stat.S_IMODE(os.stat(os.path.join(out, name)).st_mode) == 0o600


def test_the_last_line_tells_the_registry_that_it_went_well(project: Project, run: Command) -> None:
    """The registry's reader finds its word in the output of `--ingress-only --force`."""
    one, two = apps(2)
    project.add(one, identity_name="ingress")
    project.add(two)

    ran = run("--ingress-only", "--force")

    assert ran.code == 0
    assert re.search("Successfully|Token generated|Tokens saved", ran.stdout)
    assert list(project.files()) == ["ingress.json"]


def test_times_are_in_utc_whatever_the_zone(project: Project, run: Command) -> None:
    """A machine's time zone does not show in a file."""
    (app,) = apps(1)
    project.add(app)

    assert run(env={"TZ": "Asia/Kathmandu"}).code == 0
    for field in ("generated_at", "expires_at", "refresh_at"):
        moment = datetime.fromisoformat(project.token(app.name)[field])
        assert moment.utcoffset() == timezone.utc.utcoffset(None)
    assert run("--refresh-ahead", env={"TZ": "America/New_York"}).code == 0
    ran = run(env={"TZ": "XXX-25"})  # no zone at all
    assert (ran.code, ran.stdout.count(" UTC")) == (0, 2), ran.stderr
