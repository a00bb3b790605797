"""Entra ID's own errors: number, OAuth `error` value, HTTP status, text.

The texts follow Microsoft's reference of error codes and answers quoted in public reports.
"""

from __future__ import annotations

from typing import NamedTuple


class Meaning(NamedTuple):
    """What Entra ID says for one AADSTS number; `text` has `{placeholders}` for the request's."""

    error: str
    text: str
    status: int


class EntraError(Exception):
    """A request that Entra ID refuses with `code`; `values` fill the placeholders of its text."""

    def __init__(self, code: int, **values: str) -> None:
        super().__init__(code)
        self.code = code
        self.values = values


def describe(code: int, values: dict[str, str]) -> tuple[Meaning, str]:
    """The meaning of `code` and its text for this request.

    A number that is not in the table is an `invalid_request` with a general text.
    """
    meaning = MEANINGS.get(code, _UNKNOWN)
    return meaning, meaning.text.format_map(values)


def _table(error: str, status: int, texts: dict[int, str]) -> dict[int, Meaning]:
    return {code: Meaning(error, text, status) for code, text in texts.items()}


_UNKNOWN = Meaning("invalid_request", "The request could not be processed.", 400)
_CLOUD = (
    "The tenant '{tenant}' belongs to another national cloud; the request has to go to "
    "that cloud's login endpoint."
)

MEANINGS: dict[int, Meaning] = {
    **_table(
        "invalid_client",
        401,
        {
            7000215: "Invalid client secret provided. Ensure the secret being sent in the request"
            " is the client secret value, not the client secret ID, for a secret added to app"
            " '{client_id}'.",
            7000222: "The provided client secret keys for app '{client_id}' are expired. Visit the"
            " Azure portal to create new keys for your app: https://aka.ms/NewClientSecret, or"
            " consider using certificate credentials for added security:"
            " https://aka.ms/certCreds.",
            7000216: "'client_assertion', 'client_secret' or 'request' is required for the"
            " 'client_credentials' grant type.",
            7000218: "The request body must contain the following parameter: 'client_assertion'"
            " or 'client_secret'.",
            700025: "Client is public so neither 'client_assertion' nor 'client_secret' should be"
            " presented.",
            700027: "The certificate with identifier used to sign the client assertion is not"
            " registered on application. [Reason - {reason}]",
            700021: "Client assertion application identifier doesn't match 'client_id' parameter.",
            50027: "JWT token is invalid or malformed.",
            700024: "Client assertion is not within its valid time range. Review the documentation"
            " at https://docs.microsoft.com/azure/active-directory/develop/"
            "active-directory-certificate-credentials.",
            700030: "Invalid certificate - subject name in certificate is not authorized.",
            50012: "Authentication failed: the client assertion contains an invalid signature.",
            50048: "Subject must match Issuer claim in the client assertion.",
            70021: "No matching federated identity record found for presented assertion.",
            700211: "No matching federated identity record found for presented assertion issuer.",
            700213: "No matching federated identity record found for presented assertion subject.",
            700212: "No matching federated identity record found for presented assertion audience.",
            7002138: "No matching federated identity record found for presented assertion. The"
            " values differ in letter case.",
            700229: "The federated token is not an app-only token.",
        },
    ),
    **_table(
        "unauthorized_client",
        400,
        {
            700016: "Application with identifier '{client_id}' was not found in the directory"
            " '{tenant}'. This can happen if the application has not been installed by the"
            " administrator of the tenant or consented to by any user in the tenant. You may have"
            " sent your authentication request to the wrong tenant.",
            7000229: "The client application {client_id} is missing service principal in the"
            " tenant {tenant}. See instructions here: https://go.microsoft.com/fwlink/?linkid=2225119",
            70001: "Application '{client_id}' is disabled.",
            7000112: "Application '{client_id}'({name}) is disabled.",
            50194: "Application '{client_id}'({name}) is not configured as a multi-tenant"
            " application. Usage of the /common endpoint is not supported for such apps.",
            650052: "The app is trying to access a service '{resource}' that your organization"
            " '{tenant}' lacks a service principal for.",
            650056: "Misconfigured application. The client has not listed any permissions for"
            " '{resource}' in the requested permissions in its application registration.",
            100007: "AAD Regional ONLY supports auth either for MSIs OR for requests from MSAL"
            " using SN+I for 1P apps or 3P apps in Microsoft infrastructure tenants.",
        },
    ),
    **_table(
        "invalid_request",
        400,
        {
            90002: "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID"
            " and are signing into the correct cloud. Check with your subscription administrator,"
            " this may happen if there are no active subscriptions for the tenant.",
            900023: "Specified tenant identifier '{tenant}' is neither a valid DNS name, nor a"
            " valid external domain.",
            50059: "No tenant-identifying information found in either the request or implied by"
            " any provided credentials.",
            50128: "Invalid domain name - No tenant-identifying information found in either the"
            " request or implied by any provided credentials.",
            90019: "No tenant-identifying information found in either the request or implied by"
            " any provided credentials.",
            9001023: "The grant type is not supported over the /common or /consumers endpoints."
            " Please use the /organizations or tenant-specific endpoint.",
            90130: "Application '{client_id}' ({name}) is not supported over the /common or"
            " /consumers endpoints. Please use the /organizations or tenant-specific endpoint.",
            900382: "Confidential Client is not supported in Cross Cloud request.",
            900432: "Confidential Client is not supported in Cross Cloud request.",
            90038: _CLOUD,
            901002: "The 'resource' request parameter is not supported.",
            900144: "The request body must contain the following parameter: '{parameter}'.",
            90014: "The required field '{parameter}' is missing from the credential.",
            90015: "Requested query string is too long.",
            90023: "Invalid STS request.",
            9002313: "Invalid request. Request is malformed or invalid.",
            90013: "Invalid input received from the user.",
            90100: "The '{parameter}' parameter is empty or not valid.",
            900561: "The endpoint only accepts POST requests. Received a {method} request.",
        },
    ),
    **_table(
        "unsupported_grant_type",
        400,
        {
            70003: "The app requested an unsupported grant type '{grant_type}'.",
        },
    ),
    **_table(
        "invalid_scope",
        400,
        {
            70011: "The provided request must include a 'scope' input parameter. The provided"
            " value for the input parameter 'scope' is not valid. The scope {scope} is not valid.",
            28002: "Provided value for the input parameter scope '{scope}' is not valid when"
            " requesting an access token. Please specify a valid scope.",
            1002012: "The provided value for scope {scope} is not valid. Client credential flows"
            " must have a scope value with /.default suffixed to the resource identifier"
            " (application ID URI).",
            700022: "The provided value for the input parameter scope '{scope}' is not valid"
            " because it contains more than one resource.",
            700023: "The provided value for the input parameter scope '{scope}' is not valid when"
            " requesting an access token: it names no resource.",
        },
    ),
    **_table(
        "invalid_resource",
        400,
        {
            500011: "The resource principal named {resource} was not found in the tenant named"
            " {tenant}. This can happen if the application has not been installed by the"
            " administrator of the tenant or consented to by any user in the tenant. You might"
            " have sent your authentication request to the wrong tenant.",
            50001: "The resource named {resource} is disabled or was not found.",
            500014: "The service principal for resource '{resource}' is disabled. This indicate"
            " that a subscription within the tenant has lapsed, or that the administrator for this"
            " tenant has disabled the application, preventing tokens from being issued for it.",
            650057: "Invalid resource. The client has requested access to a resource which is not"
            " listed in the requested permissions in the client's application registration."
            " Client app ID: {client_id}({name}). Resource value from request: {resource}.",
        },
    ),
    **_table(
        "invalid_grant",
        400,
        {
            65001: "The user or administrator has not consented to use the application with ID"
            " '{client_id}' named '{name}'. Send an interactive authorization request for this"
            " user and resource.",
            501051: "Application '{client_id}'({name}) is not assigned to a role for the"
            " application '{resource}'({resource}).",
            530032: "Access has been blocked due to the security policy that the tenant"
            " administrator has configured.",
            50196: "The server terminated an operation because it encountered a client request"
            " loop. Please contact your app vendor.",
        },
    ),
    53003: Meaning(
        "access_denied",
        "Access has been blocked by Conditional Access policies. The access policy does not allow"
        " token issuance.",
        400,
    ),
    90055: Meaning(
        "temporarily_unavailable",
        "The request was throttled: there are too many requests from this tenant.",
        429,
    ),
    **_table(
        "temporarily_unavailable",
        400,
        {
            50033: "A transient error has occurred. Please try again.",
            90006: "The service is temporarily unavailable. Please retry later.",
            90024: "A transient error has occurred. Please try again.",
            90090: "The service is temporarily unavailable. Please retry later.",
            90033: "A transient error has occurred. Please try again.",
            90012: "The request has timed out.",
            90091: "The service is temporarily unavailable. Please retry later.",
        },
    ),
    50049: Meaning("invalid_instance", "Unknown or invalid instance.", 400),
}
"""Every AADSTS number that the emulator knows; a `Fault("aadsts", code=…)` takes any other too."""
