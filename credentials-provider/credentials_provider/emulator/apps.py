"""The directory behind the emulator: tenants, app registrations, resources."""

from __future__ import annotations

import random
import re
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from cryptography import x509

from credentials_provider.emulator.aadsts import EntraError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Lifetime = int | tuple[int, int]
"""Seconds of a token's life, or the range that they are drawn from."""

DAY = 24 * 3600
SECRET_LIFE = 2 * 365 * DAY
"""Seconds: what Graph gives where nobody asks for another."""

_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DOMAIN = re.compile(r"([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}", re.IGNORECASE)
_SAMPLE_TENANT = "6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3"
_SAMPLE_DUTIES = ("ci", "billing", "support", "search", "inventory", "reports", "audit", "chat")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_~."


@dataclass(frozen=True)
class Federated:
    """A federated credential of an app: whose tokens it trusts.

    `public_key` (PEM, RSA) verifies them; Entra ID fetches it from the issuer.
    """

    issuer: str
    subject: str
    public_key: str = field(repr=False)
    audience: str = "api://AzureADTokenExchange"


@dataclass(frozen=True)
class Added:
    """A secret, or a certificate (PEM), that was added while the emulator runs.

    `start` and `end`: ISO 8601, "" for never. `works_at`: epoch seconds; the login host knows it
    from then on.
    """

    key_id: str
    content: str = field(repr=False)
    end: str = ""
    name: str = ""
    works_at: float = 0.0
    start: str = ""


@dataclass(frozen=True)
class App:
    """An app registration with its service principal in one tenant.

    `tenant_id` is a GUID or a domain name, `client_id` a GUID. Every one of `secrets` is valid (two
    during a rotation); `expired_secrets` were. `certificates` (PEM) and `federated` credentials are
    what its signed assertions may come from. `secrets_end` is when the secrets of the same places
    end (ISO 8601), for Graph to tell. `managed` makes it a managed identity of this machine: the
    machine's own, or one of those that a user assigned to it. `roles` are app roles granted on the
    resource, `groups` object ids.

    `passwords` were added later, as Graph does; `owners` are the client ids that may do that with
    `Application.ReadWrite.OwnedBy`, `graph_roles` the app roles in tokens for Graph.
    `password_policy` is the tenant's: "forbidden", or the most days of a secret. `works_at` (epoch
    seconds): the login host knows the app from then on. `token_version` and `idtyp` really belong
    to the resource (its `accessTokenAcceptedVersion` and optional claims); here each app brings its
    own.
    """

    tenant_id: str
    client_id: str
    secrets: tuple[str, ...] = field(default=(), repr=False)
    name: str = "app"
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    token_version: Literal[1, 2] = 2
    token_lifetime: Lifetime | None = None
    enabled: bool = True
    expired_secrets: tuple[str, ...] = field(default=(), repr=False)
    idtyp: bool = False
    certificates: tuple[str | Added, ...] = ()
    federated: tuple[Federated, ...] = ()
    secrets_end: tuple[str, ...] = ()
    managed: Literal["system", "user"] | None = None
    passwords: tuple[Added, ...] = ()
    owners: tuple[str, ...] = ()
    graph_roles: tuple[str, ...] = ()
    password_policy: int | Literal["forbidden"] | None = None
    works_at: float = 0.0

    @property
    def all_passwords(self) -> list[Added]:
        """Those that Graph shows: of `secrets`, the ones whose end is known."""
        listed = zip(self.secrets, self.secrets_end, strict=False)
        return [Added(self._key_id(each), each, end) for each, end in listed] + [*self.passwords]

    @property
    def all_keys(self) -> list[Added]:
        """The certificates with their key ids."""
        return [self._key(each) if isinstance(each, str) else each for each in self.certificates]

    def _key(self, pem: str) -> Added:
        end = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
        return Added(self._key_id(pem), pem, iso(end.timestamp()))

    def without_password(self, key_id: str) -> App:
        """The same app without the secret of that key id."""
        kept = [each for each in self.secrets if self._key_id(each) != key_id]
        ends = dict(zip(self.secrets, self.secrets_end, strict=False))
        return replace(
            self,
            secrets=tuple(kept),
            secrets_end=tuple(ends[each] for each in kept if each in ends),
            passwords=tuple(each for each in self.passwords if each.key_id != key_id),
        )

    def _key_id(self, content: str) -> str:
        return derived_guid(f"{self.client_id}/{content}")

    @property
    def object_id(self) -> str:
        """The GUID of the app's service principal, the token's `oid` and `sub`."""
        return derived_guid(f"{self.tenant_id}/{self.client_id}")


def sample_apps(count: int, tenant_id: str = _SAMPLE_TENANT) -> list[App]:
    """`count` apps for a demo, the same ones each time; ids and secrets look like real ones."""
    rng = random.Random(tenant_id)  # noqa: S311 - sample values, the same ones each time
    apps = []
    for number in range(count):
        again, duty = divmod(number, len(_SAMPLE_DUTIES))
        name = f"{_SAMPLE_DUTIES[duty]}-agent{f'-{number + 1}' if again else ''}"
        secret = "".join(rng.choices(_LETTERS, k=36))
        secret = f"{secret[:3]}8Q~{secret[3:]}"
        client_id, group = (
            str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in ("client", "group")
        )
        apps.append(App(tenant_id, client_id, (secret,), name=name, groups=(group,)))
    return apps


def derived_guid(name: str) -> str:
    """The same GUID for the same name, each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name.lower()))


def iso(moment: float) -> str:
    """Epoch seconds in ISO 8601, as Graph writes them."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def epoch(moment: str) -> float:
    """Epoch seconds of a moment in ISO 8601. Raises ValueError."""
    return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()


def is_guid(text: str) -> bool:
    """Whether the whole text is a GUID, of any version."""
    return _GUID.fullmatch(text) is not None


class Directory:
    """What the emulator knows; safe to change while it runs."""

    def __init__(self, apps: Iterable[App], resources: Iterable[str] | None) -> None:
        self._lock = threading.Lock()
        self._apps: dict[tuple[str, str], App] = {}
        self._tenants: dict[str, str] = {}
        self._resources = None if resources is None else frozenset(r.lower() for r in resources)
        for app in apps:
            self.add(app)

    def add(self, app: App) -> None:
        """Register the app, or replace the one of the same tenant and client id."""
        name = app.tenant_id.lower()
        with self._lock:
            guid = self._tenants.get(name) or (name if is_guid(name) else derived_guid(name))
            self._tenants[name] = self._tenants[guid] = guid
            self._apps[guid, app.client_id.lower()] = app

    def remove(self, client_id: str) -> None:
        """Remove the app from every tenant; its tenants stay known. KeyError if there is none."""
        with self._lock:
            keys = [key for key in self._apps if key[1] == client_id.lower()]
            if not keys:
                raise KeyError(client_id)
            for key in keys:
                del self._apps[key]

    def change(self, tenant_guid: str, client_id: str, change: Callable[[App], App]) -> None:
        """Replace the app by what `change` makes of it, in one step."""
        key = (tenant_guid, client_id.lower())
        with self._lock:
            self._apps[key] = change(self._apps[key])

    def tenant_guid(self, tenant: str) -> str:
        """The GUID of the tenant named in a path. Raises EntraError 900023 or 90002."""
        if not is_guid(tenant) and not _DOMAIN.fullmatch(tenant):
            raise EntraError(900023)
        guid = self._tenants.get(tenant.lower())
        if guid is None:
            raise EntraError(90002)
        return guid

    def app(self, tenant_guid: str, client_id: str, now: float) -> App:
        """The app of that tenant. Raises EntraError 700016, or 7000112 if it is disabled."""
        app = self._apps.get((tenant_guid, client_id.lower()))
        if app is None or now < app.works_at:
            raise EntraError(700016)
        if not app.enabled:
            raise EntraError(7000112, name=app.name)
        return app

    def find(self, tenant_guid: str, client_id: str) -> App | None:
        """The app of that tenant, enabled or not."""
        return self._apps.get((tenant_guid, client_id.lower()))

    def any_tenant(self) -> str:
        """A tenant's GUID, for who asks without naming one."""
        return next(iter(self._tenants.values()), "common")

    def managed(self) -> list[App]:
        """The managed identities of the machine."""
        with self._lock:
            return [app for app in self._apps.values() if app.managed]

    def knows_resource(self, resource: str) -> bool:
        """Whether an API has this Application ID URI (or client id)."""
        if self._resources is None:
            return is_guid(resource) or resource.startswith(("api://", "https://"))
        return resource.lower() in self._resources
