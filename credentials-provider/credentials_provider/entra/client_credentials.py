"""One identity's client-credentials grant: msal on top, our transport below.

msal is given an `http_client` that answers its discovery from the configured authority and lets
nothing but the token request out. Endpoints follow from host and tenant, so a secret goes to the
configured host alone, a batch makes one request an identity, and a wrong tenant comes back as
Entra's own error.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import msal

from credentials_provider.entra import explanations
from credentials_provider.entra.answers import (
    bad_response,
    body_kind,
    checked,
    explain,
    json_object,
    refusal,
    whole_seconds,
)
from credentials_provider.minting import Failure, Minted
from credentials_provider.transport.connections import Answer, HttpRequest, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from credentials_provider.credentials.resolver import Credential
    from credentials_provider.identities.identity import Identity
    from credentials_provider.transport.retrying import Transport

_OK = 200
_REFUSALS = frozenset({400, 401, 403})
_REDIRECTS = range(300, 400)

for _name in ("msal", "urllib3"):  # what they log may hold bodies
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False

# msal looks for this extension, which it would only find too old, at every use: a search of all
# folders under a lock that all threads wait for, a fifth of a batch. None: not there (PEP 328).
sys.modules.setdefault("msal_extensions", None)  # type: ignore[arg-type]


class GivenUpError(Exception):
    """Carries a failure up through msal."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.kind)
        self.failure = failure


class Response:
    """What msal wants of a response."""

    status_code = _OK  # every other ends before msal sees it
    headers: Mapping[str, str] = {}  # msal would throttle by Retry-After, and we retry below

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.text = json.dumps(document)

    def raise_for_status(self) -> None:
        """Nothing to raise: what msal sees is a token or a refusal."""


class _HttpClient:
    """msal's `http_client` for one identity: pinned endpoints, retries below."""

    def __init__(
        self, transport: Transport, authority: str, identity: Identity, credential: Credential
    ) -> None:
        self._transport = transport
        self._about = f"{identity.identity_name} ({credential.field})"
        secret = credential.for_msal
        self._secrets = [secret] if isinstance(secret, str) else []
        self._discovery = f"{authority}/v2.0/.well-known/openid-configuration"
        self._endpoints = {
            "issuer": f"{authority}/v2.0",
            "authorization_endpoint": f"{authority}/oauth2/v2.0/authorize",
            "token_endpoint": f"{authority}/oauth2/v2.0/token",
        }
        self._tenant = identity.tenant_id
        self.host = urlsplit(authority).netloc
        self.answer: Answer | None = None
        self.token_response: dict[str, Any] = {}
        self.attempts = 0

    def get(self, url: str, **_: object) -> Response:
        """The discovery document, which follows from the authority; nothing else is asked for."""
        if url != self._discovery:
            raise AssertionError("msal asked for an endpoint that this program does not use")
        return Response(self._endpoints)

    def post(
        self,
        url: str,
        *,
        data: Mapping[str, str],
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
    ) -> Response:
        """The token request; raises `GivenUpError` for an answer that msal cannot handle."""
        if url != self._endpoints["token_endpoint"] or params:
            raise AssertionError("msal asked for an endpoint that this program does not use")
        form = {"Content-Type": "application/x-www-form-urlencoded", "Accept-Encoding": "identity"}
        reply = self._transport.send(
            HttpRequest("POST", url, {**headers, **form}, urlencode(data)),
            tenant=self._tenant,
            is_temporary=_is_temporary,
            about=self._about,
        )
        self.attempts = reply.attempts
        if isinstance(reply.result, Trouble):
            self._give_up(explain(reply.result, self.host))
        self.answer = reply.result
        document = json_object(reply.result)
        if reply.result.status in _REFUSALS and document and "error" in document:
            self._give_up(refusal(document, self._secrets))
        if reply.result.status != _OK:
            self._give_up(self._odd_status(reply.result))
        if document is None:
            self._give_up(bad_response(body_kind(reply.result), self.host))
        self.token_response = _normalised(document)
        return Response(self.token_response)

    def close(self) -> None:
        """The pool is the transport's."""

    def _odd_status(self, answer: Answer) -> Failure:
        if answer.status in _REDIRECTS:
            return bad_response("redirect", self.host)
        explained = explanations.explain_status(answer.status, None)
        return Failure("bad_response", explained.cause, explained.cure)

    def _give_up(self, failure: Failure) -> NoReturn:
        skew = self.answer.clock_skew if self.answer else None
        raise GivenUpError(replace(failure, attempts=self.attempts, clock_skew=skew))


def mint(
    identity: Identity, credential: Credential, authority_base: str, transport: Transport
) -> Minted | Failure:
    """Ask for a new token and check it before anybody sees it.

    Args:
        identity: whose token.
        credential: what proves that; it goes to msal and nowhere else.
        authority_base: login host, `https://host[:port]`.
        transport: where the request goes through, retries included.

    """
    authority = f"{authority_base}/{identity.tenant_id}"
    client = _HttpClient(transport, authority, identity, credential)
    try:
        application = msal.ConfidentialClientApplication(
            identity.client_id,
            client_credential=credential.for_msal,
            authority=authority,
            instance_discovery=False,
            azure_region=False,  # else MSAL_FORCE_REGION would choose another host
            http_client=client,
        )
        result = application.acquire_token_for_client([identity.scope])
    except GivenUpError as given_up:
        return given_up.failure
    if client.answer is None or "access_token" not in result:
        return replace(bad_response("no_access_token", client.host), attempts=client.attempts)
    # The response itself: msal keeps `refresh_in` from its callers.
    response = client.token_response
    minted = checked(response, client.answer, identity, lambda why: bad_response(why, client.host))
    if isinstance(minted, Failure):
        return replace(minted, attempts=client.attempts, clock_skew=client.answer.clock_skew)
    return replace(minted, attempts=client.attempts, credential=credential.field)


def _normalised(document: dict[str, Any]) -> dict[str, Any]:
    """The fields that are used, in the types that msal reckons with."""
    wanted: dict[str, Any] = {
        name: document[name] for name in ("access_token", "token_type") if name in document
    }
    if not isinstance(wanted.get("access_token"), str):
        wanted.pop("access_token", None)
        wanted["error"] = "no_access_token"  # or msal would cache what is not there
    for name in ("expires_in", "refresh_in"):
        if (seconds := whole_seconds(document.get(name))) is not None:
            wanted[name] = seconds
    return wanted


def _is_temporary(answer: Answer) -> bool:
    if answer.status not in _REFUSALS:
        return False
    document = json_object(answer)
    return document is not None and document.get("error") == "temporarily_unavailable"
