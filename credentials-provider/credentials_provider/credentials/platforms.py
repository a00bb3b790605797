"""The tokens that CI platforms give their jobs, to be traded for Entra's: fetched anew at each use.

https://docs.github.com/actions/reference/security/oidc
https://learn.microsoft.com/rest/api/azure/devops/distributedtask/oidctoken/create
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from credentials_provider.errors import SecretUnavailableError
from credentials_provider.settings import CLOUDS
from credentials_provider.transport.connections import Answer, HttpRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.environment import Environment
    from credentials_provider.transport.retrying import Transport

TIMEOUT = 20.0  # seconds for one request
# https://learn.microsoft.com/entra/workload-id/workload-identity-federation-create-trust
_AUDIENCE = "api://AzureADTokenExchange"
_AUDIENCES = {CLOUDS["usgov"]: f"{_AUDIENCE}USGov", CLOUDS["china"]: f"{_AUDIENCE}China"}
_OK = 200
_REFUSALS = frozenset({302, 401, 403})  # Azure Pipelines leads strangers to its sign-in page


@dataclass(frozen=True, slots=True)
class _Job:
    """How a platform's job gets its token."""

    platform: str  # its name for people
    url: str
    method: str
    headers: Mapping[str, str] = field(repr=False)
    answer: str  # the field with the token
    remedy: str  # how to let the job have a token


def platform_token(
    platform: str, environment: Environment, authority_base: str, transport: Transport
) -> str:
    """A token of the job that this program runs in, for the login host `authority_base`.

    Raises:
        SecretUnavailableError: there is no such job, or its platform gives it no token.

    """
    audience = _AUDIENCES.get(authority_base, _AUDIENCE)
    make = _github if platform == "github" else _azure_pipelines
    job = make(environment, audience)
    host = _https_host(job.url)
    if not host:
        raise SecretUnavailableError(
            f"{job.platform} is to be asked at an address that is not https://", job.remedy
        )
    headers = {**job.headers, "Accept": "application/json", "Accept-Encoding": "identity"}
    body = None if job.method == "GET" else ""
    request = HttpRequest(job.method, job.url, headers, body, TIMEOUT)
    result = transport.send(request, about=job.platform).result
    if not isinstance(result, Answer):
        status = f"HTTP {result.answer.status}" if result.answer else result.reason or result.kind
        raise SecretUnavailableError(
            f"{job.platform} gives no token: no answer from {host} ({status})",
            "Check the network and the proxy (HTTPS_PROXY, NO_PROXY) of the job's machine.",
            transient=result.kind != "untrusted",
        )
    if result.status in _REFUSALS:
        raise SecretUnavailableError(
            f"{job.platform} does not give this job a token (HTTP {result.status})", job.remedy
        )
    token = _token(result, job.answer)
    if token is None:
        raise SecretUnavailableError(
            f"{job.platform} answered HTTP {result.status} without a token", job.remedy
        )
    return token


def _https_host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return parts.hostname if parts.scheme == "https" else None


def _token(answer: Answer, name: str) -> str | None:
    try:
        token = json.loads(answer.body)[name] if answer.status == _OK else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return token if isinstance(token, str) and token else None


def _github(environment: Environment, audience: str) -> _Job:
    remedy = "Give the job `permissions: id-token: write`, and run this in a step of it."
    url = _needed(environment, "GitHub Actions", "ACTIONS_ID_TOKEN_REQUEST_URL", remedy)
    token = _needed(environment, "GitHub Actions", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", remedy)
    return _Job(
        "GitHub Actions",
        f"{url}{'&' if '?' in url else '?'}audience={quote(audience, safe='')}",
        "GET",
        {"Authorization": f"bearer {token}"},
        "value",
        remedy,
    )


def _azure_pipelines(environment: Environment, audience: str) -> _Job:
    del audience  # the service connection has it
    remedy = (
        "Run this in a task with the service connection (AzureCLI@2), and give it "
        "`env: SYSTEM_ACCESSTOKEN: $(System.AccessToken)`."
    )
    url, token, connection = (
        _needed(environment, "Azure Pipelines", name, remedy)
        for name in (
            "SYSTEM_OIDCREQUESTURI",
            "SYSTEM_ACCESSTOKEN",
            "AZURESUBSCRIPTION_SERVICE_CONNECTION_ID",
        )
    )
    return _Job(
        "Azure Pipelines",
        f"{url}?api-version=7.1&serviceConnectionId={quote(connection, safe='')}",
        "POST",
        {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/json",
            "X-TFS-FedAuthRedirect": "Suppress",
        },
        "oidcToken",
        remedy,
    )


def _needed(environment: Environment, platform: str, name: str, remedy: str) -> str:
    value = environment.get(name)
    if value is None:
        raise SecretUnavailableError(
            f"{platform} gives no token: {name} is not set, so this job may not get one", remedy
        )
    return value
