"""Microsoft Graph's applications: their secrets and certificates, read and changed.

https://learn.microsoft.com/graph/api/application-addpassword
https://learn.microsoft.com/graph/api/application-removepassword
https://learn.microsoft.com/graph/api/application-update
"""

from __future__ import annotations

import base64
import re
import secrets
import uuid
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from credentials_provider.emulator.apps import (
    DAY,
    SECRET_LIFE,
    Added,
    derived_guid,
    epoch,
    is_guid,
    iso,
)
from credentials_provider.emulator.tokens import GRAPH, bearer_claims

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credentials_provider.emulator.apps import App, Directory
    from credentials_provider.emulator.wire import Call, Reply

    Change = Callable[[Callable[[App], App]], None]

_APPLICATION = re.compile(r"/(?:v1\.0|beta)/applications\(appId='([^']*)'\)(?:/(\w+))?")


class _RefusedError(Exception):
    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(code)
        self.code = code
        self.message = message
        self.status = status


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
            inner = {"request-id": call.trace_id}
            error = {"code": refused.code, "message": refused.message, "innerError": inner}
            return call.json(refused.status, {"error": error})

    def _answer(self, call: Call, client_id: str, action: str | None) -> Reply:
        claims = bearer_claims(call, GRAPH)
        if claims is None:
            text = "Access token validation failure."
            raise _RefusedError("InvalidAuthenticationToken", text, 401)
        app = self._directory.find(claims["tid"], client_id)
        if not _may(claims, app, writes=call.request.method != "GET"):
            text = "Insufficient privileges to complete the operation."
            raise _RefusedError("Authorization_RequestDenied", text, 403)
        if app is None:
            text = f"Resource '{client_id}' not found."
            raise _RefusedError("Request_ResourceNotFound", text, 404)
        change = partial(self._directory.change, claims["tid"], client_id)
        match (call.request.method, action):
            case ("GET", None):
                return _shown(call, app)
            case ("POST", "addPassword"):
                return self._add_password(call, app, change)
            case ("POST", "removePassword"):
                return _remove_password(call, app, change)
            case ("PATCH", None):
                return self._set_keys(call, app, change)
            case _:
                raise _RefusedError("Request_BadRequest", "Method not allowed.", 405)

    def _add_password(self, call: Call, app: App, change: Change) -> Reply:
        wanted = call.request.json().get("passwordCredential") or {}
        end = _end(wanted.get("endDateTime")) or call.now + SECRET_LIFE
        _check_policy(app, end - call.now)
        password = Added(
            key_id=str(uuid.uuid4()),
            content=f"{secrets.token_urlsafe(4)[:3]}8Q~{secrets.token_urlsafe(30)}"[:40],
            end=iso(end),
            name=str(wanted.get("displayName") or ""),
            works_at=call.now + self._propagation,
            start=iso(call.now),
        )
        change(lambda now: replace(now, passwords=(*now.passwords, password)))
        return call.json(200, _password(password) | {"secretText": password.content})

    def _set_keys(self, call: Call, app: App, change: Change) -> Reply:
        """All that is not in the list goes; an entry of a known key id stays as it is."""
        document = call.request.json()
        listed = document.get("keyCredentials")
        if set(document) != {"keyCredentials"} or not isinstance(listed, list):
            raise _RefusedError("Request_BadRequest", "Only keyCredentials can be changed here.")
        known = {each.key_id: each for each in app.all_keys}
        keys = tuple(
            known.get(str(each.get("keyId", "")).lower()) or self._new_key(call, each)
            for each in listed
        )
        change(lambda now: replace(now, certificates=keys))
        return call.reply(204)

    def _new_key(self, call: Call, entry: Mapping[str, Any]) -> Added:
        try:
            der = base64.b64decode(str(entry["key"]), validate=True)
            certificate = x509.load_der_x509_certificate(der)
        except (KeyError, ValueError):
            raise _RefusedError("KeyCredentialsInvalidKey", "Invalid value for key.") from None
        if (entry.get("type"), entry.get("usage")) != ("AsymmetricX509Cert", "Verify"):
            raise _RefusedError("KeyCredentialsInvalidType", "Invalid type or usage of a key.")
        given = str(entry.get("keyId", "")).lower()
        return Added(
            key_id=given if is_guid(given) else str(uuid.uuid4()),
            content=certificate.public_bytes(Encoding.PEM).decode(),
            end=iso(certificate.not_valid_after_utc.timestamp()),
            name=str(entry.get("displayName") or ""),
            works_at=call.now + self._propagation,
        )


def _remove_password(call: Call, app: App, change: Change) -> Reply:
    key_id = str(call.request.json().get("keyId", "")).lower()
    if key_id not in {each.key_id for each in app.all_passwords}:
        text = f"No password credential found with keyId {key_id}."
        raise _RefusedError("Request_BadRequest", text)
    change(lambda now: now.without_password(key_id))
    return call.reply(204)


def _may(claims: Mapping[str, Any], app: App | None, *, writes: bool) -> bool:
    roles = set(claims.get("roles", ()))
    if "Application.ReadWrite.All" in roles or (not writes and "Application.Read.All" in roles):
        return True
    caller = str(claims.get("azp", claims.get("appid"))).lower()
    owns = app is not None and caller in {each.lower() for each in app.owners}
    return "Application.ReadWrite.OwnedBy" in roles and owns


def _check_policy(app: App, life: float) -> None:
    if app.password_policy == "forbidden":  # noqa: S105  a policy
        text = "Credential type not allowed as per assigned policy 'Password Addition'."
        raise _RefusedError("CredentialTypeNotAllowedAsPerAppPolicy", text)
    if app.password_policy is not None and life > app.password_policy * DAY:
        text = "Credential lifetime exceeds the max value allowed as per assigned policy."
        raise _RefusedError("CredentialInvalidLifetimeAsPerAppPolicy", text)


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
        "startDateTime": iso(certificate.not_valid_before_utc.timestamp()),
        "endDateTime": each.end,
        "key": key if whole else None,
    }


def _end(value: object) -> float | None:
    try:
        return None if value is None else epoch(str(value))
    except ValueError:
        raise _RefusedError("Request_BadRequest", "Invalid value for endDateTime.") from None
