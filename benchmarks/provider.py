"""The emulator in a process of its own, so that its work is not counted as the client's.

    with Provider(count=1000, latency=0.1) as provider:
        …                        # a client runs against provider.base_url
    provider.counts              # what it asked for

As a program it says where it is on its first line, and what it was asked once its input ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.emulator import Emulator, Fault
from fleet import fleet, tenant

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from credentials_provider.emulator import App
    from credentials_provider.emulator.server import Connection
    from credentials_provider.emulator.wire import Call, Reply, Request

RETRY_AFTER = 2  # seconds
ONE_IN = 5


class Counts(NamedTuple):
    """What a client asked for, connections included."""

    identities: int  # that asked at all
    token_requests: int
    most: int  # requests of one identity
    other_requests: int
    connections: int
    refused: int  # with 429


class Provider:
    """A local Entra ID with `count` apps; tokens of it are of the next one on its port, too.

    Args:
        count: apps, of `fleet`.
        tenants: over which they are spread.
        latency: seconds before each answer.
        throttled: `tenant`: the first tenant refuses everything for 2 s from its first request on;
            `spread`: one identity in five is refused once. With 429 and Retry-After: 2.
            `RATE/BURST/SECONDS`: so many answers a second, so many at once, the rest refused with
            429 and Retry-After: SECONDS.
        port: 0 takes a free one.

    """

    def __init__(
        self,
        count: int,
        tenants: int = 1,
        *,
        latency: float = 0.0,
        throttled: str = "",
        port: int = 0,
    ) -> None:
        numbers = (str(number) for number in (count, tenants, latency, port))
        self._line = [sys.executable, __file__, *numbers, throttled]
        self.counts = Counts(0, 0, 0, 0, 0, 0)
        self.base_url = self.ca_file = ""

    def __enter__(self) -> Provider:  # noqa: PYI034  typing.Self needs Python 3.11
        self._process = subprocess.Popen(
            self._line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.base_url, self.ca_file = self._said()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self.counts = Counts(*self._said())

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.base_url.rpartition(":")[2])

    def _said(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


class _Limited(Emulator):
    """Answers as many token requests a second as it is told, and counts those that it refuses."""

    def __init__(self, apps: list[App], limit: str, **options: Any) -> None:
        super().__init__(apps, **options)
        rate, burst, retry_after = (float(number) for number in limit.split("/"))
        self._rate, self._burst = rate, burst
        self._fault = Fault("throttle", retry_after=retry_after)
        self._available, self._at = burst, time.monotonic()
        self._bucket = threading.Lock()
        self.refused = 0

    def _answer(
        self, regular: Callable[[Call], Reply], request: Request, connection: Connection
    ) -> Reply:
        if request.endpoint != "token" or self._take():
            return super()._answer(regular, request, connection)

        def refuse(call: Call) -> Reply:
            return self._fault.apply(call)

        return super()._answer(refuse, request, connection)

    def _take(self) -> bool:
        with self._bucket:
            now = time.monotonic()
            self._available = min(self._available + (now - self._at) * self._rate, self._burst)
            self._at = now
            if self._available < 1:
                self.refused += 1
                return False
            self._available -= 1
            return True


def _emulator(apps: list[App], throttled: str, **options: Any) -> Emulator:
    return _Limited(apps, throttled, **options) if "/" in throttled else Emulator(apps, **options)


def _serve(count: int, tenants: int, latency: float, port: int, throttled: str) -> None:
    apps = fleet(count, tenants)
    with _emulator(apps, throttled, latency=latency, port=port) as idp:
        fault = Fault("throttle", retry_after=RETRY_AFTER)
        if throttled == "spread":
            for app in apps[::ONE_IN]:
                idp.inject(fault, client_id=app.client_id)
        elif throttled == "tenant":
            idp.inject(fault, times=None, tenant_id=tenant(0))
            threading.Thread(target=_relent, args=(idp,), daemon=True).start()
        print(json.dumps([idp.base_url, idp.ca_file]), flush=True)
        sys.stdin.read()
        by_client = Counter(request.client_id for request in idp.token_requests)
        counts = Counts(
            len(by_client),
            by_client.total(),
            max(by_client.values(), default=0),
            len(idp.requests) - by_client.total(),
            idp.connections,
            idp.refused if isinstance(idp, _Limited) else 0,
        )
        print(json.dumps(counts), flush=True)


def _relent(idp: Emulator) -> None:
    """End the throttle as long after the first request that met it as that one was told."""
    while not any(request.tenant == tenant(0) for request in idp.token_requests):
        time.sleep(0.01)
    time.sleep(RETRY_AFTER)
    idp.clear_faults()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
