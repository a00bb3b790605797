"""Secrets from Azure Key Vault, by Microsoft's own client: the extra `keyvault`."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from credentials_provider.errors import ConfigurationError, SecretUnavailableError
from credentials_provider.extras import cure
from credentials_provider.transport.proxies import is_loopback
from credentials_provider.transport.trust import tls_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from credentials_provider.settings import Settings

# https://learn.microsoft.com/en-us/azure/key-vault/general/about-keys-secrets-certificates
VAULT_DOMAINS = (".vault.azure.net", ".vault.usgovcloudapi.net", ".vault.azure.cn")
HOSTS_VARIABLE = "ENTRA_KEYVAULT_HOSTS"
"""Other hosts, `host[:port]` with commas between: a private endpoint's name, or an emulator."""

_RETRIES = 2
_ROLE = "Give the machine's own identity the role Key Vault Secrets User for this vault."
REFUSALS = {
    401: ("refused this machine's credential", "Check the tenant that this machine signs in to."),
    403: ("does not let this machine read the secret", f"{_ROLE} Check the vault's firewall, too."),
    404: ("has no such secret", "Check its name and version in the vault's Secrets."),
}
_FIREWALL = (
    "does not let this machine's address in",
    "Add its outgoing address in the vault's Networking, or reach it by a private endpoint.",
)
# By the inner code of a 403.
# https://learn.microsoft.com/azure/key-vault/general/rest-error-codes
FORBIDDEN = {
    "SecretDisabled": (
        "has disabled the secret",
        "Enable it in the vault's Secrets, or name another.",
    ),
    "SecretNotYetValid": ("has a secret that is not valid yet", "Look at its activation date."),
    "SecretExpired": ("has a secret that has expired", "Store a new version of it in the vault."),
    "ForbiddenByFirewall": _FIREWALL,
    "ForbiddenByConnection": _FIREWALL,
    "ForbiddenByRbac": ("has no role for this machine's identity", _ROLE),
    "AccessDenied": (
        "has no access policy for this machine's identity",
        "Add one with the permission Get for secrets in the vault's Access policies.",
    ),
}
# The types of a certificate with its key: a PFX in base64, or PEM.
_PFX = "application/x-pkcs12"
_PEM = "application/x-pem-file"


def fetch_secret(url: str, source: str, settings: Settings, timeout: float) -> str | bytes:
    """What stands at `https://{vault}/secrets/{name}[/{version}]`: a secret, or a certificate.

    Bytes are a certificate with its key, a PFX or PEM: no secret, never to be sent.

    Signs in by the environment, a workload identity or a managed identity, and starts no program.

    Args:
        url: of a Key Vault; a bearer token goes there, so no other host is taken.
        source: the identity's field, for messages.
        settings: login host and certification authorities.
        timeout: seconds for one request.

    Raises:
        SecretUnavailableError: the extra is not installed, or the vault does not give the secret.

    """
    configured = _is_configured(url, source, settings)
    try:
        from azure.core import exceptions  # an extra
    except ImportError:
        raise _missing(source) from None
    try:
        return _get(url, source, settings, timeout, verify=not configured)
    except ImportError:  # azure-core alone comes with other packages, too
        raise _missing(source) from None
    except exceptions.ClientAuthenticationError as error:
        if error.status_code in REFUSALS:
            raise _refused(url, source, error.status_code) from None
        raise SecretUnavailableError(
            f"{url} ({source}): this machine could not sign in to Azure",
            "Give it a managed identity, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and "
            "AZURE_CLIENT_SECRET, AZURE_CLIENT_CERTIFICATE_PATH or AZURE_FEDERATED_TOKEN_FILE.",
        ) from None
    except exceptions.HttpResponseError as error:
        raise _refused(url, source, error.status_code or 0, _inner_code(error)) from None
    except (exceptions.AzureError, OSError, ValueError) as error:
        raise SecretUnavailableError(
            f"{url} ({source}) cannot be reached ({type(error).__name__})",
            "Check the vault's name, this machine's network and the vault's firewall.",
            transient=True,
        ) from None


def _missing(source: str) -> SecretUnavailableError:
    return SecretUnavailableError(
        f"{source} needs packages that are not installed", cure("keyvault")
    )


def _is_configured(url: str, source: str, settings: Settings) -> bool:
    """Whether the user named the host; any other must be one of Azure's vaults."""
    parts = urlsplit(url)
    try:
        listed = settings.environment.get_named(HOSTS_VARIABLE) or ""
    except ConfigurationError as error:
        raise SecretUnavailableError(error.message, error.hint or "") from None
    if parts.netloc.lower() in listed.lower().replace(",", " ").split():
        return True
    if (parts.hostname or "").endswith(VAULT_DOMAINS):
        return False
    raise SecretUnavailableError(
        f"{url} ({source}) is not at a Key Vault",
        f"Use https://NAME{VAULT_DOMAINS[0]}/secrets/…, or name the host in {HOSTS_VARIABLE}.",
    )


def _get(url: str, source: str, settings: Settings, timeout: float, *, verify: bool) -> str | bytes:
    """The vault's answer; `verify` that its challenge is for its own domain."""
    from azure.identity import ChainedTokenCredential  # an extra
    from azure.keyvault.secrets import SecretClient

    logger = logging.getLogger("azure")  # what it logs may hold bodies
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    options: dict[str, Any] = {
        "connection_verify": settings.ca_bundle or True,
        "connection_timeout": timeout,
        "read_timeout": timeout,
        "retry_total": _RETRIES,
        "permit_redirects": False,  # what comes from elsewhere is not the vault's
    }
    parts = urlsplit(url)
    name, _, version = parts.path.removeprefix("/secrets/").strip("/").partition("/")
    vault = f"https://{parts.netloc}"
    with (
        _transport(settings.ca_bundle) as options["transport"],
        ChainedTokenCredential(*_links(settings.login_base_url, options)) as credential,
        SecretClient(vault, credential, verify_challenge_resource=verify, **options) as client,
    ):
        found = client.get_secret(name, version or None)
    value, kind = found.value or "", (found.properties.content_type or "").strip().lower()
    if kind == _PEM:
        return value.encode()
    if kind != _PFX:
        return value.strip()
    try:
        return base64.b64decode(value, validate=True)
    except ValueError:
        raise SecretUnavailableError(
            f"{url} ({source}) is called a PFX ({kind}), but is none in base64",
            "Import the certificate into the vault again.",
        ) from None


def _refused(url: str, source: str, status: int, inner: str = "") -> SecretUnavailableError:
    problem, remedy = FORBIDDEN.get(inner) or REFUSALS.get(
        status,
        (
            f"answered HTTP {status}",
            "Run again in a minute. If it lasts, look at the vault's logs.",
        ),
    )
    transient = status not in REFUSALS
    return SecretUnavailableError(f"{url} ({source}) {problem}", remedy, transient=transient)


def _inner_code(error: Any) -> str:
    """The code within the code of a vault's refusal, "" where there is none."""
    inner = getattr(error.error, "innererror", None)
    return str(inner.get("code", "")) if isinstance(inner, dict) else ""


@contextlib.contextmanager
def _transport(ca_bundle: str | None) -> Iterator[Any]:
    """One session for all, with our own TLS: `requests` would obey `SSLKEYLOGFILE`."""
    import requests  # an extra
    from azure.core.pipeline.transport import RequestsTransport
    from requests.adapters import HTTPAdapter

    context = tls_context(ca_bundle)

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
            super().init_poolmanager(*args, **{**kwargs, "ssl_context": context})

        def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            if is_loopback(urlsplit(request.url).hostname or ""):
                kwargs["proxies"] = None
            return super().send(request, *args, **kwargs)

        def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
            return super().proxy_manager_for(proxy, **{**kwargs, "ssl_context": context})

    with requests.Session() as session:
        session.mount("https://", Adapter())
        yield RequestsTransport(session=session, session_owner=False)


def _links(authority: str, options: Mapping[str, Any]) -> list[Any]:
    """The ways to sign in, in azure-identity's order, without those that start a program."""
    from azure.identity import (  # an extra
        EnvironmentCredential,
        ManagedIdentityCredential,
        WorkloadIdentityCredential,
    )

    more = {**options, "authority": authority, "disable_instance_discovery": True}
    links: list[Any] = [EnvironmentCredential(**more)]
    names = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
    if all(os.environ.get(name) for name in names):
        links.append(WorkloadIdentityCredential(**more))
    client_id = os.environ.get("AZURE_CLIENT_ID")
    return [*links, ManagedIdentityCredential(client_id=client_id, **options)]
