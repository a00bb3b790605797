"""Microsoft Graph's applications: their secrets and certificates, read and changed.

https://learn.microsoft.com/graph/api/application-addpassword
https://learn.microsoft.com/graph/api/application-removepassword
https://learn.microsoft.com/graph/api/application-update
"""

from __future__ import annotations

import base64
import binascii
import random
import re
import secrets
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from credentials_provider.emulator.apps import Added, derived_guid, is_guid, random_guid
from credentials_provider.emulator.tokens import GRAPH, bearer_claims

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.emulator.apps import App, Directory
    from credentials_provider.emulator.wire import Call, Reply

READ_ROLES = frozenset({"Application.Read.All", "Application.ReadWrite.All"})
WRITE_ROLES = frozenset({"Application.ReadWrite.All"})
OWN_ROLE = "Application.ReadWrite.OwnedBy"

_APPLICATION = re.compile(r"/(?:v1\.0|beta)/applications\(appId='([^']*)'\)(?:/(\w+))?")
_USUAL_LIFE = timedelta(days=2 * 365)


class _RefusedError(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message


class Graph:
    """The applications of a directory. What is added works `propagation` seconds later."""

    def __init__(self, directory: Directory, propagation: float) -> None:
        self._directory = directory
        self._propagation = propagation

    def answer(self, call: Call) -> Reply | None:
        """The answer to a call that is for Graph, else None."""
        named = _APPLICATION.fullmatch(call.request.path)
        if named is None:
            return None
        try:
            return self._answer(call, named[1], named[2])
        except _RefusedError as refused:
            error = {"code": refused.code, "message": refused.message}
            error["innerError"] = {"request-id": call.trace_id}  # type: ignore[assignment]  # JSON
            return call.json(refused.status, {"error": error})

    def _answer(self, call: Call, client_id: str, action: str | None) -> Reply:
        claims = bearer_claims(call.request.headers.get("authorization"), GRAPH, call.now)
        if claims is None:
            raise _RefusedError(
                401, "InvalidAuthenticationToken", "Access token validation failure."
            )
        app = self._directory.find(claims["tid"], client_id)
        writes = call.request.method != "GET"
        if not _may(claims, app, writes=writes):
            raise _RefusedError(
                403,
                "Authorization_RequestDenied",
                "Insufficient privileges to complete the operation.",
            )
        if app is None:
            raise _RefusedError(
                404, "Request_ResourceNotFound", f"Resource '{client_id}' not found."
            )
        match (call.request.method, action):
            case ("GET", None):
                return _shown(call, app)
            case ("POST", "addPassword"):
                return self._add_password(call, claims["tid"], app)
            case ("POST", "removePassword"):
                return self._remove_password(call, claims["tid"], app)
            case ("PATCH", None):
                return self._set_keys(call, claims["tid"], app)
            case _:
                raise _RefusedError(405, "Request_BadRequest", "Method not allowed.")

    def _add_password(self, call: Call, tenant: str, app: App) -> Reply:
        wanted = (call.request.json() or {}).get("passwordCredential") or {}
        start = datetime.fromtimestamp(call.now, timezone.utc)
        end = _time(wanted.get("endDateTime")) or start + _USUAL_LIFE
        _check_policy(app, end - start)
        rng = random.Random()  # noqa: S311  an id, no key
        password = Added(
            key_id=random_guid(rng),
            content=f"{secrets.token_urlsafe(4)[:3]}8Q~{secrets.token_urlsafe(30)}"[:40],
            end=_text(end),
            name=str(wanted.get("displayName") or ""),
            works_at=call.now + self._propagation,
            start=_text(start),
        )
        self._directory.change(
            tenant, app.client_id, lambda now: replace(now, passwords=(*now.passwords, password))
        )
        return call.json(200, _password(password) | {"secretText": password.content})

    def _remove_password(self, call: Call, tenant: str, app: App) -> Reply:
        key_id = str((call.request.json() or {}).get("keyId", "")).lower()
        if key_id not in {each.key_id for each in app.all_passwords}:
            raise _RefusedError(
                400, "Request_BadRequest", f"No password credential found with keyId {key_id}."
            )
        self._directory.change(tenant, app.client_id, lambda now: now.without_password(key_id))
        return call.reply(204)

    def _set_keys(self, call: Call, tenant: str, app: App) -> Reply:
        """All that is not in the list goes; an entry of a known key id stays as it is."""
        document = call.request.json() or {}
        listed = document.get("keyCredentials")
        if set(document) != {"keyCredentials"} or not isinstance(listed, list):
            raise _RefusedError(
                400, "Request_BadRequest", "Only keyCredentials can be changed here."
            )
        known = {each.key_id: each for each in app.all_keys}
        keys = tuple(
            known.get(str(each.get("keyId", "")).lower()) or self._new_key(call, each)
            for each in listed
        )
        self._directory.change(
            tenant, app.client_id, lambda now: replace(now, certificates=(), keys=keys)
        )
        return call.reply(204)

    def _new_key(self, call: Call, entry: Mapping[str, Any]) -> Added:
        try:
            der = base64.b64decode(str(entry["key"]), validate=True)
            certificate = x509.load_der_x509_certificate(der)
        except (KeyError, ValueError, binascii.Error):
            raise _RefusedError(400, "KeyCredentialsInvalidKey", "Invalid value for key.") from None
        if (entry.get("type"), entry.get("usage")) != ("AsymmetricX509Cert", "Verify"):
            raise _RefusedError(400, "KeyCredentialsInvalidType", "Invalid type or usage of a key.")
        given = str(entry.get("keyId", "")).lower()
        return Added(
            key_id=given if is_guid(given) else random_guid(random.Random()),  # noqa: S311  an id
            content=certificate.public_bytes(Encoding.PEM).decode(),
            end=_text(certificate.not_valid_after_utc),
            name=str(entry.get("displayName") or ""),
            works_at=call.now + self._propagation,
        )


def _may(claims: Mapping[str, Any], app: App | None, *, writes: bool) -> bool:
    roles = set(claims.get("roles", ()))
    if roles & (WRITE_ROLES if writes else READ_ROLES):
        return True
    caller = str(claims.get("azp", claims.get("appid"))).lower()
    owns = app is not None and caller in {each.lower() for each in app.owners}
    return OWN_ROLE in roles and owns


def _check_policy(app: App, life: timedelta) -> None:
    if app.password_policy == "forbidden":  # noqa: S105  a policy
        raise _RefusedError(
            400,
            "CredentialTypeNotAllowedAsPerAppPolicy",
            "Credential type not allowed as per assigned policy 'Password Addition'.",
        )
    if app.password_policy is not None and life > timedelta(days=app.password_policy):
        raise _RefusedError(
            400,
            "CredentialInvalidLifetimeAsPerAppPolicy",
            "Credential lifetime exceeds the max value allowed as per assigned policy.",
        )


def _shown(call: Call, app: App) -> Reply:
    selected = call.request.query.get("$select", "").split(",")
    everything: dict[str, object] = {
        "id": derived_guid(f"application/{app.client_id}"),
        "appId": app.client_id,
        "displayName": app.name,
        "keyCredentials": [_key(each, whole="keyCredentials" in selected) for each in app.all_keys],
        "passwordCredentials": [
            _password(each) | {"secretText": None} for each in app.all_passwords
        ],
    }
    names = selected if selected != [""] else list(everything)
    return call.json(200, {name: everything[name] for name in names if name in everything})


def _password(each: Added) -> dict[str, object]:
    return {
        "keyId": each.key_id,
        "displayName": each.name or None,
        "hint": each.content[:3],
        "startDateTime": each.start or None,
        "endDateTime": each.end,
    }


def _key(each: Added, *, whole: bool) -> dict[str, object]:
    """The key itself is shown only to who selects it."""
    certificate = x509.load_pem_x509_certificate(each.content.encode())
    thumbprint = certificate.fingerprint(hashes.SHA1())  # noqa: S303  as Graph has it
    key = base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()
    return {
        "keyId": each.key_id,
        "displayName": each.name or None,
        "type": "AsymmetricX509Cert",
        "usage": "Verify",
        "customKeyIdentifier": base64.b64encode(thumbprint).decode(),
        "startDateTime": _text(certificate.not_valid_before_utc),
        "endDateTime": each.end,
        "key": key if whole else None,
    }


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise _RefusedError(400, "Request_BadRequest", "Invalid value for endDateTime.") from None


def _text(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
