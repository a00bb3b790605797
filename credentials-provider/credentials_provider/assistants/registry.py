"""The servers that an identity may use at an MCP Gateway Registry."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from credentials_provider.assistants.configure import check_url
from credentials_provider.entra import explanations
from credentials_provider.errors import ConfigurationError, CredentialsProviderError
from credentials_provider.transport.connections import Answer
from credentials_provider.transport.retrying import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = 500  # servers asked for at once; older registries answer all whatever is asked
_MOST_PAGES = 100
_DEADLINE = 60.0  # seconds
_TIMEOUT = 20.0  # seconds
_OK = 200
_NOT_FOUND = 404
_REFUSALS = {401, 403}
_MCP_ENDS = ("/mcp", "/sse", "/v1")
_META = "io.mcpgateway/internal"


class RegistryError(CredentialsProviderError):
    """The registry gave no list of servers."""


def discover(
    registry_url: str, token: str, ca_bundle: str | None, warn: Callable[[str], None]
) -> dict[str, str]:
    """Name and address of every enabled server, by the registry's own API or the standard one.

    One at another host than the registry is left out, with a warning: whoever may register a
    server could collect the tokens of all who configure it.

    Raises:
        RegistryError: none of its APIs answered with a list.

    """
    base = registry_url.rstrip("/")
    transport = Transport(
        timeout=_TIMEOUT,
        max_attempts=3,
        deadline=time.monotonic() + _DEADLINE,
        connections=1,
        ca_bundle=ca_bundle,
    )
    ask = _Asker(transport, base, token)
    try:
        for read in (_own_api, _new_standard_api, _standard_api):
            found = read(ask)
            if found is not None:
                return _at_home(found, base, warn)
    finally:
        transport.close()
    raise RegistryError(
        f"{base} has no list of servers",
        hint="Name the registry's own address, without a path: --registry-url https://host",
    )


def _at_home(found: dict[str, str], base: str, warn: Callable[[str], None]) -> dict[str, str]:
    home = urlsplit(base).hostname
    known = {}
    for name, url in found.items():
        try:
            host = urlsplit(check_url(url)).hostname
        except ConfigurationError as error:
            warn(f"{name} is left out: {error.message}")
            continue
        if host == home:
            known[name] = url
        else:
            warn(
                f"{name} is left out: it is at {host}, which is not the registry and would get the "
                f"token; if it may, add --server {name}={url}"
            )
    return known


class _Asker:
    def __init__(self, transport: Transport, base: str, token: str) -> None:
        self._transport = transport
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "X-Authorization": f"Bearer {token}",
        }
        self.base = base

    def get(self, path: str, **query: object) -> dict[str, Any] | None:
        """The JSON object at a path, None where there is no such path."""
        result = self._transport.get(f"{self.base}{path}?{urlencode(query)}", self._headers).result
        host = urlsplit(self.base).netloc
        if not isinstance(result, Answer):
            explained = explanations.explain_trouble(result, host, explanations.REGISTRY)
            raise RegistryError(
                f"the registry gave no list of servers: {explained.cause}",
                hint="Check --registry-url, the proxy (HTTPS_PROXY, NO_PROXY) and --ca-bundle.",
            )
        if result.status in _REFUSALS:
            raise RegistryError(
                f"the registry {host} refuses this identity's token ({result.status})",
                hint="Its scope must be the gateway's application, and its group one that the "
                "registry knows.",
            )
        if result.status == _NOT_FOUND:
            return None
        document = _json_object(result)
        if result.status != _OK or document is None:
            explained = explanations.explain_status(result.status, None, explanations.REGISTRY)
            raise RegistryError(
                f"the registry {host} gave no list of servers: {explained.cause}"
                if result.status != _OK
                else f"{host} is not a registry: its answer is not a list of servers",
                hint="Check --registry-url.",
            )
        return document


def _json_object(answer: Answer) -> dict[str, Any] | None:
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _own_api(ask: _Asker) -> dict[str, str] | None:
    found: dict[str, str] = {}
    offset = 0
    for _ in range(_MOST_PAGES):
        page = ask.get("/api/servers", limit=PAGE, offset=offset)
        if page is None or not isinstance(page.get("servers"), list):
            return found or None
        for server in page["servers"]:
            if isinstance(server, dict) and server.get("is_enabled", True):
                _add(found, server.get("path"), _address(ask.base, server))
        offset += len(page["servers"])
        if not page.get("has_next") or not page["servers"]:
            break
    return found


def _address(base: str, server: dict[str, Any]) -> str | None:
    """Its `mcp_endpoint`, else its path, with /mcp unless the address behind it has an end."""
    endpoint, path = server.get("mcp_endpoint"), server.get("path")
    if isinstance(endpoint, str) and endpoint:
        return endpoint
    if not isinstance(path, str):
        return None
    own = str(server.get("proxy_pass_url") or "").rstrip("/").endswith(_MCP_ENDS)
    return _under(base, path) + ("" if own else "/mcp")


def _under(base: str, path: str) -> str:
    return f"{base}/{quote(path.strip('/'), safe='/')}"


def _new_standard_api(ask: _Asker) -> dict[str, str] | None:
    return _standard(ask, "/api/registry/v0.1/servers")


def _standard_api(ask: _Asker) -> dict[str, str] | None:
    return _standard(ask, "/v0.1/servers")


def _standard(ask: _Asker, api: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    cursor: dict[str, object] = {}
    for _ in range(_MOST_PAGES):
        page = ask.get(api, limit=100, **cursor)
        if page is None or not isinstance(page.get("servers"), list):
            return found or None
        for each in page["servers"]:
            server = each.get("server") if isinstance(each, dict) else None
            meta = (server.get("_meta") or {}).get(_META) if isinstance(server, dict) else None
            if isinstance(meta, dict) and meta.get("is_enabled", True):
                _add(found, meta.get("path"), _address(ask.base, meta))
        following = (page.get("metadata") or {}).get("nextCursor")
        if not following:
            break
        cursor = {"cursor": following}
    return found


def _add(found: dict[str, str], path: object, url: str | None) -> None:
    """Under a name made of its path; two paths that make the same one get a number."""
    if not isinstance(path, str) or url is None:
        return
    name = "".join(
        c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in path.strip("/")
    )
    name = name[:56] or "registry"
    unused, number = name, 2
    while unused in found:
        unused, number = f"{name}-{number}", number + 1
    found[unused] = url
