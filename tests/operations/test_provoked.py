"""120 failures, provoked one by one: `doctor` blames the right thing and names a cure that helps.

A row a failure. `CODES` are Entra ID's own refusals, by the words of their cause and of their cure;
`OTHERS` are what machines, networks and people do.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from credentials_provider.diagnostics import doctor
from credentials_provider.emulator import Emulator, Fault
from credentials_provider.settings import Flags
from credentials_provider.tokens.store import TokenStore
from faults.servers import (
    RST_ON_CLOSE,
    Server,
    Trust,
    answering,
    expired,
    old_protocol,
    self_signed,
    unknown_authority,
    wrong_host,
)
from support import Project, apps, closed_port, connect_proxy, full_disk, renew
from unit.test_found import Machine, states

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

    from credentials_provider.diagnostics.doctor.checks import Check

SECRETS, OVERVIEW, EXPOSE = "Certificates & secrets", "Overview", "Expose an API"
CODES: dict[int, tuple[str, str]] = {
    7000215: ("client secret is wrong", "not its Secret ID"),
    7000222: ("client secret has expired", "Create a new client secret"),
    7000216: ("carried no credential", "exactly one credential"),
    7000218: ("carried no credential", "exactly one credential"),
    700025: ("public client", "Allow public client flows"),
    700027: ("certificate is not registered", SECRETS),
    700024: ("not valid at this time", "clock"),
    700030: ("subject name or issuer is not authorised", "certificate"),
    50012: ("assertion is invalid", "client_id"),
    50048: ("subject and its issuer differ", "client_id"),
    50027: ("assertion is invalid", "client_id"),
    700021: ("assertion is invalid", "client_id"),
    70021: ("no federated credential", "letter by letter"),
    700211: ("issuer", "letter by letter"),
    700212: ("audience", "letter by letter"),
    700213: ("subject", "letter by letter"),
    7002138: ("upper and lower case", "letter by letter"),
    700229: ("issued to a user", "workload"),
    700016: ("not found in this tenant", "client_id and tenant_id"),
    7000229: ("no enterprise application", "az ad sp create"),
    70001: ("disabled in this tenant", "Enabled for users to sign-in"),
    7000112: ("disabled in this tenant", "Enabled for users to sign-in"),
    90002: ("tenant was not found", "tenant_id"),
    900023: ("neither a GUID nor a domain", "Directory (tenant) ID"),
    50059: ("names no tenant", "Directory (tenant) ID"),
    50128: ("names no tenant", "Directory (tenant) ID"),
    90019: ("names no tenant", "Directory (tenant) ID"),
    9001023: ("common, organizations or consumers", "Directory (tenant) ID"),
    50194: ("common, organizations or consumers", "Directory (tenant) ID"),
    90130: ("common, organizations or consumers", "Directory (tenant) ID"),
    900382: ("another national cloud", "Set cloud"),
    900432: ("another national cloud", "Set cloud"),
    90038: ("another national cloud", "Set cloud"),
    70011: ("scope is malformed", EXPOSE),
    28002: ("scope is malformed", EXPOSE),
    1002012: ("scope is malformed", EXPOSE),
    700022: ("several resources", "one resource"),
    700023: ("no resource", EXPOSE),
    901002: ("as v1 does", EXPOSE),
    900144: ("empty or misspelt", "identities check"),
    90014: ("empty or misspelt", "identities check"),
    90015: ("too long", "identities check"),
    90023: ("empty or misspelt", "identities check"),
    9002313: ("empty or misspelt", "identities check"),
    90013: ("empty or misspelt", "identities check"),
    90100: ("empty or misspelt", "identities check"),
    900561: ("on the way changed the request", "proxy"),
    500011: ("does not exist in this tenant", EXPOSE),
    50001: ("does not exist in this tenant", EXPOSE),
    500014: ("disabled in this tenant", "the gateway's app"),
    650052: ("not subscribed", "API permissions"),
    650056: ("not among the app's permissions", "API permissions"),
    650057: ("not among the app's permissions", "API permissions"),
    65001: ("no admin consent", "Grant admin consent"),
    501051: ("requires an assignment", "app roles"),
    53003: ("Conditional Access", "Sign-in logs"),
    530032: ("Conditional Access", "Sign-in logs"),
    100007: ("regional login endpoint", "global login host"),
    50196: ("too often", "wait an hour"),
    90055: ("throttled", "Wait some minutes"),
    50033: ("temporary fault", "Run again"),
    90006: ("temporary fault", "Run again"),
    90024: ("temporary fault", "Run again"),
    90090: ("temporary fault", "Run again"),
    90033: ("temporary fault", "Run again"),
    90012: ("temporary fault", "Run again"),
    90091: ("temporary fault", "Run again"),
}


class Scene:
    """A healthy project, and what is changed about how doctor is called."""

    def __init__(
        self, project: Project, monkeypatch: pytest.MonkeyPatch, stack: contextlib.ExitStack
    ) -> None:
        self.project = project
        self.stack = stack
        self.app = replace(apps(1)[0], groups=("g1",))
        project.add(self.app)
        self.flags: dict[str, Any] = {
            "identities_file": project.identities_file,
            "output_dir": project.output,
            "login_base_url": project.idp.base_url,
            "ca_bundle": project.idp.ca_file,
        }
        self.process: dict[str, str] = {"PATH": ""}
        self.more: dict[str, Any] = {}
        self._monkeypatch = monkeypatch
        self.setenv = monkeypatch.setenv
        self.trust = Trust(project.folder)

    def fault(self, kind: str, **parameters: Any) -> None:
        self.project.idp.inject(Fault(kind, **parameters), None)

    def entry(self, **changes: Any) -> None:
        (fields,) = self.project.entries()
        fields.update(changes)
        self.project.write([{k: v for k, v in fields.items() if v is not None}])

    def credential(self, **fields: Any) -> None:
        self.entry(client_secret=None, **fields)

    def proxy(self, url: str) -> None:
        """A proxy on the way to a host that is not this machine: that one is always reached."""
        self._monkeypatch.setenv("HTTPS_PROXY", url)
        self.flags["login_base_url"] = "https://login.invalid"

    def host(self, talk: Callable[[Server, socket.socket], None], context: Any = None) -> None:
        """A login host that does as it likes."""
        server = self.stack.enter_context(answering(talk, context))
        self.flags |= {"login_base_url": server.url, "ca_bundle": self.trust.file}

    def tls(self, context: Callable[[Trust], ssl.SSLContext]) -> None:
        self.host(_hang, context(self.trust))

    def says(self, head: bytes) -> None:
        """A login host of one answer."""
        self.host(lambda _, sock: sock.sendall(head), self.trust.context())

    def registry(self, head: str, body: str = "") -> None:
        """A registry on loopback of one answer."""
        text = f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        server = self.stack.enter_context(
            answering(lambda _, sock: sock.sendall(text.encode()), None)
        )
        self.more["registry_url"] = f"http://127.0.0.1:{server.port}"

    def checks(self) -> list[Check]:
        options = doctor.DoctorOptions(self.project.folder, Flags(**self.flags), self.process)
        return list(doctor.examine(options._replace(**self.more), time.time(), deadline=20.0))


class Row(NamedTuple):
    """What is done, which check finds it, and words of the cause and of the cure."""

    provoke: Callable[[Scene], object]
    check: str
    seen: str
    cure: str


def _portal(status: str) -> bytes:
    page = b"<html>Sign in</html>"
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(page)}\r\n\r\n".encode() + page


def _reset(_: Server, sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    sock.close()


def _hang(server: Server, _: socket.socket) -> None:
    server.closing.wait()


def _refusing_proxy(refusal: str) -> Callable[[Scene], None]:
    def provoke(scene: Scene) -> None:
        proxy = scene.stack.enter_context(connect_proxy(refusal))
        scene.proxy(f"http://{proxy.address}")

    return provoke


def _dotenv(text: str) -> Callable[[Scene], None]:
    def provoke(scene: Scene) -> None:
        scene.flags["env_file"] = scene.project.private("its.env", text)

    return provoke


def _identities(text: str) -> Callable[[Scene], object]:
    return lambda scene: scene.project.write(text)


def _open(path: str, mode: int = 0o644) -> Callable[[Scene], None]:
    def provoke(scene: Scene) -> None:
        renew(scene.project)
        os.chmod(os.path.join(scene.project.output, path), mode)

    return provoke


def _age(left: float) -> Callable[[Scene], None]:
    def provoke(scene: Scene) -> None:
        renew(scene.project)
        scene.project.age("ci-agent", left=left)

    return provoke


def _token(**changes: Any) -> Callable[[Scene], None]:
    def provoke(scene: Scene) -> None:
        renew(scene.project)
        content = {**scene.project.token("ci-agent"), **changes}
        scene.project.private(scene.project.path("ci-agent"), json.dumps(content))

    return provoke


def _locked(scene: Scene) -> None:
    renew(scene.project)
    scene.stack.enter_context(TokenStore(scene.project.output).lock(1.0))


def _full_disk(scene: Scene) -> None:
    folder = os.path.join(scene.project.folder, "full")
    os.mkdir(folder, 0o700)
    scene.stack.enter_context(full_disk(folder))
    scene.flags["output_dir"] = folder


def _failing_unit(scene: Scene) -> None:
    machine = Machine(Path(scene.project.folder))
    scene.process |= machine.process
    scene.process["PATH"] += f":{os.defpath}"
    scene.setenv("XDG_CONFIG_HOME", machine.process["XDG_CONFIG_HOME"])
    failed = states("fleet-7", result="exit-code", status=226)
    machine.unit("fleet-7", "/usr/bin/credentials-provider generate", both=failed)


def _output_is_a_file(scene: Scene) -> None:
    scene.flags["output_dir"] = scene.project.private("tokens", "")


def _app(**changes: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.project.idp.add_app(replace(scene.app, **changes))


def _process(**variables: str) -> Callable[[Scene], None]:
    return lambda scene: scene.process.update(variables)


def _flags(**flags: Any) -> Callable[[Scene], None]:
    return lambda scene: scene.flags.update(flags)


def _other_authority(scene: Scene) -> None:
    path = os.path.join(scene.project.folder, "other.pem")
    with Emulator(ca_file=path):
        scene.flags["ca_bundle"] = path


def _no_port(scene: Scene) -> None:
    scene.flags["login_base_url"] = f"https://localhost:{closed_port()}"


def _dead_proxy(scene: Scene) -> None:
    scene.proxy(f"http://127.0.0.1:{closed_port()}")


def _hook(scene: Scene) -> None:
    renew(scene.project, on_renew="exit 3")


OTHER_ID = "11111111-2222-4333-8444-555555555555"
SECOND = '{"identity_name": "ci-agent"}'
OTHERS: dict[str, Row] = {
    # The network
    "unknown host": Row(
        _flags(login_base_url="https://nobody.invalid"), "dns", "nobody.invalid", "DNS"
    ),
    "closed port": Row(_no_port, "connection", "refused the connection", "port"),
    "connection reset": Row(lambda s: s.host(_reset), "connection", "was cut", "firewall"),
    "no answer": Row(lambda s: s.host(_hang), "connection", "did not answer in time", "firewall"),
    "plain HTTP": Row(
        lambda s: s.host(lambda _, sock: sock.sendall(b"HTTP/1.1 400 Bad\r\n\r\n")),
        "tls",
        "does not speak TLS",
        "port",
    ),
    "unknown authority": Row(lambda s: s.tls(unknown_authority), "tls", "not trust", "--ca-bundle"),
    "other CA bundle": Row(_other_authority, "tls", "not trust", "--ca-bundle"),
    "self-signed": Row(lambda s: s.tls(self_signed), "tls", "self-signed", "--ca-bundle"),
    "expired certificate": Row(lambda s: s.tls(expired), "tls", "has expired", "clock"),
    "another host's certificate": Row(
        lambda s: s.tls(wrong_host), "tls", "another host", "spelling"
    ),
    "old TLS": Row(lambda s: s.tls(old_protocol), "tls", "TLS version", "TLS 1.2"),
    # Proxies
    "proxy not there": Row(_dead_proxy, "proxy", "refused the connection", "HTTPS_PROXY"),
    "proxy unknown": Row(
        lambda s: s.proxy("http://nobody.invalid:3128"), "proxy", "cannot be resolved", "DNS"
    ),
    "proxy wants a login": Row(
        _refusing_proxy("407 Proxy Authentication Required"), "proxy", "HTTP 407", "user:password"
    ),
    "proxy forbids": Row(_refusing_proxy("403 Forbidden"), "proxy", "HTTP 403", "administrator"),
    "proxy cannot reach": Row(_refusing_proxy("502 Bad Gateway"), "proxy", "HTTP 502", "own way"),
    "proxy's way too slow": Row(
        _refusing_proxy("504 Gateway Timeout"), "proxy", "HTTP 504", "own way"
    ),
    "SOCKS": Row(lambda s: s.proxy("socks5://127.0.0.1:1080"), "proxy", "SOCKS", "HTTP proxy"),
    "proxy's address": Row(
        lambda s: s.proxy("http://me:p#ss@proxy:3128"), "proxy", "HTTPS_PROXY", "%"
    ),
    # What answers in the login host's place
    "captive portal": Row(
        lambda s: s.says(_portal("200 OK")), "connection", "captive portal", "Sign in"
    ),
    "portal's redirect": Row(
        lambda s: s.says(_portal("302 Found")), "connection", "redirect", "portal"
    ),
    "portal's 511": Row(
        lambda s: s.says(_portal("511 Network Authentication Required")),
        "connection",
        "captive portal",
        "Sign in",
    ),
    "not Entra": Row(lambda s: s.says(_portal("404 Not Found")), "connection", "404", "login host"),
    "not JSON": Row(
        lambda s: s.says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
        "connection",
        "not JSON",
        "proxy",
    ),
    "fault": Row(lambda s: s.fault("status", status=500), "token", "HTTP 500", "Run again"),
    "overload": Row(lambda s: s.fault("unavailable"), "token", "HTTP 503", "Run again"),
    "throttle": Row(lambda s: s.fault("throttle"), "token", "throttled", "Wait"),
    "garbage": Row(lambda s: s.fault("garbage"), "token", "not JSON", "proxy"),
    "no token": Row(lambda s: s.fault("no_access_token"), "token", "no access token", "login host"),
    "another tenant's token": Row(
        lambda s: s.fault("wrong_tenant"), "token", "another tenant", "tenant_id"
    ),
    # Clocks
    "clock ahead": Row(
        lambda s: s.fault("skew", endpoint="any", seconds=-3600), "clock", "ahead", "NTP"
    ),
    "clock behind": Row(
        lambda s: s.fault("skew", endpoint="any", seconds=3600), "clock", "behind", "NTP"
    ),
    "clock two hours ahead": Row(
        lambda s: s.fault("skew", endpoint="any", seconds=-7200), "clock", "2 h", "NTP"
    ),
    # Files
    "full disk": Row(_full_disk, "files", "is full", "Make room"),
    "folder is a file": Row(_output_is_a_file, "files", "is not a folder", "--output-dir"),
    "lock held": Row(_locked, "files", "holds the lock", "end that process"),
    "open folder": Row(_open(".", 0o755), "files", "look into", "chmod 700"),
    "open token": Row(_open("ci-agent.json"), "files", "can read", "chmod 600"),
    "open identities": Row(_open("entra-identities.json"), "files", "can read", "chmod 600"),
    "token file garbage": Row(
        lambda s: s.project.private(s.project.path("ci-agent"), "{"),
        "last run",
        "unreadable",
        "renews it",
    ),
    "token of another definition": Row(
        _token(definition="1:00"), "last run", "changed", "renews it"
    ),
    "clock set back": Row(_age(9000), "last run", "clock was set back", "renews it"),
    "nobody renews": Row(_age(60), "last run", "no run has tried", "Start the timer"),
    "hook fails": Row(_hook, "hook", "--on-renew failed", "Correct the command"),
    "unit that fails": Row(
        _failing_unit,
        "timer",
        "fleet-7.timer: this machine does not allow its namespaces",
        "fleet-7",
    ),
    "no timer": Row(Scene.checks, "timer", "no timer", "schedule"),
    # Settings
    "no --env-file": Row(_flags(env_file="/nowhere/.env"), "settings", "/nowhere/.env", ".env"),
    ".env not text": Row(
        lambda s: s.flags.update(env_file=_binary(s)), "settings", "UTF-8", "Save it"
    ),
    ".env line": Row(_dotenv("what is this?\n"), ".env", "line 1 is ignored: write NAME=value", ""),
    "another provider": Row(
        _process(AUTH_PROVIDER="keycloak"), "settings", "keycloak", "AUTH_PROVIDER=entra"
    ),
    "login host without TLS": Row(
        _flags(login_base_url="http://localhost"), "settings", "https://", "Example"
    ),
    "login host with a path": Row(
        _flags(login_base_url="https://localhost/x"), "settings", "without a path", "Example"
    ),
    "no CA bundle": Row(_flags(ca_bundle="/nowhere/ca.pem"), "settings", "/nowhere/ca.pem", "PEM"),
    # Identities
    "no identities": Row(
        _flags(identities_file="/nowhere/ids.json"), "identities", "no identities file", "init"
    ),
    "not JSON at all": Row(_identities("[{"), "identities", "not valid JSON", "cut off"),
    "no array": Row(_identities(SECOND), "identities", "array", "[ and ]"),
    "field missing": Row(_identities(f"[{SECOND}]"), "identities", "client_id", "Correct it"),
    "sample value": Row(
        lambda s: s.entry(client_id="your-app-client-id"), "identities", "client_id", "Correct it"
    ),
    "name": Row(
        lambda s: s.entry(identity_name="a/b"), "identities", "identity_name", "Correct it"
    ),
    "two credentials": Row(
        lambda s: s.entry(client_secret_env="X"), "identities", "keep one of them", "Correct it"
    ),
    "one name twice": Row(
        lambda s: s.project.write(s.project.entries() * 2), "identities", "same name", "Correct it"
    ),
    "no such identity": Row(
        lambda s: s.more.update(names=("nobody",)), "identities", "no identity of this name", "list"
    ),
    # Credentials
    "variable not set": Row(
        lambda s: s.credential(client_secret_env="NOT_SET"), "credentials", "NOT_SET", "Set NOT_SET"
    ),
    "no secret file": Row(
        lambda s: s.credential(client_secret_file="nowhere"),
        "credentials",
        "nowhere",
        "Check the path",
    ),
    "empty secret file": Row(
        lambda s: s.credential(client_secret_file=s.project.private("empty", "")),
        "credentials",
        "empty",
        "secret",
    ),
    "no certificate file": Row(
        lambda s: s.credential(certificate_file="nowhere.pem"),
        "credentials",
        "nowhere.pem",
        "Check the path",
    ),
    "not a certificate": Row(
        lambda s: s.credential(certificate_file=s.project.private("x.pem", "hi")),
        "credentials",
        "neither PEM nor a PFX",
        "certificate_password",
    ),
    "no federated token": Row(
        lambda s: s.credential(federated_token_file="nowhere.jwt"),
        "credentials",
        "nowhere.jwt",
        "Check the path",
    ),
    # The registry
    "another audience": Row(
        _process(ENTRA_CLIENT_ID=OTHER_ID), "claims", "Audience doesn't match", OTHER_ID
    ),
    "another tenant": Row(
        _process(ENTRA_TENANT_ID=OTHER_ID), "claims", "issuer", "ENTRA_TENANT_ID"
    ),
    "tenant as a domain": Row(
        _process(ENTRA_TENANT_ID="contoso.com"), "claims", "issuer", "is not a GUID"
    ),
    "slash in the registry's login host": Row(
        lambda s: s.process.update(
            ENTRA_TENANT_ID=s.app.tenant_id, ENTRA_LOGIN_BASE_URL=f"{s.project.idp.base_url}/"
        ),
        "claims",
        "issuer",
        "Remove the slash",
    ),
    "no groups": Row(_app(groups=()), "claims", "neither groups nor roles", "--registry-url"),
    "too many groups": Row(
        _app(groups=tuple(f"g{n}" for n in range(201))), "claims", "more than 200", "--registry-url"
    ),
    "v1 token": Row(_app(token_version=1), "claims", "azp", "accessTokenAcceptedVersion"),
    "registry refuses": Row(
        lambda s: s.registry("401 Unauthorized"), "registry", "HTTP 401", "issuer and audience"
    ),
    "registry grants nothing": Row(
        lambda s: s.registry("200 OK", '{"servers": [], "total_count": 0}'),
        "registry",
        "sees no server",
        "group",
    ),
    "not a registry": Row(
        lambda s: s.registry("200 OK", "<html>"), "registry", "not a registry's", "without /api"
    ),
    "registry without TLS": Row(
        lambda s: s.more.update(registry_url="http://registry.invalid"),
        "registry",
        "unencrypted",
        "https://",
    ),
}


def _binary(scene: Scene) -> str:
    path = os.path.join(scene.project.folder, "binary.env")
    with open(path, "wb") as file:
        file.write(b"\xff\xfe\x00")
    os.chmod(path, 0o600)
    return path


def test_there_are_as_many_as_were_promised() -> None:
    """Of both kinds."""
    assert len(CODES) >= 64
    assert len(OTHERS) >= 56


@pytest.fixture
def scene(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("PATH", "")  # no timers of this machine
    with contextlib.ExitStack() as stack:
        yield Scene(project, monkeypatch, stack)


@pytest.mark.parametrize("code", CODES)
def test_a_refusal_of_entra_is_explained(scene: Scene, code: int) -> None:
    """By its cause, its cure, its number and its trace id, once."""
    scene.fault("aadsts", code=code)
    (found,) = [each for each in scene.checks() if each.name == "token" and each.verdict != "ok"]
    cause, cure = CODES[code]
    assert (cause in found.seen, cure in found.cure) == (True, True), found
    assert f"AADSTS{code}" in found.seen
    assert found.trace_id
    assert found.link


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
@pytest.mark.parametrize("name", OTHERS)
def test_a_failure_is_found_where_it_is_with_its_cure(scene: Scene, name: str) -> None:
    """And nothing else is called a failure, but for what it takes along."""
    row = OTHERS[name]
    row.provoke(scene)
    checks = scene.checks()
    bad = [each for each in checks if each.verdict in {"warning", "failure"}]
    fits = [
        row.seen in each.seen and row.cure in each.cure for each in bad if each.name == row.check
    ]
    assert any(fits), [(each.name, each.seen, each.cure) for each in bad]
    others = [each for each in bad if each.verdict == "failure" and each.name != row.check]
    assert others == [], others
