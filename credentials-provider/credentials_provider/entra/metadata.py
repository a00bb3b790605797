"""Where a machine of Azure asks for a token of its identity: one row for each kind of host.

The variables, parameters and headers are those of azure-identity; the order, too.
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/overview
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from credentials_provider.errors import SecretUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IMDS = "http://169.254.169.254"
IMDS_PATH = "/metadata/identity/oauth2/token"
ARC_ENDPOINT = "http://localhost:40342/metadata/identity/oauth2/token"
ARC_AGENT = "/opt/azcmagent/bin/himds"  # is there where Arc is
ARC_KEYS = (
    "/var/opt/azcmagent/tokens"
    if sys.platform != "win32"
    else os.path.expandvars(r"%ProgramData%\AzureConnectedMachineAgent\Tokens")
)


class NoEndpointError(SecretUnavailableError):
    """The environment names no endpoint that may be asked, or its requirement cannot be met."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How one kind of host is asked. Its headers may hold a credential: they are not shown."""

    host: str  # the kind of it, for people
    url: str
    version: str | None  # of its API; None: it has none
    headers: Mapping[str, str] = field(repr=False)
    client_id: str | None = "client_id"  # the parameter's name; None: it takes none
    method: str = "GET"
    challenges: bool = False  # answers 401 with a file to read first


def find_endpoint(
    environment: Mapping[str, str], lookup: Callable[..., Any] = socket.getaddrinfo
) -> Endpoint:
    """The endpoint of the machine that this process runs on; `lookup` finds a name's addresses.

    Raises:
        NoEndpointError: the variables are incomplete, or lead to an address that is public.

    """
    found = _named(environment) or _default(environment)
    try:
        parts = urlsplit(found.url)
        scheme, host, _ = parts.scheme, parts.hostname, parts.port
    except ValueError:  # no address within the brackets, or no number where the port is
        scheme, host = "", None
    if host and (scheme == "https" or (scheme == "http" and not _is_public(host, lookup))):
        return found
    raise NoEndpointError(
        f"the managed identity endpoint {host or 'of this machine'} is not an address "
        "within Azure: over plain http it must be a private one",
        "Check IDENTITY_ENDPOINT, MSI_ENDPOINT and AZURE_POD_IDENTITY_AUTHORITY_HOST.",
    )


def _named(environment: Mapping[str, str]) -> Endpoint | None:
    """As the host's own variables say."""
    if url := environment.get("IDENTITY_ENDPOINT"):
        header = environment.get("IDENTITY_HEADER")
        if environment.get("IDENTITY_SERVER_THUMBPRINT"):
            raise NoEndpointError(
                "managed identities of Service Fabric are not supported",
                "Use a certificate or a federated token for this identity.",
            )
        if header:
            headers = {"X-IDENTITY-HEADER": header, "Metadata": "true"}
            return Endpoint("App Service", url, "2019-08-01", headers)
        if environment.get("IMDS_ENDPOINT"):
            return _arc(url)
        raise NoEndpointError(
            "IDENTITY_ENDPOINT is set without IDENTITY_HEADER",
            "Keep both variables as Azure sets them, where this program is started.",
        )
    if url := environment.get("MSI_ENDPOINT"):
        secret = environment.get("MSI_SECRET")
        if secret:
            return Endpoint("Azure ML", url, "2017-09-01", {"secret": secret}, "clientid")
        return Endpoint("Cloud Shell", url, None, {"Metadata": "true"}, None, "POST")
    return None


def _default(environment: Mapping[str, str]) -> Endpoint:
    """A virtual machine, or one of Arc whose agent is there."""
    base = environment.get("AZURE_POD_IDENTITY_AUTHORITY_HOST")
    if not base and os.path.exists(ARC_AGENT):
        return _arc(ARC_ENDPOINT)
    url = (base or IMDS).strip("/") + IMDS_PATH
    return Endpoint("virtual machine", url, "2018-02-01", {"Metadata": "true"})


def _arc(url: str) -> Endpoint:
    return Endpoint("Azure Arc", url, "2020-06-01", {"Metadata": "true"}, challenges=True)


def arc_key(challenge: str) -> str:
    """What the file holds that Arc's challenge (`Basic realm=FILE`) names.

    Raises:
        NoEndpointError: the file is not one of the agent's, or cannot be read.

    """
    path = challenge.partition("=")[2].strip().strip('"')
    remedy = "Run as a member of the group himds, and look at the agent: azcmagent show."
    if os.path.dirname(path) != ARC_KEYS or not path.endswith(".key"):
        raise NoEndpointError("Azure Arc's agent named a file that is not its own", remedy)
    try:
        with open(path, encoding="ascii") as file:
            key = file.read(_LONGEST_KEY + 1).strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not ASCII"
        raise NoEndpointError(f"Azure Arc's file {path} cannot be read: {why}", remedy) from None
    if not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():
        raise NoEndpointError(f"Azure Arc's file {path} holds no key", remedy)
    return key


_LONGEST_KEY = 4096  # characters


def _is_public(host: str, lookup: Callable[..., Any]) -> bool:
    """Whether anybody beyond this machine and its networks could answer."""
    try:
        addresses = [ipaddress.ip_address(host)]
    except ValueError:
        try:
            found = lookup(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return False  # the request itself reports that
        addresses = [ipaddress.ip_address(each[4][0]) for each in found]
    return any(each.is_global for each in addresses)
