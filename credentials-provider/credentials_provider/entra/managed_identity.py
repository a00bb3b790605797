"""A token by this machine's managed identity: its endpoint asked, its answer checked."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from credentials_provider.entra import explanations
from credentials_provider.entra.answers import (
    aadsts_codes,
    bad_response,
    body_kind,
    checked,
    explain,
    json_object,
    safe_error,
    safe_id,
)
from credentials_provider.entra.metadata import Endpoint, NoEndpointError, arc_key, find_endpoint
from credentials_provider.identities.rules import SCOPE_END
from credentials_provider.minting import Failure, Minted
from credentials_provider.transport.connections import Answer, HttpRequest, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.identities.identity import Identity
    from credentials_provider.transport.retrying import Transport

TIMEOUT = 5.0  # seconds for one request; the endpoint is near
_OK, _CHALLENGE, _FORBIDDEN = 200, 401, 403
# Not there yet, or being updated, which takes up to 70 seconds: asked again, as Microsoft advises.
# https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
_PASSING = frozenset({404, 410})
_TABLE = "managed_identity"  # of `explanations`
_PEER = "the managed identity of this machine's resource in the Azure portal (Identity)"
# Why a machine refuses, by the words of its answer; the words themselves are not shown.
_SEVERAL = re.compile(r"multiple user.assigned|specify the client", re.IGNORECASE)
_NONE = re.compile(r"identity not found|no .{0,40}identity.{0,60}found|not assigned", re.IGNORECASE)


def mint_managed(identity: Identity, transport: Transport) -> Minted | Failure:
    """Ask this machine for a token of its identity, and check it before anybody sees it."""
    try:
        endpoint = find_endpoint(os.environ)
        result, attempts = _ask(endpoint, identity, transport)
    except NoEndpointError as error:
        return Failure("secret_unavailable", error.message, error.hint or "")
    minted = _result(endpoint, identity, result)
    if isinstance(minted, Failure):
        return replace(minted, attempts=attempts)
    return replace(minted, attempts=attempts, credential="managed_identity")


def _ask(
    endpoint: Endpoint, identity: Identity, transport: Transport
) -> tuple[Answer | Trouble, int]:
    """The endpoint's last word, and the requests that it took."""
    wanted = _parameters(endpoint, identity)
    headers = {**endpoint.headers, "Accept-Encoding": "identity"}
    body = None
    url = f"{endpoint.url}?{wanted}"
    if endpoint.method == "POST":
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        body, url = wanted, endpoint.url
    request = HttpRequest(endpoint.method, url, headers, body, TIMEOUT)
    reply = _send(request, identity, transport)
    challenge = isinstance(reply.result, Answer) and reply.result.status == _CHALLENGE
    if not (endpoint.challenges and challenge and isinstance(reply.result, Answer)):
        return reply.result, reply.attempts
    key = arc_key(reply.result.headers.get("www-authenticate", ""))
    proven = replace(request, headers={**headers, "Authorization": f"Basic {key}"})
    second = _send(proven, identity, transport)
    return second.result, reply.attempts + second.attempts


def _send(request: HttpRequest, identity: Identity, transport: Transport) -> Any:
    return transport.send(
        request,
        is_temporary=lambda answer: answer.status in _PASSING,
        about=f"{identity.identity_name} (managed identity)",
        patient=True,
    )


def _parameters(endpoint: Endpoint, identity: Identity) -> str:
    wanted = {"resource": identity.scope.removesuffix(SCOPE_END)}
    if endpoint.version:
        wanted["api-version"] = endpoint.version
    assigned = identity.managed_identity
    if isinstance(assigned, str):
        if endpoint.client_id is None:
            raise NoEndpointError(
                f"{endpoint.host} has one identity alone, its user's",
                'Set "managed_identity": true.',
            )
        wanted[endpoint.client_id] = assigned
    return urlencode(wanted)


def _result(endpoint: Endpoint, identity: Identity, result: Answer | Trouble) -> Minted | Failure:
    host = urlsplit(endpoint.url).netloc
    if isinstance(result, Trouble):
        return _explained(result, host)
    document = json_object(result)
    if result.status != _OK:
        return _refusal(endpoint, identity, result, document or {})
    if document is None:
        return _bad_response(body_kind(result), host)
    if not isinstance(document.get("access_token"), str):
        return _bad_response("no_access_token", host)
    # Without `expires_in` the token's own `exp` counts; `expires_on` has as many forms as hosts.
    found = {name: document.get(name) for name in ("access_token", "expires_in", "refresh_in")}
    minted = checked(found, result, identity, lambda why: _bad_response(why, host))
    return replace(minted, clock_skew=result.clock_skew) if isinstance(minted, Failure) else minted


def _bad_response(reason: str, host: str) -> Failure:
    """As for the login host, but for old agents of Arc, which ignore the client id."""
    if reason in explanations.rows(_TABLE):
        explained = explanations.diagnosis(_TABLE, reason)
        return Failure("bad_response", explained.cause, explained.cure)
    return bad_response(reason, host, _PEER)


def _explained(trouble: Trouble, host: str) -> Failure:
    if trouble.kind != "unreachable":
        return explain(trouble, host, _PEER)
    explained = explanations.diagnosis(_TABLE, "no_answer", host=host, reason=trouble.reason)
    return Failure("secret_unavailable", *explained[:2], transient=explained.transient)


def _refusal(
    endpoint: Endpoint, identity: Identity, answer: Answer, document: Mapping[str, Any]
) -> Failure:
    words = _description(document)
    codes = aadsts_codes({"error_description": words})
    reason = _reason(identity, answer.status, words)
    cause, cure, _ = explanations.diagnosis(
        _TABLE, reason, host=endpoint.host, status=answer.status
    )
    if codes:
        cause, reason = explanations.explain_rejection(None, codes).cause, "other"
        cure = "Compare scope with the gateway's Application ID URI (its app, Expose an API)."
    return Failure(
        "secret_unavailable" if reason == "forbidden" else "rejected",
        cause,
        cure,
        error=safe_error(document.get("error")),
        aadsts=codes[0] if codes else None,
        correlation_id=safe_id(document.get("correlation_id")),
    )


def _reason(identity: Identity, status: int, words: str) -> str:
    if status == _FORBIDDEN:  # Docker Desktop's, for an address that it cannot reach
        return "forbidden"
    if _SEVERAL.search(words):
        return "several"
    if _NONE.search(words):
        return "none_of_its_own" if identity.managed_identity is True else "none"
    return "other"


def _description(document: Mapping[str, Any]) -> str:
    """All that an error answer says in words, in whichever of its forms."""
    error = document.get("error")
    nested: Mapping[str, Any] = error if isinstance(error, dict) else {}
    found = (
        document.get("error_description"),
        document.get("message"),
        document.get("Message"),
        nested.get("message"),
    )
    return " ".join(each for each in found if isinstance(each, str))[:4096]
