"""What went wrong and what to do about it, in words for people.

Pure, and data rather than branches: every sentence stands in one of the tables below. Nothing that
a server wrote is repeated, apart from values whose shape was checked. AADSTS numbers only explain:
Microsoft may change them at any time and asks programs not to decide by them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from credentials_provider.entra.aadsts import (
    CHECK_ASSERTION,
    CHECK_FIELDS,
    CHECK_POLICY,
    NEW_SETUP,
    ROWS,
    SET_SCOPE,
    STATUS_PAGE,
    Row,
)
from credentials_provider.entra.diagnosis import Diagnosis
from credentials_provider.entra.untrusted import UNTRUSTED
from credentials_provider.transport.proxies import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credentials_provider.transport.connections import Trouble


# Who is asked, and what changes that.
LOGIN_HOST = "the login host (--cloud, --login-base-url)"
GRAPH = "the national cloud (--cloud), which decides the address of Microsoft Graph"
REGISTRY = "the registry's address (--registry-url)"

_CHECK_HOST = "Check {peer}"
_CHECK_WAY = "Check the proxy (HTTPS_PROXY, NO_PROXY) and {peer}."


def _diagnosis(row: Row) -> Diagnosis:
    cure = row.cure + NEW_SETUP if row.verdict == "new" else row.cure
    return Diagnosis(row.cause, cure, row.verdict == "transient")


_BY_CODE = {code: _diagnosis(row) for row in ROWS for code in row.codes}

# RFC 6749 section 5.2, RFC 8707 section 2, and what Entra adds.
_BY_ERROR = {
    "access_denied": Diagnosis(
        "the tenant denies this identity access",
        "Check the app in Enterprise applications, its API permissions and their admin consent.",
    ),
    "consent_required": _BY_CODE[65001],
    "interaction_required": Diagnosis(
        "the tenant's policy demands a person's sign-in, which a machine identity cannot give",
        CHECK_POLICY,
    ),
    "invalid_client": Diagnosis(
        "the app's credential was not accepted",
        "Compare client_id and the credential with App registrations > (your app) > "
        "Certificates & secrets: Value rather than Secret ID, not expired.",
    ),
    "invalid_grant": Diagnosis(
        "the signed assertion or the grant behind it was not accepted", CHECK_ASSERTION
    ),
    "invalid_request": Diagnosis("the request lacks a field, or has a wrong one", CHECK_FIELDS),
    "invalid_resource": _BY_CODE[500011],
    "invalid_scope": Diagnosis("the scope is malformed or unknown", SET_SCOPE),
    "invalid_target": _BY_CODE[500011],
    "server_error": Diagnosis(
        "the provider has an internal fault", f"Run again in a minute; {STATUS_PAGE}", True
    ),
    "temporarily_unavailable": Diagnosis(
        "the provider is overloaded or under maintenance",
        f"Run again in some minutes; {STATUS_PAGE}",
        True,
    ),
    "unauthorized_client": Diagnosis(
        "the application is unknown in this tenant, disabled, or may not use client credentials",
        "Compare client_id and tenant_id with App registrations > (your app) > Overview, and look "
        "for the app in Enterprise applications of that tenant.",
    ),
    "unsupported_grant_type": Diagnosis(
        "the login host does not know the client credentials grant",
        "Check the login host (--cloud, --login-base-url): it must be Entra's, not another "
        "identity provider's.",
    ),
}

_REFUSED = Diagnosis(
    "the provider refused the request for a reason unknown here", CHECK_FIELDS, False
)

_LATER = f"Run again in some minutes; {STATUS_PAGE}"
_BY_STATUS = {
    400: Diagnosis(
        "the request was refused without an explanation (HTTP 400)",
        "Check that the login host (--cloud, --login-base-url) is Entra's, and that no proxy "
        "alters the request.",
    ),
    401: Diagnosis(
        "the credential was refused without an explanation (HTTP 401)",
        "Check client_id and its credential in App registrations > (your app) > "
        "Certificates & secrets, and that the login host is Entra's.",
    ),
    403: Diagnosis(
        "the request was forbidden (HTTP 403), most likely by a proxy or a firewall",
        "Have the proxy or firewall let this machine reach the login host over HTTPS.",
    ),
    404: Diagnosis(
        "the login host has no token endpoint for this tenant (HTTP 404)",
        "Check tenant_id and the login host (--cloud, --login-base-url).",
    ),
    407: Diagnosis(
        "the proxy asks for a user and a password (HTTP 407)",
        "Put them into HTTPS_PROXY (http://user:password@proxy:port), or list the login host in "
        "NO_PROXY.",
    ),
    408: Diagnosis(
        "the provider gave up waiting for the request (HTTP 408)",
        f"Run again in a minute; {STATUS_PAGE}",
        True,
    ),
    429: Diagnosis(
        "the provider throttles this client or tenant (HTTP 429)",
        "Wait some minutes and run again. Use --refresh-ahead so that only tokens that are due are "
        "asked for.",
        True,
    ),
    500: Diagnosis("the provider has an internal fault (HTTP 500)", _LATER, True),
    502: Diagnosis("a gateway on the way got no proper answer (HTTP 502)", _LATER, True),
    503: Diagnosis("the provider is unavailable or overloaded (HTTP 503)", _LATER, True),
    504: Diagnosis("a gateway on the way waited too long (HTTP 504)", _LATER, True),
    511: Diagnosis(
        "the network asks for a sign-in first (HTTP 511): a captive portal",
        "Sign in to the network's portal, then run again.",
        True,
    ),
}
_LOGIN_ONLY = {400, 401, 403, 404}  # their words are about the token endpoint
_BY_STATUS_CLASS = {
    3: Diagnosis(
        "the answer is a redirect (HTTP {status}), which is never followed: the request holds the "
        "credential",
        "Check {peer}, and that no captive portal or proxy stands in the way.",
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
        "Check this machine's network and DNS, and the spelling of {peer}.",
        True,
    ),
    "refused": Diagnosis(
        "{host} refused the connection",
        "Check host and port of {peer}, and that no firewall rejects the connection.",
        True,
    ),
    "reset": Diagnosis(
        "the connection to {host} was cut",
        "Run again. If it lasts, look for a firewall or proxy that breaks HTTPS to this host.",
        True,
    ),
    "timeout": Diagnosis(
        "{host} did not answer in time",
        "Run again. If it lasts, check that the firewall allows outgoing HTTPS, or raise "
        "--timeout.",
        True,
    ),
    "proxy": Diagnosis(
        "the proxy on the way to {host} cannot be reached or refused the connection",
        "Check HTTPS_PROXY, or list {host} in NO_PROXY if it can be reached directly.",
        True,
    ),
    "proxy_login": _BY_STATUS[407],
    "proxy_forbidden": Diagnosis(
        "the proxy does not let this machine through to {host} (HTTP {detail})",
        "Have the proxy's administrator allow {host}, or list it in NO_PROXY if it can be reached "
        "directly.",
    ),
    "proxy_upstream": Diagnosis(
        "the proxy could not reach {host} (HTTP {detail})",
        "Check the proxy's own way to {host}, HTTPS_PROXY, and the spelling of {peer}.",
        True,
    ),
    **{name: Diagnosis(*words) for name, words in PROBLEMS.items()},
    "unreachable": Diagnosis(
        "there is no route to {host}", "Check this machine's network, VPN and routes.", True
    ),
    "other": Diagnosis(
        "the connection to {host} failed",
        "Check this machine's network and proxy, then run again.",
        True,
    ),
}

_BAD_RESPONSE = {
    "html": Diagnosis(
        "a web page came instead of a token: a captive portal or a proxy answers for {host}",
        "Sign in to the network's portal, or have the proxy let {host} through, then run again.",
        True,
    ),
    "not_json": Diagnosis("the answer for {host} is not JSON", _CHECK_WAY, True),
    "too_large": Diagnosis(
        "the answer for {host} is far larger than a token and was not read", _CHECK_WAY
    ),
    "no_access_token": Diagnosis(
        "the answer of {host} holds no access token",
        f"{_CHECK_HOST}, and that nothing else answers instead of it.",
    ),
    "no_expiry": Diagnosis(
        "the answer of {host} does not say when the token expires",
        f"{_CHECK_HOST}, and that nothing else answers instead of it.",
    ),
    "expired": Diagnosis(
        "the token that {host} sent is already expired by this machine's clock",
        "Synchronise this machine's clock (NTP), and check that no proxy caches what {host} "
        "answers.",
    ),
    "wrong_tenant": Diagnosis(
        "the token that {host} sent is for another tenant than tenant_id",
        f"Compare tenant_id with App registrations > (your app) > Overview. {_CHECK_HOST}.",
    ),
    "wrong_client": Diagnosis(
        "the token that {host} sent is for another client than client_id",
        f"Compare client_id with App registrations > (your app) > Overview. {_CHECK_HOST}.",
    ),
    "redirect": Diagnosis(
        "{host} answered with a redirect, which is never followed: the request holds the "
        "credential",
        f"{_CHECK_HOST}, and that no captive portal or proxy stands in the way.",
    ),
    "other": Diagnosis("the answer of {host} cannot be used", _CHECK_WAY),
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


def is_known(codes: Sequence[int]) -> bool:
    """Whether one of these AADSTS codes has an explanation of its own here."""
    return any(code in _BY_CODE for code in codes)


def explain_trouble(trouble: Trouble, host: str, peer: str = LOGIN_HOST) -> Diagnosis:
    """Why a request of the transport to `host` got no answer that can be used.

    `peer` says who was asked, and with what option or variable that can be changed.
    """
    if trouble.kind == "untrusted":
        return _about(UNTRUSTED, trouble.reason, host, peer, trouble.detail)
    if trouble.kind == "bad_response":
        return explain_bad_response(trouble.reason, host, peer)
    if trouble.kind == "throttled":
        return explain_status(429, trouble.retry_after)
    if trouble.answer is not None:
        return explain_status(trouble.answer.status, trouble.retry_after, peer)
    return _about(_UNREACHABLE, trouble.reason, host, peer, trouble.detail)


def explain_status(status: int, retry_after: float | None, peer: str = LOGIN_HOST) -> Diagnosis:
    """An HTTP status whose body explains nothing; retry_after in seconds, as the server asked."""
    if status in _LOGIN_ONLY and peer != LOGIN_HOST:
        return Diagnosis(f"it answered HTTP {status}", f"Check {peer}.")
    diagnosis = _BY_STATUS.get(status) or _BY_STATUS_CLASS.get(status // 100, _ODD_STATUS)
    diagnosis = Diagnosis(
        diagnosis.cause.format(status=status), diagnosis.cure.format(peer=peer), diagnosis.transient
    )
    if diagnosis.transient and retry_after is not None and 0 < retry_after < math.inf:
        wait = duration(retry_after)
        return diagnosis._replace(cure=f"Wait {wait}, as the provider asks, and run again.")
    return diagnosis


def explain_bad_response(reason: str, host: str, peer: str = LOGIN_HOST) -> Diagnosis:
    """An answer that is not a token.

    The reason is html (captive portal), not_json, too_large, no_access_token, no_expiry, expired,
    wrong_tenant, wrong_client, redirect or other.
    """
    return _about(_BAD_RESPONSE, reason, host, peer)


_TOLERATED_SKEW = 60  # seconds


def clock_skew_warning(skew_seconds: float) -> str | None:
    """A fragment like a cause, or None within 60 s; a positive skew: this clock is ahead."""
    if not _TOLERATED_SKEW < abs(skew_seconds) < math.inf:
        return None
    side = "ahead of" if skew_seconds > 0 else "behind"
    return (
        f"this machine's clock is {duration(abs(skew_seconds))} {side} the provider's Date header:"
        " synchronise it (NTP), or expiry times on disk are wrong and certificates may be refused"
    )


def _about(
    table: Mapping[str, Diagnosis], reason: str, host: str, peer: str, detail: str = ""
) -> Diagnosis:
    cause, cure, transient = table.get(reason, table["other"])
    values = {"host": host, "peer": peer, "detail": detail or "no reason given"}
    return Diagnosis(cause.format_map(values), cure.format_map(values), transient)


_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float) -> str:
    """Seconds as a person says them, in its two largest units: "2 min 5 s"."""
    rest = math.ceil(seconds)
    parts = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
