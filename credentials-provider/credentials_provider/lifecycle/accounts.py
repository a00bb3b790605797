"""Machine accounts at an MCP Gateway Registry: its IAM calls, with an administrator's token."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from credentials_provider.entra import explanations
from credentials_provider.entra.answers import explain, json_object
from credentials_provider.errors import printable
from credentials_provider.lifecycle.proving import LifecycleError
from credentials_provider.transport.connections import Answer, HttpRequest, Trouble
from credentials_provider.transport.retrying import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

_TIMEOUT = 60.0  # seconds; to make an account takes up to 26
_DEADLINE = 180.0  # seconds for all calls of a command
_USERS = "/api/management/iam/users"
_CLIENTS = "/api/iam/m2m-clients"
_MOST_USERS = 2000
_SUCCESS = range(200, 300)
_GONE = {400, 404}
_CONFLICT = 409
_REFUSALS = {
    401: (
        "does not accept the administrator's token",
        "Give a valid token of an administrator: --as NAME or --token-file FILE.",
    ),
    403: (
        "says that this takes an administrator",
        "Use an identity of a group that administers the registry: --as NAME.",
    ),
    404: (
        "has no such call",
        "Check --registry-url. In some registries the administrators switched it off.",
    ),
    422: ("does not accept the name or the groups", "Check NAME and --groups."),
    502: (
        "could not reach Microsoft Graph, or has no right there",
        "See “403 Forbidden” in the registry's guide: its application needs permissions of Graph.",
    ),
}


@dataclass(frozen=True, slots=True)
class Account:
    """A machine account that was asked for; with a client ID it was made.

    The registry tells its secret this once.
    """

    registry_url: str
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    groups: Sequence[str] = ()


class UncertainError(LifecycleError):
    """Nobody knows whether the registry made the account."""


class Accounts:
    """The accounts of one registry. To be closed.

    Args:
        url: the registry's address, checked.
        token: of an administrator; goes in X-Authorization.
        ca_bundle: authorities to trust instead of the system's.

    """

    def __init__(self, url: str, token: str, ca_bundle: str | None) -> None:
        self.url = url.rstrip("/")
        self._host = urlsplit(self.url).netloc
        self._headers = {
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "X-Authorization": f"Bearer {token}",
        }
        self._transport = Transport(
            timeout=_TIMEOUT,
            max_attempts=3,
            deadline=time.monotonic() + _DEADLINE,
            connections=1,
            ca_bundle=ca_bundle,
        )

    def close(self) -> None:
        self._transport.close()

    def called(self, name: str) -> list[str]:
        """The client ids of the accounts of a name.

        Raises:
            LifecycleError: the registry refused, or did not answer.

        """
        document = json_object(self._ask("GET", f"{_USERS}?limit={_MOST_USERS}")) or {}
        users = document.get("users")
        if not isinstance(users, list):
            raise LifecycleError(
                f"{self._host} is not a registry: its answer is not a list of users",
                "Check --registry-url.",
            )
        return [
            str(each.get("id") or each.get("username"))
            for each in users
            if isinstance(each, dict) and str(each.get("username")).casefold() == name.casefold()
        ]

    def make(self, name: str, groups: Sequence[str], description: str | None) -> Account:
        """Make an account; asked once, because a second call would make a second one.

        Raises:
            UncertainError: it may have been made all the same.
            LifecycleError: it was not.

        """
        content = {"name": name, "groups": list(groups)}
        if description:
            content["description"] = description
        document = json_object(self._ask("POST", f"{_USERS}/m2m", content, once=True)) or {}
        client_id, secret = document.get("client_id"), document.get("client_secret")
        if not (isinstance(client_id, str) and isinstance(secret, str) and client_id and secret):
            raise UncertainError(
                f"{self._host} answered without a client ID and a secret", "Look at its log."
            )
        granted = document.get("groups")
        known = granted if isinstance(granted, list) else groups
        return Account(self.url, client_id, secret, [*map(str, known)])

    def register(self, client_id: str, name: str, groups: Sequence[str]) -> None:
        """Tell the registry of an application that exists; one that it knows gets the groups.

        Raises:
            LifecycleError: the registry refused, or did not answer.

        """
        content = {"client_id": client_id, "client_name": name, "groups": list(groups)}
        found = self._ask("POST", _CLIENTS, content, allowed={_CONFLICT})
        if found.status == _CONFLICT:
            path = f"{_CLIENTS}/{quote(client_id, safe='')}"
            self._ask("PATCH", path, {"groups": list(groups)})

    def remove(self, client_id: str) -> bool:
        """Delete an account and its application; whether there was one.

        Raises:
            LifecycleError: the registry refused, or did not answer.

        """
        path = f"{_USERS}/{quote(client_id, safe='')}"
        return self._ask("DELETE", path, allowed=_GONE).status in _SUCCESS

    def _ask(
        self,
        method: str,
        path: str,
        content: object = None,
        *,
        once: bool = False,
        allowed: set[int] | None = None,
    ) -> Answer:
        body = None if content is None else json.dumps(content)
        request = HttpRequest(method, f"{self.url}{path}", self._headers, body, _TIMEOUT)
        result = self._transport.send(request, about="the registry", once=once).result
        if isinstance(result, Trouble):
            failure = explain(result, self._host, explanations.REGISTRY)
            uncertain = once and result.maybe_done
            kind = UncertainError if uncertain else LifecycleError
            raise kind(failure.message, failure.remedy, transient=failure.transient)
        if result.status in _SUCCESS or result.status in (allowed or ()):
            return result
        cause, remedy = _REFUSALS.get(
            result.status, (f"answered HTTP {result.status}", "Look at the registry's log.")
        )
        raise LifecycleError(f"the registry {self._host} {cause}{_detail(result)}", remedy)


def _detail(answer: Answer) -> str:
    detail = (json_object(answer) or {}).get("detail")
    return f" ({printable(detail)[:200]})" if isinstance(detail, str) else ""
