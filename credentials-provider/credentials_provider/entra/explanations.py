"""What went wrong and what to do about it, in words for people.

Pure, and data rather than branches: every sentence stands in one of the tables below. Nothing that
a server wrote is repeated, apart from values whose shape was checked. AADSTS numbers only explain:
Microsoft may change them at any time and asks programs not to decide by them.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Diagnosis(NamedTuple):
    """One failure, explained."""

    cause: str  # a fragment in lower case without a period: "the client secret has expired"
    cure: str  # one or two imperative sentences
    transient: bool  # trying again later, with nothing changed, can help


# Cures that several rows share. Breadcrumbs are the portal's own labels.
_NEW_SETUP = " If this was set up just now, wait a minute and run again."
_STATUS_PAGE = "if it lasts, look at https://azure.status.microsoft."
_SET_TENANT = (
    "Set tenant_id to the Directory (tenant) ID from App registrations > (your app) > Overview."
)
_SET_CREDENTIAL = (
    "Give the identity exactly one credential: a client secret, a certificate, a federated token "
    "file or a managed identity."
)
_SET_SCOPE = (
    'Set scope to "<Application ID URI>/.default"; the URI stands in App registrations > '
    "(the gateway's app) > Expose an API."
)
_CHECK_ASSERTION = (
    "Check that client_id is right and that the certificate with this private key is in "
    "App registrations > (your app) > Certificates & secrets."
)
_CHECK_FEDERATION = (
    "Compare issuer, subject and audience of the federated token, letter by letter, with "
    "App registrations > (your app) > Certificates & secrets > Federated credentials."
)
_CHECK_FIELDS = (
    "Run `credentials-provider identities check` and compare tenant_id, client_id and scope with "
    "the portal."
)
_ADD_PERMISSION = (
    "Add the API in App registrations > (your app) > API permissions, then click "
    "Grant admin consent."
)
_CHECK_POLICY = (
    "Look up the policy in Entra ID > Sign-in logs > Service principal sign-ins, and allow this "
    "machine's outgoing address in its named locations."
)
_CHECK_HOST = "Check the login host {host} (--cloud, --login-base-url)"
_CHECK_WAY = "Check the proxy (HTTPS_PROXY, NO_PROXY) and the login host {host}."
_SET_CLOCK = "Synchronise this machine's clock (NTP) and run again."

_Verdict = Literal["permanent", "transient", "new"]  # new: permanent, unless just set up


class _Row(NamedTuple):
    codes: tuple[int, ...]
    verdict: _Verdict
    cause: str
    cure: str


_ENTRA = (
    # The credential
    _Row(
        (7000215,),
        "new",
        "the client secret is wrong: its Secret ID in place of its Value, or a secret that was "
        "deleted or has expired",
        "Put the secret's Value, not its Secret ID, into the identity; if it is lost or expired, "
        "create a new one in App registrations > (your app) > Certificates & secrets.",
    ),
    _Row(
        (7000222,),
        "permanent",
        "the client secret has expired",
        "Create a new client secret in App registrations > (your app) > Certificates & secrets, "
        "and put its Value into the identity.",
    ),
    _Row((7000216, 7000218), "permanent", "the request carried no credential", _SET_CREDENTIAL),
    _Row(
        (700025,),
        "permanent",
        "the app is registered as a public client, which may not present a credential",
        "In App registrations > (your app) > Authentication set Allow public client flows to No.",
    ),
    _Row(
        (700027,),
        "permanent",
        "the certificate is not registered for the app, has expired, or does not fit the signature",
        "Upload the certificate in App registrations > (your app) > Certificates & secrets, and "
        "compare its thumbprint with the identity's certificate file.",
    ),
    _Row(
        (700024,),
        "transient",
        "the signed assertion is not valid at this time: the machine's clock is off, or the "
        "federated token file is old",
        "Synchronise this machine's clock (NTP), and check that whatever writes "
        "federated_token_file still renews it.",
    ),
    _Row(
        (700030,),
        "permanent",
        "the certificate's subject name or issuer is not authorised for the app",
        "Use a certificate whose subject name and issuer the app trusts, or upload this one in "
        "App registrations > (your app) > Certificates & secrets.",
    ),
    _Row(
        (50012, 50027, 700021),
        "permanent",
        "the signed assertion is invalid: wrong certificate, private key or client id",
        _CHECK_ASSERTION,
    ),
    _Row(
        (50048,),
        "permanent",
        "the signed assertion is invalid: its subject and its issuer differ",
        _CHECK_ASSERTION,
    ),
    _Row(
        (70021,),
        "new",
        "no federated credential of the app matches the federated token",
        _CHECK_FEDERATION,
    ),
    _Row(
        (700211,),
        "new",
        "no federated credential of the app has the federated token's issuer",
        _CHECK_FEDERATION,
    ),
    _Row(
        (700212,),
        "new",
        "no federated credential of the app has the federated token's audience",
        _CHECK_FEDERATION,
    ),
    _Row(
        (700213, 7002137),
        "new",
        "no federated credential of the app has the federated token's subject",
        _CHECK_FEDERATION,
    ),
    _Row(
        (7002138,),
        "new",
        "a federated credential of the app differs from the federated token in upper and lower "
        "case only",
        _CHECK_FEDERATION,
    ),
    _Row(
        (700229,),
        "permanent",
        "the federated token was issued to a user, where one issued to an application is needed",
        "Have federated_token_file written by a workload (managed identity, service account), "
        "not by a user's sign-in.",
    ),
    # The application
    _Row(
        (700016,),
        "new",
        "the application was not found in this tenant",
        "Compare client_id and tenant_id with App registrations > (your app) > Overview.",
    ),
    _Row(
        (7000229,),
        "new",
        "the application has no enterprise application (service principal) in this tenant",
        'Create it in this tenant: "az ad sp create --id <client_id>", or grant the app admin '
        "consent; it then shows in Enterprise applications.",
    ),
    _Row(
        (70001, 7000112),
        "permanent",
        "the application is disabled in this tenant",
        "In Enterprise applications > (your app) > Properties set "
        "Enabled for users to sign-in to Yes.",
    ),
    # The tenant and the cloud
    _Row(
        (90002,),
        "permanent",
        "the tenant was not found in this cloud",
        "Compare tenant_id with App registrations > (your app) > Overview; if it is right, set "
        "cloud (usgov, china) to the tenant's own.",
    ),
    _Row(
        (900023,), "permanent", "tenant_id is neither a GUID nor a domain of a tenant", _SET_TENANT
    ),
    _Row((50059, 50128, 90019), "permanent", "the request names no tenant", _SET_TENANT),
    _Row(
        (9001023, 50194, 90130),
        "permanent",
        "the tenant is common, organizations or consumers, which machine identities cannot use",
        _SET_TENANT,
    ),
    _Row(
        (900382, 900432, 90038),
        "permanent",
        "the tenant belongs to another national cloud than the login host",
        "Set cloud (public, usgov, china) or login_base_url to the tenant's own.",
    ),
    # The scope and the API behind it
    _Row((70011, 28002, 1002012), "permanent", "the scope is malformed", _SET_SCOPE),
    _Row(
        (700022,),
        "permanent",
        "the scope names several resources",
        "Set scope to one resource, and give every other API an identity entry of its own.",
    ),
    _Row((700023,), "permanent", "the scope names no resource", _SET_SCOPE),
    _Row(
        (901002,),
        "permanent",
        "the request named a resource in the manner of v1, which this endpoint refuses",
        _SET_SCOPE,
    ),
    _Row(
        (500011, 50001),
        "permanent",
        "the API in scope does not exist in this tenant, or is disabled",
        "Compare scope with the Application ID URI in App registrations > (the gateway's app) > "
        "Expose an API, and check that tenant_id is that app's tenant.",
    ),
    _Row(
        (500014,),
        "permanent",
        "the API in scope is disabled in this tenant",
        "In Enterprise applications > (the gateway's app) > Properties set "
        "Enabled for users to sign-in to Yes.",
    ),
    _Row(
        (650052,),
        "permanent",
        "the organisation has not subscribed to the API in scope, or not enabled it",
        _ADD_PERMISSION,
    ),
    _Row(
        (650056, 650057),
        "permanent",
        "the API in scope is not among the app's permissions",
        _ADD_PERMISSION,
    ),
    _Row(
        (65001,),
        "new",
        "the app has no admin consent for the API in scope",
        "In App registrations > (your app) > API permissions click Grant admin consent.",
    ),
    _Row(
        (501051,),
        "permanent",
        "the API in scope requires an assignment, and the app has none",
        "In App registrations > (your app) > API permissions add one of the API's app roles as an "
        "application permission, then click Grant admin consent.",
    ),
    # The request
    _Row(
        (900144, 90014, 90015, 90023, 9002313, 90013, 90100, 900561),
        "permanent",
        "the request is malformed: a field of the identity is empty or misspelt",
        _CHECK_FIELDS,
    ),
    # Policies and regions
    _Row(
        (53003, 530032),
        "permanent",
        "a Conditional Access or security policy of the tenant blocks this identity",
        _CHECK_POLICY,
    ),
    _Row(
        (100007,),
        "permanent",
        "the regional login endpoint does not serve this application",
        "Use the global login host: take the region out of login_base_url, and unset "
        "MSAL_FORCE_REGION.",
    ),
    # Load and faults
    _Row(
        (50196,),
        "transient",
        "the same token was asked for too often in a short time, which Entra takes for a loop",
        "Stop whatever keeps asking, wait an hour, then renew with --refresh-ahead so that tokens "
        "are kept until they are due.",
    ),
    _Row(
        (90055,),
        "transient",
        "the tenant is throttled: it made too many requests",
        "Wait some minutes and run again; use --refresh-ahead so that only tokens that are due are "
        "asked for.",
    ),
    _Row(
        (50033, 90006, 90024, 90090, 90033, 90012, 90091),
        "transient",
        "the provider has a passing fault",
        f"Run again in a minute; {_STATUS_PAGE}",
    ),
)


def _diagnosis(row: _Row) -> Diagnosis:
    cure = row.cure + _NEW_SETUP if row.verdict == "new" else row.cure
    return Diagnosis(row.cause, cure, row.verdict == "transient")


_BY_CODE = {code: _diagnosis(row) for row in _ENTRA for code in row.codes}

# RFC 6749 section 5.2, RFC 8707 section 2, and what Entra adds.
_BY_ERROR = {
    "access_denied": Diagnosis(
        "the tenant denies this identity access",
        "Check the app in Enterprise applications, its API permissions and their admin consent.",
        False,
    ),
    "consent_required": _BY_CODE[65001],
    "interaction_required": Diagnosis(
        "the tenant's policy demands a person's sign-in, which a machine identity cannot give",
        _CHECK_POLICY,
        False,
    ),
    "invalid_client": Diagnosis(
        "the app's credential was not accepted",
        "Compare client_id and the credential with App registrations > (your app) > "
        "Certificates & secrets: Value rather than Secret ID, not expired.",
        False,
    ),
    "invalid_grant": Diagnosis(
        "the signed assertion or the grant behind it was not accepted",
        _CHECK_ASSERTION,
        False,
    ),
    "invalid_request": Diagnosis(
        "the request lacks a field, or has a wrong one", _CHECK_FIELDS, False
    ),
    "invalid_resource": _BY_CODE[500011],
    "invalid_scope": Diagnosis("the scope is malformed or unknown", _SET_SCOPE, False),
    "invalid_target": _BY_CODE[500011],
    "server_error": Diagnosis(
        "the provider has an internal fault", f"Run again in a minute; {_STATUS_PAGE}", True
    ),
    "temporarily_unavailable": Diagnosis(
        "the provider is overloaded or under maintenance",
        f"Run again in some minutes; {_STATUS_PAGE}",
        True,
    ),
    "unauthorized_client": Diagnosis(
        "the application is unknown in this tenant, disabled, or may not use client credentials",
        "Compare client_id and tenant_id with App registrations > (your app) > Overview, and look "
        "for the app in Enterprise applications of that tenant.",
        False,
    ),
    "unsupported_grant_type": Diagnosis(
        "the login host does not know the client credentials grant",
        "Check the login host (--cloud, --login-base-url): it must be Entra's, not another "
        "identity provider's.",
        False,
    ),
}

_REFUSED = Diagnosis(
    "the provider refused the request for a reason unknown here", _CHECK_FIELDS, False
)

_LATER = f"Run again in some minutes; {_STATUS_PAGE}"
_BY_STATUS = {
    400: Diagnosis(
        "the request was refused without an explanation (HTTP 400)",
        "Check that the login host (--cloud, --login-base-url) is Entra's, and that no proxy "
        "alters the request.",
        False,
    ),
    401: Diagnosis(
        "the credential was refused without an explanation (HTTP 401)",
        "Check client_id and its credential in App registrations > (your app) > "
        "Certificates & secrets, and that the login host is Entra's.",
        False,
    ),
    403: Diagnosis(
        "the request was forbidden (HTTP 403), most likely by a proxy or a firewall",
        "Have the proxy or firewall let this machine reach the login host over HTTPS.",
        False,
    ),
    404: Diagnosis(
        "the login host has no token endpoint for this tenant (HTTP 404)",
        "Check tenant_id and the login host (--cloud, --login-base-url).",
        False,
    ),
    407: Diagnosis(
        "the proxy asks for a user and a password (HTTP 407)",
        "Put them into HTTPS_PROXY (http://user:password@proxy:port), or list the login host in "
        "NO_PROXY.",
        False,
    ),
    408: Diagnosis(
        "the provider gave up waiting for the request (HTTP 408)",
        f"Run again in a minute; {_STATUS_PAGE}",
        True,
    ),
    429: Diagnosis(
        "the provider throttles this client or tenant (HTTP 429)",
        "Wait some minutes and run again; use --refresh-ahead so that only tokens that are due are "
        "asked for.",
        True,
    ),
    500: Diagnosis("the provider has an internal fault (HTTP 500)", _LATER, True),
    502: Diagnosis("a gateway on the way got no proper answer (HTTP 502)", _LATER, True),
    503: Diagnosis("the provider is unavailable or overloaded (HTTP 503)", _LATER, True),
    504: Diagnosis("a gateway on the way waited too long (HTTP 504)", _LATER, True),
}
_BY_STATUS_CLASS = {
    3: Diagnosis(
        "the answer is a redirect (HTTP {status}), which is never followed: the request holds the "
        "credential",
        "Check the login host (--cloud, --login-base-url), and that no captive portal or proxy "
        "stands in the way.",
        False,
    ),
    5: Diagnosis("the provider has a fault (HTTP {status})", _LATER, True),
}
_ODD_STATUS = Diagnosis(
    "the answer is unexpected (HTTP {status})",
    "Check that the login host (--cloud, --login-base-url) is Entra's, and that no proxy answers "
    "in its place.",
    False,
)

_UNREACHABLE = {
    "dns": Diagnosis(
        "the name {host} could not be resolved",
        "Check this machine's network and DNS, and the spelling of the login host "
        "(--cloud, --login-base-url).",
        True,
    ),
    "refused": Diagnosis(
        "{host} refused the connection",
        "Check host and port of the login host (--login-base-url), and that no firewall rejects "
        "outgoing HTTPS.",
        True,
    ),
    "reset": Diagnosis(
        "the connection to {host} was cut",
        "Run again; if it lasts, look for a firewall or proxy that breaks HTTPS to this host.",
        True,
    ),
    "timeout": Diagnosis(
        "{host} did not answer in time",
        "Run again; if it lasts, check that the firewall allows outgoing HTTPS, or raise "
        "--timeout.",
        True,
    ),
    "proxy": Diagnosis(
        "the proxy on the way to {host} cannot be reached or refused the connection",
        "Check HTTPS_PROXY, or list the login host in NO_PROXY if it can be reached directly.",
        True,
    ),
    "proxy_login": _BY_STATUS[407],
    "unreachable": Diagnosis(
        "there is no route to {host}",
        "Check this machine's network, VPN and routes.",
        True,
    ),
    "other": Diagnosis(
        "the connection to {host} failed",
        "Check this machine's network and proxy, then run again.",
        True,
    ),
}

_UNTRUSTED = {
    "unknown_ca": Diagnosis(
        "the certificate of {host} is signed by an authority that this machine does not trust",
        "If your organisation's proxy inspects TLS, pass its CA certificate with --ca-bundle FILE; "
        "otherwise update this machine's CA certificates.",
        False,
    ),
    "self_signed": Diagnosis(
        "{host} shows a self-signed certificate",
        "If a proxy or an emulator of yours answers there, pass its certificate with "
        "--ca-bundle FILE; otherwise check the login host (--login-base-url).",
        False,
    ),
    "expired": Diagnosis(
        "the certificate of {host} has expired, or this machine's clock is ahead",
        "Check this machine's clock (NTP); if it is right, the host or the proxy before it needs "
        "a new certificate.",
        False,
    ),
    "not_yet_valid": Diagnosis(
        "the certificate of {host} is not valid yet, or this machine's clock is behind",
        _SET_CLOCK,
        False,
    ),
    "hostname": Diagnosis(
        "the certificate shown for {host} belongs to another host",
        "Check the spelling of the login host (--login-base-url), and that no proxy or captive "
        "portal answers in its place.",
        False,
    ),
    "protocol": Diagnosis(
        "{host} and this machine share no TLS version or cipher, or the port does not speak TLS",
        "Check host and port of the login host (--login-base-url) and of HTTPS_PROXY; TLS 1.2 or "
        "newer is needed.",
        False,
    ),
    "other": Diagnosis(
        "no trusted TLS connection to {host} could be made",
        "Check the login host (--login-base-url), this machine's clock, and --ca-bundle if a proxy "
        "inspects TLS.",
        False,
    ),
}

_BAD_RESPONSE = {
    "html": Diagnosis(
        "a web page came in place of a token: a captive portal or a proxy answers for {host}",
        "Sign in to the network's portal, or have the proxy let the login host through, then run "
        "again.",
        True,
    ),
    "not_json": Diagnosis("the answer for {host} is not JSON", _CHECK_WAY, True),
    "too_large": Diagnosis(
        "the answer for {host} is far larger than a token and was not read", _CHECK_WAY, False
    ),
    "no_access_token": Diagnosis(
        "the answer of {host} holds no access token", f"{_CHECK_HOST}: it must be Entra's.", False
    ),
    "no_expiry": Diagnosis(
        "the answer of {host} does not say when the token expires",
        f"{_CHECK_HOST}: it must be Entra's.",
        False,
    ),
    "expired": Diagnosis(
        "the token that {host} sent is already expired by this machine's clock",
        "Synchronise this machine's clock (NTP), and check that no proxy caches the login host's "
        "answers.",
        False,
    ),
    "wrong_tenant": Diagnosis(
        "the token that {host} sent is for another tenant than tenant_id",
        f"Compare tenant_id with App registrations > (your app) > Overview. {_CHECK_HOST}.",
        False,
    ),
    "wrong_client": Diagnosis(
        "the token that {host} sent is for another client than client_id",
        f"Compare client_id with App registrations > (your app) > Overview. {_CHECK_HOST}.",
        False,
    ),
    "redirect": Diagnosis(
        "{host} answered with a redirect, which is never followed: the request holds the "
        "credential",
        f"{_CHECK_HOST}, and that no captive portal or proxy stands in the way.",
        False,
    ),
    "incomplete": Diagnosis(
        "the answer of {host} broke off",
        "Run again; if it lasts, look for a firewall or proxy that cuts connections to this host.",
        True,
    ),
    "clock": Diagnosis(
        "this machine's clock and that of {host} are too far apart to tell when the token expires",
        _SET_CLOCK,
        False,
    ),
    "other": Diagnosis("the answer of {host} cannot be used", _CHECK_WAY, False),
}

_LOOKUP = "Look the code up at https://login.microsoftonline.com/error?code={code}."


def explain_rejection(error: str | None, codes: Sequence[int]) -> Diagnosis:
    """An error answer: the first known AADSTS code explains it, else the OAuth error.

    A code that is not known here leads to Microsoft's own page about it.
    """
    for code in codes:
        if code in _BY_CODE:
            return _BY_CODE[code]
    diagnosis = _BY_ERROR.get(error or "", _REFUSED)
    if codes:
        return diagnosis._replace(cure=_LOOKUP.format(code=codes[0]))
    return diagnosis


def explain_status(status: int, retry_after: float | None) -> Diagnosis:
    """An HTTP status whose body explains nothing; retry_after in seconds, as the server asked."""
    diagnosis = _BY_STATUS.get(status) or _BY_STATUS_CLASS.get(status // 100, _ODD_STATUS)
    diagnosis = diagnosis._replace(cause=diagnosis.cause.format(status=status))
    if diagnosis.transient and retry_after is not None and 0 < retry_after < math.inf:
        wait = _duration(retry_after)
        return diagnosis._replace(cure=f"Wait {wait}, as the provider asks, and run again.")
    return diagnosis


def explain_unreachable(reason: str, host: str) -> Diagnosis:
    """No connection: dns, refused, reset, timeout, proxy, proxy_login, unreachable, other."""
    return _about(_UNREACHABLE, reason, host)


def explain_untrusted(reason: str, host: str) -> Diagnosis:
    """No trust: unknown_ca, self_signed, expired, not_yet_valid, hostname, protocol, other."""
    return _about(_UNTRUSTED, reason, host)


def explain_bad_response(reason: str, host: str) -> Diagnosis:
    """An answer that is no token.

    The reason is html (captive portal), not_json, too_large, no_access_token, no_expiry, expired,
    wrong_tenant, wrong_client, redirect, incomplete, clock or other.
    """
    return _about(_BAD_RESPONSE, reason, host)


_TOLERATED_SKEW = 60  # seconds


def clock_skew_warning(skew_seconds: float) -> str | None:
    """A fragment like a cause, or None within 60 s; a positive skew: this clock is ahead."""
    if not _TOLERATED_SKEW < abs(skew_seconds) < math.inf:
        return None
    side = "ahead of" if skew_seconds > 0 else "behind"
    return (
        f"this machine's clock is {_duration(abs(skew_seconds))} {side} the provider's Date header:"
        " synchronise it (NTP), or expiry times on disk are wrong and certificates may be refused"
    )


_CODES = range(1_000, 10_000_000)
_CODE = re.compile(r"[0-9]{4,7}")
_CODE_IN_TEXT = re.compile(r"AADSTS([0-9]{4,7})(?![0-9])")
_GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OAUTH_ERROR = re.compile(r"[a-z][a-z_]{2,39}")
_MOST_CODES = 8


def aadsts_codes(body: Mapping[str, object]) -> tuple[int, ...]:
    """The distinct AADSTS codes of an untrusted error answer, the first eight, in its order."""
    listed = body.get("error_codes")
    described = body.get("error_description")
    codes = _valid_codes(listed if isinstance(listed, (list, tuple)) else ())
    if not codes and isinstance(described, str):
        codes = _valid_codes(_CODE_IN_TEXT.findall(described))
    return codes


def _valid_codes(values: Sequence[object]) -> tuple[int, ...]:
    codes: dict[int, None] = {}  # a set that keeps its order
    for value in values:
        code = int(value) if isinstance(value, str) and _CODE.fullmatch(value) else value
        if isinstance(code, int) and code in _CODES:
            codes[code] = None
            if len(codes) == _MOST_CODES:
                break
    return tuple(codes)


def safe_id(value: object) -> str | None:
    """A trace or correlation id fit to show: a GUID in lower case, or None."""
    if isinstance(value, str) and _GUID.fullmatch(value):
        return value.lower()
    return None


def safe_error(value: object) -> str | None:
    """An OAuth error code fit to show: 3 to 40 lower-case letters and underscores, or None."""
    if isinstance(value, str) and _OAUTH_ERROR.fullmatch(value):
        return value
    return None


def _about(table: Mapping[str, Diagnosis], reason: str, host: str) -> Diagnosis:
    cause, cure, transient = table.get(reason, table["other"])
    return Diagnosis(cause.format(host=host), cure.format(host=host), transient)


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def _duration(seconds: float) -> str:
    """Seconds as a person says them, in its two largest units: "2 min 5 s"."""
    rest = math.ceil(seconds)
    parts = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
