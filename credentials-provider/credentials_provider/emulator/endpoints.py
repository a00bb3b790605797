"""The endpoints: from a call to Entra ID's regular answer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from credentials_provider.emulator.aadsts import EntraError
from credentials_provider.emulator.apps import random_guid
from credentials_provider.emulator.assertions import check_assertion
from credentials_provider.emulator.tokens import app_claims, issuer, signing_key

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable

    from credentials_provider.emulator.apps import App, Directory, Lifetime
    from credentials_provider.emulator.wire import Call, Reply, Request

Service = Callable[["Call"], "Reply | None"]
"""Something else at the same place: an answer, or None where the call is not for it."""

_HOUR = 3600
_USUAL_LIFETIME = (_HOUR, 90 * 60)
_LONG_LIVED = 20 * _HOUR
"""From here on Entra ID tells when to renew: at half the life."""


class Endpoints:
    """Entra ID's endpoints over one directory."""

    def __init__(
        self,
        directory: Directory,
        *,
        base_url: Callable[[], str],
        token_lifetime: Lifetime | None,
        rng: random.Random,
        services: Iterable[Service] = (),
    ) -> None:
        self._directory = directory
        self._services = tuple(services)
        self._base_url = base_url
        self._token_lifetime = _USUAL_LIFETIME if token_lifetime is None else token_lifetime
        self._rng = rng

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
            case ("GET", "common", "discovery", "instance"):
                return self._instance(call)
            case ("GET", tenant, "discovery", "v2.0", "keys") | (
                "GET",
                tenant,
                "discovery",
                "keys",
            ):
                return self._keys(call, tenant)
            case ("GET", tenant, "v2.0", ".well-known", "openid-configuration"):
                return self._configuration(call, tenant, 2)
            case ("GET", tenant, ".well-known", "openid-configuration"):
                return self._configuration(call, tenant, 1)
            case _:
                return self._other(call)

    def _other(self, call: Call) -> Reply:
        for answer in self._services:
            if reply := answer(call):
                return reply
        return call.reply(404, content_type="text/html")

    # Token endpoint

    def _token(self, call: Call) -> Reply:
        request = call.request
        if request.method != "POST":
            raise EntraError(900561)
        tenant = self._tenant(call)
        _check_grant(request)
        client_id, secret = _credentials(request)
        if not client_id:
            raise EntraError(900144, parameter="client_id")
        resource = _resource(request)
        app = self._directory.app(tenant, client_id, call.now)
        if "client_assertion" in request.form:
            self._check_assertion(call, app, tenant)
            acr = "2"
        else:
            _check_secret(app, secret, call.now)
            acr = "1"
        if not self._directory.knows_resource(resource):
            raise EntraError(500011)
        return self._issue(call, app, tenant, resource, acr=acr)

    def _check_assertion(self, call: Call, app: App, tenant: str) -> None:
        form = call.request.form
        names = {tenant, call.tenant}
        parts = ("/oauth2/v2.0/token", "/oauth2/token", "/v2.0")
        check_assertion(
            app,
            form["client_assertion"],
            form.get("client_assertion_type", ""),
            audiences={f"{self._base_url()}/{name}{part}" for name in names for part in parts},
            now=call.now,
        )

    def _tenant(self, call: Call) -> str:
        if call.tenant in ("common", "consumers"):
            raise EntraError(9001023)
        if call.tenant == "organizations":
            raise EntraError(50059)
        return self._directory.tenant_guid(call.tenant)

    def token(
        self, call: Call, app: App, tenant: str, resource: str, *, acr: str
    ) -> tuple[str, int]:
        """A new token and its life in seconds."""
        lifetime = call.lifetime
        if lifetime is None:
            wanted = app.token_lifetime
            drawn = self._token_lifetime if wanted is None else wanted
            lifetime = drawn if isinstance(drawn, int) else self._rng.randint(*drawn)
        claims = app_claims(
            app,
            base_url=self._base_url(),
            tenant_guid=tenant,
            resource=resource,
            now=int(call.now),
            lifetime=lifetime,
            unique=random_guid(self._rng),
            acr=acr,
        )
        return signing_key().sign({**claims, **call.claims}), lifetime

    def _issue(self, call: Call, app: App, tenant: str, resource: str, *, acr: str) -> Reply:
        token, lifetime = self.token(call, app, tenant, resource, acr=acr)
        return call.json(
            200,
            {
                "token_type": "Bearer",
                "expires_in": lifetime,
                "ext_expires_in": lifetime,
                **({"refresh_in": lifetime // 2} if lifetime >= _LONG_LIVED else {}),
                "access_token": token,
            },
        )

    # Discovery

    def _keys(self, call: Call, tenant: str) -> Reply:
        guid = "{tenantid}" if tenant == "common" else self._directory.tenant_guid(tenant)
        return call.json(200, {"keys": [signing_key().jwk(issuer(self._base_url(), guid, 2))]})

    def _configuration(self, call: Call, tenant: str, version: int) -> Reply:
        named = tenant not in ("common", "organizations", "consumers")
        guid = self._directory.tenant_guid(tenant) if named else "{tenantid}"
        place = f"{self._base_url()}/{guid if named else tenant}"
        part = "/v2.0" if version == 2 else ""  # noqa: PLR2004 - the protocol's version
        return call.json(
            200,
            {
                "token_endpoint": f"{place}/oauth2{part}/token",
                "token_endpoint_auth_methods_supported": [
                    "client_secret_post",
                    "private_key_jwt",
                    "client_secret_basic",
                ],
                "jwks_uri": f"{place}/discovery{part}/keys",
                "response_modes_supported": ["query", "fragment", "form_post"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code", "id_token", "code id_token"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "issuer": issuer(self._base_url(), guid, version),
                "authorization_endpoint": f"{place}/oauth2{part}/authorize",
                "device_authorization_endpoint": f"{place}/oauth2{part}/devicecode",
                "tenant_region_scope": "EU",
                "cloud_instance_name": "microsoftonline.com",
            },
        )

    def _instance(self, call: Call) -> Reply:
        endpoint = call.request.query.get("authorization_endpoint", "")
        host, _, path = endpoint.removeprefix("https://").partition("/")
        own = self._base_url().removeprefix("https://")
        name = own.partition(":")[0]
        if host not in (own, name):
            raise EntraError(50049)
        tenant = path.partition("/")[0] or "common"
        return call.json(
            200,
            {
                "tenant_discovery_endpoint": (
                    f"{self._base_url()}/{tenant}/v2.0/.well-known/openid-configuration"
                ),
                "api-version": call.request.query.get("api-version", "1.1"),
                "metadata": [
                    {"preferred_network": name, "preferred_cache": name, "aliases": [name]}
                ],
            },
        )


def _check_grant(request: Request) -> None:
    grant = request.form.get("grant_type")
    if not grant:
        raise EntraError(900144, parameter="grant_type")
    if grant != "client_credentials":
        raise EntraError(70003)


def _credentials(request: Request) -> tuple[str, str]:
    credentials = request.credentials()
    if credentials is None:
        raise EntraError(90013)
    return credentials


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
    if added.end and datetime.fromisoformat(added.end.replace("Z", "+00:00")).timestamp() <= now:
        raise EntraError(7000222)
