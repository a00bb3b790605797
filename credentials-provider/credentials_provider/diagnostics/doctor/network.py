"""The way to the login host: proxy, DNS, TLS, its answer, the clock."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credentials_provider.diagnostics.doctor.checks import Check
from credentials_provider.diagnostics.http import HTTP_OK, TIMEOUT, HttpClient, json_object
from credentials_provider.entra import explanations
from credentials_provider.minting import Failure
from credentials_provider.transport.connections import Trouble
from credentials_provider.transport.proxies import ProxySettingError, proxy_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.diagnostics.doctor.checks import Examination
    from credentials_provider.entra.explanations import Diagnosis
    from credentials_provider.transport.connections import Answer
    from credentials_provider.transport.proxies import Proxy


def connection(exam: Examination, base: str) -> Iterator[Check]:
    """Every step up to the login host's keys; where one fails, nothing is asked there further."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    try:
        proxy = proxy_for(base)
    except ProxySettingError as error:
        exam.unreachable.add(base)
        yield Check("proxy", "failure", error.message, error.hint or "")
        return
    first = _connected(proxy) if proxy else _dns(host, parts.port or 443)
    if proxy is None:
        yield Check("proxy", "ok", f"none for {host}")
    yield first
    if first.verdict == "failure":
        exam.unreachable.add(base)
        return
    with contextlib.closing(HttpClient(exam.settings.ca_bundle, exam.ends_at)) as client:
        result = client.get(f"{base}/common/discovery/v2.0/keys")
    if isinstance(result, Failure):
        exam.unreachable.add(base)
        yield _unreachable(exam, base, proxy, result)
        return
    bundle = f", by {exam.settings.ca_bundle}" if exam.settings.ca_bundle else ""
    yield Check("tls", "ok", f"{host} is trusted{bundle}")
    if isinstance(json_object(result).get("keys"), list):
        yield Check("connection", "ok", f"{base} answers")
    else:
        exam.unreachable.add(base)
        explained = _explained(result, host)
        yield Check("connection", "failure", f"{base}: {explained.cause}", explained.cure)
    exam.clock_skew = result.clock_skew or 0.0
    yield from _clock(result.clock_skew)


def _unreachable(exam: Examination, base: str, proxy: Proxy | None, failure: Failure) -> Check:
    name = "connection"
    seen = f"{base}: {failure.message}"
    if failure.kind == "untrusted":
        name = "tls"
        if exam.settings.ca_bundle:
            seen += f" (authorities of {exam.settings.ca_bundle})"
    elif proxy is not None:
        name = "proxy"
        seen += f" (proxy {proxy.place})"
    return Check(name, "failure", seen, failure.remedy)


def _explained(answer: Answer, host: str) -> Diagnosis:
    if answer.status != HTTP_OK:
        return explanations.explain_status(answer.status, None)
    html = answer.body.lstrip()[:1] == b"<"
    return explanations.explain_bad_response("html" if html else "not_json", host)


def _clock(skew: float | None) -> Iterator[Check]:
    if skew is None:
        return
    if warning := explanations.clock_skew_warning(skew):
        cause, _, cure = warning.partition(": ")
        yield Check("clock", "warning", cause, cure[:1].upper() + cure[1:] + ".")
    else:
        yield Check("clock", "ok", f"within {max(1, round(abs(skew)))} s of the provider's")


def _connected(proxy: Proxy) -> Check:
    """Whether there is a proxy at that place; the request shows what it answers."""
    try:
        with socket.create_connection((proxy.host, proxy.port), timeout=TIMEOUT):
            return Check("proxy", "ok", f"{proxy.place} accepts connections")
    except (OSError, UnicodeError) as error:
        problem, cure = "cannot be reached", "that it is running"
        if isinstance(error, (socket.gaierror, UnicodeError)):
            problem, cure = "has a name that cannot be resolved", "its name and this machine's DNS"
        elif isinstance(error, ConnectionRefusedError):
            problem, cure = "refused the connection", "its port, and that it is running"
        cure = f"Check HTTPS_PROXY: {cure}. Or list the login host in NO_PROXY."
        return Check("proxy", "failure", f"the proxy {proxy.place} {problem}", cure)


def _dns(host: str, port: int) -> Check:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        cause, cure, _ = explanations.explain_trouble(Trouble("unreachable", "dns"), host)
        return Check("dns", "failure", cause, cure)
    return Check("dns", "ok", f"{host} is {found[0][4][0]}")
