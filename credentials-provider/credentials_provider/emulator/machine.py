"""An Azure machine's own endpoints for its managed identities: IMDS and App Service.

Formats and refusals as in
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
https://learn.microsoft.com/azure/app-service/overview-managed-identity
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .apps import App, Directory
    from .endpoints import Endpoints
    from .wire import Call, Reply

IMDS_PATH = "/metadata/identity/oauth2/token"
APP_SERVICE_PATH = "/msi/token"


class Machine:
    """Gives tokens to whoever is on the machine; `header` is what App Service wants to see."""

    def __init__(self, directory: Directory, endpoints: Endpoints, header: str) -> None:
        self._directory = directory
        self._endpoints = endpoints
        self._header = header

    def answer(self, call: Call) -> Reply:
        """The regular answer to the call."""
        request = call.request
        if request.method != "GET":
            return call.json(405, {"error": "method_not_allowed"})
        if request.path == IMDS_PATH:
            if request.headers.get("metadata", "").lower() != "true":
                return _refusal(call, "Required metadata header not specified")
            return self._token(call, version="2018-02-01")
        if request.path == APP_SERVICE_PATH:
            if request.headers.get("x-identity-header") != self._header:
                return call.json(401, {"statusCode": 401, "message": "Unauthorized"})
            return self._token(call, version="2019-08-01")
        return call.json(404, {"error": "not_found"})

    def _token(self, call: Call, *, version: str) -> Reply:
        query = call.request.query
        if query.get("api-version") != version:
            return _refusal(call, "Required query variable 'api-version' is missing or wrong")
        resource = query.get("resource", "")
        if not resource:
            return _refusal(call, "Required query variable 'resource' is missing")
        app = self._app(query.get("client_id"))
        if app is None:
            return _refusal(call, "Identity not found")
        if not self._directory.knows_resource(resource):
            return _refusal(call, f"AADSTS500011: The resource {resource} was not found.")
        tenant = self._directory.tenant_guid(app.tenant_id)
        token, lifetime = self._endpoints.token(call, app, tenant, resource, acr="2")
        now = int(call.now)
        document = {
            "access_token": token,
            "client_id": app.client_id,
            "expires_on": str(now + lifetime),
            "resource": resource,
            "token_type": "Bearer",
        }
        if call.request.path == IMDS_PATH:  # numbers are strings, and App Service has fewer
            document |= {"expires_in": str(lifetime), "ext_expires_in": str(lifetime)}
            document |= {"not_before": str(now)}
        return call.json(200, document)

    def _app(self, client_id: str | None) -> App | None:
        kind = "user" if client_id else "system"
        for app in self._directory.managed():
            if app.managed == kind and client_id in (None, app.client_id):
                return app
        return None


def _refusal(call: Call, text: str) -> Reply:
    if call.request.path == APP_SERVICE_PATH:
        return call.json(400, {"statusCode": 400, "message": text})
    return call.json(400, {"error": "invalid_request", "error_description": text})
