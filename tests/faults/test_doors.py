"""Secrets and tokens go to the configured host, and through no other door.

Behind each of the other doors somebody listens, whom the program would trust; nobody may come. That
a listener hears those who come is shown in test_network.py.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from assistants.piping import Line
from credentials_provider import cli
from credentials_provider.assistants.bridge.tokens import Tokens
from credentials_provider.emulator import Emulator
from credentials_provider.emulator.wire import Reply
from credentials_provider.model import Observer, RunOptions
from credentials_provider.settings import Flags, load_settings
from support import Project, apps, entry

from .servers import Trust, answering

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Callable, Iterator

    from credentials_provider.emulator.server import Connection
    from credentials_provider.emulator.wire import Call
    from credentials_provider.emulator.wire import Request as Asked

    from .servers import Server

NOBODY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


class Leading(Emulator):
    """Everything that a client of ours talks to; what `leads` says of a request leads elsewhere."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.leads: Callable[[Asked], bool] = lambda _: False
        self.to = ""
        self.status = 307
        self.led = 0

    def _answer(
        self, regular: Callable[[Call], Reply], request: Asked, connection: Connection
    ) -> Reply:
        if not self.leads(request):
            return super()._answer(regular, request, connection)
        self.led += 1
        return Reply(self.status, (("Location", f"{self.to}{request.path}"),))


@pytest.fixture
def elsewhere(tmp_path: pathlib.Path) -> Iterator[Server]:
    """Somebody whom nobody configured, with a certificate that everybody trusts."""
    trust = Trust(str(tmp_path))
    with answering(lambda _, sock: sock.sendall(NOBODY), trust.context()) as server:
        yield server
        assert (server.connections, bytes(server.heard)) == (0, b"")


@pytest.fixture
def idp(tmp_path: pathlib.Path, elsewhere: Server) -> Iterator[Leading]:
    """A provider, vault and machine; its bundle trusts those elsewhere, too."""
    path = tmp_path / "ca.pem"
    emulator = Leading(ca_file=path, machine=True, vault={"ci": "s3cret-of-the-vault"})
    emulator.to = elsewhere.url
    with emulator:
        path.write_text(path.read_text() + (tmp_path / "trusted.pem").read_text())
        yield emulator


class Doors:
    """Commands within the test, of a project with one identity."""

    def __init__(self, project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
        self.project = project
        self._monkeypatch = monkeypatch
        self.app = apps(1)[0]
        project.add(self.app)
        assert self("generate") == 0

    def set(self, **variables: str) -> None:
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def __call__(self, *words: str) -> int:
        """The command's exit code."""
        idp = self.project.idp
        more = ["--max-attempts", "1"] if words[0] == "generate" else []
        count = 2 if words[0] == "identities" else 1
        reach = ["--login-base-url", idp.base_url, "--ca-bundle", idp.ca_file, *more]
        return cli._run([*words[:count], *reach, *words[count:]], self.project.folder)

    def only(self, **credential: object) -> None:
        """Lets the identity have this credential alone."""
        self.project.write([entry(self.app, **{"client_secret": None, **credential})])


@pytest.fixture
def doors(project: Project, monkeypatch: pytest.MonkeyPatch) -> Doors:
    return Doors(project, monkeypatch)


def _token(doors: Doors) -> None:
    """The secret's own way."""
    assert doors("generate") == 1


def _keys(doors: Doors) -> None:
    """Keys from elsewhere would make another's token genuine."""
    assert doors("inspect", doors.app.name, "--verify") == 1


def _graph(doors: Doors) -> None:
    assert doors("identities", "check", "--check-secret-expiry") == 0


def _use_vault(doors: Doors) -> None:
    reader = replace(apps(2)[1], secrets=("machine~s",), roles=("Key Vault Secrets User",))
    doors.project.idp.add_app(reader)
    doors.only(client_secret_keyvault=f"{doors.project.idp.base_url}/secrets/ci")
    doors.set(
        ENTRA_KEYVAULT_HOSTS=doors.project.idp.base_url.removeprefix("https://"),
        AZURE_TENANT_ID=reader.tenant_id,
        AZURE_CLIENT_ID=reader.client_id,
        AZURE_CLIENT_SECRET="machine~s",
        AZURE_TOKEN_CREDENTIALS="EnvironmentCredential",
    )
    assert doors("generate") == 1


def _use_machine(doors: Doors) -> None:
    doors.project.idp.add_app(replace(doors.app, secrets=(), managed="system"))
    doors.only(managed_identity=True)
    doors.set(**doors.project.idp.machine_environment("app_service"))
    assert doors("generate") == 1


def _examine(doors: Doors) -> None:
    assert doors("doctor", "--registry-url", doors.project.idp.base_url) == 1


def _discover(doors: Doors) -> None:
    assert doors("mcp-config", "cursor", "--registry-url", doors.project.idp.base_url) == 1


def _bridge(doors: Doors) -> None:
    project = doors.project
    idp = project.idp
    flags = Flags(login_base_url=idp.base_url, ca_bundle=idp.ca_file)
    request = RunOptions(load_settings(flags, {}, project.folder))
    url = f"{idp.base_url}/mcp"
    tokens = Tokens(request, doors.app.name, 300, Observer())
    line = Line(url, tokens, idp.ca_file)
    answer = line.ask("ping", 7)
    line.close()
    assert "redirects to another address" in answer["error"]["message"]


REDIRECTS = {
    "token": (_token, lambda request: request.endpoint == "token"),
    "keys": (_keys, lambda request: request.endpoint == "keys"),
    "graph": (_graph, lambda request: request.path.startswith("/v1.0/applications")),
    "vault": (_use_vault, lambda request: request.path.startswith("/secrets/")),
    "sign-in for the vault": (_use_vault, lambda request: request.endpoint == "token"),
    "machine": (_use_machine, lambda request: request.path == "/msi/token"),
    "registry, doctor": (_examine, lambda request: request.path == "/api/servers"),
    "registry, mcp-config": (_discover, lambda request: request.path == "/api/servers"),
    "bridge": (_bridge, lambda request: request.path == "/mcp"),
}


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize(("act", "leads"), REDIRECTS.values(), ids=REDIRECTS)
def test_a_redirect_is_followed_by_nothing_that_we_send(
    doors: Doors, idp: Leading, act: Callable[[Doors], None], leads: Any, status: int
) -> None:
    """Neither a secret nor a token goes where an answer's Location says."""
    idp.leads, idp.status = leads, status
    act(doors)
    assert idp.led


def test_a_discovery_document_leads_nowhere(doors: Doors, idp: Leading) -> None:
    """Endpoints follow from the configured host: nobody is asked for them."""
    idp.leads = lambda request: request.endpoint == "discovery"
    for words in (["generate"], ["token", doors.app.name, "--force"], ["identities", "check"]):
        assert doors(*words) == 0
    assert idp.led == 0


def test_no_variable_opens_another_door(
    doors: Doors, idp: Leading, capfd: pytest.CaptureFixture[str]
) -> None:
    """What leads other clients elsewhere, or a machine to its identity, is not looked at."""
    with answering(lambda _, sock: sock.sendall(NOBODY), None) as listener:
        url = f"http://127.0.0.1:{listener.port}"
        doors.set(
            # Proxies of plain HTTP: nothing that we send is.
            **dict.fromkeys(("HTTP_PROXY", "http_proxy", "FTP_PROXY"), url),
            # Where azure-identity, msal and Azure's machines say that tokens are.
            **dict.fromkeys(
                (
                    *("AZURE_AUTHORITY_HOST", "AZURE_POD_IDENTITY_AUTHORITY_HOST"),
                    *("IDENTITY_ENDPOINT", "IMDS_ENDPOINT", "MSI_ENDPOINT"),
                ),
                f"{url}/",
            ),
            IDENTITY_HEADER="h",
            MSI_SECRET="s",
            MSAL_FORCE_REGION="westeurope",
            REGION_NAME="westeurope",
            ENTRA_KEYVAULT_HOSTS=f"127.0.0.1:{listener.port}",
            DEFAULT_IDENTITY_CLIENT_ID=doors.app.client_id,
        )
        name = doors.app.name
        for words in (
            ["generate"],
            ["token", name, "--force"],
            ["identities", "check", "--check-secret-expiry"],
            ["inspect", name, "--verify"],
            ["doctor", name],
        ):
            assert doors(*words) == 0, capfd.readouterr()
        assert (listener.connections, bytes(listener.heard)) == (0, b"")
    assert {request.endpoint for request in idp.requests} <= {"token", "keys", "discovery"}


@pytest.mark.parametrize(
    "host", ["http://127.0.0.1:{port}", "//127.0.0.1:{port}", "https://login@127.0.0.1:{port}/a"]
)
def test_a_login_host_of_an_entry_that_is_none_is_not_asked(doors: Doors, host: str) -> None:
    """Neither for a token nor, by commands that look at wrong entries too, for keys."""
    with answering(lambda _, sock: sock.sendall(NOBODY), None) as listener:
        wrong = entry(doors.app, login_base_url=host.format(port=listener.port))
        doors.project.write([wrong])
        assert doors("generate") == 2
        assert doors("identities", "check") == 2
        assert doors("inspect", doors.app.name, "--verify") == 1  # nothing to compare it with
        assert doors("doctor") == 2
        assert listener.connections == 0
