"""The IAM calls of an MCP Gateway Registry: machine accounts made, registered and removed."""

from __future__ import annotations

import contextlib
import random
import secrets
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from credentials_provider.emulator.apps import Added, App, random_guid
from credentials_provider.emulator.tokens import bearer_claims

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credentials_provider.emulator.apps import Directory
    from credentials_provider.emulator.wire import Call, Reply

ADMINISTRATORS = "registry-admins"
"""The group (or app role) whose members may use these calls."""

_ADMIN_ONLY = "Administrator permissions are required for this operation"
_SECRET_LIFE = timedelta(days=2 * 365)  # what Graph gives where nobody asks for another


class Registry:
    """Accounts with `groups` that it knows; the applications behind them are the directory's."""

    def __init__(self, directory: Directory, groups: Iterable[str], propagation: float) -> None:
        self._directory = directory
        self._groups = frozenset(groups)
        self._propagation = propagation
        self._clients: dict[str, dict[str, Any]] = {}  # by client id

    def answer(self, call: Call) -> Reply | None:
        """The answer to a call of IAM, else None."""
        match call.request.segments:
            case ["api", "management", "iam", "users", *rest]:
                route, admin = self._users, True
            case ["api", "iam", "m2m-clients", *rest]:
                route, admin = self._m2m_clients, call.request.method != "GET"
            case _:
                return None
        header = call.request.headers.get("x-authorization")
        claims = bearer_claims(header or call.request.headers.get("authorization"), None, call.now)
        if claims is None:
            return _detail(call, 401, "Token validation failed")
        if admin and ADMINISTRATORS not in [*claims.get("groups", ()), *claims.get("roles", ())]:
            return _detail(call, 403, _ADMIN_ONLY)
        return route(call, str(claims["tid"]), rest)

    # Accounts that it makes itself

    def _users(self, call: Call, tenant: str, rest: list[str]) -> Reply:
        match (call.request.method, *rest):
            case ("GET",):
                users = [_user(each) for each in self._clients.values()]
                return call.json(200, {"users": users, "total": len(users)})
            case ("POST", "m2m"):
                return self._make(call, tenant)
            case ("DELETE", name):
                return self._delete(call, name)
            case _:
                return _detail(call, 405, "Method Not Allowed")

    def _make(self, call: Call, tenant: str) -> Reply:
        """Once more for every call: a name may be given twice."""
        asked = call.request.json() or {}
        name, groups = asked.get("name"), asked.get("groups")
        if not (isinstance(name, str) and name) or not (isinstance(groups, list) and groups):
            return _invalid(call, "groups" if isinstance(name, str) and name else "name")
        rng = random.Random()  # noqa: S311  ids, no keys
        works_at = call.now + self._propagation
        start = datetime.fromtimestamp(int(call.now), timezone.utc)
        secret = Added(
            random_guid(rng),
            f"reg8Q~{secrets.token_urlsafe(30)}"[:40],
            (start + _SECRET_LIFE).isoformat(),
            works_at=works_at,
            start=start.isoformat(),
        )
        app = App(tenant, random_guid(rng), name=name, passwords=(secret,), works_at=works_at)
        self._directory.add(app)
        granted = [each for each in groups if each in self._groups]
        self._clients[app.client_id] = _client(app.client_id, name, granted, asked)
        content = {
            "client_id": app.client_id,
            "client_uuid": random_guid(rng),
            "service_principal_id": app.object_id,
            "client_secret": secret.content,
            "groups": granted,
        }
        return call.json(200, content)

    def _delete(self, call: Call, name: str) -> Reply:
        wanted = name.lower()
        found = [
            key
            for key, each in self._clients.items()
            if wanted in (key.lower(), str(each["name"]).lower())
        ]
        if not found:
            return _detail(call, 400, f"User or M2M account '{name}' not found")
        for key in found:
            del self._clients[key]
            with contextlib.suppress(KeyError):  # one that was only registered
                self._directory.remove(key)
        return call.json(200, {"username": name, "deleted": True})

    # Applications that are there already

    def _m2m_clients(self, call: Call, tenant: str, rest: list[str]) -> Reply:
        del tenant
        method = call.request.method
        if not rest:
            if method == "POST":
                return self._register(call)
            items = list(self._clients.values())
            return call.json(200, {"total": len(items), "limit": 500, "skip": 0, "items": items})
        key = rest[0]
        if key not in self._clients:
            return _detail(call, 404, f"M2M client {key} not found")
        if method == "DELETE":
            del self._clients[key]
            return call.reply(204)
        if method == "PATCH":
            changes = call.request.json() or {}
            known = {"groups", "description", "enabled"}
            self._clients[key] |= {name: changes[name] for name in known & set(changes)}
        return call.json(200, self._clients[key])

    def _register(self, call: Call) -> Reply:
        asked = call.request.json() or {}
        client_id, name = asked.get("client_id"), asked.get("client_name")
        if not isinstance(client_id, str) or not isinstance(name, str):
            return _invalid(call, "client_name" if isinstance(client_id, str) else "client_id")
        if client_id in self._clients:
            return _detail(call, 409, f"M2M client {client_id} already exists")
        self._clients[client_id] = _client(client_id, name, asked.get("groups") or [], asked)
        return call.json(201, self._clients[client_id])


def _client(client_id: str, name: str, groups: list[str], asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "name": name,
        "groups": groups,
        "description": asked.get("description"),
        "enabled": True,
        "provider": "entra",
    }


def _user(client: dict[str, Any]) -> dict[str, object]:
    return {
        "id": client["client_id"],
        "username": client["name"],
        "email": f"{client['client_id']}@service-account.local",
        "firstName": None,
        "lastName": None,
        "enabled": client["enabled"],
        "groups": client["groups"],
    }


def _detail(call: Call, status: int, text: str) -> Reply:
    return call.json(status, {"detail": text})


def _invalid(call: Call, field: str) -> Reply:
    problem = {"type": "missing", "loc": ["body", field], "msg": "Field required"}
    return call.json(422, {"detail": [problem]})
