"""A JSON Web Token's claims, read without verifying them (RFC 7519)."""

from __future__ import annotations

import binascii
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

MAXIMUM_SIZE = 1 << 17  # characters; the largest real ones have a few thousand
_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~+/-="


def is_bearer_token(value: object) -> bool:
    """Whether a text holds nothing that ends a header or a shell word (RFC 6750, section 2.1)."""
    if not isinstance(value, str) or not value or not value.isascii() or len(value) > MAXIMUM_SIZE:
        return False
    return not value.encode().translate(None, _CHARACTERS)


def decode_claims(token: str) -> dict[str, Any] | None:
    """The claims of a signed JWT, or None where it is none. The signature is not looked at."""
    decoded = decode(token)
    return decoded[1] if decoded else None


def tenant_and_client(claims: Mapping[str, Any]) -> tuple[str, str]:
    """Tenant and application that a token is for, in lower case; empty where it does not say.

    `azp` in v2 tokens, `appid` in v1:
    https://learn.microsoft.com/en-us/entra/identity-platform/access-token-claims-reference
    """
    application = claims.get("azp", claims.get("appid"))
    return str(claims.get("tid") or "").lower(), str(application or "").lower()


def differs(claim: str, asked: str) -> bool:
    """Whether a token says another tenant or application than the one that was asked for.

    Tokens name a tenant by its GUID alone, so one that was asked for by a domain proves nothing.
    """
    return bool(claim) and "." not in asked and claim != asked.lower()


def decode(token: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Header and claims of a signed JWT, or None. The signature is not looked at."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MAXIMUM_SIZE or not token.isascii():  # noqa: PLR2004
        return None
    header, claims = (_json_object(part) for part in parts[:2])
    return None if header is None or claims is None else (header, claims)


def _json_object(part: str) -> dict[str, Any] | None:
    try:
        padded = part.translate(str.maketrans("-_", "+/")) + "=" * (-len(part) % 4)
        value = json.loads(binascii.a2b_base64(padded))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def epoch_claim(claims: Mapping[str, Any], name: str) -> int | None:
    """A time claim (NumericDate, RFC 7519 section 2) in whole epoch seconds."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 2**53:
        return None
    return int(value)
