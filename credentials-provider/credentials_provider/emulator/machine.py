"""An Azure machine's own endpoints for its managed identities, one path for each kind of host.

Formats and refusals as in
https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token
https://learn.microsoft.com/azure/app-service/overview-managed-identity
https://learn.microsoft.com/azure/azure-arc/servers/managed-identity-authentication
and, for what has no public page (Azure ML, Cloud Shell), as azure-identity expects it.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from credentials_provider.emulator.apps import App, Directory
    from credentials_provider.emulator.endpoints import Endpoints
    from credentials_provider.emulator.wire import Call, Reply

IMDS_PATH = "/metadata/identity/oauth2/token"
APP_SERVICE_PATH = "/msi/token"
ML_PATH = "/MSI/auth"
CLOUD_SHELL_PATH = "/oauth2/token"

# By the header that has to be right, and the version of the API.
_GUARDED = {
    APP_SERVICE_PATH: ("x-identity-header", "2019-08-01"),
    ML_PATH: ("secret", "2017-09-01"),
}

Kind = Literal["imds", "app_service", "arc", "azure_ml", "cloud_shell"]
Times = Literal["seconds", "linux", "windows"]
"""How the old API writes the end of a token: since 1970, or as its system writes dates."""

_AMBIGUOUS = (
    "Multiple user assigned identities exist, please specify the clientId / resourceId of the "
    "identity in the token request"
)
_FORMS = {"linux": "%m/%d/%Y %H:%M:%S +00:00", "windows": "%m/%d/%Y %I:%M:%S %p +00:00"}


class Machine:
    """Gives tokens to whoever is on the machine.

    `keys` is the folder where Arc's agent leaves files that prove who reads them.
    """

    def __init__(
        self, directory: Directory, endpoints: Endpoints, times: Times, keys: str | None
    ) -> None:
        self._directory = directory
        self._endpoints = endpoints
        self._header = secrets.token_urlsafe(24)  # App Service and Azure ML want to see it
        self._times = times
        self._keys = keys or tempfile.gettempdir()
        self._arc_key = ""

    def environment(self, kind: Kind, url: str) -> dict[str, str]:
        """The variables of a process on such a machine."""
        return {
            "imds": {"AZURE_POD_IDENTITY_AUTHORITY_HOST": url},
            "app_service": {
                "IDENTITY_ENDPOINT": f"{url}{APP_SERVICE_PATH}",
                "IDENTITY_HEADER": self._header,
            },
            "arc": {"IDENTITY_ENDPOINT": f"{url}{IMDS_PATH}", "IMDS_ENDPOINT": url},
            "azure_ml": {"MSI_ENDPOINT": f"{url}{ML_PATH}", "MSI_SECRET": self._header},
            "cloud_shell": {"MSI_ENDPOINT": f"{url}{CLOUD_SHELL_PATH}"},
        }[kind]

    def answer(self, call: Call) -> Reply:
        """The regular answer to the call."""
        path = call.request.path.rstrip("/")  # msal for JavaScript puts one behind it
        request = replace(call.request, path=path)
        call = replace(call, request=request)
        if request.method != ("POST" if path == CLOUD_SHELL_PATH else "GET"):
            return call.json(405, {"error": "method_not_allowed"})
        if path in _GUARDED:
            name, version = _GUARDED[path]
            if request.headers.get(name) != self._header:
                return call.json(401, {"statusCode": 401, "message": "Unauthorized"})
            return self._token(call, version)
        if path not in (IMDS_PATH, CLOUD_SHELL_PATH):
            return call.json(404, {"error": "not_found"})
        if request.headers.get("metadata", "").lower() != "true":
            return _refusal(call, "Required metadata header not specified")
        if path == CLOUD_SHELL_PATH:
            return self._issue(call, request.form.get("resource", ""), None)
        if request.query.get("api-version") == "2020-06-01":
            return self._arc(call)
        return self._token(call, "2018-02-01")

    def _arc(self, call: Call) -> Reply:
        """First a file that only members of a group can read, then the token for what it holds."""
        if self._arc_key and call.request.headers.get("authorization") == f"Basic {self._arc_key}":
            self._arc_key = ""
            return self._token(call, "2020-06-01")
        self._arc_key = secrets.token_urlsafe(24)
        path = os.path.join(self._keys, f"{secrets.token_hex(8)}.key")
        with open(path, "w", encoding="ascii") as file:
            file.write(self._arc_key)
        return call.json(401, {}, (("WWW-Authenticate", f"Basic realm={path}"),))

    def _token(self, call: Call, version: str) -> Reply:
        query = call.request.query
        if query.get("api-version") != version:
            return _refusal(call, "Required query variable 'api-version' is missing or wrong")
        name = "clientid" if version == "2017-09-01" else "client_id"
        return self._issue(call, query.get("resource", ""), query.get(name))

    def _issue(self, call: Call, resource: str, client_id: str | None) -> Reply:
        if not resource:
            return _refusal(call, "Required query variable 'resource' is missing")
        apps = self._apps(client_id)
        if not apps:
            return _refusal(call, "Identity not found")
        if len(apps) > 1:
            return _refusal(call, _AMBIGUOUS)
        (app,) = apps
        if not self._directory.knows_resource(resource):
            return _refusal(call, f"AADSTS500011: The resource {resource} was not found.")
        tenant = self._directory.tenant_guid(app.tenant_id)
        token, lifetime = self._endpoints.token(call, app, tenant, resource, acr="2")
        end = int(call.now) + lifetime
        document = {
            "access_token": token,
            "client_id": app.client_id,
            "expires_on": str(end),
            "resource": resource,
            "token_type": "Bearer",
        }
        if call.request.path == ML_PATH and self._times != "seconds":
            document["expires_on"] = time.strftime(_FORMS[self._times], time.gmtime(end))
        if call.request.path in {IMDS_PATH, CLOUD_SHELL_PATH}:  # numbers are strings
            document |= {"expires_in": str(lifetime), "ext_expires_in": str(lifetime)}
            document |= {"not_before": str(int(call.now))}
        return call.json(200, document)

    def _apps(self, client_id: str | None) -> list[App]:
        """Those that are meant: without a client id the machine's own, or all that it has."""
        managed = self._directory.managed()
        if client_id:
            return [app for app in managed if (app.managed, app.client_id) == ("user", client_id)]
        own = [app for app in managed if app.managed == "system"]
        return own or managed


def _refusal(call: Call, text: str) -> Reply:
    if call.request.path in {APP_SERVICE_PATH, ML_PATH}:
        return call.json(400, {"statusCode": 400, "message": text})
    return call.json(400, {"error": "invalid_request", "error_description": text})
