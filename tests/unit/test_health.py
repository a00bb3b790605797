"""The server for probes: few connections, each for a short time, answers for this machine alone."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from credentials_provider.endpoint.answers import Answer
from credentials_provider.endpoint.health import LIMITS, serving_health
from credentials_provider.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator


def answer() -> Answer:
    return Answer(200, b"well\n")


@pytest.fixture
def port() -> Iterator[int]:
    with serving_health({"--health-port": ("127.0.0.1", 0)}, {"/": answer}) as (url,):
        found = urlsplit(url).port
        assert found is not None
        yield found


def ask(
    port: int, method: str = "GET", path: str = "/", host: str = "localhost"
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_it_answers_its_own_paths_alone(port: int) -> None:
    assert ask(port) == (200, "well\n")
    assert ask(port, path="/?probe=1") == (200, "well\n")
    assert ask(port, "HEAD") == (200, "")
    assert ask(port, path="/secrets")[0] == 404
    assert ask(port, "POST")[0] == 405


def test_an_answer_to_head_has_no_body(port: int) -> None:
    """A client that takes it for the next answer would be misled."""
    with socket.create_connection(("127.0.0.1", port), 30) as client:
        client.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while more := client.recv(4096):
            received += more
    assert b"Content-Length: 5\r\n" in received
    assert received.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_a_web_page_cannot_read_it(port: int, host: str) -> None:
    """A name that somebody points at loopback is not loopback's."""
    assert ask(port, host=host)[0] == 403


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "localhost:8080", "[::1]:8080"])
def test_this_machine_can(port: int, host: str) -> None:
    assert ask(port, host=host)[0] == 200


def test_slow_clients_hold_up_nobody(port: int) -> None:
    """Three hundred that say nothing: a probe is answered at once, and few files are open."""
    with contextlib.ExitStack() as opened:
        for _ in range(300):
            opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        began = time.monotonic()
        assert ask(port) == (200, "well\n")
        assert time.monotonic() - began < 2


def test_one_that_drips_is_ended(port: int) -> None:
    """A byte now and then does not keep it."""
    with socket.create_connection(("127.0.0.1", port)) as slow:
        began = time.monotonic()
        with contextlib.suppress(OSError):
            while time.monotonic() - began < 20:
                slow.sendall(b"G")
                time.sleep(0.1)
                slow.settimeout(0.001)
                with contextlib.suppress(TimeoutError):
                    if not slow.recv(1):
                        break
        assert time.monotonic() - began < 10


def test_many_at_once_are_answered(port: int) -> None:
    for _ in range(4 * LIMITS.most):
        assert ask(port)[0] == 200


def test_an_address_that_is_taken_is_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        addresses = {"--health-port": taken.getsockname()}
        with (
            pytest.raises(ConfigurationError, match="cannot be used"),
            serving_health(addresses, {}),
        ):
            pass
