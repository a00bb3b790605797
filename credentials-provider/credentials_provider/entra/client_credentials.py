"""One identity's client-credentials grant: msal on top, our transport below.

msal is given an `http_client` that answers its discovery from the configured authority and lets
nothing but the token request out. Endpoints follow from host and tenant, so a secret goes to the
configured host alone, a batch makes one request an identity, and a wrong tenant comes back as
Entra's own error.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import msal

from credentials_provider.entra import explanations
from credentials_provider.identities.fields import GUID
from credentials_provider.model import Failure, Minted
from credentials_provider.tokens.claims import decode_claims, epoch_claim
from credentials_provider.transport.connections import Answer, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from credentials_provider.credentials.resolver import Credential
    from credentials_provider.identities.fields import Identity
    from credentials_provider.transport.retrying import Transport

# RFC 6750 section 2.1: what a bearer token may be made of, and so nothing that ends a header.
_BEARER_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,65536}=*", re.ASCII)
_LONGEST_LIFE = 10 * 366 * 86400  # seconds; anything beyond is nonsense
_ROUNDING = 5  # seconds by which `expires_in` and the token's own `exp` may differ
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

    def __init__(
        self, status_code: int, text: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status_code = status_code
        self.text = text
        # None by default: msal would throttle by Retry-After, and we retry below.
        self.headers = dict(headers or {})

    def raise_for_status(self) -> None:
        """Nothing to raise: what msal sees is a token or a refusal."""


class _HttpClient:
    """msal's `http_client` for one identity: pinned endpoints, retries below."""

    def __init__(self, transport: Transport, authority: str, tenant: str) -> None:
        self._transport = transport
        self._authority = authority
        self._tenant = tenant
        self.host = urlsplit(authority).netloc
        self.answer: Answer | None = None
        self.token_response: dict[str, Any] = {}
        self.attempts = 0

    @property
    def token_endpoint(self) -> str:
        return f"{self._authority}/oauth2/v2.0/token"

    def get(self, url: str, **_: object) -> Response:
        """The discovery document, which follows from the authority; nothing else is asked for."""
        if url != f"{self._authority}/v2.0/.well-known/openid-configuration":
            raise AssertionError("msal asked for an endpoint that this program does not use")
        document = {
            "issuer": f"{self._authority}/v2.0",
            "authorization_endpoint": f"{self._authority}/oauth2/v2.0/authorize",
            "token_endpoint": self.token_endpoint,
        }
        return Response(_OK, json.dumps(document))

    def post(
        self,
        url: str,
        *,
        data: Mapping[str, str],
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
    ) -> Response:
        """The token request; raises `GivenUpError` for whatever msal could not make sense of."""
        if url != self.token_endpoint or params:
            raise AssertionError("msal asked for an endpoint that this program does not use")
        reply = self._transport.post(
            url,
            urlencode(data),
            {
                **headers,
                "Content-Type": "application/x-www-form-urlencoded",
                "Accept-Encoding": "identity",
            },
            tenant=self._tenant,
            is_temporary=_is_temporary,
        )
        self.attempts = reply.attempts
        if isinstance(reply.result, Trouble):
            self._give_up(explain(reply.result, self.host))
        self.answer = reply.result
        document = json_object(reply.result)
        if reply.result.status in _REFUSALS and document and "error" in document:
            self._give_up(_refusal(document))
        if reply.result.status != _OK:
            self._give_up(self._odd_status(reply.result))
        if document is None:
            self._give_up(bad(what_body(reply.result), self.host))
        self.token_response = _normalised(document)
        return Response(_OK, json.dumps(self.token_response))

    def close(self) -> None:
        """The pool is the transport's."""

    def _odd_status(self, answer: Answer) -> Failure:
        if answer.status in _REDIRECTS:
            return bad("redirect", self.host)
        explained = explanations.explain_status(answer.status, None)
        return Failure("bad_response", explained.cause, explained.cure)

    def _give_up(self, failure: Failure) -> NoReturn:
        skew = self.answer.clock_skew if self.answer else None
        raise GivenUpError(failure._replace(attempts=self.attempts, clock_skew=skew))


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
    client = _HttpClient(transport, authority, identity.tenant_id)
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
        return bad("no_access_token", client.host)._replace(attempts=client.attempts)
    # The response itself: msal keeps `refresh_in` from its callers.
    response = client.token_response
    minted = checked(response, client.answer, identity, urlsplit(authority).netloc)
    if isinstance(minted, Failure):
        return minted._replace(attempts=client.attempts, clock_skew=client.answer.clock_skew)
    return minted._replace(attempts=client.attempts, credential=credential.field)


def ask_managed_identity(
    client_id: str | None, resource: str, http_client: object
) -> dict[str, Any]:
    """Msal's answer for this machine's own identity, or (by client id) one assigned to it.

    Raises:
        GivenUpError: from `http_client`.
        OSError, ValueError: msal cannot ask this kind of machine.

    """
    who = (
        msal.UserAssignedManagedIdentity(client_id=client_id)
        if client_id
        else msal.SystemAssignedManagedIdentity()
    )
    client = msal.ManagedIdentityClient(who, http_client=http_client)
    answer: dict[str, Any] = client.acquire_token_for_client(resource=resource)
    return answer


def checked(
    result: dict[str, Any], answer: Answer, identity: Identity, host: str
) -> Minted | Failure:
    """A token fit to replace the old one: it decodes, lives, and is the one that was asked for."""
    token = result["access_token"]
    claims = decode_claims(token) if _BEARER_TOKEN.fullmatch(token) else None
    if claims is None or str(result.get("token_type", "bearer")).lower() != "bearer":
        return bad("no_access_token", host)
    tenant, client = claims.get("tid"), claims.get("azp", claims.get("appid"))
    if GUID.fullmatch(identity.tenant_id) and _differs(tenant, identity.tenant_id):
        return bad("wrong_tenant", host)
    if _differs(client, identity.client_id):
        return bad("wrong_client", host)
    # The life that is left by the provider's own clock: ours may be wrong.
    left = None
    if (exp := epoch_claim(claims, "exp")) is not None:
        left = exp - (answer.sent_at - (answer.clock_skew or 0.0))
        if left <= 0:
            return bad("expired", host)
    life = whole_seconds(result.get("expires_in"))
    if life is None or (left is not None and left < life - _ROUNDING):
        life = None if left is None else int(left)
    if not life:
        return bad("no_expiry", host)
    return Minted(
        access_token=token,
        issued_at=int(answer.sent_at),
        expires_in=life,
        refresh_in=whole_seconds(result.get("refresh_in")),
        attempts=0,
        clock_skew=answer.clock_skew,
    )


def _differs(claim: object, asked: str) -> bool:
    return claim is not None and str(claim).lower() != asked.lower()


def whole_seconds(value: object) -> int | None:
    """A positive number of seconds; v1 endpoints send numbers as strings."""
    try:
        seconds = int(float(value)) if isinstance(value, (int, float, str)) else 0
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < _LONGEST_LIFE and not isinstance(value, bool) else None


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


def json_object(answer: Answer) -> dict[str, Any] | None:
    """An answer's JSON object, None where it is none."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def what_body(answer: Answer) -> str:
    """What came in place of JSON: the word for it in `diagnosis`."""
    start = answer.body.lstrip()[:1]
    html = "html" in answer.headers.get("content-type", "") or start == b"<"
    return "html" if html else "not_json"


def _is_temporary(answer: Answer) -> bool:
    if answer.status not in _REFUSALS:
        return False
    document = json_object(answer)
    return document is not None and document.get("error") == "temporarily_unavailable"


def _refusal(document: dict[str, Any]) -> Failure:
    error = explanations.safe_error(document.get("error"))
    codes = explanations.aadsts_codes(document)
    explained = explanations.explain_rejection(error, codes)
    return Failure(
        "rejected",
        explained.cause,
        explained.cure,
        error=error,
        aadsts=codes[0] if codes else None,
        transient=explained.transient,
        trace_id=explanations.safe_id(document.get("trace_id")),
        correlation_id=explanations.safe_id(document.get("correlation_id")),
    )


def bad(reason: str, host: str) -> Failure:
    """An answer that is no token; the reasons are those of `explanations.explain_bad_response`."""
    explained = explanations.explain_bad_response(reason, host)
    return Failure("bad_response", explained.cause, explained.cure, transient=explained.transient)


def explain(trouble: Trouble, host: str) -> Failure:
    """A failure of the transport, in words; what an answer says of itself goes along."""
    if trouble.kind == "untrusted":
        explained = explanations.explain_untrusted(trouble.reason, host)
    elif trouble.kind == "bad_response":
        explained = explanations.explain_bad_response(trouble.reason, host)
    elif trouble.kind == "throttled":
        explained = explanations.explain_status(429, trouble.retry_after)
    elif trouble.answer is not None:
        explained = explanations.explain_status(trouble.answer.status, trouble.retry_after)
    else:
        explained = explanations.explain_unreachable(trouble.reason, host)
    document = json_object(trouble.answer) if trouble.answer else None
    told = _refusal(document) if document and "error" in document else None
    cause = explained.cause
    if told and told.error == "temporarily_unavailable":
        cause = told.message
    if trouble.out_of_time and trouble.kind != "untrusted":
        cause += "; another try would have passed the run's deadline"
    return Failure(
        trouble.kind,
        cause,
        explained.cure,
        error=told.error if told else None,
        aadsts=told.aadsts if told else None,
        transient=explained.transient,
        trace_id=told.trace_id if told else None,
        correlation_id=told.correlation_id if told else None,
        clock_skew=trouble.answer.clock_skew if trouble.answer else None,
    )
