"""The emulator itself: start, stop, faults, what was asked."""

from __future__ import annotations

import itertools
import os
import shutil
import ssl
import tempfile
import threading
import time
import uuid
from functools import partial
from typing import TYPE_CHECKING

import trustme

from credentials_provider.emulator.apps import App, Directory, Lifetime, is_guid
from credentials_provider.emulator.endpoints import Endpoints, Service
from credentials_provider.emulator.faults import Fault, Injection
from credentials_provider.emulator.graph import Graph
from credentials_provider.emulator.machine import Machine
from credentials_provider.emulator.platforms import Platforms
from credentials_provider.emulator.registry import Registry
from credentials_provider.emulator.server import Connection, Server
from credentials_provider.emulator.tokens import signing_key
from credentials_provider.emulator.vault import Vault, VaultSecret
from credentials_provider.emulator.wire import Call, RecordedRequest, Reply, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from credentials_provider.emulator.machine import Kind, Times


class Emulator:
    """A local Entra ID on loopback, over TLS.

    ::

        with Emulator(apps=[App(tenant_id=…, client_id=…, secrets=("…",))]) as idp:
            ClientSecretCredential(…, authority=idp.base_url, connection_verify=idp.ca_file, …)

    `resources`: the Application ID URIs that exist; None: every api://… and https://… does.
    `port`: 0 takes a free one and keeps it over a restart. `latency`: seconds before each answer.
    `token_lifetime`: seconds or a range, else 60 to 90 minutes. `clock`: epoch seconds. `ca_file`:
    where to write the CA's certificate, else in a private folder that goes on close.

    `machine`: also be the Azure machine that the clients run on, with its managed identities, over
    plain HTTP at `machine_address`; `machine_environment` leads clients there. `machine_times`: how
    the old API of App Service writes dates; `arc_keys`: where Azure Arc's agent leaves its files.
    `vault`: secrets by name, at `base_url/secrets/{name}` as in a Key Vault, for apps with the role
    Key Vault Secrets User. `propagation`: seconds until the login host knows what Graph or the
    registry made. `registry_groups`: also be a registry that knows these groups, for its IAM calls.
    `platforms` are GitHub Actions and Azure Pipelines, whose jobs get tokens of their own.
    """

    _connections = 0
    _folder: str | None = None
    _server: Server | None = None
    _machine_server: Server | None = None

    def __init__(
        self,
        apps: Iterable[App] = (),
        *,
        resources: Iterable[str] | None = None,
        port: int = 0,
        latency: float = 0.0,
        token_lifetime: Lifetime | None = None,
        clock: Callable[[], float] = time.time,
        ca_file: str | os.PathLike[str] | None = None,
        machine: bool = False,
        vault: Mapping[str, str | VaultSecret] | None = None,
        machine_address: tuple[str, int] = ("127.0.0.1", 0),
        machine_times: Times = "seconds",
        arc_keys: str | None = None,
        propagation: float = 0.0,
        registry_groups: Iterable[str] | None = None,
    ) -> None:
        self._directory = Directory(apps, resources)
        self._port = port
        self._latency = latency
        self._clock = clock
        self._ca_file = None if ca_file is None else os.fspath(ca_file)
        self.platforms = Platforms(lambda: self.base_url)
        services: list[Service] = [
            Vault(self._directory, vault or {}).answer,
            Graph(self._directory, propagation).answer,
            self.platforms.answer,
        ]
        if registry_groups is not None:
            services.append(Registry(self._directory, registry_groups, propagation).answer)
        self._endpoints = Endpoints(self._directory, services, token_lifetime)
        self._ca = trustme.CA()
        self._machine = Machine(self._directory, self._endpoints, machine_times, arc_keys)
        self._machine_address = machine_address if machine else None
        self._numbers = itertools.count(1)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._requests: list[RecordedRequest] = []
        self._injections: list[Injection] = []

    # Life

    def start(self) -> None:
        """Serve in background threads. OSError if the port is taken, RuntimeError if it runs."""
        if self._server is not None:
            raise RuntimeError("the emulator runs already")
        self._closing.clear()
        signing_key()
        self._write_ca()
        try:
            here, answer = ("127.0.0.1", self._port), partial(self._answer, self._endpoints.answer)
            self._server = Server(here, self._tls(), answer, self._numbers)
            self._port = self._server.port
            if there := self._machine_address:
                answer = partial(self._answer, self._machine.answer)
                self._machine_server = Server(there, None, answer, self._numbers)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """End every connection and free the port. `start` takes the same port again."""
        self._closing.set()
        server, self._server = self._server, None
        if server is not None:
            server.stop()
            self._connections += server.accepted
        machine, self._machine_server = self._machine_server, None
        if machine is not None:
            machine.stop()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Emulator:  # noqa: PYI034 - typing.Self needs Python 3.11
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What clients need

    @property
    def base_url(self) -> str:
        """The login host, as in https://localhost:8443. RuntimeError before it has a port."""
        return f"https://localhost:{self.port}"

    @property
    def port(self) -> int:
        """The TCP port. RuntimeError before there is one."""
        if not self._port:
            raise RuntimeError("the emulator has no port before its start")
        return self._port

    @property
    def ca_file(self) -> str:
        """Path of the CA's certificate (PEM). RuntimeError before the first start."""
        if self._ca_file is None:
            raise RuntimeError("the emulator has no CA file before its start")
        return self._ca_file

    def machine_environment(self, kind: Kind) -> dict[str, str]:
        """The variables that lead a client to the machine's endpoint. RuntimeError without one."""
        if self._machine_server is None or self._machine_address is None:
            raise RuntimeError("the emulator is not a machine now")
        url = f"http://{self._machine_address[0]}:{self._machine_server.port}"
        return self._machine.environment(kind, url)

    # What clients did

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request so far, in the order of arrival."""
        with self._lock:
            return list(self._requests)

    @property
    def token_requests(self) -> list[RecordedRequest]:
        """Every POST to the token endpoint so far."""
        return [r for r in self.requests if (r.method, r.endpoint) == ("POST", "token")]

    @property
    def connections(self) -> int:
        """TCP connections accepted so far."""
        return self._connections + (self._server.accepted if self._server else 0)

    # Changes

    def add_app(self, app: App) -> None:
        """Register the app, or replace the one of the same tenant and client id."""
        self._directory.add(app)

    def remove_app(self, app: App | str) -> None:
        """Remove the app, or every one of that client id. KeyError if there is none."""
        self._directory.remove(app if isinstance(app, str) else app.client_id)

    def inject(
        self,
        fault: Fault,
        times: int | None = 1,
        client_id: str | None = None,
        tenant_id: str | None = None,
    ) -> None:
        """Let the fault strike the next `times` requests (None: all), of one client or tenant.

        Faults strike in the order of their injection, one a request.
        """
        with self._lock:
            self._injections.append(Injection(fault, times, client_id, tenant_id))

    def clear_faults(self) -> None:
        """Forget every fault."""
        with self._lock:
            self._injections.clear()

    # Inside

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        names = ("localhost", "127.0.0.1", "::1", "emulator.test")  # the last: behind a proxy
        self._ca.issue_cert(*names).configure_cert(context)
        return context

    def _write_ca(self) -> None:
        if self._ca_file is None:
            self._folder = tempfile.mkdtemp(prefix="emulator-")
            self._ca_file = os.path.join(self._folder, "ca.pem")
        elif self._folder is not None:
            # After a restart the file is where clients know it; a folder that is there by now is
            # somebody else's, and an error.
            os.mkdir(self._folder, 0o700)
        # Everybody may read it, and under a umask of 000 nobody else may write into it.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with open(os.open(self._ca_file, flags, 0o644), "wb") as file:
            file.write(self._ca.cert_pem.bytes())

    def _answer(
        self, regular: Callable[[Call], Reply], request: Request, connection: Connection
    ) -> Reply:
        sent = request.headers.get("client-request-id", "")
        call = Call(
            request=request,
            tenant=request.segments[0],
            client_id=(request.credentials() or ("", ""))[0] or request.query.get("client_id", ""),
            base_url=self.base_url,
            clock=self._clock,
            trace_id=str(uuid.uuid4()),
            correlation_id=sent if is_guid(sent) else str(uuid.uuid4()),
            answer=regular,
            wait=self._closing.wait,
            until_gone=connection.until_gone,
        )
        fault = self._record(call, connection)
        if self._latency:
            self._closing.wait(self._latency)
        return fault.apply(call) if fault else regular(call)

    def _record(self, call: Call, connection: Connection) -> Fault | None:
        """Note the request, and take the fault that strikes it."""
        request = call.request
        record = RecordedRequest(
            method=request.method,
            path=request.path,
            endpoint=request.endpoint,
            tenant=call.tenant,
            client_id=call.client_id,
            at=time.monotonic(),
            connection=connection.number,
        )
        with self._lock:
            self._requests.append(record)
            for number, each in enumerate(self._injections):
                if each.strikes(call):
                    left = None if each.times is None else each.times - 1
                    self._injections[number] = each._replace(times=left)
                    return each.fault
        return None
