"""An application's secrets and certificates at Microsoft Graph: read, added, removed.

https://learn.microsoft.com/graph/api/resources/passwordcredential
https://learn.microsoft.com/graph/api/resources/keycredential
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from credentials_provider.entra import explanations
from credentials_provider.entra.answers import explain, json_object, safe_id
from credentials_provider.entra.client_credentials import mint
from credentials_provider.minting import Failure
from credentials_provider.settings import CLOUDS
from credentials_provider.transport.connections import HttpRequest, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credentials_provider.credentials.resolver import Credential
    from credentials_provider.identities.identity import Identity
    from credentials_provider.transport.connections import Answer
    from credentials_provider.transport.retrying import Transport

PUBLIC = "https://graph.microsoft.com"
# https://learn.microsoft.com/graph/deployments
_HOSTS = {
    CLOUDS["public"]: PUBLIC,
    CLOUDS["usgov"]: "https://graph.microsoft.us",
    CLOUDS["china"]: "https://microsoftgraph.chinacloudapi.cn",
}
TIMEOUT = 20.0  # seconds for one request
HINT_LENGTH = 3  # Graph shows a secret's first characters
_CODE = re.compile(r"[A-Za-z][A-Za-z_]{2,79}", re.ASCII)
_SUCCESS = range(200, 300)


@dataclass(frozen=True, slots=True)
class Password:
    """A client secret as Graph shows it; `hint` has its first three characters."""

    key_id: str
    end: float  # epoch seconds
    hint: str
    name: str
    start: float | None = None  # epoch seconds


@dataclass(frozen=True, slots=True)
class NewPassword:
    """A client secret that was made just now; Graph shows it only once."""

    key_id: str
    end: float  # epoch seconds
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Key:
    """A certificate as Graph shows it; `document` is Graph's own, to be sent back unchanged."""

    key_id: str
    end: float  # epoch seconds
    name: str
    document: Mapping[str, Any] = field(repr=False)
    start: float | None = None  # epoch seconds


@dataclass(frozen=True, slots=True)
class Credentials:
    """All secrets and certificates of an application."""

    passwords: tuple[Password, ...]
    keys: tuple[Key, ...]


class Application:
    """An application at Graph, seen and changed with `token`; thread-safe.

    A call returns a `Failure` where Graph refuses or does not answer. `base` is Graph's address.
    """

    def __init__(self, transport: Transport, base: str, client_id: str, token: str) -> None:
        self._transport = transport
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        self._url = f"{base}/v1.0/applications(appId='{quote(client_id, safe='')}')"
        self._host = base.partition("://")[2]

    def credentials(self, *, to_change: bool = False) -> Credentials | Failure:
        """All that it has; a refusal names the right to read it, or `to_change` it."""
        select = "?$select=passwordCredentials,keyCredentials"
        found = self._ask("GET", select, to_change=to_change)
        if isinstance(found, Failure):
            return found
        document = json_object(found) or {}
        try:
            return Credentials(
                tuple(map(_password, document["passwordCredentials"])),
                tuple(map(_key, document["keyCredentials"])),
            )
        except (ValueError, KeyError, TypeError):
            return self._unreadable()

    def add_password(self, name: str, end: float) -> NewPassword | Failure:
        """Make a client secret that ends at `end` (epoch seconds); it works some minutes later.

        Not sent again where it may have happened: then Graph may hold a secret called `name` that
        nobody knows, to be removed by its key id.
        """
        wanted = {"displayName": name, "endDateTime": _text(end)}
        found = self._ask("POST", "/addPassword", {"passwordCredential": wanted}, once=True)
        if isinstance(found, Failure):
            return found
        document = json_object(found) or {}
        try:
            made = NewPassword(
                document["keyId"], _epoch(document["endDateTime"]), document["secretText"]
            )
        except (ValueError, KeyError, TypeError):
            return self._unreadable()
        return made if made.secret and isinstance(made.secret, str) else self._unreadable()

    def remove_password(self, key_id: str) -> Failure | None:
        """Remove a client secret. One that is gone already is not a failure."""
        found = self._ask("POST", "/removePassword", {"keyId": key_id})
        if not isinstance(found, Failure):
            return None
        now = self.credentials()
        if isinstance(now, Failure) or key_id in {each.key_id for each in now.passwords}:
            return found
        return None

    def set_keys(
        self, keys: Sequence[Key], new: bytes | None = None, name: str = ""
    ) -> Failure | None:
        """Make these, and a certificate `new` (DER) called `name`, all certificates that there are.

        Graph replaces the whole list: pass all that are to stay, as `credentials` gave them.
        """
        listed = [dict(each.document) for each in keys]
        if new is not None:
            key = base64.b64encode(new).decode()
            kind = {"type": "AsymmetricX509Cert", "usage": "Verify"}
            listed.append({**kind, "key": key, "displayName": name})
        found = self._ask("PATCH", "", {"keyCredentials": listed})
        return found if isinstance(found, Failure) else None

    def _ask(
        self,
        method: str,
        path: str,
        content: object = None,
        *,
        once: bool = False,
        to_change: bool = True,
    ) -> Answer | Failure:
        body = None if content is None else json.dumps(content)
        request = HttpRequest(method, f"{self._url}{path}", self._headers, body, TIMEOUT)
        result = self._transport.send(request, about="Microsoft Graph", once=once).result
        if isinstance(result, Trouble):
            return explain(result, self._host, explanations.GRAPH)
        if result.status in _SUCCESS:
            return result
        return _refusal(result, writes=to_change)

    def _unreadable(self) -> Failure:
        cause = f"the answer of {self._host} is not what Microsoft Graph answers"
        return Failure("bad_response", cause, f"Check {explanations.GRAPH}.")


def application(
    caller: Identity,
    credential: Credential,
    authority_base: str,
    transport: Transport,
    client_id: str | None = None,
) -> Application | Failure:
    """The application `client_id` (None: the caller's own), with a token of the caller's for Graph.

    A login host that is not Microsoft's is taken to answer for Graph itself.
    """
    base = _HOSTS.get(authority_base, authority_base)
    scope = f"{base if authority_base in _HOSTS else PUBLIC}/.default"
    minted = mint(replace(caller, scope=scope), credential, authority_base, transport)
    if isinstance(minted, Failure):
        return minted
    return Application(transport, base, client_id or caller.client_id, minted.access_token)


def secret_expiry(
    identity: Identity, credential: Credential, authority_base: str, transport: Transport
) -> float | str:
    """The end of the identity's client secret in epoch seconds, or why it is not known.

    Graph's hint is the same for secrets that begin alike: then the first of their ends counts.
    """
    asked = application(identity, credential, authority_base, transport)
    if isinstance(asked, Failure):
        return f"Microsoft Graph gives no token: {asked.message}"
    found = asked.credentials()
    if isinstance(found, Failure):
        return f"{found.message}. {found.remedy}"
    hint = str(credential.for_msal)[:HINT_LENGTH]
    ends = [each.end for each in found.passwords if each.hint == hint]
    return min(ends) if ends else "Microsoft Graph knows no secret that begins like this one"


def _refusal(answer: Answer, *, writes: bool) -> Failure:
    error = (json_object(answer) or {}).get("error")
    detail: Mapping[str, Any] = error if isinstance(error, dict) else {}
    code = str(detail.get("code") or "")
    shown = f", {code}" if _CODE.fullmatch(code) else ""
    names = (code,) if writes else (f"{code} (reading)", code)
    explained = explanations.diagnosis("graph", *names, status=answer.status, detail=shown)
    inner = detail.get("innerError")
    trace = safe_id(inner.get("request-id")) if isinstance(inner, dict) else None
    return Failure("rejected", *explained[:2], trace_id=trace)


def _password(entry: Mapping[str, Any]) -> Password:
    return Password(
        entry["keyId"],
        _epoch(entry["endDateTime"]),
        str(entry.get("hint") or ""),
        str(entry.get("displayName") or ""),
        _start(entry),
    )


def _key(entry: Mapping[str, Any]) -> Key:
    name = str(entry.get("displayName") or "")
    return Key(entry["keyId"], _epoch(entry["endDateTime"]), name, entry, _start(entry))


def _start(entry: Mapping[str, Any]) -> float | None:
    return _epoch(entry["startDateTime"]) if entry.get("startDateTime") else None


def _epoch(text: str) -> float:
    """Epoch seconds of one of Graph's times: in UTC, a fraction of a second left out."""
    return datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc).timestamp()


def _text(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
