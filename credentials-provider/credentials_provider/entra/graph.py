"""When a client secret ends: Microsoft Graph knows, the token response does not say.

The identity asks for itself, with a token of its own; that needs `Application.Read.All`.
https://learn.microsoft.com/graph/api/resources/passwordcredential
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from credentials_provider.entra.client_credentials import mint
from credentials_provider.minting import Failure
from credentials_provider.settings import CLOUDS
from credentials_provider.transport.connections import Trouble

if TYPE_CHECKING:
    from credentials_provider.credentials.resolver import Credential
    from credentials_provider.identities.fields import Identity
    from credentials_provider.transport.connections import Answer
    from credentials_provider.transport.retrying import Transport

PUBLIC = "https://graph.microsoft.com"
# https://learn.microsoft.com/graph/deployments
_HOSTS = {
    CLOUDS["public"]: PUBLIC,
    CLOUDS["usgov"]: "https://graph.microsoft.us",
    CLOUDS["china"]: "https://microsoftgraph.chinacloudapi.cn",
}
_HINT_LENGTH = 3  # Graph tells a secret's first characters
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}", re.ASCII)  # in UTC; a fraction follows
_OK = 200
_REFUSED = frozenset({401, 403})


def secret_expiry(
    identity: Identity, credential: Credential, authority_base: str, transport: Transport
) -> float | str:
    """The end of the identity's client secret in epoch seconds, or why it cannot be told.

    Secrets that begin alike cannot be told apart by Graph's hint: then the first of their ends. A
    login host that is not Microsoft's is taken to answer for Graph itself.
    """
    base = _HOSTS.get(authority_base, authority_base)
    scope = f"{base if authority_base in _HOSTS else PUBLIC}/.default"
    minted = mint(identity._replace(scope=scope), credential, authority_base, transport)
    if isinstance(minted, Failure):
        return f"Graph gives no token: {minted.message}"
    reply = transport.get(
        f"{base}/v1.0/applications(appId='{quote(identity.client_id, safe='')}')"
        "?$select=passwordCredentials",
        {"Authorization": f"Bearer {minted.access_token}", "Accept-Encoding": "identity"},
        tenant=identity.tenant_id,
        is_temporary=lambda _: False,
        timeout=20.0,
    )
    if isinstance(reply.result, Trouble):
        return "Graph does not answer"
    if reply.result.status in _REFUSED:
        return "Graph refuses: grant the app Application.Read.All of Microsoft Graph"
    if reply.result.status != _OK:
        return f"Graph answered HTTP {reply.result.status}"
    hint = str(credential.for_msal)[:_HINT_LENGTH]
    ends = _ends(reply.result, hint)
    return min(ends) if ends else "Graph knows no secret that begins like this one"


def _ends(answer: Answer, hint: str) -> list[float]:
    try:
        listed: Any = json.loads(answer.body)["passwordCredentials"]
        return [
            datetime.fromisoformat(found[0]).replace(tzinfo=timezone.utc).timestamp()
            for each in listed
            if each["hint"] == hint and (found := _TIME.match(each["endDateTime"]))
        ]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
