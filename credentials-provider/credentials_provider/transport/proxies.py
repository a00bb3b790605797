"""Which proxy a request goes through: one rule for everything that this program connects to.

The variables are those of curl and requests; on macOS and Windows the system's settings count
where there are none. This machine itself is never reached through one. Nothing of a proxy's
address but host and port is ever shown.
"""

from __future__ import annotations

import base64
import ipaddress
import os
import re
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from credentials_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[A-Za-z0-9._-]{1,253}|[0-9A-Fa-f:.]{2,45}", re.ASCII)
_SYSTEM = "the system's proxy settings"

# Cause and cure; `{detail}` is the variable's name.
PROBLEMS = {
    "proxy_url": (
        "{detail} does not hold the address of a proxy",
        (
            "Write http://HOST:PORT, or http://USER:PASSWORD@HOST:PORT with %23 for #, %2F for /, "
            "%3F for ? and %40 for @ in user and password."
        ),
    ),
    "proxy_scheme": (
        "{detail} names a kind of proxy that is not supported, such as SOCKS",
        (
            "Name an HTTP proxy (http://HOST:PORT), or list the host in NO_PROXY if it can be "
            "reached directly."
        ),
    ),
}


class ProxySettingError(ConfigurationError):
    """A proxy that cannot be used; `where` names the variable, `problem` is a key of `PROBLEMS`."""

    def __init__(self, where: str, problem: Literal["proxy_url", "proxy_scheme"]) -> None:
        cause, cure = PROBLEMS[problem]
        super().__init__(cause.format(detail=where), hint=cure)
        self.where = where
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy, checked."""

    scheme: str
    host: str  # an IPv6 address without brackets
    port: int
    login: str | None = field(repr=False)  # `user:password`, decoded

    @property
    def place(self) -> str:
        """Host and port, fit to be shown."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """Its address without the login."""
        return f"{self.scheme}://{self.place}"

    @property
    def headers(self) -> dict[str, str]:
        """What proves the login to the proxy alone (RFC 7617, in UTF-8)."""
        if self.login is None:
            return {}
        encoded = base64.b64encode(self.login.encode()).decode()
        return {"proxy-authorization": f"Basic {encoded}"}


def proxy_for(url: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy for a URL, None where it is reached directly, as plain HTTP always is.

    Raises:
        ProxySettingError: the setting names no proxy that can be used.

    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS["https"]
    where, value = _setting(environment)
    if not value or parts.scheme != "https" or is_loopback(host):
        return None
    return None if is_direct(host, port, environment) else _checked(where, value)


def is_direct(host: str, port: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `NO_PROXY` has the host: by name or domain, address or range, with or without port.

    Where no variable speaks of proxies at all, the system's exceptions count.
    """
    listed = environment.get("no_proxy") or environment.get("NO_PROXY")
    if listed is None:
        return bool(urllib.request.proxy_bypass(host))
    return any(_matches(entry.strip().lower(), host.lower(), port) for entry in listed.split(","))


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name or by its address."""
    if host.rstrip(".").lower() == "localhost":
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _setting(environment: Mapping[str, str]) -> tuple[str, str]:
    """The name and the value of what names the proxy; small letters win, as in curl."""
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        if name in environment:
            return name, environment[name].strip()
    found = urllib.request.getproxies() if environment is os.environ else {}
    return _SYSTEM, found.get("https") or found.get("all") or ""


def _matches(entry: str, host: str, port: int) -> bool:
    if not entry:
        return False
    if entry == "*":
        return True
    name, wanted = entry, None
    if entry.startswith("["):
        name, _, wanted = entry[1:].partition("]")
        wanted = wanted.removeprefix(":") or None
    elif entry.count(":") == 1:
        name, _, wanted = entry.partition(":")
    if wanted is not None and wanted != str(port):
        return False
    if (address := _address(host)) is not None:
        return _in_range(address, name)
    name = name.removeprefix("*").lstrip(".").rstrip(".")
    host = host.rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _in_range(address: ipaddress.IPv4Address | ipaddress.IPv6Address, name: str) -> bool:
    try:
        return address in ipaddress.ip_network(name, strict=False)
    except ValueError:
        return False


def _checked(where: str, value: str) -> Proxy:
    address = value if "://" in value else f"http://{value}"
    scheme = address.partition("://")[0].lower()
    if scheme not in _DEFAULT_PORTS:
        raise ProxySettingError(where, "proxy_scheme")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[scheme]
    except ValueError:  # no number where the port is
        raise ProxySettingError(where, "proxy_url") from None
    rest = parts.path.strip("/") or parts.query or parts.fragment
    # An unescaped `#`, `/` or `?` in the login ends the host too early.
    if rest or not _HOST.fullmatch(host) or "\\" in parts.netloc.rpartition("@")[2]:
        raise ProxySettingError(where, "proxy_url")
    login = None
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return Proxy(scheme, host, port, login)
