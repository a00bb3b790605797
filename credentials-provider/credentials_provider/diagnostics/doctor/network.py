"""The way to the login host: proxy, DNS, TLS, its answer, the clock."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from credentials_provider.diagnostics.asking import HTTP_OK, Asker, json_object
from credentials_provider.diagnostics.doctor.checks import Check
from credentials_provider.entra import explanations
from credentials_provider.minting import Failure
from credentials_provider.transport.proxies import ProxySettingError, proxy_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.diagnostics.doctor.checks import Examination
    from credentials_provider.entra.diagnosis import Diagnosis
    from credentials_provider.transport.connections import Answer


def connection(exam: Examination, base: str) -> Iterator[Check]:
    """Every step up to the login host's keys; where one fails, nothing is asked there further."""
    parts = urlsplit(base)
    host = parts.hostname or ""
    proxy = _proxy(base)
    if proxy is None:
        yield Check("proxy", "ok", f"none for {host}")
        dns = _dns(host, parts.port or 443)
        yield dns
        if dns.verdict == "failure":
            exam.unreachable.add(base)
            return
    with contextlib.closing(Asker(exam.settings.ca_bundle, exam.ends_at)) as asker:
        result = asker.get(f"{base}/common/discovery/v2.0/keys")
    if isinstance(result, Failure):
        exam.unreachable.add(base)
        yield _unreachable(exam, base, proxy, result)
        return
    if proxy is not None:
        yield Check("proxy", "ok", f"{host} is reached through {proxy}")
    bundle = f", by {exam.settings.ca_bundle}" if exam.settings.ca_bundle else ""
    yield Check("tls", "ok", f"{host} is trusted{bundle}")
    if isinstance(json_object(result).get("keys"), list):
        yield Check("connection", "ok", f"{base} answers")
    else:
        exam.unreachable.add(base)
        explained = _explained(result, host)
        yield Check("connection", "failure", f"{base}: {explained.cause}", explained.cure)
    yield from _clock(result.clock_skew)


def _unreachable(exam: Examination, base: str, proxy: str | None, failure: Failure) -> Check:
    name = "connection"
    seen = f"{base}: {failure.message}"
    if failure.kind == "untrusted":
        name = "tls"
        if exam.settings.ca_bundle:
            seen += f" (authorities of {exam.settings.ca_bundle})"
    elif proxy is not None:
        name = "proxy"
        seen += f" (proxy {proxy})"
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


def _proxy(base: str) -> str | None:
    """Host and port of the proxy for the login host, or the variable that names none."""
    try:
        proxy = proxy_for(base)
    except ProxySettingError as error:
        return error.where  # the request says what is wrong with it
    return proxy.place if proxy else None


def _dns(host: str, port: int) -> Check:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        cause, cure, _ = explanations.explain_unreachable("dns", host)
        return Check("dns", "failure", cause, cure)
    return Check("dns", "ok", f"{host} is {found[0][4][0]}")
