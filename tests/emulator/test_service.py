"""The emulator as a server: its life, its load, what it remembers and what it does not."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
import urllib3

from credentials_provider.emulator import App, Emulator, Fault
from emulator.asking import APP, CLIENT, SECRET, TENANT, Ask, form, wait_for


def ask_once(idp: Emulator) -> int:
    with urllib3.PoolManager(ca_certs=idp.ca_file, retries=False, timeout=10) as pool:
        return pool.request(
            "POST",
            f"{idp.base_url}/{TENANT}/oauth2/v2.0/token",
            fields=form(),
            encode_multipart=False,
        ).status


def test_many_connections_at_once() -> None:
    """1,000 requests over 32 kept connections: all answered, 32 handshakes."""
    with (
        Emulator([APP]) as idp,
        urllib3.HTTPSConnectionPool(
            "localhost", idp.port, ca_certs=idp.ca_file, maxsize=32, block=True, retries=False
        ) as pool,
        concurrent.futures.ThreadPoolExecutor(32) as threads,
    ):

        def one(_: int) -> int:
            path = f"/{TENANT}/oauth2/v2.0/token"
            return pool.request("POST", path, fields=form(), encode_multipart=False).status

        assert set(threads.map(one, range(1000))) == {200}
        assert len(idp.token_requests) == 1000
        assert idp.connections <= 32
        assert {record.connection for record in idp.requests} == set(range(1, idp.connections + 1))


def test_silent_connections_block_nobody(idp: Emulator) -> None:
    """Clients that connect and never speak TLS do not keep others waiting."""
    silent = [socket.create_connection(("127.0.0.1", idp.port)) for _ in range(20)]
    try:
        start = time.monotonic()
        assert ask_once(idp) == 200
        assert time.monotonic() - start < 5
    finally:
        for sock in silent:
            sock.close()


def test_restart_on_the_same_port() -> None:
    """A closed emulator refuses connections; started again it is where and who it was."""
    idp = Emulator([APP])
    idp.start()
    port, ca_file = idp.port, idp.ca_file
    try:
        assert ask_once(idp) == 200
        idp.close()
        assert not os.path.exists(ca_file)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        idp.start()
        assert (idp.port, idp.ca_file) == (port, ca_file)
        assert ask_once(idp) == 200
        assert idp.connections == 2
        assert [record.connection for record in idp.requests] == [1, 2]
    finally:
        idp.close()


def test_close_ends_kept_connections(idp: Emulator, ask: Ask) -> None:
    """A kept connection does not hold a closing emulator up."""
    assert ask().status == 200
    start = time.monotonic()
    idp.close()
    assert time.monotonic() - start < 2
    with pytest.raises(urllib3.exceptions.HTTPError):
        ask()


def test_close_twice_and_start_twice() -> None:
    """Closing again does nothing; starting again while it runs is a mistake."""
    with Emulator() as idp:
        with pytest.raises(RuntimeError, match="runs already"):
            idp.start()
        idp.close()
        idp.close()


def test_before_the_start_there_is_no_address() -> None:
    """Asking for the address too early says so."""
    with pytest.raises(RuntimeError, match="before its start"):
        _ = Emulator().base_url
    with pytest.raises(RuntimeError, match="before its start"):
        _ = Emulator().ca_file


def test_taken_port(idp: Emulator) -> None:
    """A port that is taken is an OSError, and leaves nothing behind."""
    other = Emulator(port=idp.port)
    with pytest.raises(OSError, match="in use"):
        other.start()
    assert not os.path.exists(other.ca_file)


def test_ca_file_where_the_user_wants_it(tmp_path: Path) -> None:
    """A given CA file is written, and stays; nobody else writes into it under any umask."""
    path = tmp_path / "ca.pem"
    umask = os.umask(0)
    try:
        idp = Emulator([APP], ca_file=path)
        idp.start()
    finally:
        os.umask(umask)
    with contextlib.closing(idp):
        assert path.stat().st_mode & 0o022 == 0
        assert idp.ca_file == str(path)
        assert ask_once(idp) == 200
    assert path.read_text().startswith("-----BEGIN CERTIFICATE-----")
    assert "PRIVATE" not in path.read_text()


def test_private_folder_of_the_ca_file(idp: Emulator) -> None:
    """The CA file's own folder is the user's alone."""
    assert Path(idp.ca_file).parent.stat().st_mode & 0o777 == 0o700


def test_requests_are_remembered(idp: Emulator, ask: Ask) -> None:
    """Each request is on record: what, who, when, on which connection."""
    before = time.monotonic()
    ask()
    ask(client_id=None)
    first, second = idp.token_requests
    assert (first.method, first.path) == ("POST", f"/{TENANT}/oauth2/v2.0/token")
    assert (first.tenant, first.client_id, second.client_id) == (TENANT, CLIENT, "")
    assert before <= first.at <= second.at <= time.monotonic()
    assert first.connection == second.connection == 1


def test_a_request_is_remembered_before_it_is_answered(idp: Emulator, ask: Ask) -> None:
    """A request that never gets an answer is on record too."""
    idp.inject(Fault("hang"))
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        ask(timeout=0.1)
    assert len(idp.token_requests) == 1


def test_no_secret_in_any_repr(idp: Emulator, ask: Ask) -> None:
    """Neither apps nor requests nor the emulator show a secret."""
    app = App(TENANT, CLIENT, ("hunter2",), expired_secrets=("hunter1",))
    idp.add_app(app)
    assert ask(client_secret="hunter2").status == 200
    assert "hunter" not in f"{app!r} {idp!r} {idp.requests!r} {vars(idp)!r}"


def test_quiet(idp: Emulator, ask: Ask, capfd: pytest.CaptureFixture[str]) -> None:
    """Answers, refusals, resets and foreign protocols leave nothing on stdout or stderr."""
    ask()
    ask(client_secret="wrong")
    idp.inject(Fault("reset"))
    with pytest.raises(urllib3.exceptions.ProtocolError):
        ask()
    with socket.create_connection(("127.0.0.1", idp.port), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            sock.recv(1000)
    idp.close()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("header", "status"),
    [("Content-Length: 9999999", 413), ("Content-Length: x", 411), ("Transfer-Encoding: a", 411)],
)
def test_bodies_have_a_limit(idp: Emulator, header: str, status: int) -> None:
    """A body that is too long, or of unknown length, is refused unread."""
    context = ssl.create_default_context(cafile=idp.ca_file)
    with (
        socket.create_connection(("127.0.0.1", idp.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(f"POST /x HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
        assert sock.recv(1000).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_request_that_is_cut_short_is_none(idp: Emulator) -> None:
    """A client that goes in the middle of its request has asked nothing."""
    context = ssl.create_default_context(cafile=idp.ca_file)
    with (
        socket.create_connection(("127.0.0.1", idp.port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc")
    idp.close()
    assert idp.requests == []


def test_a_mistake_of_its_own_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An answer that fails through nobody's request ends the connection and leaves a trace."""

    def broken_clock() -> float:
        raise LookupError("no time")

    with caplog.at_level("ERROR"), Emulator([APP], clock=broken_clock) as idp:
        with pytest.raises(urllib3.exceptions.ProtocolError):
            ask_once(idp)
        wait_for(lambda: "failed to answer" in caplog.text)
    assert "no time" in caplog.text


def test_app_replaced_while_it_serves(idp: Emulator, ask: Ask) -> None:
    """A new secret counts from the moment that the app is replaced."""
    idp.add_app(App(TENANT, CLIENT, ("new",)))
    assert ask().status == 401
    assert ask(client_secret="new").status == 200
    idp.add_app(App(TENANT, CLIENT, (SECRET, "new")))
    assert ask().status == 200


def test_it_knows_nothing_of_the_program() -> None:
    """The emulator imports no module of the program that it judges."""
    code = "import sys, credentials_provider.emulator; print(*sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    ours = {name for name in loaded.split() if name.startswith("credentials_provider.")}
    assert ours
    assert all(name.startswith("credentials_provider.emulator") for name in ours)
