"""Secrets of a Key Vault, by Microsoft's own client against a vault that checks its tokens."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import support
from credentials.making import certificate, key_pem, pem, pfx
from credentials_provider.credentials.resolver import Credential, Resolver
from credentials_provider.emulator import App, Emulator, VaultSecret
from credentials_provider.identities.reading import read_entries
from credentials_provider.identities.validation import validate
from credentials_provider.minting import Failure
from credentials_provider.settings import Flags, load_settings
from support import (
    CHECKOUT,
    Command,
    Project,
    apps,
    assert_no_secret,
    closed_port,
    entry,
    environment,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.model import Report

VALUE = "v5u8Q~from.the-vault"
CERTIFICATE = certificate()
REFUSALS = {
    "disabled": "has disabled the secret",
    "firewall": "does not let this machine's address in",
    "connection": "does not let this machine's address in",
    "rbac": "has no role",
    "policy": "has no access policy",
}
READER = "the-vault-readers-own~secret"


@pytest.fixture
def idp() -> Iterator[Emulator]:
    """A provider with a vault."""
    with Emulator(vault=vault()) as emulator:
        yield emulator


def vault() -> dict[str, str | VaultSecret]:
    """Secrets, certificates, and what is neither."""
    made = CERTIFICATE
    return {
        "ci": VALUE,
        "empty": "",
        "previous": "older",
        "pfx": VaultSecret(base64.b64encode(pfx(made)).decode(), "application/x-pkcs12"),
        "pem": VaultSecret(key_pem() + pem(made), "application/x-pem-file"),
        "broken": VaultSecret("no base64", "application/x-pkcs12"),
        "unlabelled": base64.b64encode(pfx(made)).decode(),
        "reference": "@Microsoft.KeyVault(SecretUri=https://x.vault.azure.net/secrets/y)",
        **{why: VaultSecret(VALUE, refusal=why) for why in REFUSALS},
    }


@pytest.fixture
def reader(idp: Emulator, monkeypatch: pytest.MonkeyPatch) -> App:
    """Who this machine is for Azure, by the environment."""
    app = replace(apps(3)[2], secrets=(READER,), roles=("Key Vault Secrets User",))
    idp.add_app(app)
    for name, value in signed_in(app).items():
        monkeypatch.setenv(name, value)
    return app


def signed_in(app: App) -> dict[str, str]:
    return {
        "AZURE_TENANT_ID": app.tenant_id,
        "AZURE_CLIENT_ID": app.client_id,
        "AZURE_CLIENT_SECRET": READER,
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }


def host(idp: Emulator) -> str:
    return idp.base_url.removeprefix("https://")


@pytest.fixture
def app(project: Project, idp: Emulator) -> App:
    """An identity whose secret is in the vault."""
    made = replace(apps(1)[0], secrets=(VALUE,))
    idp.add_app(made)
    project.private(".env", f"ENTRA_KEYVAULT_HOSTS={host(idp)}\n")
    return made


def renew(project: Project, **options: Any) -> Report:
    """A run that names the `.env` with the vault's host."""
    return support.renew(project, env_file=os.path.join(project.folder, ".env"), **options)


def of_vault(app: App, idp: Emulator, name: str = "ci", **changes: object) -> dict[str, Any]:
    url = f"{idp.base_url}/secrets/{name}"
    return entry(app, **{"client_secret": None, "client_secret_keyvault": url, **changes})


def reads(idp: Emulator) -> int:
    """Requests to the vault; the first is answered with its challenge."""
    return sum(request.path.startswith("/secrets/") for request in idp.requests)


@pytest.mark.usefixtures("reader")
def test_a_secret_of_the_vault_mints_a_token(project: Project, app: App, idp: Emulator) -> None:
    """After the vault's challenge; with a version in the address, too."""
    project.write([of_vault(app, idp)])
    report = renew(project)
    assert report.exit_code == 0, report.results[0].failure
    assert report.results[0].credential == "client_secret_keyvault"
    version = "3dd6ba1d63ac5f7c7a0a8e1ba1b9d5f2"  # none that there is
    project.write([of_vault(app, idp, f"ci/{version}")])
    failure = renew(project).results[0].failure
    assert failure is not None
    assert "no such secret" in failure.message


def test_the_real_command_reads_the_vault(
    project: Project, app: App, idp: Emulator, reader: App, run: Command
) -> None:
    """And `identities check` does, without asking for the identity's token."""
    project.write([of_vault(app, idp)])
    keys = os.path.join(project.folder, "keys.log")
    env = {**signed_in(reader), "ENTRA_KEYVAULT_HOSTS": host(idp), "SSLKEYLOGFILE": keys}
    ran = run("-v", env=env)
    assert ran.code == 0, ran.stderr
    assert not os.path.exists(keys)
    assert VALUE not in ran.stdout + ran.stderr
    assert_no_secret(ran.stdout + ran.stderr, [app, reader])


@pytest.mark.usefixtures("reader")
def test_a_vault_of_this_machine_is_asked_without_a_proxy(
    project: Project, app: App, idp: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the sign-in to it go through one: no proxy leads to loopback."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    project.write([of_vault(app, idp)])
    assert renew(project).exit_code == 0


@pytest.mark.usefixtures("reader")
def test_a_source_is_resolved_once_a_run(project: Project, app: App, idp: Emulator) -> None:
    """However many identities name it, and whoever comes first."""
    others = [replace(app, name=f"n{number}") for number in range(12)]
    project.write([of_vault(each, idp) for each in others])
    report = renew(project, concurrency=12)
    assert report.exit_code == 0
    assert reads(idp) == 2


@pytest.mark.usefixtures("reader")
def test_thirty_two_threads_wait_for_one_resolution(
    project: Project, app: App, idp: Emulator
) -> None:
    """And all get it, or all its failure."""
    path = project.write([of_vault(app, idp), of_vault(app, idp, "none", identity_name="none")])
    flags = Flags(identities_file=path, login_base_url=idp.base_url, ca_bundle=idp.ca_file)
    settings = load_settings(flags, {"ENTRA_KEYVAULT_HOSTS": host(idp)}, project.folder)
    identities, _ = validate(read_entries(settings))
    resolver = Resolver(settings, lambda: 1.8e9)
    barrier = threading.Barrier(32)

    def resolve(name: str) -> Credential | Failure:
        barrier.wait(30)
        return resolver.resolve(identities[name], "client_secret_keyvault")

    with ThreadPoolExecutor(32) as pool:
        good = list(pool.map(resolve, [app.name] * 32))
        bad = list(pool.map(resolve, ["none"] * 32))
    assert {each.for_msal for each in good if isinstance(each, Credential)} == {VALUE}
    assert all(isinstance(each, Failure) for each in bad)
    # Two with the challenge, which the second finds known.
    assert reads(idp) <= 4
    assert VALUE not in repr(good)


@pytest.mark.parametrize(("name", "says"), [("none", "has no such secret"), ("empty", "is empty")])
@pytest.mark.usefixtures("reader")
def test_a_secret_that_is_not_there_is_told(
    project: Project, app: App, idp: Emulator, name: str, says: str
) -> None:
    """By its address."""
    project.write([of_vault(app, idp, name)])
    failure = renew(project).results[0].failure
    assert failure is not None
    assert failure.kind == "secret_unavailable"
    assert says in failure.message
    assert f"/secrets/{name}" in failure.message


def test_a_machine_without_the_role_is_told(
    project: Project, app: App, idp: Emulator, reader: App
) -> None:
    """With the role's name."""
    idp.add_app(replace(reader, roles=()))
    project.write([of_vault(app, idp)])
    failure = renew(project).results[0].failure
    assert failure is not None
    assert "Key Vault Secrets User" in failure.remedy


def test_a_machine_that_cannot_sign_in_is_told(
    project: Project, app: App, idp: Emulator, reader: App
) -> None:
    """With the ways to sign in; what azure-identity says of it is not shown."""
    idp.add_app(replace(reader, secrets=("another",)))
    project.write([of_vault(app, idp)])
    failure = renew(project).results[0].failure
    assert failure is not None
    assert "could not sign in" in failure.message
    assert "AZURE_CLIENT_ID" in failure.remedy


@pytest.mark.usefixtures("reader")
def test_a_vault_that_cannot_be_reached_may_be_there_later(
    project: Project, app: App, idp: Emulator
) -> None:
    """Transient."""
    port = closed_port()
    project.private(".env", f"ENTRA_KEYVAULT_HOSTS=localhost:{port}\n")
    url = f"https://localhost:{port}/secrets/ci"
    project.write([of_vault(app, idp, client_secret_keyvault=url)])
    failure = renew(project, timeout=1).results[0].failure
    assert failure is not None
    assert (failure.kind, failure.transient) == ("secret_unavailable", True)


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost:1/secrets/ci",
        "https://vault.azure.net.example.com/secrets/ci",
        "https://evil-vault.azure.net/secrets/ci",
        "https://vault.azure.net/secrets/ci",
    ],
)
def test_no_host_but_a_vault_gets_a_token(
    project: Project, app: App, idp: Emulator, url: str
) -> None:
    """Unless the user configured it."""
    project.write([of_vault(app, idp, client_secret_keyvault=url)])
    failure = renew(project).results[0].failure
    assert failure is not None
    assert "is not at a Key Vault" in failure.message
    assert idp.requests == []


def test_without_the_extra_one_line_names_it(project: Project, app: App, idp: Emulator) -> None:
    """Nothing else needs it."""
    project.write([of_vault(app, idp), entry(app, identity_name="other")])
    program = (
        "import sys; sys.modules['azure'] = None\n"
        "from credentials_provider.cli import main; main(sys.argv[1:])"
    )
    line = [sys.executable, "-c", program, "generate", "--json", "--env-file", ".env"]
    line += ["--login-base-url", idp.base_url, "--ca-bundle", idp.ca_file]
    done = subprocess.run(
        line,
        cwd=project.folder,
        env=environment(project.folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert os.path.join(CHECKOUT, "generate_creds.sh") in done.stdout
    assert '"renewed": 1' in done.stdout


@pytest.mark.parametrize("name", ["pfx", "pem"])
@pytest.mark.usefixtures("reader")
def test_a_certificate_of_the_vault_signs_and_is_never_sent(
    project: Project, app: App, idp: Emulator, name: str
) -> None:
    """A vault gives a certificate's key as a secret of its own content type."""
    idp.add_app(replace(app, secrets=(), certificates=(pem(CERTIFICATE),)))
    project.write([of_vault(app, idp, name)])
    report = renew(project)
    assert report.exit_code == 0, report.results[0].failure
    assert report.results[0].credential == "client_secret_keyvault"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("broken", "none in base64"),
        ("unlabelled", "certificate_file"),
        ("reference", "nothing resolved"),
    ],
)
@pytest.mark.usefixtures("reader")
def test_what_is_no_secret_is_not_sent(
    project: Project, app: App, idp: Emulator, name: str, says: str
) -> None:
    """It is told before any request; its value is not."""
    project.write([of_vault(app, idp, name)])
    asked = len(idp.token_requests)
    failure = renew(project).results[0].failure
    assert failure is not None
    assert failure.kind == "secret_unavailable"
    assert says in failure.message
    assert "SecretUri" not in failure.message
    sent = [each for each in idp.token_requests[asked:] if each.client_id == app.client_id]
    assert sent == []


@pytest.mark.parametrize("why", REFUSALS)
@pytest.mark.usefixtures("reader")
def test_a_vaults_refusal_is_told_by_its_inner_code(
    project: Project, app: App, idp: Emulator, why: str
) -> None:
    """A firewall is not a role, nor is either a disabled secret."""
    project.write([of_vault(app, idp, why)])
    failure = renew(project).results[0].failure
    assert failure is not None
    assert REFUSALS[why] in failure.message
    assert failure.transient is False
