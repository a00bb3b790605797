"""A token's claims in plain words. Reading a token does not make it trustworthy."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from credentials_provider.tokens.claims import decode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# How the client proved who it was: `azpacr` in v2 tokens, `appidacr` in v1.
_CREDENTIALS = {"0": "none (public client)", "1": "client secret", "2": "certificate or assertion"}


@dataclass(frozen=True, slots=True)
class Token:
    """A decoded token, not verified."""

    text: str = field(repr=False)
    header: Mapping[str, Any] = field(repr=False)
    claims: Mapping[str, Any] = field(repr=False)


def find_token(content: str) -> Token | None:
    """The token in a file's content, as the registry's readers look for it.

    Flat, below `tokens`, below `token_data`, or the content is itself a JWT.
    """
    text: object = content.strip().removeprefix("Bearer ").strip()
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = text
    if isinstance(document, dict):
        places = [document, document.get("tokens"), document.get("token_data")]
        found = [place for place in places if isinstance(place, dict)]
        tokens = (place.get(name) for place in found for name in ("access_token", "token"))
        text = next((token for token in tokens if token), None)
    elif isinstance(document, str):
        text = document
    decoded = decode(text) if isinstance(text, str) else None
    return Token(str(text), *decoded) if decoded else None


def described(token: Token) -> Iterator[tuple[str, str]]:
    """Label and text of what the claims say, times aside."""
    claims = token.claims
    yield "audience", ", ".join(shown(each) for each in audiences(claims)) or "none"
    yield "issuer", shown(claims.get("iss"))
    yield "version", _version(claims)
    yield "tenant", shown(claims.get("tid"))
    yield "application", shown(application(claims))
    yield "credential", _credential(claims)
    yield "roles", _listed(claims, "roles")
    yield (
        "groups",
        "more than 200: not in the token" if has_overage(claims) else _listed(claims, "groups"),
    )
    for name in ("sub", "scope", "scp", "username"):
        if name in claims:
            yield name, shown(claims[name])
    yield "signed with", f"{shown(token.header.get('alg'))}, key {shown(token.header.get('kid'))}"


def application(claims: Mapping[str, Any]) -> object:
    """The client that the token was issued to: `azp` in v2, `appid` in v1."""
    return claims.get("azp", claims.get("appid", claims.get("client_id")))


def audiences(claims: Mapping[str, Any]) -> list[str]:
    """Whom the token is for: a string or a list (RFC 7519 section 4.1.3)."""
    return _strings(claims.get("aud"))


def groups_of(claims: Mapping[str, Any]) -> list[str]:
    """The groups that the registry uses: `groups`, else `roles`."""
    return _strings(claims.get("groups")) or _strings(claims.get("roles"))


def has_overage(claims: Mapping[str, Any]) -> bool:
    """Whether there are too many groups for the token, which only says where to ask for them."""
    names = claims.get("_claim_names")
    return isinstance(names, dict) and "groups" in names


def shown(value: object) -> str:
    """A claim fit for a terminal: whoever made the token chose its characters."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if text.isprintable() else ascii(text)[1:-1]


def _strings(value: object) -> list[str]:
    """A claim that is a string or a list of strings; anything else is none."""
    if isinstance(value, str):
        return [value] if value else []
    return [str(each) for each in value] if isinstance(value, list) else []


def _listed(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value and not isinstance(value, (str, list)):
        return shown(value)
    return ", ".join(shown(each) for each in _strings(value)) or "none"


def _version(claims: Mapping[str, Any]) -> str:
    version = shown(claims.get("ver"))
    kind = {"1.0": "v1", "2.0": "v2"}.get(version)
    return f"{kind} ({version})" if kind else version


def _credential(claims: Mapping[str, Any]) -> str:
    kind = claims.get("azpacr", claims.get("appidacr"))
    return _CREDENTIALS.get(str(kind), shown(kind))
