"""No kind of credential shows: not in what is printed, not in a token's file, not when refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from credentials.making import PASSWORD, certificate, federated_token, key_pem, pem, trust
from credentials_provider.credentials import Credential
from credentials_provider.emulator import App, Emulator, Fault
from support import Command, Project, apps, entry, forms_of, wait

if TYPE_CHECKING:
    from collections.abc import Iterator

OF_ENV = "env8Q~secret-of-the-variable"
OF_FILE = "fil8Q~secret-of-the-file"
OF_VAULT = "vau8Q~secret-of-the-vault"
LITERAL = "lit8Q~secret-in-the-file"
PREVIOUS = "pre8Q~secret-of-before"
READER = "rea8Q~secret-of-the-machine"
KEY = key_pem(password=PASSWORD)
TOKEN = federated_token()


@pytest.fixture
def idp() -> Iterator[Emulator]:
    with Emulator(vault={"ci": OF_VAULT}, machine=True) as emulator:
        yield emulator


@pytest.fixture
def env(project: Project, idp: Emulator) -> dict[str, str]:
    """An identity of every kind, and the environment in which all of them work."""
    made = [replace(app, secrets=()) for app in apps(9)]
    env, file, vault, literal, previous, cert, federated, machine, reader = made
    own = certificate()
    registered = [
        replace(env, secrets=(OF_ENV,)),
        replace(file, secrets=(OF_FILE,)),
        replace(vault, secrets=(OF_VAULT,)),
        replace(literal, secrets=(LITERAL,)),
        replace(previous, secrets=(PREVIOUS,)),
        replace(cert, certificates=(pem(own),)),
        replace(federated, federated=(trust(),)),
        replace(machine, managed="system"),
        replace(reader, secrets=(READER,), roles=("Key Vault Secrets User",)),
    ]
    for app in registered:
        idp.add_app(app)
    project.private(".oauth-tokens/secret", OF_FILE)
    project.private(".oauth-tokens/cert.pem", KEY + pem(own))
    project.private(".oauth-tokens/federated", TOKEN)

    def only(app: App, **credential: object) -> dict[str, object]:
        return entry(app, **{"client_secret": None, **credential})

    project.write(
        [
            only(env, client_secret_env="OF_ENV"),
            only(file, client_secret_file="secret"),
            only(vault, client_secret_keyvault=f"{idp.base_url}/secrets/ci"),
            only(literal, client_secret=LITERAL),
            only(previous, client_secret="wrong-one", client_secret_previous=PREVIOUS),
            only(cert, certificate_file="cert.pem", certificate_password_env="PASSWORD"),
            only(federated, federated_token_file="federated"),
            only(machine, managed_identity=True),
        ]
    )
    return {
        **idp.machine_environment("imds"),
        "OF_ENV": OF_ENV,
        "PASSWORD": PASSWORD,
        "ENTRA_KEYVAULT_HOSTS": idp.base_url.removeprefix("https://"),
        "AZURE_TENANT_ID": reader.tenant_id,
        "AZURE_CLIENT_ID": reader.client_id,
        "AZURE_CLIENT_SECRET": READER,
        "AZURE_TOKEN_CREDENTIALS": "EnvironmentCredential",
    }


def assert_nothing_shows(text: str) -> None:
    for secret in (OF_ENV, OF_FILE, OF_VAULT, LITERAL, PREVIOUS, READER, PASSWORD):
        for form in forms_of(secret):
            assert form not in text
    for line in KEY.splitlines()[1:-1]:
        assert line not in text
    assert "PRIVATE KEY" not in text
    for part in TOKEN.split("."):
        assert part not in text


@pytest.mark.parametrize("fault", [None, "echo_secret", "reset"])
def test_generate_shows_no_credential_of_any_kind(
    project: Project, idp: Emulator, run: Command, env: dict[str, str], fault: str | None
) -> None:
    """In the whole job, when the provider repeats what it got, and when it hangs up."""
    for option in ("-v", "--json"):
        if fault:
            for app in project.entries():
                idp.inject(Fault(fault), None, app["client_id"])
        ran = run(option, "--max-attempts", "1", env=env)
        assert ran.code == (1 if fault else 0), ran.stderr
        assert_nothing_shows(ran.stdout + ran.stderr)
        if option == "--json":
            assert len(ran.results) == 8
    for name, content in project.files().items():
        if name not in {"secret", "cert.pem", "federated"}:
            assert_nothing_shows(content.decode())


@pytest.mark.parametrize("args", ["list", "list --json", "check", "check --json"])
def test_identities_shows_no_credential_of_any_kind(
    project: Project, run: Command, env: dict[str, str], args: str
) -> None:
    """Nor that of whoever reads the vault."""
    line = [sys.executable, "-m", "credentials_provider", "identities", *args.split()]
    trusted = {"REQUESTS_CA_BUNDLE": project.idp.ca_file}
    trusted["ENTRA_LOGIN_BASE_URL"] = project.idp.base_url
    ran = wait(run.start_line(line, env={**env, **trusted}))
    assert ran.code == 0, ran.stderr
    assert_nothing_shows(ran.stdout + ran.stderr)


def test_a_credential_has_no_repr() -> None:
    """Whatever it holds."""
    credential = Credential("client_secret_file", OF_FILE)
    assert OF_FILE not in f"{credential!r}{credential}{[credential]}"
