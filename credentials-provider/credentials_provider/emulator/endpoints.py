"""The endpoints: from a call to Entra ID's regular answer."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from credentials_provider.emulator.aadsts import EntraError
from credentials_provider.emulator.apps import epoch
from credentials_provider.emulator.assertions import check_assertion
from credentials_provider.emulator.tokens import app_claims, issuer, signing_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credentials_provider.emulator.apps import App, Directory, Lifetime
    from credentials_provider.emulator.wire import Call, Reply, Request

Service = Callable[["Call"], "Reply | None"]
"""Something else at the same place: an answer, or None where the call is not for it."""

_NO_TENANT = {"common": 9001023, "consumers": 9001023, "organizations": 50059}
_VERSIONS: tuple[list[str], ...] = ([], ["v2.0"])  # as a part of a path: 1, 2
_CONFIGURATION = {
    "token_endpoint_auth_methods_supported": [
        *("client_secret_post", "private_key_jwt", "client_secret_basic")
    ],
    "response_modes_supported": ["query", "fragment", "form_post"],
    "subject_types_supported": ["pairwise"],
    "id_token_signing_alg_values_supported": ["RS256"],
    "response_types_supported": ["code", "id_token", "code id_token"],
    "scopes_supported": ["openid", "profile", "email", "offline_access"],
    "tenant_region_scope": "EU",
    "cloud_instance_name": "microsoftonline.com",
}

_HOUR = 3600
_USUAL_LIFETIME = (_HOUR, 90 * 60)
_LONG_LIVED = 20 * _HOUR
"""From here on Entra ID tells when to renew: at half the life."""


class Endpoints:
    """Entra ID's endpoints over one directory."""

    def __init__(
        self,
        directory: Directory,
        services: Iterable[Service],
        token_lifetime: Lifetime | None,
    ) -> None:
        self._directory = directory
        self._services = tuple(services)
        self._token_lifetime = _USUAL_LIFETIME if token_lifetime is None else token_lifetime

    def answer(self, call: Call) -> Reply:
        """The regular answer to the call."""
        try:
            return self._route(call)
        except EntraError as error:
            return call.error(error.code, values=error.values)

    def _route(self, call: Call) -> Reply:
        match (call.request.method, *call.request.segments):
            case (_, _, "oauth2", "v2.0", "token"):
                return self._token(call)
            case ("GET", tenant, "discovery", *part, "keys") if part in _VERSIONS:
                return self._keys(call, tenant)
            case ("GET", tenant, *part, ".well-known", "openid-configuration") if part in _VERSIONS:
                return self._configuration(call, tenant, part)
        for answer in self._services:
            if reply := answer(call):
                return reply
        return call.reply(404, content_type="text/html")

    # Token endpoint

    def _token(self, call: Call) -> Reply:
        request = call.request
        if request.method != "POST":
            raise EntraError(900561)
        if call.tenant in _NO_TENANT:
            raise EntraError(_NO_TENANT[call.tenant])
        tenant = self._directory.tenant_guid(call.tenant)
        _check_grant(request)
        credentials = request.credentials()
        if credentials is None:
            raise EntraError(90013)
        client_id, secret = credentials
        if not client_id:
            raise EntraError(900144, parameter="client_id")
        resource = _resource(request)
        app = self._directory.app(tenant, client_id, call.now)
        if "client_assertion" in request.form:
            check_assertion(call, app, tenant)
            acr = "2"
        else:
            _check_secret(app, secret, call.now)
            acr = "1"
        if not self._directory.knows_resource(resource):
            raise EntraError(500011)
        token, lifetime = self.token(call, app, tenant, resource, acr=acr)
        document = {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": token,
        }
        if lifetime >= _LONG_LIVED:
            document["refresh_in"] = lifetime // 2
        return call.json(200, document)

    def token(
        self, call: Call, app: App, tenant: str, resource: str, *, acr: str
    ) -> tuple[str, int]:
        """A new token and its life in seconds."""
        lifetime: Lifetime = self._token_lifetime
        for wanted in (app.token_lifetime, call.lifetime):
            lifetime = lifetime if wanted is None else wanted
        if not isinstance(lifetime, int):
            lifetime = random.randint(*lifetime)  # noqa: S311 - no key
        unique = str(uuid.uuid4())
        claims = app_claims(call, app, tenant, resource, lifetime=lifetime, unique=unique, acr=acr)
        return signing_key().sign({**claims, **call.claims}), lifetime

    # Discovery

    def _keys(self, call: Call, tenant: str) -> Reply:
        guid = "{tenantid}" if tenant == "common" else self._directory.tenant_guid(tenant)
        return call.json(200, {"keys": [signing_key().jwk(issuer(call.base_url, guid, 2))]})

    def _configuration(self, call: Call, tenant: str, part: list[str]) -> Reply:
        named = tenant not in _NO_TENANT
        guid = self._directory.tenant_guid(tenant) if named else "{tenantid}"
        place = f"{call.base_url}/{guid if named else tenant}"
        oauth2 = "/".join((place, "oauth2", *part))
        document = {
            "token_endpoint": f"{oauth2}/token",
            "authorization_endpoint": f"{oauth2}/authorize",
            "device_authorization_endpoint": f"{oauth2}/devicecode",
            "jwks_uri": "/".join((place, "discovery", *part, "keys")),
            "issuer": issuer(call.base_url, guid, 2 if part else 1),
        }
        return call.json(200, document | _CONFIGURATION)


def _check_grant(request: Request) -> None:
    grant = request.form.get("grant_type")
    if not grant:
        raise EntraError(900144, parameter="grant_type")
    if grant != "client_credentials":
        raise EntraError(70003)


def _resource(request: Request) -> str:
    """The one resource that the scope names."""
    if "resource" in request.form:
        raise EntraError(901002)
    scopes = request.form.get("scope", "").split()
    if not scopes:
        raise EntraError(900144, parameter="scope")
    if any(not scope.endswith("/.default") for scope in scopes):
        raise EntraError(1002012)
    resources = {scope.removesuffix("/.default") for scope in scopes}
    if len(resources) > 1:
        raise EntraError(700022)
    resource = resources.pop()
    if not resource or resource.endswith(":/"):
        raise EntraError(70011)
    return resource


def _check_secret(app: App, secret: str, now: float) -> None:
    if not secret:
        raise EntraError(7000216)
    if secret in app.expired_secrets:
        raise EntraError(7000222)
    if secret in app.secrets:
        return
    added = next((each for each in app.passwords if each.content == secret), None)
    if added is None or now < added.works_at:
        raise EntraError(7000215)
    if added.end and epoch(added.end) <= now:
        raise EntraError(7000222)
