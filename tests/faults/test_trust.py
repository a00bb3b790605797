"""Authorities as they are found in companies, each refusal with a cause and a cure that helps."""

from __future__ import annotations

import datetime as dt
import os
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from credentials.making import rsa_key
from credentials_provider.entra.explanations import rows
from credentials_provider.errors import ConfigurationError
from credentials_provider.transport.connections import Answer, Connections, HttpRequest, Trouble
from credentials_provider.transport.trust import tls_context, untrusted_reason
from support import BEHIND_PROXY, apps

from .servers import Server, answering

if TYPE_CHECKING:
    import pathlib
    import socket
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric import rsa

    from support import Command

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
NOW = dt.datetime.now(dt.timezone.utc)
CODES = range(1, 96)


def signed(
    subject: str,
    key: rsa.RSAPrivateKey,
    issuer: str,
    by: rsa.RSAPrivateKey,
    *extensions: tuple[x509.ExtensionType, bool],
    begin: float = -1,
    end: float = 30,
) -> x509.Certificate:
    """A certificate with these extensions (and whether critical) alone; days from now."""
    names = [
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, n)]) for n in (subject, issuer)
    ]
    made = (
        x509.CertificateBuilder()
        .subject_name(names[0])
        .issuer_name(names[1])
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + dt.timedelta(days=begin))
        .not_valid_after(NOW + dt.timedelta(days=end))
    )
    for extension, critical in extensions:
        made = made.add_extension(extension, critical)
    return made.sign(by, hashes.SHA256())


CA = (x509.BasicConstraints(ca=True, path_length=None), False)
LOCALHOST = (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)


class Chain:
    """A root, maybe one in the middle, and a server: as sloppy as inspecting proxies make them."""

    def __init__(self, folder: pathlib.Path, *root: Any, middle: bool = False, **leaf: Any) -> None:
        self.folder = folder
        keys = rsa_key(10), rsa_key(11), rsa_key(12)
        self.root = signed("root", keys[0], "root", keys[0], *(root or (CA,)))
        self.middle = signed("middle", keys[1], "root", keys[0], CA)
        name, by = ("middle", keys[1]) if middle else ("root", keys[0])
        names = leaf.pop("names", (LOCALHOST,))
        self.leaf = signed("server", keys[2], name, by, *names, **leaf)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        chain = [self.leaf, self.middle] if middle else [self.leaf]
        private = keys[2].private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.context.load_cert_chain(self.file(*chain, more=private))

    def file(self, *certificates: x509.Certificate, more: bytes = b"") -> str:
        path = self.folder / f"{len(os.listdir(self.folder))}.pem"
        path.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in certificates) + more)
        return str(path)

    def ask(self, bundle: str | None) -> Answer | Trouble:
        """One request to the server that has this certificate."""
        with answering(lambda _, sock: sock.sendall(OK), self.context) as server:
            return exchange(server.url, bundle)


def exchange(url: str, bundle: str | None = None, timeout: float = 5.0) -> Answer | Trouble:
    connections = Connections(1, bundle)
    try:
        return connections.exchange(HttpRequest("GET", url, {}, None, timeout))
    finally:
        connections.close()


def reason(result: Answer | Trouble) -> str:
    assert isinstance(result, Trouble)
    assert result.kind == "untrusted"
    assert result.reason in rows("untrusted")
    return result.reason


# Authorities that the user names


def test_an_authority_without_key_identifiers_and_critical_flags_is_enough(
    tmp_path: pathlib.Path,
) -> None:
    """Python 3.13 and later refuse it, unless the user names it."""
    chain = Chain(tmp_path)
    assert isinstance(chain.ask(chain.file(chain.root)), Answer)


def test_one_in_the_middle_of_a_chain_is_enough(tmp_path: pathlib.Path) -> None:
    """As for curl: the root need not be known."""
    chain = Chain(tmp_path, middle=True)
    assert isinstance(chain.ask(chain.file(chain.middle)), Answer)


def test_a_servers_own_certificate_is_enough(tmp_path: pathlib.Path) -> None:
    """Pinned, so to speak."""
    chain = Chain(tmp_path)
    assert isinstance(chain.ask(chain.file(chain.leaf)), Answer)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="strict from Python 3.13 on")
def test_the_systems_authorities_are_held_to_the_rules(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Python does; the explanation says how to be let off."""
    chain = Chain(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", chain.file(chain.root))
    assert reason(chain.ask(None)) == "strict"
    assert "--ca-bundle" in rows("untrusted")["strict"].cure


# Refusals


def test_an_authority_that_was_renewed_is_told(tmp_path: pathlib.Path) -> None:
    """Same name, another key."""
    chain = Chain(tmp_path)
    old = signed("root", rsa_key(13), "root", rsa_key(13), CA)
    assert reason(chain.ask(chain.file(old))) == "other_key"


@pytest.mark.parametrize(
    ("leaf", "expected"),
    [
        ({"end": -0.5}, "expired"),
        ({"begin": 1}, "not_yet_valid"),
        ({"names": ((x509.SubjectAlternativeName([x509.DNSName("x.test")]), False),)}, "hostname"),
        (
            {"names": (LOCALHOST, (x509.ExtendedKeyUsage([x509.OID_CODE_SIGNING]), False))},
            "purpose",
        ),
    ],
)
def test_what_is_wrong_with_a_servers_certificate(
    tmp_path: pathlib.Path, leaf: dict[str, Any], expected: str
) -> None:
    """Each in words of its own."""
    chain = Chain(tmp_path, **leaf)
    assert reason(chain.ask(chain.file(chain.root))) == expected


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ((x509.BasicConstraints(ca=False, path_length=None), True), "not_an_authority"),
        (
            (x509.NameConstraints([x509.DNSName("example.com")], None), True),
            "other_names",
        ),
    ],
)
def test_what_is_wrong_with_an_authority(
    tmp_path: pathlib.Path, root: tuple[x509.ExtensionType, bool], expected: str
) -> None:
    """Each in words of its own."""
    more = () if expected == "not_an_authority" else (CA,)
    chain = Chain(tmp_path, *more, root)
    assert reason(chain.ask(chain.file(chain.root))) == expected


@pytest.mark.parametrize("code", CODES)
def test_every_verify_code_is_explained(code: int) -> None:
    """What OpenSSL calls it is added where our words are general."""
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "as OpenSSL has it"
    explained = rows("untrusted")[untrusted_reason(error)]
    assert explained.cure
    general = {1, 17, 40, 43, 50, *range(56, 62), 63, 65, *range(69, 79), 95} - {79}
    assert (untrusted_reason(error) == "other") == (code in general)


# Bundles that are none


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda chain: chain.root.public_bytes(Encoding.DER), "DER"),
        (lambda chain: chain.root.public_bytes(Encoding.PEM).decode().encode("utf-16"), "UTF-16"),
        (lambda _: b"", "no certificate"),
        (lambda _: b"hello", "no certificate"),
    ],
)
def test_a_bundle_that_is_not_pem_is_named(tmp_path: pathlib.Path, content: Any, says: str) -> None:
    """By what it is, and how to convert it."""
    path = tmp_path / "bundle.pem"
    path.write_bytes(content(Chain(tmp_path)))
    with pytest.raises(ConfigurationError, match=says):
        tls_context(str(path))


def test_no_file_gets_the_keys_of_a_connection(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSLKEYLOGFILE would let everybody who has it read the secrets."""
    log = tmp_path / "keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(log))
    folder = tmp_path / "certificates"
    folder.mkdir()
    chain = Chain(folder)
    assert isinstance(chain.ask(chain.file(chain.root)), Answer)
    assert tls_context(None).keylog_filename is None
    assert not log.exists()


# Plain HTTP, as a machine's own endpoints have it


def drip(head: bytes) -> Any:
    """Answers a byte every tenth of a second, for as long as anybody listens."""

    def answer(server: Server, sock: socket.socket) -> None:
        sock.sendall(head)
        while not server.closing.wait(0.1):
            sock.sendall(b"x")

    return answer


@pytest.fixture(
    params=[b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"]
)
def dripping(request: pytest.FixtureRequest) -> Iterator[Server]:
    with answering(drip(request.param), None) as server:
        yield server


def test_an_answer_in_drops_ends_in_time(dripping: Server) -> None:
    """Wherever it drips: plain HTTP is bounded as TLS is."""
    began = time.monotonic()
    result = exchange(f"http://localhost:{dripping.port}", timeout=0.5)
    assert time.monotonic() - began < 3
    assert isinstance(result, Trouble)
    assert (result.kind, result.reason) == ("unreachable", "timeout")


def test_a_proxy_that_drips_ends_in_time(dripping: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before TLS begins, too."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://localhost:{dripping.port}")
    monkeypatch.setenv("NO_PROXY", "x.test")
    began = time.monotonic()
    result = exchange("https://login.example.com", timeout=0.5)
    assert time.monotonic() - began < 3
    assert isinstance(result, Trouble)


def test_a_run_behind_a_proxy_that_drips_ends_with_its_deadline(
    run: Command, dripping: Server
) -> None:
    """Two seconds after it at most, every identity reported."""
    run.project.add_all(apps(3))
    proxy = {"HTTPS_PROXY": f"http://localhost:{dripping.port}", "NO_PROXY": "x.test"}
    began = time.monotonic()
    ran = run("--json", "--deadline", "2s", "--login-base-url", BEHIND_PROXY, env=proxy)
    assert time.monotonic() - began < 2 + 2
    assert ran.code == 1
    kinds = [each["error"]["kind"] for each in ran.json["results"]]
    assert kinds in (["unreachable"] * 3, ["untrusted"] * 3)  # a tunnel of drops is no TLS


def test_a_connection_is_used_again_after_a_quick_answer() -> None:
    """The time of one request is not that of the next."""

    def twice(server: Server, sock: socket.socket) -> None:
        sock.sendall(OK)
        server.hear_request(sock)
        sock.sendall(OK)

    with answering(twice, None) as server:
        connections = Connections(1, None)
        for timeout in (0.3, 5.0):
            request = HttpRequest("GET", f"http://localhost:{server.port}", {}, None, timeout)
            assert isinstance(connections.exchange(request), Answer)
        connections.close()
        assert server.connections == 1


# Proxies that cannot be


@pytest.mark.parametrize(
    ("value", "says"),
    [("socks5://proxy:1080", "SOCKS"), ("http://jo:pl4nted#x@proxy:3128", "%23 for #")],
)
def test_a_proxy_that_cannot_be_ends_at_once(run: Command, value: str, says: str) -> None:
    """One message with the variable and the cure, nothing of its value, nobody asked."""
    run.project.add_all(apps(3))
    ran = run("--json", "--login-base-url", BEHIND_PROXY, env={"HTTPS_PROXY": value})
    assert ran.code == 1
    for result in ran.json["results"]:
        error = result["error"]
        assert "HTTPS_PROXY" in error["message"]
        assert says in error["message"] + error["remedy"]
        assert error["transient"] is False
        assert result["attempts"] <= 1
    assert "pl4nted" not in ran.stdout + ran.stderr
    assert run.project.idp.connections == 0
