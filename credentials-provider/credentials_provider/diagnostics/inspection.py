"""A token's claims in plain words, what the registry would say of them, and whether they are true.

What a token says is not trusted for being readable: only `verify` makes it so.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from credentials_provider.diagnostics import guide
from credentials_provider.entra import explanations
from credentials_provider.errors import ConfigurationError
from credentials_provider.tokens.claims import decode, epoch_claim
from credentials_provider.transport.connections import Trouble

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from credentials_provider.transport.connections import Answer
    from credentials_provider.transport.retrying import Transport

# How the client proved who it was: `azpacr` in v2 tokens, `appidacr` in v1.
_CREDENTIALS = {"0": "none (public client)", "1": "client secret", "2": "certificate or assertion"}
_OK = 200
ONE_GET = 15.0  # seconds


class Token(NamedTuple):
    """A decoded token, believed or not. The token itself has no place in the repr."""

    text: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]

    def __repr__(self) -> str:
        return "Token(…)"


class Expected(NamedTuple):
    """What the registry compares a token with; None where it is not known here."""

    login_base_url: str
    tenant_id: str | None = None
    gateway: str | None = None  # the gateway's client id


class Finding(NamedTuple):
    """What the registry would say of one thing; `ok` None: it cannot be told from here."""

    about: str
    ok: bool | None
    seen: str
    cure: str = ""
    link: str = ""


class Verification(NamedTuple):
    """Whether the provider signed the token for the issuer that it names."""

    ok: bool
    seen: str


class Mapped(NamedTuple):
    """What a scopes file makes of a token's groups."""

    scopes: tuple[str, ...]
    unmapped: tuple[str, ...]


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


# In plain words


def described(token: Token) -> Iterator[tuple[str, str]]:
    """Label and text of what the claims say, times aside."""
    claims = token.claims
    yield "audience", shown(claims.get("aud"))
    yield "issuer", shown(claims.get("iss"))
    yield "version", _version(claims)
    yield "tenant", shown(claims.get("tid"))
    yield "application", shown(application(claims))
    yield "credential", _credential(claims)
    yield "roles", _listed(claims.get("roles"))
    groups = "more than 200: not in the token" if has_overage(claims) else None
    yield "groups", groups or _listed(claims.get("groups"))
    for name in ("sub", "scope", "scp", "username"):
        if name in claims:
            yield name, shown(claims[name])
    yield "signed with", f"{shown(token.header.get('alg'))}, key {shown(token.header.get('kid'))}"


def application(claims: Mapping[str, Any]) -> object:
    """The client that the token was issued to: `azp` in v2, `appid` in v1."""
    return claims.get("azp", claims.get("appid", claims.get("client_id")))


def groups_of(claims: Mapping[str, Any]) -> list[str]:
    """The groups that the registry goes by: `groups`, else `roles`."""
    for name in ("groups", "roles"):
        value = claims.get(name)
        if isinstance(value, list) and value:
            return [str(each) for each in value]
    return []


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


def _listed(value: object) -> str:
    if not isinstance(value, list) or not value:
        return "none" if not value else shown(value)
    return ", ".join(shown(each) for each in value)


def _version(claims: Mapping[str, Any]) -> str:
    version = claims.get("ver")
    kinds = {"1.0": "v1", "2.0": "v2"}
    return f"{kinds[version]} ({version})" if version in kinds else shown(version)


def _credential(claims: Mapping[str, Any]) -> str:
    kind = claims.get("azpacr", claims.get("appidacr"))
    return _CREDENTIALS.get(str(kind), shown(kind))


# What the registry would say


def registry_findings(token: Token, expected: Expected, now: float) -> list[Finding]:
    """Its own checks: key, issuer, audience, times, client, groups or roles."""
    claims = token.claims
    if token.header.get("alg") == "HS256":
        return [
            Finding(
                "signature",
                None,
                "HS256: signed with a secret, as the registry's own tokens are",
                "Only the registry can check it.",
            )
        ]
    return [
        _signature(token),
        _issuer(claims, expected),
        _audience(claims, expected),
        _times(claims, now),
        _client(claims),
        _groups(claims),
    ]


def _signature(token: Token) -> Finding:
    algorithm, key = token.header.get("alg"), token.header.get("kid")
    ok = algorithm == "RS256" and isinstance(key, str)
    return Finding(
        "signature",
        ok,
        f"{shown(algorithm)}, key {shown(key)}",
        "" if ok else "The registry takes RS256 with a key id alone: this is no token of Entra's.",
    )


def issuers(expected: Expected, tenant: str) -> tuple[str, str]:
    """The two issuers that the registry accepts, v2 and v1."""
    return f"{expected.login_base_url}/{tenant}/v2.0", f"https://sts.windows.net/{tenant}/"


def _issuer(claims: Mapping[str, Any], expected: Expected) -> Finding:
    issuer = claims.get("iss")
    tenant = expected.tenant_id
    if tenant is None:
        return Finding(
            "issuer", None, shown(issuer), "Set ENTRA_TENANT_ID to compare it.", guide.IDS
        )
    if issuer in issuers(expected, tenant):
        return Finding("issuer", True, shown(issuer))
    return Finding(
        "issuer",
        False,
        f"{shown(issuer)}, which is not of tenant {tenant} at {expected.login_base_url}",
        "Compare ENTRA_TENANT_ID with Microsoft Entra ID > Overview, and the identity's tenant_id "
        "with it.",
        guide.ISSUER,
    )


def _audience(claims: Mapping[str, Any], expected: Expected) -> Finding:
    audience, gateway = claims.get("aud"), expected.gateway
    if gateway is None:
        return Finding(
            "audience",
            None,
            shown(audience),
            "Set ENTRA_CLIENT_ID (the gateway's application) to compare it.",
            guide.IDS,
        )
    if audience in (gateway, f"api://{gateway}"):
        return Finding("audience", True, f"{shown(audience)}, the gateway")
    own = application(claims)
    itself = isinstance(own, str) and audience in (own, f"api://{own}")
    return Finding(
        "audience",
        False,
        f"{shown(audience)}, which is {'the identity itself' if itself else 'not the gateway'}: "
        "the registry says \N{LEFT DOUBLE QUOTATION MARK}Audience doesn't match"
        "\N{RIGHT DOUBLE QUOTATION MARK}",
        f"Set the identity's scope to api://{gateway}/.default, the gateway's application.",
        guide.EXPOSE_API,
    )


def _times(claims: Mapping[str, Any], now: float) -> Finding:
    expires = epoch_claim(claims, "exp")
    begins = epoch_claim(claims, "nbf") or 0
    if expires is None:
        return Finding("times", False, "no expiry (exp)", "This is no token of Entra's.")
    if expires <= now:
        return Finding("times", False, "expired", "Renew it: generate --refresh-ahead.")
    if begins > now:
        return Finding("times", False, "not valid yet", "Synchronise this machine's clock (NTP).")
    return Finding("times", True, "valid now")


def _client(claims: Mapping[str, Any]) -> Finding:
    client = claims.get("azp")
    if client:
        return Finding("client", True, shown(client))
    return Finding(
        "client",
        None,
        "no azp: the registry cannot name the client"
        + (" (a v1 token says appid)" if claims.get("appid") else ""),
        "Set accessTokenAcceptedVersion to 2 in the manifest of the gateway's app.",
        guide.EXPOSE_API,
    )


def _groups(claims: Mapping[str, Any]) -> Finding:
    if has_overage(claims) and not groups_of(claims):
        return Finding(
            "groups",
            False,
            "groups overage: more than 200, and the token only says where to ask for them",
            "Have the app's claim hold only groups assigned to the application, or grant an app "
            "role instead.",
            guide.OVERAGE,
        )
    if found := groups_of(claims):
        where = "groups" if claims.get("groups") else "roles"
        return Finding("groups", True, f"{len(found)} in {where}")
    return Finding(
        "groups",
        False,
        "neither groups nor roles: the registry grants this identity nothing",
        "Add the identity's service principal to a security group and the groups claim to the "
        "gateway's app (Token configuration), or assign it an app role; then wait some minutes.",
        guide.NO_GROUPS,
    )


# A scopes file


def read_group_mappings(path: str) -> dict[str, list[str]]:
    """`group_mappings` of the registry's scopes.yml: group object id to the gateway's scopes.

    Raises:
        ConfigurationError: the file cannot be read, or has no such mapping.

    """
    from ruamel.yaml import YAML  # noqa: PLC0415  only where a file is given
    from ruamel.yaml.error import YAMLError  # noqa: PLC0415

    try:
        with open(path, encoding="utf-8-sig") as file:
            document = YAML(typ="safe", pure=True).load(file)
    except (OSError, ValueError, YAMLError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is not YAML"
        raise ConfigurationError(
            f"{path} cannot be read: {why}", hint="Name the registry's scopes.yml."
        ) from None
    mappings = document.get("group_mappings") if isinstance(document, dict) else None
    if not isinstance(mappings, dict):
        raise ConfigurationError(
            f"{path} has no group_mappings",
            hint=f"It maps group object ids to scopes: {guide.SCOPES}",
        )
    return {
        str(group): [str(scope) for scope in scopes]
        for group, scopes in mappings.items()
        if isinstance(scopes, list)
    }


def mapped(groups: Iterable[str], mappings: Mapping[str, Sequence[str]]) -> Mapped:
    """The scopes of these groups, and the groups that have none."""
    groups = list(groups)
    scopes = (scope for group in groups for scope in mappings.get(group, ()))
    return Mapped(
        tuple(dict.fromkeys(scopes)), tuple(group for group in groups if not mappings.get(group))
    )


def mapping_finding(token: Token, mappings: Mapping[str, Sequence[str]]) -> Finding:
    """Whether the scopes file gives this token anything."""
    groups = groups_of(token.claims)
    scopes, unmapped = mapped(groups, mappings)
    missing = f"; unmapped: {', '.join(shown(each) for each in unmapped)}" if unmapped else ""
    if scopes:
        return Finding("scopes", True, f"{', '.join(scopes)}{missing}")
    return Finding(
        "scopes",
        False,
        f"no group of this token is mapped to a scope{missing}",
        "Put the group's Object Id (Entra ID > Groups > Overview) under group_mappings.",
        guide.NO_ACCESS,
    )


# Whether it is true


def verify(token: Token, login_base_url: str, tenant: str, transport: Transport) -> Verification:
    """Check the signature against the tenant's keys at the configured login host, and the issuer.

    Nothing of the token decides where the keys come from but its tenant, which the issuer must
    then be of.
    """
    import jwt  # noqa: PLC0415  only where asked for

    algorithm = token.header.get("alg")
    if algorithm != "RS256":
        return Verification(False, f"{shown(algorithm)}: the provider signs with RS256")
    keys = _keys(login_base_url, tenant, transport)
    if isinstance(keys, str):
        return Verification(False, keys)
    kid = token.header.get("kid")
    key = next((each for each in keys if each.get("kid") == kid), None)
    if key is None:
        return Verification(False, f"key {shown(kid)} is not among the tenant's keys")
    try:
        jwt.PyJWS().decode(token.text, jwt.PyJWK(key, algorithm="RS256"), algorithms=["RS256"])
    except jwt.PyJWTError as error:
        bad = isinstance(error, jwt.InvalidSignatureError)
        why = "the signature is wrong" if bad else "the key or the token cannot be used"
        return Verification(False, f"{why}: it was not issued like this")
    issuer = token.claims.get("iss")
    if issuer not in issuers(Expected(login_base_url), tenant):
        return Verification(False, f"the signature is right, but the issuer is {shown(issuer)}")
    return Verification(True, f"signed by {login_base_url} for tenant {tenant}")


def _keys(login_base_url: str, tenant: str, transport: Transport) -> list[dict[str, Any]] | str:
    """The tenant's public keys (RFC 7517), or why there are none."""
    url = f"{login_base_url}/{quote(tenant, safe='')}/discovery/v2.0/keys"
    result = get_once(transport, url, {"Accept-Encoding": "identity"})
    if isinstance(result, Trouble):
        return f"no keys: {explanations.explain_trouble(result, login_base_url).cause}"
    try:
        document = json.loads(result.body)
        keys = document["keys"]
        found = [key for key in keys if isinstance(key, dict) and key.get("kty") == "RSA"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = []
    if result.status != _OK or not found:
        return f"{login_base_url} has no keys for tenant {shown(tenant)} (HTTP {result.status})"
    return found


def get_once(transport: Transport, url: str, headers: Mapping[str, str]) -> Answer | Trouble:
    """One JSON document, whose every answer is a finding: none asks to be tried again."""
    reply = transport.get(
        url,
        {"Accept": "application/json", **headers},
        tenant="",
        is_temporary=lambda _: False,
        timeout=ONE_GET,
    )
    return reply.result
