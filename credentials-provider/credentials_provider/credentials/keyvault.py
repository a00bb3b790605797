"""Secrets from Azure Key Vault, by Microsoft's own client: the extra `keyvault`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credentials_provider.errors import SecretUnavailableError
from credentials_provider.extras import cure

if TYPE_CHECKING:
    from credentials_provider.settings import Settings

# https://learn.microsoft.com/en-us/azure/key-vault/general/about-keys-secrets-certificates
VAULT_DOMAINS = (".vault.azure.net", ".vault.usgovcloudapi.net", ".vault.azure.cn")
HOSTS_VARIABLE = "ENTRA_KEYVAULT_HOSTS"
"""Other hosts, `host[:port]` with commas between: a private endpoint's name, or an emulator."""

_RETRIES = 2
_LET_IN = (
    "Give the machine's own identity the role Key Vault Secrets User, and check the vault's "
    "firewall."
)
_REFUSALS = {
    401: ("refused this machine's credential", "Check the tenant that this machine signs in to."),
    403: ("does not let this machine read the secret, or the secret is disabled", _LET_IN),
    404: ("has no such secret", "Check its name and version in the vault's Secrets."),
}


def fetch_secret(url: str, field: str, settings: Settings, timeout: float) -> str:
    """The value of `https://{vault}/secrets/{name}[/{version}]`.

    Signs in as azure-identity does: by the environment, a managed identity, the Azure CLI.

    Args:
        url: of a Key Vault; a bearer token goes there, so no other host is taken.
        field: the identity's, for messages.
        settings: login host and certification authorities.
        timeout: seconds for one request.

    Raises:
        SecretUnavailableError: the extra is not installed, or the vault does not give the secret.

    """
    parts = urlsplit(url)
    own = (settings.environment.get(HOSTS_VARIABLE) or "").lower().replace(",", " ").split()
    configured = parts.netloc.lower() in own
    if not configured and not (parts.hostname or "").endswith(VAULT_DOMAINS):
        raise SecretUnavailableError(
            f"{url} ({field}) is not at a Key Vault",
            f"Use https://NAME{VAULT_DOMAINS[0]}/secrets/…, or name the host in {HOSTS_VARIABLE}.",
        )
    try:
        from azure.core import exceptions  # noqa: PLC0415  an extra
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415
        from azure.keyvault.secrets import SecretClient  # noqa: PLC0415
    except ImportError:
        raise SecretUnavailableError(
            f"{field} needs packages that are not installed", cure("keyvault")
        ) from None
    logger = logging.getLogger("azure")  # what it logs may hold bodies
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    options = {
        "connection_verify": settings.ca_bundle or True,
        "connection_timeout": timeout,
        "read_timeout": timeout,
        "retry_total": _RETRIES,
        "permit_redirects": False,  # what comes from elsewhere is not the vault's
    }
    name, _, version = parts.path.removeprefix("/secrets/").strip("/").partition("/")
    try:
        with (
            DefaultAzureCredential(
                authority=settings.login_base_url, disable_instance_discovery=True, **options
            ) as credential,
            SecretClient(
                f"https://{parts.netloc}",
                credential,
                verify_challenge_resource=not configured,
                **options,
            ) as client,
        ):
            return client.get_secret(name, version or None).value or ""
    except exceptions.ClientAuthenticationError as error:
        if error.status_code in _REFUSALS:
            raise _refused(url, field, error.status_code) from None
        raise SecretUnavailableError(
            f"{url} ({field}): this machine could not sign in to Azure",
            "Give it a managed identity, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and its "
            "credential; on a workstation run az login.",
        ) from None
    except exceptions.HttpResponseError as error:
        raise _refused(url, field, error.status_code or 0) from None
    except (exceptions.AzureError, OSError, ValueError) as error:
        raise SecretUnavailableError(
            f"{url} ({field}) cannot be reached ({type(error).__name__})",
            "Check the vault's name, this machine's network and the vault's firewall.",
            transient=True,
        ) from None


def _refused(url: str, field: str, status: int) -> SecretUnavailableError:
    problem, remedy = _REFUSALS.get(
        status, (f"answered HTTP {status}", "Run again in a minute; look at the vault's logs.")
    )
    transient = status not in _REFUSALS
    return SecretUnavailableError(f"{url} ({field}) {problem}", remedy, transient=transient)
