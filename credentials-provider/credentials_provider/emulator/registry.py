"""The IAM calls of an MCP Gateway Registry: machine accounts made, registered and removed."""

from __future__ import annotations

import contextlib
import secrets
import uuid
from typing import TYPE_CHECKING, Any

from credentials_provider.emulator.apps import SECRET_LIFE, Added, App, iso
from credentials_provider.emulator.tokens import bearer_claims

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credentials_provider.emulator.apps import Directory
    from credentials_provider.emulator.wire import Call, Reply

ADMINISTRATORS = "registry-admins"
"""The group (or app role) whose members may use these calls."""

_ADMIN_ONLY = "Administrator permissions are required for this operation"


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
            case ["api", "management", "iam", "users", *_]:
                admin = True
            case ["api", "iam", "m2m-clients", *_]:
                admin = call.request.method != "GET"
            case _:
                return None
        own = "x-authorization" in call.request.headers
        claims = bearer_claims(call, None, "x-authorization" if own else "authorization")
        if claims is None:
            return _detail(call, 401, "Token validation failed")
        if admin and ADMINISTRATORS not in [*claims.get("groups", ()), *claims.get("roles", ())]:
            return _detail(call, 403, _ADMIN_ONLY)
        return self._route(call, str(claims["tid"]))

    def _route(self, call: Call, tenant: str) -> Reply:
        match (call.request.method, *call.request.segments[1:]):
            case ("GET", "management", "iam", "users"):
                users = [_user(each) for each in self._clients.values()]
                return call.json(200, {"users": users, "total": len(users)})
            case ("POST", "management", "iam", "users", "m2m"):
                return self._make(call, tenant)
            case ("DELETE", "management", "iam", "users", name):
                return self._delete(call, name)
            case ("POST", "iam", "m2m-clients"):
                return self._register(call)
            case ("GET" | "PATCH" | "DELETE", "iam", "m2m-clients", client_id):
                return self._registered(call, client_id)
            case _:
                return _detail(call, 405, "Method Not Allowed")

    # Accounts that it makes itself

    def _make(self, call: Call, tenant: str) -> Reply:
        """Once more for every call: a name may be given twice."""
        asked = call.request.json()
        name, groups = asked.get("name"), asked.get("groups")
        if not (isinstance(name, str) and name):
            return _missing(call, "name")
        if not (isinstance(groups, list) and groups):
            return _missing(call, "groups")
        works_at = call.now + self._propagation
        secret = Added(
            str(uuid.uuid4()),
            f"reg8Q~{secrets.token_urlsafe(30)}"[:40],
            iso(call.now + SECRET_LIFE),
            works_at=works_at,
            start=iso(call.now),
        )
        app = App(tenant, str(uuid.uuid4()), name=name, passwords=(secret,), works_at=works_at)
        self._directory.add(app)
        granted = [each for each in groups if each in self._groups]
        self._clients[app.client_id] = _client(app.client_id, name, granted, asked)
        content = {
            "client_id": app.client_id,
            "client_uuid": str(uuid.uuid4()),
            "service_principal_id": app.object_id,
            "client_secret": secret.content,
            "groups": granted,
        }
        return call.json(200, content)

    def _delete(self, call: Call, name: str) -> Reply:
        found = [
            key
            for key, each in self._clients.items()
            if name.lower() in (key.lower(), str(each["name"]).lower())
        ]
        if not found:
            return _detail(call, 400, f"User or M2M account '{name}' not found")
        for key in found:
            del self._clients[key]
            with contextlib.suppress(KeyError):  # one that was only registered
                self._directory.remove(key)
        return call.json(200, {"username": name, "deleted": True})

    # Applications that are there already

    def _register(self, call: Call) -> Reply:
        asked = call.request.json()
        client_id, name = asked.get("client_id"), asked.get("client_name")
        if not isinstance(client_id, str):
            return _missing(call, "client_id")
        if not isinstance(name, str):
            return _missing(call, "client_name")
        if client_id in self._clients:
            return _detail(call, 409, f"M2M client {client_id} already exists")
        self._clients[client_id] = _client(client_id, name, asked.get("groups") or [], asked)
        return call.json(201, self._clients[client_id])

    def _registered(self, call: Call, client_id: str) -> Reply:
        client = self._clients.get(client_id)
        if client is None:
            return _detail(call, 404, f"M2M client {client_id} not found")
        if call.request.method == "DELETE":
            del self._clients[client_id]
            return call.reply(204)
        if call.request.method == "PATCH":
            changes = call.request.json()
            known = {"groups", "description", "enabled"}
            client |= {name: changes[name] for name in known & set(changes)}
        return call.json(200, client)


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


def _missing(call: Call, field: str) -> Reply:
    problem = {"type": "missing", "loc": ["body", field], "msg": "Field required"}
    return call.json(422, {"detail": [problem]})
