"""The servers that an identity may use at an MCP Gateway Registry, by their paths at its gateway.

A registry names paths and nothing else: whoever may register a server there must not decide which
host gets the token, nor what an assistant makes of the address.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from credentials_provider.entra import explanations
from credentials_provider.entra.answers import json_object
from credentials_provider.errors import CredentialsProviderError, printable
from credentials_provider.transport.connections import Answer, HttpRequest, Trouble
from credentials_provider.transport.retrying import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PAGE = 500  # servers asked for at once
_MOST_PAGES = 100
_AT_ONCE = 8  # requests
_DEADLINE = 60.0  # seconds
_TIMEOUT = 20.0  # seconds
_OK, _NOT_FOUND, _UNAVAILABLE = 200, 404, 503
_REFUSALS = {401, 403}
_NO_GATEWAY = b"gateway_proxy_disabled"
_LONGEST_NAME = 56


class RegistryError(CredentialsProviderError):
    """The registry gave no list of servers."""


class Registry:
    """The registry at an address without an API's path, asked with one token. To be closed."""

    def __init__(
        self, url: str, token: str, ca_bundle: str | None, *, timeout: float = _TIMEOUT
    ) -> None:
        self.base = url.rstrip("/")
        self._host = urlsplit(self.base).netloc
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "X-Authorization": f"Bearer {token}",
        }
        self._transport = Transport(
            timeout=timeout,
            max_attempts=2,
            deadline=time.monotonic() + _DEADLINE,
            connections=_AT_ONCE,
            ca_bundle=ca_bundle,
        )

    def close(self) -> None:
        self._transport.close()

    def servers(self, warn: Callable[[str], None]) -> dict[str, str]:
        """Name and address of every server that a client can reach through the gateway.

        Raises:
            RegistryError: there is no list, or no server in it, or no gateway before them.

        """
        found = list(self._listed("/api/servers", "servers", needed=True))
        found += self._listed("/api/virtual-servers", "virtual_servers")
        usable = [server for server in found if self._is_usable(server, warn)]
        if not usable:
            raise RegistryError(
                f"no server is visible to this identity at {self._host}"
                if not found
                else f"no server at {self._host} can be reached through its gateway",
                hint="Give the identity a group at the registry (IAM > M2M), or map its group to "
                "the registry's scopes.",
            )
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            addresses = list(pool.map(self._address, usable))
        self._check_gateway(addresses[0])
        return _named(usable, addresses)

    def is_registry(self) -> bool:
        """Whether an address has a registry's list of servers."""
        answer = self._get("/api/servers", limit=1, include_tools="false")
        return isinstance(_json_object(answer).get("servers"), list)

    def _listed(self, path: str, key: str, *, needed: bool = False) -> Iterator[dict[str, Any]]:
        """The objects of a list, page by page."""
        offset = 0
        for _ in range(_MOST_PAGES):
            answer = self._get(path, limit=PAGE, offset=offset, include_tools="false")
            document = self._checked(answer) if needed else _json_object(answer)
            page = document.get(key)
            if not isinstance(page, list):
                if needed:
                    raise RegistryError(
                        f"{self._host} has no list of servers",
                        hint="Name the registry's own address, without a path: "
                        "--registry-url https://host",
                    )
                return
            yield from (each for each in page if isinstance(each, dict))
            offset += len(page)
            total = document.get("total_count")
            more = offset < total if isinstance(total, int) else document.get("has_next")
            if not page or not more:
                return

    def _is_usable(self, server: dict[str, Any], warn: Callable[[str], None]) -> bool:
        path = server.get("path")
        shown = printable(str(path))[:100]
        if not isinstance(path, str) or not server.get("is_enabled", True):
            return False
        if server.get("deployment") == "local":
            warn(f"{shown} is left out: it runs on its users' own machines, not at the gateway")
            return False
        segments = path.strip("/").split("/")
        is_text = not any("\ud800" <= each <= "\udfff" for each in path)  # half a surrogate pair
        if not path.strip("/") or {".", ".."} & set(segments) or not is_text:
            warn(f"{shown} is left out: this is not a path of a server")
            return False
        return True

    def _address(self, server: dict[str, Any]) -> str:
        """Its path at the gateway, and /mcp unless it says that this is not wanted.

        Encoded by RFC 3986, with everything that an assistant or a shell could take for a variable.
        """
        path = quote(str(server["path"]).strip("/"), safe="/")
        settings = server
        if "append_mcp_path" not in server and not path.startswith("virtual/"):
            settings = _json_object(self._get(f"/api/servers/{path}/connect-config"))
        return f"{self.base}/{path}" + ("" if settings.get("append_mcp_path") is False else "/mcp")

    def _check_gateway(self, address: str) -> None:
        """See that calls are passed on at all: a registry can be one without a gateway."""
        headers = {**self._headers, "Content-Type": "application/json"}
        request = HttpRequest("POST", address, headers, "{}")  # a GET could be a long stream
        result = self._transport.send(request).result
        answer = result.answer if isinstance(result, Trouble) else result
        if answer is not None and answer.status == _UNAVAILABLE and _NO_GATEWAY in answer.body:
            raise RegistryError(
                f"{self._host} is a registry without a gateway: it lists servers and passes no "
                "calls on to them (gateway_proxy_disabled)",
                hint="Ask its administrator for the servers' own addresses, and configure those: "
                "--server NAME=URL",
            )

    def _get(self, path: str, **query: object) -> Answer | Trouble:
        asked = f"?{urlencode(query)}" if query else ""
        request = HttpRequest("GET", f"{self.base}{path}{asked}", self._headers)
        return self._transport.send(request).result

    def _checked(self, result: Answer | Trouble) -> dict[str, Any]:
        """An answer's JSON object, as `_json_object` gives it."""
        if not isinstance(result, Answer):
            explained = explanations.explain_trouble(result, self._host, explanations.REGISTRY)
            raise RegistryError(
                f"the registry gave no list of servers: {explained.cause}",
                hint="Check --registry-url, the proxy (HTTPS_PROXY, NO_PROXY) and --ca-bundle.",
            )
        if result.status in _REFUSALS:
            raise RegistryError(
                f"the registry {self._host} refuses this identity's token ({result.status})",
                hint="Its scope must be the gateway's application.",
            )
        if result.status not in {_OK, _NOT_FOUND}:
            cause = explanations.explain_status(result.status, None, explanations.REGISTRY).cause
            raise RegistryError(
                f"the registry {self._host} gave no list of servers: {cause}",
                hint="Check --registry-url.",
            )
        return _json_object(result)


def _json_object(answer: Answer | Trouble) -> dict[str, Any]:
    """The JSON object of a successful answer; empty where there is none."""
    if not isinstance(answer, Answer) or answer.status != _OK:
        return {}
    return json_object(answer) or {}


def _named(servers: list[dict[str, Any]], addresses: list[str]) -> dict[str, str]:
    """Addresses by names made of the paths; two that would be the same get a number."""
    found: dict[str, str] = {}
    for server, address in zip(servers, addresses, strict=True):
        path = str(server["path"]).strip("/")
        name = unused = re.sub(r"[^A-Za-z0-9_-]", "-", path)[:_LONGEST_NAME]
        number = 2
        while unused in found:
            unused, number = f"{name}-{number}", number + 1
        found[unused] = address
    return found
