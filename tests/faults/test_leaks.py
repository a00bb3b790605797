"""Secrets and tokens stay where they belong, whatever a command writes and whatever goes wrong.

An identity of every kind of credential has a secret of its own. After each command everything that
it wrote is searched for all of them, in every encoding, and for tokens: both streams, the log of
every library at its most talkative, and every file of the project and of its user's home.
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from credentials.making import PASSWORD, certificate, federated_token, key_pem, pem, pfx, trust
from credentials_provider import cli
from credentials_provider.assistants.clients import CLIENTS
from credentials_provider.assistants.configure import Edit
from credentials_provider.cli import inspect
from credentials_provider.diagnostics.inspection.decoding import find_token
from credentials_provider.emulator import App, Emulator, Fault
from credentials_provider.entra import client_credentials
from credentials_provider.identities.registration import Registration
from credentials_provider.minting import Minted
from credentials_provider.model import Observer, Outcome, RunOptions
from credentials_provider.run import batch
from credentials_provider.run.access import get_token
from credentials_provider.settings import Flags, load_settings
from credentials_provider.transport.connections import Answer
from e2e.conftest import no_backoff
from support import (
    API,
    BEHIND_PROXY,
    OTHER_TENANT,
    SCOPE,
    Project,
    apps,
    closed_port,
    connect_proxy,
    entry,
    environment,
    forms_of,
    run_program,
    until,
    wait,
)

from .servers import Server, Trust, answering

if TYPE_CHECKING:
    import pathlib
    import socket
    from collections.abc import Iterator

__all__ = ["no_backoff"]

KEY = key_pem(password=PASSWORD)
FEDERATED = federated_token()
ODD = "+/=&% ;\"'$`\\x"  # what encodings change
SECRETS = {
    "env": f"env8Q~of-a-variable{ODD}",
    "dotenv": "dot8Q~of-the-dotenv-file",
    "file": f"fil8Q~of-a-file{ODD}",
    "vault": f"vau8Q~of-the-vault{ODD}",
    "literal": f"lit8Q~of-the-identities{ODD}",
    "wrong": f"wro8Q~that-is-refused{ODD}",
    "previous": f"pre8Q~of-before{ODD}",
    "reader": f"rea8Q~of-the-machine{ODD}",
    "gateway": f"gat8Q~of-the-registry{ODD}",
    "typed": f"typ8Q~on-standard-input{ODD}",
    "password": PASSWORD,
    "key": KEY.splitlines()[3],
    "federated": FEDERATED.split(".")[2],
    "proxy": "prx8Q-of-the-proxy",
}
TOKEN = "a token"
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}")
FORMS = {name: {*forms_of(secret), secret[: len(secret) // 2]} for name, secret in SECRETS.items()}


def found(text: str) -> set[str]:
    """Which secrets show in a text, in any form or by their first half; and whether a token."""
    shown = {name for name, forms in FORMS.items() if any(form in text for form in forms)}
    return shown | ({TOKEN} if _TOKEN.search(text) else set())


class Planted:
    """A project full of secrets, and its commands within the test."""

    def __init__(
        self,
        project: Project,
        monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        self.project = project
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        self._caplog = caplog
        self.said = ""
        # What may stand in which file, by its path below the project.
        self.home: defaultdict[str, set[str]] = defaultdict(set)
        self.env = self._plant()
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(project.folder)
        for name in ("", "msal", "urllib3", "azure", "mcp", "credentials_provider"):
            caplog.set_level(logging.DEBUG, name)

    def _plant(self) -> dict[str, str]:
        project, idp, own = self.project, self.project.idp, certificate()
        registered: list[App] = []
        entries: list[dict[str, Any]] = []

        def plant(name: str, app: dict[str, Any], **credential: object) -> None:
            made = replace(apps(20)[len(registered)], **{"name": name, "secrets": (), **app})
            registered.append(made)
            entries.append(entry(made, **{"client_secret": None, **credential}))

        def keep(path: str, text: str, *names: str) -> None:
            project.private(path, text)
            self.home[path] |= set(names)
            assert found(text) == set(names)  # what is there is found

        plant("env", {"secrets": (SECRETS["env"],)}, client_secret_env="OF_ENV")
        plant("dotenv", {"secrets": (SECRETS["dotenv"],)}, client_secret_env="OF_DOTENV")
        plant("file", {"secrets": (SECRETS["file"],)}, client_secret_file="secret")
        plant("literal", {"secrets": (SECRETS["literal"],)}, client_secret=SECRETS["literal"])
        previous = {
            "client_secret": SECRETS["wrong"],
            "client_secret_previous": SECRETS["previous"],
        }
        plant("previous", {"secrets": (SECRETS["previous"],)}, **previous)
        cert = {"certificate_file": "cert.pem", "certificate_password_env": "OF_KEY"}
        plant("pem", {"certificates": (pem(own),)}, **cert)
        cert = {"certificate_file": "cert.pfx", "certificate_password_file": "password"}
        plant("pfx", {"certificates": (pem(own),)}, **cert)
        plant("federated", {"federated": (trust(),)}, federated_token_file="federated")
        plant("machine", {"managed": "system"}, managed_identity=True)
        url = f"{idp.base_url}/secrets/ci"
        plant("vault", {"secrets": (SECRETS["vault"],)}, client_secret_keyvault=url)
        graph = ("Application.Read.All",)
        for app in registered:
            idp.add_app(replace(app, roles=graph))
        reader = replace(
            apps(20)[19], secrets=(SECRETS["reader"],), roles=("Key Vault Secrets User",)
        )
        idp.add_app(reader)

        keep(
            ".oauth-tokens/entra-identities.json",
            json.dumps(entries),
            "literal",
            "wrong",
            "previous",
        )
        keep(".oauth-tokens/secret", SECRETS["file"], "file")
        keep(".oauth-tokens/password", PASSWORD, "password")
        keep(".oauth-tokens/federated", FEDERATED, "federated", TOKEN)
        keep(".oauth-tokens/cert.pem", KEY + pem(own), "key")
        with open(os.path.join(project.output, "cert.pfx"), "wb") as file:
            file.write(pfx(own, PASSWORD))
        keep(".env", f"OF_DOTENV={SECRETS['dotenv']}\nENTRA_CLIENT_ID={API}\n", "dotenv")
        for app in registered:
            self.home[f".oauth-tokens/{app.name}.json"].add(TOKEN)
        return {
            **idp.machine_environment("app_service"),
            "HOME": project.folder,
            "OF_ENV": SECRETS["env"],
            "OF_KEY": PASSWORD,
            "ENTRA_CLIENT_SECRET": SECRETS["gateway"],
            "ENTRA_KEYVAULT_HOSTS": idp.base_url.removeprefix("https://"),
            "AZURE_TENANT_ID": reader.tenant_id,
            "AZURE_CLIENT_ID": reader.client_id,
            "AZURE_CLIENT_SECRET": SECRETS["reader"],
            "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
            "ENTRA_LOGIN_BASE_URL": idp.base_url,
            "REQUESTS_CA_BUNDLE": idp.ca_file,
            "LC_HARMLESS": "yes",
        }

    def __call__(self, *words: str, code: int = 0, stdin: str = "", holds: str = "") -> str:
        """Runs a command and searches what it wrote; `holds`: what may stand on stdout."""
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        ended = cli._run(list(words), self.project.folder)
        out, err = self._capfd.readouterr()
        logged, self.said = self._caplog.text, out + err
        self._caplog.clear()
        assert found(out) == ({holds} if holds else set()), words
        assert found(err + logged) == set(), words
        assert "Traceback" not in out + err
        assert ended == code, (words, self.said)
        self.search()
        return out

    def search(self) -> None:
        """Every file holds what belongs into it, and nothing else."""
        for folder, _, names in os.walk(self.project.folder):
            for name in names:
                path = os.path.join(folder, name)
                with open(path, "rb") as file:
                    shown = found(file.read().decode(errors="replace"))
                place = os.path.relpath(path, self.project.folder)
                assert shown <= self.home.get(place, set()), place


@pytest.fixture
def idp(tmp_path: pathlib.Path) -> Iterator[Emulator]:
    vault = {"ci": SECRETS["vault"]}
    with Emulator(ca_file=tmp_path / "ca.pem", vault=vault, machine=True) as emulator:
        yield emulator


@pytest.fixture
def planted(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> Planted:
    return Planted(project, monkeypatch, capfd, caplog)


# A program that tells all that it sees: itself, and who started it.
TELL = "env; tr '\\0' '\\n' </proc/$$/cmdline; tr '\\0' '\\n' </proc/$PPID/cmdline"


def shim(project: Project, name: str, script: str) -> str:
    """A program of that name; its folder."""
    folder = os.path.join(project.folder, "bin")
    os.makedirs(folder, exist_ok=True)
    path = project.private(os.path.join(folder, name), f"#!/bin/sh\n{script}\n")
    os.chmod(path, 0o700)
    return folder


def said(path: str) -> str:
    """What such a program has told so far."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def test_no_command_shows_what_it_works_with(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While all goes well, at any verbosity and in any form, hooks and children included."""
    project = planted.project
    for name in ("systemctl", "crontab"):
        folder = shim(project, name, f"({TELL}) >>children 2>&1")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    more = ("--metrics-file", "metrics", "--on-renew", f"({TELL}; cat) >hook 2>&1")
    out = planted("generate", "-v", "--log-format", "json", "--json", *more)
    assert {each["outcome"] for each in json.loads(out)["results"]} == {"renewed"}
    for path in ("hook", "metrics", ".oauth-tokens/.credentials-provider-state.json"):
        assert os.path.getsize(os.path.join(project.folder, path)) > 100
    assert "LC_HARMLESS=yes" in said("hook")  # it saw its environment

    planted("generate", "-v", "--refresh-ahead")
    planted("generate", "--dry-run", "-q", "--force")
    for words in ("status", "status literal", "status --json"):
        planted(*words.split())
    for words in ("inspect env", "inspect machine --json", "inspect pem --verify"):
        planted(*words.split())
    planted("doctor", "--json", "--registry-url", project.idp.base_url, code=1)  # it is none
    assert "LC_HARMLESS=yes" in said("children")
    assert "CLIENT_SECRET" in planted("doctor", "env", "--curl")
    for words in ("list", "list --json", "check", "check --json --check-secret-expiry"):
        assert "federated" in planted("identities", *words.split())
    planted("schedule", "systemd", "--load-credential", "ci:/etc/ci", "--", "--on-renew", "true")
    planted("schedule", "cron")
    planted("schedule", "kubernetes")
    planted("completion", "bash")


def test_a_token_is_only_where_it_was_asked_for(planted: Planted) -> None:
    """On the standard output of `token`, in the file of its --output, in a --static entry."""
    for form in ("raw", "header", "headers-json", "env", "json", "exec-credential"):
        planted("token", "file", "--format", form, holds=TOKEN)
    planted.home["kept"].add(TOKEN)
    planted("token", "file", "--output", "kept")

    reach = ("--identity", "file", "--server", "gh=https://gateway.example/mcp")
    for name, client in CLIENTS.items():
        if client.bridge is not None or client.helper is not None:
            planted("mcp-config", name, *reach)
    planted("mcp-config", "cursor", *reach, "--file", "mine.json", "--write", "--no-check")
    planted("mcp-config", "cursor", *reach, "--static", holds=TOKEN)
    planted.home["static.json"].add(TOKEN)
    planted(
        "mcp-config", "cursor", *reach, "--static", "--file", "static.json", "--write", "--no-check"
    )
    planted("mcp-config", "cursor", "--server", "gh", "--remove", "--file", "mine.json")


def test_the_identities_file_is_kept_in_silence(planted: Planted) -> None:
    """A secret that is typed, imported or moved goes to its new place and to no other."""
    more = ("--client-id", API, "--scope", f"api://{API}/.default", "--tenant-id", OTHER_TENANT)
    planted.home[".oauth-tokens/.secrets/typed"].add("typed")
    planted("identities", "add", "typed", *more, "--client-secret-stdin", stdin=SECRETS["typed"])
    planted("identities", "remove", "typed", "--purge")
    del planted.home[".oauth-tokens/.secrets/typed"]

    planted.home[".oauth-tokens/.secrets/imported"].add("typed")
    answer = json.dumps({"client_id": API, "client_secret": SECRETS["typed"]})
    planted("identities", "import", "imported", *more[2:], stdin=answer)
    masked = json.dumps({"client_id": API, "client_secret": f"{SECRETS['typed'][:8]}...abcd"})
    planted("identities", "import", "masked", *more[2:], stdin=masked, code=2)
    planted("identities", "import", "masked", *more[2:], stdin=answer[:-2], code=2)

    planted.home["new/.secrets/typed"].add("typed")
    os.mkdir("new")
    there = ("-i", "new/identities.json")
    planted(
        *("identities", "init", "typed", *more, *there, "--client-secret-stdin"),
        stdin=SECRETS["typed"],
    )

    for place in ("literal", "previous", "previous.previous"):
        planted.home[f".oauth-tokens/.secrets/{place}"] |= {"literal", "wrong", "previous"}
    planted("identities", "migrate")
    planted.home[".oauth-tokens/entra-identities.json"].clear()
    planted.search()
    planted.home["one.json"].add("literal")
    planted.home[".env"].add("literal")
    planted.project.private(
        "one.json", json.dumps([entry(apps(1)[0], client_secret=SECRETS["literal"])])
    )
    planted("identities", "migrate", "--to", "env", "-i", "one.json")
    planted.home["one.json"].clear()
    planted.search()


# Answers that hold the secret or a token, and failures that happen while one is in hand.
TEMPTING = (
    Fault("echo_secret"),
    Fault("wrong_tenant"),
    Fault("bad_expires_in", value="soon"),
    Fault("opaque"),
    Fault("truncated_json"),
    Fault("truncated"),
    Fault("reset_after"),
    Fault("html"),
    Fault("garbage"),
    Fault("unavailable"),
    Fault("throttle"),
    Fault("reset"),
    Fault("no_access_token"),
    Fault("status", status=500, body=f"client_secret={SECRETS['literal']} eyJhbGciOiJSUzI1NiJ9"),
    Fault("redirect", location="https://localhost/?client_secret=eyJhbGciOiJSUzI1NiJ9"),
    Fault("aadsts", code=7000215, error="eyJhbGciOiJSUzI1NiJ9"),
    Fault("string_numbers"),
)


def test_a_secret_of_the_environment_is_not_shown(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENTRA_CLIENT_SECRET and --entra-client-secret, when the provider refuses and repeats them."""
    planted.project.idp.inject(Fault("echo_secret"), None)
    os.unlink(planted.project.identities_file)
    monkeypatch.setenv("ENTRA_TENANT_ID", OTHER_TENANT)
    for mode in ("-v", "--json", "--log-format=json"):
        planted("generate", mode, code=1)
        planted("generate", mode, "--entra-client-secret", SECRETS["typed"], code=1)
    planted("doctor", code=1)


@pytest.mark.usefixtures("no_backoff")
def test_no_failure_shows_what_it_struck(planted: Planted) -> None:
    """Whatever the provider sends back, at any verbosity; the state of the run included."""
    project = planted.project
    for each in project.entries():
        project.idp.inject(Fault("echo_secret"), None, each["client_id"])
    struck = [replace(app, secrets=(SECRETS["literal"],)) for app in apps(20 + len(TEMPTING))[20:]]
    for app, fault in zip(struck, TEMPTING, strict=True):
        project.idp.add_app(app)
        project.idp.inject(fault, None, app.client_id)
    project.write([*project.entries(), *(entry(app) for app in struck)])
    for app in struck:  # some of these answers are good for a token
        planted.home[f".oauth-tokens/{app.name}.json"].add(TOKEN)

    once = ("--max-attempts", "1", "--metrics-file", "metrics", "--on-renew", "cat >&2")
    for words in ("-v", "--json -v", "--log-format json -v", "-q"):
        planted("generate", *words.split(), *once, code=1)
    planted("status", code=1)
    planted("status", "--json", code=1)
    planted("doctor", "--json", code=1)
    planted("token", "env", code=1)
    planted("identities", "check", "--check-secret-expiry")
    planted("inspect", struck[-1].name, "--verify")


def test_no_way_to_the_provider_shows_what_would_have_been_sent(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors of connection, trust and proxy; the proxy's own login neither."""
    words = ("generate", "-v", "--max-attempts", "1", "literal", "pem", "federated")
    planted(*words, "--login-base-url", f"https://localhost:{closed_port()}", code=1)
    stranger = Trust(os.path.dirname(planted.project.folder)).file
    planted(*words, "--ca-bundle", stranger, code=1)
    with connect_proxy("407 Proxy Authentication Required") as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://jo:{SECRETS['proxy']}@{proxy.address}")
        planted(*words, "--login-base-url", BEHIND_PROXY, code=1)
        planted("doctor", "literal", "--login-base-url", BEHIND_PROXY, code=1)
        assert proxy.heads


def test_a_secret_in_a_wrong_place_is_not_repeated(planted: Planted) -> None:
    """Under a wrong name, of a wrong form, in a file that was cut off: told by place alone."""
    project = planted.project
    wrong = [
        {"identity_name": "a", "client_secrt": SECRETS["literal"], "tenant_id": ["x"]},
        {"identity_name": "b", "client_secret": [SECRETS["literal"]], "scope": 1},
        {"identity_name": "c", "client_secret": f" {SECRETS['literal']}\n"},
        {"identity_name": "d", "client_secret": {"value": SECRETS["literal"]}},
        {"identity_name": "e", "client_secret_env": SECRETS["literal"]},
        {"identity_name": "f", "client_id": SECRETS["literal"]},
        {"identity_name": "g", SECRETS["literal"]: "client_secret"},
    ]
    project.write(wrong)
    for words in (
        "generate",
        "generate --json -v",
        "generate --log-format json",
        "identities check",
    ):
        planted(*words.split(), code=2)
    planted("identities", "list")
    planted("status", code=1)
    planted("doctor", code=2)
    text = json.dumps([{"client_secret": SECRETS["literal"]}])
    for cut in range(20, len(text) - 1, 6):
        project.write(text[:cut])
        planted("generate", "--json", code=2)
    os.unlink(project.identities_file)
    planted("generate", "--entra-client-secret", SECRETS["typed"], code=2)  # half an identity


def boom(*_: object, **__: object) -> Any:
    """A mistake of ours with secrets in its message, its cause and its locals."""
    everything = dict(SECRETS)
    cause = KeyError(*everything.values())
    raise RuntimeError(everything, "eyJhbGciOiJSUzI1NiJ9") from cause


def test_no_crash_shows_what_it_had_in_hand(
    planted: Planted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that nobody foresaw is told by its type and its place in the source."""
    planted("generate", "-q")
    monkeypatch.setattr(client_credentials, "checked", boom)
    monkeypatch.setattr(inspect, "verify", boom)
    for words in (
        "generate -v literal machine",
        "generate --json literal",
        "generate --log-format json literal",
        "token literal --force",
        "doctor literal",
        "identities check --check-secret-expiry",
        "inspect literal --verify",
    ):
        planted(*words.split(), code=1)
        assert "unexpected RuntimeError at test_leaks.py" in planted.said
    monkeypatch.setattr(batch, "run", boom)
    for words in ("generate", "generate --json", "generate --log-format json -q"):
        planted(*words.split(), code=1)
        assert "unexpected RuntimeError at test_leaks.py" in planted.said


# Values


def ours() -> list[object]:
    """Every living object of a class of the program's."""
    return [
        each
        for each in gc.get_objects()
        if str(type(each).__module__).startswith("credentials_provider.")
        and ".emulator" not in type(each).__module__
    ]


def test_no_object_shows_what_it_holds(planted: Planted) -> None:
    """Debuggers, loggers and crash reporters print reprs: all those of a run at work."""
    project = planted.project
    flags = Flags(client_secret=SECRETS["typed"])
    settings = load_settings(flags, os.environ, project.folder)
    request = RunOptions(settings, concurrency=2)
    kinds: set[str] = set()

    class Looker(Observer):
        def finish(self, outcome: Outcome) -> None:
            del outcome
            for each in ours():
                kinds.add(type(each).__name__)
                for text in (repr(each), str(each), f"{each}", f"{[each]}"):
                    assert found(text) == set(), type(each)

    batch.run(request, Looker())
    access = get_token(request, "literal", 300.0, Observer())
    token = find_token(access.token)
    secret = SECRETS["typed"]
    for each in (
        *(flags, access, token, Registration("id", secret), Edit("path", access.token, secret)),
        Minted(access.token, 0, 0, None, 1, None),
        Answer(200, {}, access.token.encode(), 0.0, None),
    ):
        assert found(repr(each)) == set()
    assert kinds >= {
        *("Entry", "Identity", "Settings", "Environment", "RunOptions", "Resolver", "Credential"),
        *("Transport", "PlanItem", "IdentitiesFile"),
    }


# Processes


def started(planted: Planted, *words: str, **more: str) -> subprocess.Popen[str]:
    folder = planted.project.folder
    env = environment(folder, {**planted.env, **more})
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-m", "credentials_provider", *words],
        cwd=folder,
        env={**env, "PYTHONWARNINGS": "default"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_service_keeps_silent_about_what_it_works_with(planted: Planted) -> None:
    """`watch` in Python's development mode: its log, its command line, its hook's."""
    shim(planted.project, "hook", f"({TELL}; cat) >hook 2>&1")
    planted.project.idp.inject(
        Fault("echo_secret"), None, planted.project.entries()[0]["client_id"]
    )
    words = ("watch", "-v", "--log-format", "json", "--max-attempts", "1", "--health-port", "0")
    process = started(planted, *words, "--on-renew", "bin/hook")
    until(lambda: "LC_HARMLESS=yes" in said("hook") or process.poll() is not None)
    if sys.platform == "linux":
        with open(f"/proc/{process.pid}/cmdline", encoding="utf-8") as file:
            assert found(file.read()) == set()
    process.send_signal(signal.SIGTERM)
    ran = wait(process)
    assert ran.code == 143, ran.stderr
    assert '"outcome": "failed"' in ran.stderr
    assert '"outcome": "renewed"' in ran.stderr
    assert found(ran.stdout + ran.stderr) == set()
    planted.search()
    assert "LC_HARMLESS=yes" in said("hook")


def test_a_command_gets_its_token_and_nothing_else_of_ours(planted: Planted) -> None:
    """`exec`: by its environment, not by its command line; what stands in files stays there."""
    ran = wait(started(planted, "exec", "dotenv", "--", "sh", "-c", f"{TELL}; echo >&2"))
    assert ran.code == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if found(line)]
    assert any(found(value) for value in planted.env.values())
    assert {line.partition("=")[0] for line in lines} == {"ACCESS_TOKEN"}
    assert found(ran.stderr) == set()


def test_a_bridge_keeps_silent_about_its_token(planted: Planted, tmp_path: pathlib.Path) -> None:
    """Though the server sends it back: neither the assistant nor its log gets it."""
    trust_ = Trust(str(tmp_path))
    planted("token", "file", holds=TOKEN)

    def answer(server: Server, sock: socket.socket) -> None:
        shown = re.findall(rb"(?i)authorization: (\S+ \S+)", bytes(server.heard))[-1].decode()
        body = json.dumps(
            {"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": f"bad: {shown}"}}
        ).encode()
        head = f"HTTP/1.1 400 Bad\r\nX-Echo: {shown}\r\nContent-Type: application/json\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)

    ask = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}})
    with answering(answer, trust_.context()) as server:
        words = (
            "mcp-bridge",
            "--identity",
            "file",
            "--ca-bundle",
            trust_.file,
            f"{server.url}/mcp",
        )
        process = started(planted, *words)
        out, err = process.communicate(f"{ask}\n", timeout=60)
        assert "Bearer ey" in server.heard.decode()
    assert "bad: Bearer ..." in out  # the server's own reason, without the token
    assert found(out + err) == set()
    planted.search()


def test_a_secret_that_was_made_is_in_its_file_and_nowhere_else(tmp_path: pathlib.Path) -> None:
    """By the registry or Graph, all its life: in what commands say and what they leave behind."""
    (admin,) = apps(1)
    admin = replace(admin, roles=("registry-admins", "Application.ReadWrite.OwnedBy"))
    made: set[str] = {admin.secrets[0]}
    with Emulator(registry_groups=["agents"]) as idp:
        project = Project(str(tmp_path), idp)
        idp.add_app(admin)
        asks = ("--registry-url", idp.base_url, "--as", "admin")
        named = ("--tenant-id", admin.tenant_id, "--scope", SCOPE, "--groups", "agents")
        reach = {"ENTRA_LOGIN_BASE_URL": idp.base_url, "REQUESTS_CA_BUNDLE": idp.ca_file}
        project.write([])

        def run(*words: str, stdin: str = "") -> None:
            ran = run_program(project.folder, *words, env=reach, stdin=stdin)
            assert ran.code == 0, (words, ran.stderr)
            for app in [*idp._directory._apps.values()]:
                made.update(each.content for each in app.passwords)
            forms = {form for secret in made for form in forms_of(secret)}
            texts = {"output": ran.stdout + ran.stderr}
            for path in tmp_path.rglob("*"):
                if path.is_file() and path.parent.name != ".secrets":
                    texts[str(path)] = path.read_text(errors="replace")
            for where, text in texts.items():
                assert not [form for form in forms if form in text], (words, where)

        ids = ("--client-id", admin.client_id, *named[:4])
        run("identities", "add", "admin", *ids, "--client-secret-stdin", stdin=admin.secrets[0])
        run("identities", "create", "ci", *named, *asks)
        (app,) = [each for each in [*idp._directory._apps.values()] if each.name == "ci"]
        idp.add_app(replace(app, owners=(admin.client_id,)))
        run("identities", "rotate", "ci", "--as", "admin")
        run("identities", "rotate", "ci", "--as", "admin", "--finish")
        run("generate", "-vv", "--log-format", "json", "--force")
        for words in (("status", "ci"), ("status", "--json"), ("doctor",), ("identities", "list")):
            run(*words)
        newest = idp._directory.find(app.tenant_id, app.client_id)
        assert newest is not None
        run("identities", "secret", "ci", stdin=newest.passwords[-1].content)
        run("identities", "check")
        run("schedule", "cron", "--rotate")
        run("identities", "remove", "ci", "--at-registry", *asks)
    assert len(made) == 3
