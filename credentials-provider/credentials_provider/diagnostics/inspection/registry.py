"""What the MCP Gateway Registry would say about a token: its own checks, letter by letter."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.diagnostics import guide
from credentials_provider.diagnostics.inspection.decoding import (
    application,
    audiences,
    groups_of,
    has_overage,
    shown,
)
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.reading import authority_base
from credentials_provider.identities.rules import SCOPE_END, is_guid
from credentials_provider.tokens.claims import epoch_claim

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from credentials_provider.diagnostics.inspection.decoding import Token
    from credentials_provider.settings import Settings

_ID_TOKEN_CLAIMS = ("nonce", "at_hash", "c_hash")
_SECOND_VERSION = "Set accessTokenAcceptedVersion to 2 in the manifest of the gateway's app."


class Validator(NamedTuple):
    """The registry's settings as they are written; None where they are not known here."""

    login_base_url: str
    tenant_id: str | None = None
    gateway: str | None = None  # the gateway's client id
    application_id_uri: str | None = None


class Finding(NamedTuple):
    """What the registry would say about one thing; `ok` None: only the registry knows."""

    about: str
    ok: bool | None
    seen: str
    cure: str = ""
    link: str = ""


def validator_of(settings: Settings, fields: Mapping[str, Any]) -> Validator:
    """The registry's settings, from those of this run and the identity's own fields."""
    environment = settings.environment
    written = environment.get("ENTRA_TENANT_ID") or settings.tenant_id
    own = fields.get("tenant_id")
    scope = str(fields.get("scope") or "").removeprefix("api://").removesuffix(SCOPE_END)
    return Validator(
        environment.get("ENTRA_LOGIN_BASE_URL") or authority_base(dict(fields), settings),
        written or (own.lower() if isinstance(own, str) and is_guid(own) else None),
        settings.client_id or (scope if is_guid(scope) else None),
        environment.get("ENTRA_APPLICATION_ID_URI"),
    )


def registry_findings(
    token: Token, validator: Validator, now: float, *, signed: bool | None = None
) -> list[Finding]:
    """Its own checks: key, issuer, audience, times, client, groups or roles.

    `signed`: whether the signature is right; None where nobody has checked it.
    """
    claims = token.claims
    if token.header.get("alg") == "HS256":
        seen = "HS256: signed with a secret, like the registry's own tokens"
        return [Finding("signature", None, seen, "Only the registry can check it.")]
    return [
        _signature(token, signed=signed),
        *_kind(claims),
        _issuer(claims, validator),
        _audience(claims, validator),
        _times(claims, now),
        _client(claims),
        _groups(claims),
    ]


def _signature(token: Token, *, signed: bool | None) -> Finding:
    algorithm, key = token.header.get("alg"), token.header.get("kid")
    seen = f"{shown(algorithm)}, key {shown(key)}"
    if algorithm != "RS256" or not isinstance(key, str):
        cure = "The registry only accepts RS256 with a key id: Entra ID did not issue this token."
        return Finding("signature", False, seen, cure)
    if signed is None:
        return Finding("signature", None, f"{seen}: not checked", "Add --verify to check it.")
    cure = "" if signed else "Do not use this token. Mint a new one."
    return Finding("signature", signed, f"{seen}: {'right' if signed else 'not right'}", cure)


def _kind(claims: Mapping[str, Any]) -> Iterator[Finding]:
    if found := [name for name in _ID_TOKEN_CLAIMS if name in claims]:
        seen = f"an ID token ({', '.join(found)}): it says who somebody is and grants nothing"
        yield Finding("kind", False, seen, "Use an access token: credentials-provider mints them.")


def _issuer(claims: Mapping[str, Any], validator: Validator) -> Finding:
    issuer, tenant, base = claims.get("iss"), validator.tenant_id, validator.login_base_url
    if tenant is None:
        cure = "Set ENTRA_TENANT_ID to compare it."
        return Finding("issuer", None, shown(issuer), cure, guide.IDS)
    if issuer in (f"{base}/{tenant}/v2.0", f"https://sts.windows.net/{tenant}/"):
        return Finding("issuer", True, shown(issuer))
    cure = _issuer_cure(str(claims.get("tid")), validator)
    seen = f"{shown(issuer)}, which is not tenant {tenant} at {base}"
    return Finding("issuer", False, seen, cure, guide.ISSUER)


def _issuer_cure(tenant: str, validator: Validator) -> str:
    """Which setting to change; the registry compares it letter by letter with the token."""
    written, base = validator.tenant_id or "", validator.login_base_url
    if not is_guid(written):
        guid = tenant if is_guid(tenant) else "the one in Microsoft Entra ID > Overview"
        return f"ENTRA_TENANT_ID is not a GUID. The registry needs it: set it to {guid}."
    if written.lower() == tenant != written:
        return f"Write ENTRA_TENANT_ID in small letters: {tenant}."
    if base.endswith("/"):
        return "Remove the slash at the end of ENTRA_LOGIN_BASE_URL."
    if written == tenant:
        return (
            "The token is of another login host. Compare ENTRA_LOGIN_BASE_URL, --login-base-url "
            "and --cloud with where it was requested."
        )
    return (
        "Compare ENTRA_TENANT_ID with Microsoft Entra ID > Overview, and the identity's tenant_id "
        "with it."
    )


def _audience(claims: Mapping[str, Any], validator: Validator) -> Finding:
    found, gateway = audiences(claims), validator.gateway
    text = ", ".join(shown(each) for each in found) or "none"
    if gateway is None:
        cure = "Set ENTRA_CLIENT_ID (the gateway's application) to compare it."
        return Finding("audience", None, text, cure, guide.IDS)
    if {gateway, f"api://{gateway}", validator.application_id_uri} & {*found}:
        return Finding("audience", True, f"{text}, the gateway")
    own = application(claims)
    itself = isinstance(own, str) and bool({own, f"api://{own}"} & {*found})
    seen = (
        f"{text}, which is {'the identity itself' if itself else 'not the gateway'}: the registry "
        "says \N{LEFT DOUBLE QUOTATION MARK}Audience doesn't match\N{RIGHT DOUBLE QUOTATION MARK}"
    )
    cure = f"Set the identity's scope to api://{gateway}/.default, the gateway's application."
    return Finding("audience", False, seen, cure, guide.EXPOSE_API)


def _times(claims: Mapping[str, Any], now: float) -> Finding:
    expires = epoch_claim(claims, "exp")
    begins = max(epoch_claim(claims, name) or 0 for name in ("nbf", "iat"))
    if expires is None:
        return Finding("times", False, "no expiry (exp)", "Entra ID did not issue this token.")
    if expires <= now:
        return Finding("times", False, "expired", "Renew it: generate --refresh-ahead.")
    if begins > now:
        return Finding("times", False, "not valid yet", "Synchronise this machine's clock (NTP).")
    return Finding("times", True, "valid now")


def _client(claims: Mapping[str, Any]) -> Finding:
    if client := claims.get("azp"):
        return Finding("client", True, shown(client))
    first = " (a v1 token has appid instead)" if claims.get("appid") else ""
    seen = f"no azp: the registry takes the token for the gateway's own application{first}"
    return Finding("client", None, seen, _SECOND_VERSION, guide.EXPOSE_API)


def _groups(claims: Mapping[str, Any]) -> Finding:
    if groups := groups_of(claims):
        where = "groups" if claims.get("groups") else "roles"
        return Finding("groups", True, f"{len(groups)} in {where}")
    if not claims.get("azp"):
        seen = (
            "neither groups nor roles, and no azp: the registry cannot look the client up and "
            "grants nothing"
        )
        return Finding("groups", False, seen, _SECOND_VERSION, guide.EXPOSE_API)
    found, link = "neither groups nor roles in the token", guide.NO_GROUPS
    if has_overage(claims):
        found, link = "more than 200 groups, so the token has none", guide.OVERAGE
    seen = f"{found}: the registry uses the groups that it knows for this client"
    cure = "--registry-url shows the registry the token and tells what it may see."
    return Finding("groups", None, seen, cure, link)


# The registry's scopes


def read_group_mappings(path: str) -> dict[str, list[str]]:
    """Group to scopes, from the registry's scope documents or its older scopes.yml.

    A scope document is a JSON object with `_id` or `scope_name` and `group_mappings`; `path` is
    one of them, an array of them, or a folder of such files.

    Raises:
        ConfigurationError: the file cannot be read, or has no such mapping.

    """
    try:
        files = [path]
        if os.path.isdir(path):
            names = sorted(each for each in os.listdir(path) if each.endswith(".json"))
            files = [os.path.join(path, each) for each in names]
        documents = [each for file in files for each in _documents(file)]
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is not JSON or YAML"
        raise ConfigurationError(
            f"{path} cannot be read: {why}", hint="Name the registry's scope files."
        ) from None
    found: dict[str, list[str]] = {}
    for document in documents:
        for group, scopes in _mappings(document):
            found.setdefault(group, []).extend(scopes)
    if not any("group_mappings" in each for each in documents):
        raise ConfigurationError(
            f"{path} has no group_mappings",
            hint="A scope document has _id (or scope_name) and group_mappings: a list of groups.",
        )
    return found


def _documents(path: str) -> list[dict[str, Any]]:
    """The objects of a JSON or YAML file; ValueError where it is neither."""
    with open(path, encoding="utf-8-sig") as file:
        text = file.read()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        from ruamel.yaml import YAML  # only where a file is given
        from ruamel.yaml.error import YAMLError

        try:
            document = YAML(typ="safe", pure=True).load(text)
        except (YAMLError, RecursionError):
            raise ValueError from None
    listed = document if isinstance(document, list) else [document]
    return [each for each in listed if isinstance(each, dict)]


def _mappings(document: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    mappings = document.get("group_mappings")
    name = document.get("_id") or document.get("scope_name")
    if isinstance(mappings, dict):  # scopes.yml: a group's scopes
        for group, scopes in mappings.items():
            if isinstance(scopes, list):
                yield str(group), [str(scope) for scope in scopes]
    elif isinstance(mappings, list) and name:  # a scope's groups
        for group in mappings:
            yield str(group), [str(name)]


def mapping_finding(token: Token, mappings: Mapping[str, Sequence[str]]) -> Finding:
    """Whether the scopes give this token anything."""
    groups = groups_of(token.claims)
    scopes = dict.fromkeys(scope for group in groups for scope in mappings.get(group, ()))
    unmapped = [group for group in groups if not mappings.get(group)]
    missing = f"; unmapped: {', '.join(map(shown, unmapped))}" if unmapped else ""
    if scopes:
        return Finding("scopes", True, f"{', '.join(map(shown, scopes))}{missing}")
    if not groups:
        return Finding("scopes", None, "the token has no groups that could be mapped")
    seen = f"no group of this token is mapped to a scope{missing}"
    cure = "Put the group's Object Id (Entra ID > Groups > Overview) under group_mappings."
    return Finding("scopes", False, seen, cure, guide.NO_ACCESS)
