"""What an answer is: a good token, a refusal, or neither. Pure, and apart from msal.

Nothing that a server wrote is passed on, apart from values whose shape was checked.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from credentials_provider.entra import explanations
from credentials_provider.entra.redaction import redacted_description
from credentials_provider.identities.rules import is_guid
from credentials_provider.minting import Failure, Minted
from credentials_provider.policy import LONGEST_LIFE
from credentials_provider.tokens.claims import (
    decode_claims,
    differs,
    epoch_claim,
    is_bearer_token,
    tenant_and_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from credentials_provider.identities.identity import Identity
    from credentials_provider.transport.connections import Answer, Trouble

# RFC 6750 section 2.1: what a bearer token may consist of, and so nothing that ends a header.
_LONGEST_LIFE = 10 * 366 * 86400  # seconds; anything beyond is nonsense
_ROUNDING = 5  # seconds by which `expires_in` and the token's own `exp` may differ
_CODES = range(1_000, 10_000_000)
_CODE = re.compile(r"[0-9]{4,7}")
_CODE_IN_TEXT = re.compile(r"AADSTS([0-9]{4,7})(?![0-9])")
_OAUTH_ERROR = re.compile(r"[a-z][a-z_]{2,39}")
_MOST_CODES = 8


def checked(
    result: dict[str, Any], answer: Answer, identity: Identity, refuse: Callable[[str], Failure]
) -> Minted | Failure:
    """A token fit to replace the old one: it decodes, is valid, and is the one that was asked for.

    `refuse` makes a failure of a reason, one of `explanations.explain_bad_response`.
    """
    token = result["access_token"]
    claims = decode_claims(token) if is_bearer_token(token) else None
    if claims is None or str(result.get("token_type", "bearer")).lower() != "bearer":
        return refuse("no_access_token")
    tenant, client = tenant_and_client(claims)
    if differs(tenant, identity.tenant_id):
        return refuse("wrong_tenant")
    if differs(client, identity.client_id):
        return refuse("wrong_client")
    # The life that is left by the provider's own clock: ours may be wrong.
    left = None
    if (exp := epoch_claim(claims, "exp")) is not None:
        left = exp - (answer.sent_at - (answer.clock_skew or 0.0))
        if left <= 0:
            return refuse("expired")
    life = whole_seconds(result.get("expires_in"))
    if life is None or (left is not None and left < life - _ROUNDING):
        life = None if left is None else int(left)
    if not life:
        return refuse("no_expiry")
    return Minted(
        access_token=token,
        issued_at=int(answer.sent_at),
        expires_in=min(life, LONGEST_LIFE),
        refresh_in=whole_seconds(result.get("refresh_in")),
        attempts=0,
        clock_skew=answer.clock_skew,
    )


def whole_seconds(value: object) -> int | None:
    """A positive number of seconds; v1 endpoints send numbers as strings."""
    try:
        seconds = int(float(value)) if isinstance(value, (int, float, str)) else 0
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < _LONGEST_LIFE and not isinstance(value, bool) else None


def json_object(answer: Answer) -> dict[str, Any] | None:
    """An answer's JSON object, None where it is none."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def body_kind(answer: Answer) -> str:
    """What came instead of JSON: the word for it in `diagnosis`."""
    start = answer.body.lstrip()[:1]
    html = "html" in answer.headers.get("content-type", "") or start == b"<"
    return "html" if html else "not_json"


def refusal(document: dict[str, Any], secrets: Iterable[str] | None = None) -> Failure:
    """A refusal in words, from the JSON of an error answer (RFC 6749 section 5.2).

    A code that is not in our table is explained in Entra's own words, without `secrets`; where
    those are not known (None), without any words of Entra's.
    """
    error = safe_error(document.get("error"))
    codes = aadsts_codes(document)
    explained = explanations.explain_rejection(error, codes)
    cause = explained.cause
    if secrets is not None and codes and not explanations.is_known(codes):
        words = redacted_description(document.get("error_description"), secrets)
        cause = f"Entra ID refuses it with: {words}" if words else cause
    return Failure(
        "rejected",
        cause,
        explained.cure,
        error=error,
        aadsts=codes[0] if codes else None,
        transient=explained.transient,
        trace_id=safe_id(document.get("trace_id")),
        correlation_id=safe_id(document.get("correlation_id")),
    )


def bad_response(reason: str, host: str, peer: str = explanations.LOGIN_HOST) -> Failure:
    """An answer that is not a token; the reasons are `explanations.explain_bad_response`'s."""
    explained = explanations.explain_bad_response(reason, host, peer)
    return Failure("bad_response", explained.cause, explained.cure, transient=explained.transient)


def explain(trouble: Trouble, host: str, peer: str = explanations.LOGIN_HOST) -> Failure:
    """A failure of the transport, in words, with the error codes and ids of its answer."""
    explained = explanations.explain_trouble(trouble, host, peer)
    document = json_object(trouble.answer) if trouble.answer else None
    refused = refusal(document) if document and "error" in document else None
    cause, cure, transient = explained.cause, explained.cure, explained.transient
    if refused and refused.error == "temporarily_unavailable":
        cause = refused.message
        # Entra sends some of these with HTTP 400, of which nothing else is temporary.
        cure = cure if transient and trouble.retry_after else refused.remedy
        transient = True
    if trouble.out_of_time and trouble.kind != "untrusted":
        cause += "; another try would have passed the run's deadline"
    return replace(
        refused or Failure(trouble.kind, cause, cure),
        kind=trouble.kind,
        message=cause,
        remedy=cure,
        transient=transient,
        clock_skew=trouble.answer.clock_skew if trouble.answer else None,
    )


def aadsts_codes(body: Mapping[str, object]) -> tuple[int, ...]:
    """The distinct AADSTS codes of an untrusted error answer, the first eight, in its order."""
    listed = body.get("error_codes")
    described = body.get("error_description")
    codes = _valid_codes(listed if isinstance(listed, (list, tuple)) else ())
    if not codes and isinstance(described, str):
        codes = _valid_codes(_CODE_IN_TEXT.findall(described))
    return codes


def _valid_codes(values: Sequence[object]) -> tuple[int, ...]:
    codes: dict[int, None] = {}  # a set that keeps its order
    for value in values:
        code = int(value) if isinstance(value, str) and _CODE.fullmatch(value) else value
        if isinstance(code, int) and code in _CODES:
            codes[code] = None
            if len(codes) == _MOST_CODES:
                break
    return tuple(codes)


def safe_id(value: object) -> str | None:
    """A trace or correlation id fit to show: a GUID in lower case, or None."""
    if isinstance(value, str) and is_guid(value):
        return value.lower()
    return None


def safe_error(value: object) -> str | None:
    """An OAuth error code fit to show: 3 to 40 lower-case letters and underscores, or None."""
    if isinstance(value, str) and _OAUTH_ERROR.fullmatch(value):
        return value
    return None
