"""A token by this machine's managed identity: msal on top, our transport below.

Azure gives it over plain HTTP from an address that is the machine's own; no other is asked.
"""

from __future__ import annotations

import ipaddress
import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from credentials_provider.entra.answers import (
    bad,
    checked,
    explain,
    json_object,
    safe_error,
    safe_id,
    what_body,
    whole_seconds,
)
from credentials_provider.entra.client_credentials import (
    GivenUpError,
    Response,
    ask_managed_identity,
)
from credentials_provider.identities.rules import SCOPE_END
from credentials_provider.minting import Failure, Minted
from credentials_provider.transport.connections import Answer, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from credentials_provider.identities.fields import Identity
    from credentials_provider.transport.retrying import Transport

TIMEOUT = 5.0  # seconds for one request; the endpoint is on this machine
_OK = 200
_CHALLENGE = 401  # Azure Arc's: msal answers it with a file that only the machine's own can read
# Not there yet, or just being updated: asked again, as Microsoft advises.
# https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
_PASSING = frozenset({404, 410})
_ASSIGN = (
    "Look at Identity of this machine's resource in the Azure portal: switch on the "
    "system-assigned one, or assign the one whose client ID managed_identity names."
)


class MetadataClient:
    """msal's `http_client` for the metadata endpoint of the machine; retries below."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.answer: Answer | None = None
        self.token_response: dict[str, Any] = {}
        self.attempts = 0

    def get(
        self,
        url: str,
        *,
        params: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> Response:
        """The one kind of request; raises `GivenUpError` for what msal could make no sense of."""
        host = urlsplit(url).hostname or ""
        if urlsplit(url).scheme != "http" or not _is_own(host):
            self._give_up(
                Failure(
                    "secret_unavailable",
                    f"the managed identity endpoint {host or 'of this machine'} is not at an "
                    "address of the machine's own",
                    "Check IDENTITY_ENDPOINT, MSI_ENDPOINT and AZURE_POD_IDENTITY_AUTHORITY_HOST.",
                )
            )
        reply = self._transport.get(
            f"{url}?{urlencode(params)}",
            headers,
            tenant="",
            is_temporary=lambda answer: answer.status in _PASSING,
            timeout=TIMEOUT,
        )
        self.attempts += reply.attempts
        if isinstance(reply.result, Trouble):
            self._give_up(_explained(reply.result, host))
        self.answer = answer = reply.result
        if answer.status == _CHALLENGE and "www-authenticate" in answer.headers:
            challenge = answer.headers["www-authenticate"]
            return Response(answer.status, "", {"www-authenticate": challenge})
        document = json_object(answer)
        if answer.status != _OK:
            self._give_up(_refusal(document or {}))
        if document is None:
            self._give_up(bad(what_body(answer), host))
        self.token_response = _normalised(document)
        if "access_token" not in self.token_response:
            self._give_up(bad("no_access_token", host))
        if "expires_in" not in self.token_response:
            self._give_up(bad("no_expiry", host))
        return Response(_OK, json.dumps(self.token_response))

    def close(self) -> None:
        """The pool is the transport's."""

    def _give_up(self, failure: Failure) -> NoReturn:
        raise GivenUpError(replace(failure, attempts=self.attempts))


def mint_managed(identity: Identity, transport: Transport) -> Minted | Failure:
    """Ask this machine for a token of its identity, and check it before anybody sees it."""
    client = MetadataClient(transport)
    assigned = identity.managed_identity
    resource = identity.scope.removesuffix(SCOPE_END)
    try:
        ask_managed_identity(assigned if isinstance(assigned, str) else None, resource, client)
    except GivenUpError as given_up:
        return given_up.failure
    except (OSError, ValueError) as error:
        return Failure(
            "secret_unavailable",
            f"this machine's kind of managed identity cannot be used ({type(error).__name__})",
            "Virtual machines, App Service, Functions, Container Apps, Automation and Arc are "
            "served. On Arc, run as a member of the group himds.",
            attempts=client.attempts,
        )
    if client.answer is None or not client.token_response:
        return replace(bad("no_access_token", "this machine"), attempts=client.attempts)
    minted = checked(client.token_response, client.answer, identity, "this machine's endpoint")
    if isinstance(minted, Failure):
        return replace(minted, attempts=client.attempts)
    return replace(minted, attempts=client.attempts, credential="managed_identity")


def _is_own(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local


def _explained(trouble: Trouble, host: str) -> Failure:
    if trouble.kind != "unreachable":
        return explain(trouble, host)
    return Failure(
        "secret_unavailable",
        f"the managed identity endpoint at {host} does not answer: this machine is not on Azure, "
        "or it has no identity",
        _ASSIGN,
        transient=True,
    )


def _refusal(document: Mapping[str, Any]) -> Failure:
    return Failure(
        "rejected",
        "this machine has no such managed identity, or gets no token for this scope",
        f"{_ASSIGN} Then compare scope with the gateway's Application ID URI.",
        error=safe_error(document.get("error")),
        correlation_id=safe_id(document.get("correlation_id")),
    )


def _normalised(document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that msal reads, in its types: endpoints write numbers as strings."""
    wanted: dict[str, Any] = {}
    if isinstance(document.get("access_token"), str):
        wanted["access_token"] = document["access_token"]
    seconds = whole_seconds(document.get("expires_in"))
    if seconds is None:  # App Service tells the moment alone, in epoch seconds
        moment = str(document.get("expires_on"))
        seconds = whole_seconds(int(moment) - time.time()) if moment.isdecimal() else None
    if seconds is not None:
        wanted["expires_in"] = seconds
        wanted["expires_on"] = int(time.time()) + seconds
    return wanted
