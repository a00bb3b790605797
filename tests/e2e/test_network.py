"""The way to the provider: who is trusted, and through which proxy."""

from __future__ import annotations

import base64
import os
import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
import trustme

from credentials_provider.transport.trust import tls_context
from support import (
    BEHIND_PROXY,
    Command,
    Project,
    apps,
    closed_port,
    connect_proxy,
    talkative_port,
)

if TYPE_CHECKING:
    from credentials_provider.emulator import Emulator


@pytest.fixture
def stranger(project: Project) -> str:
    """The certificate of an authority that signed for nobody here."""
    path = os.path.join(project.folder, "stranger.pem")
    trustme.CA().cert_pem.write_to_path(path)
    return path


# Trust


def test_an_unknown_authority_is_one_attempt_and_names_the_cure(
    project: Project, run: Command, idp: Emulator
) -> None:
    """An untrusted certificate ends at once for all identities; no request reaches anybody."""
    project.add_all(apps(5))

    ran = run("--json", "--login-base-url", idp.base_url, "-j", "1", bare=True)

    assert ran.code == 1
    for result in ran.json["results"]:
        assert result["error"]["kind"] == "untrusted"
        assert "--ca-bundle" in result["error"]["remedy"]
        assert result["error"]["transient"] is False
    assert [each["attempts"] for each in ran.json["results"]].count(1) == 1
    assert idp.requests == []


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_environment_names_the_authorities(run: Command, idp: Emulator, name: str) -> None:
    """What requests, curl and OpenSSL read names the CA bundle here, too."""
    reach = ("--login-base-url", idp.base_url)

    assert run(*reach, env={name: idp.ca_file}, bare=True).code == 0


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl names the folder's files")
@pytest.mark.usefixtures("app")
def test_a_folder_of_authorities_is_a_bundle(project: Project, run: Command, idp: Emulator) -> None:
    """A hashed folder, as OpenSSL makes them, serves as --ca-bundle."""
    folder = os.path.join(project.folder, "authorities")
    os.mkdir(folder)
    found = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", idp.ca_file],
        capture_output=True,
        text=True,
        check=True,
    )
    os.symlink(idp.ca_file, os.path.join(folder, f"{found.stdout.strip()}.0"))

    assert run("--ca-bundle", folder).code == 0


@pytest.mark.usefixtures("app")
def test_the_ca_bundle_option_wins(run: Command, idp: Emulator, stranger: str) -> None:
    """--ca-bundle counts, whatever the environment names: to trust as well as to distrust."""
    env = {"REQUESTS_CA_BUNDLE": stranger, "SSL_CERT_FILE": stranger, "CURL_CA_BUNDLE": stranger}
    assert run(env=env).code == 0

    trusted = dict.fromkeys(env, idp.ca_file)
    ran = run("--json", "--ca-bundle", stranger, env=trusted)
    assert ran.code == 1
    assert ran.json["results"][0]["error"]["kind"] == "untrusted"


@pytest.mark.usefixtures("app")
def test_another_hosts_certificate_is_not_trusted(run: Command, idp: Emulator) -> None:
    """A trusted authority is not enough: the certificate has to be for the login host."""
    with connect_proxy(leads_to=idp.port) as proxy:
        env = {"HTTPS_PROXY": f"http://{proxy.address}"}

        ran = run("--json", "--login-base-url", "https://login.example.com", env=env)

        assert proxy.asked == ["login.example.com:443"]
    (result,) = ran.json["results"]
    assert (result["error"]["kind"], result["attempts"]) == ("untrusted", 1)
    assert "another host" in result["error"]["message"]
    assert idp.requests == []


@pytest.mark.usefixtures("app")
def test_a_port_that_speaks_no_tls_gets_nothing(run: Command) -> None:
    """Plain HTTP behind an https address is told as such, without a retry."""
    with talkative_port() as port:
        ran = run("--json", "--login-base-url", f"https://localhost:{port}")

    (result,) = ran.json["results"]
    assert (ran.code, result["error"]["kind"], result["attempts"]) == (1, "untrusted", 1)
    assert "does not speak TLS" in result["error"]["message"]


@pytest.mark.usefixtures("app")
def test_a_closed_port_is_told_with_its_place(run: Command) -> None:
    """A refused connection names host and port, and what to check."""
    nowhere = f"localhost:{closed_port()}"

    ran = run("--json", "--max-attempts", "2", "--login-base-url", f"https://{nowhere}")

    (result,) = ran.json["results"]
    assert (ran.code, result["error"]["kind"], result["attempts"]) == (1, "unreachable", 2)
    assert nowhere in result["error"]["message"]
    assert "--login-base-url" in result["error"]["remedy"]


@pytest.mark.usefixtures("app")
def test_a_name_that_does_not_exist_is_told(run: Command) -> None:
    """A login host that does not resolve names DNS and the option, in the attempts allowed."""
    ran = run(
        "--json", "--max-attempts", "1", "--login-base-url", "https://login.invalid", "--timeout=5"
    )

    (result,) = ran.json["results"]
    assert (ran.code, result["error"]["kind"], result["attempts"]) == (1, "unreachable", 1)
    assert "login.invalid" in result["error"]["message"]


# Proxies


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_carries_every_request(
    project: Project, run: Command, idp: Emulator, name: str
) -> None:
    """Requests go through the proxy's tunnel, which sees host and port and nothing else."""
    many = apps(3)
    project.add_all(many)
    with connect_proxy(leads_to=idp.port) as proxy:
        env = {name: f"http://{proxy.address}"}

        ran = run("-j", "1", "--login-base-url", BEHIND_PROXY, env=env)

        assert ran.code == 0
        assert proxy.asked == ["emulator.test:443"]
        assert len(idp.requests) == 3
        said = "".join(proxy.heads)
        assert not any(app.client_id in said or app.tenant_id in said for app in many)


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("other", [{}, {"https_proxy": ""}])
def test_a_proxy_of_dotenv_counts_unless_the_environment_has_one(
    project: Project, run: Command, idp: Emulator, other: dict[str, str]
) -> None:
    """As every other setting: what a timer or an assistant starts has no other place for it."""
    with connect_proxy(leads_to=idp.port) as proxy:
        project.private(".env", f"HTTPS_PROXY=http://{proxy.address}\n")
        reach = ("--max-attempts", "1", "--login-base-url", BEHIND_PROXY)
        assert run(*reach, env=other).code == (1 if other else 0)  # no DNS has the name
        assert bool(proxy.asked) == (not other)


@pytest.mark.usefixtures("app")
def test_a_proxys_login_goes_to_the_proxy_alone(run: Command, idp: Emulator) -> None:
    """User and password of HTTPS_PROXY become its Basic credentials, decoded."""
    with connect_proxy(leads_to=idp.port) as proxy:
        env = {"HTTPS_PROXY": f"http://jo:p%40ss%2Fword@{proxy.address}"}

        ran = run("-v", "--login-base-url", BEHIND_PROXY, env=env)

        assert ran.code == 0
        encoded = base64.b64encode(b"jo:p@ss/word").decode()
        assert f"Basic {encoded}" in proxy.heads[0]
        assert "p%40ss" not in ran.stdout + ran.stderr
        assert len(idp.requests) == 1


@pytest.mark.usefixtures("app")
def test_a_host_in_no_proxy_is_reached_directly(run: Command, idp: Emulator) -> None:
    """NO_PROXY spares the login host the proxy."""
    with connect_proxy(leads_to=idp.port) as proxy:
        env = {"HTTPS_PROXY": f"http://{proxy.address}", "NO_PROXY": "x.test,emulator.test"}

        ran = run("--json", "--max-attempts=1", "--login-base-url", BEHIND_PROXY, env=env)

        assert (ran.code, proxy.asked) == (1, [])
    (result,) = ran.json["results"]
    assert "emulator.test could not be resolved" in result["error"]["message"]
    assert idp.connections == 0


@pytest.mark.usefixtures("app")
@pytest.mark.parametrize("listed", ["", "x.test"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_this_machine_is_reached_directly(
    run: Command, idp: Emulator, host: str, listed: str
) -> None:
    """Whatever NO_PROXY says: a proxy's loopback is another machine's."""
    with connect_proxy() as proxy:
        env = dict.fromkeys(("HTTPS_PROXY", "ALL_PROXY"), f"http://{proxy.address}")

        ran = run("--login-base-url", f"https://{host}:{idp.port}", env={**env, "NO_PROXY": listed})

        assert (ran.code, proxy.asked) == (0, [])
    assert len(idp.requests) == 1


@pytest.mark.usefixtures("app")
def test_a_broken_proxy_is_told_and_tried_again(run: Command, idp: Emulator) -> None:
    """A proxy that answers 502 is unreachable's case: retried, named, nothing sent beyond it."""
    with connect_proxy("502 Bad Gateway") as proxy:
        env = {"HTTPS_PROXY": f"http://{proxy.address}"}

        ran = run("--json", "--max-attempts=2", "--login-base-url", BEHIND_PROXY, env=env)

        (result,) = ran.json["results"]
        assert (ran.code, result["error"]["kind"], result["attempts"]) == (1, "unreachable", 2)
        assert "proxy" in result["error"]["message"]
        assert "HTTPS_PROXY" in result["error"]["remedy"]
        assert len(proxy.asked) == 2
    assert idp.connections == 0


def test_a_proxy_that_wants_a_login_is_told_at_once(
    project: Project, run: Command, idp: Emulator
) -> None:
    """407 is final: one CONNECT for all identities, and where user and password belong."""
    project.add_all(apps(4))
    with connect_proxy("407 Proxy Authentication Required") as proxy:
        env = {"HTTPS_PROXY": f"http://{proxy.address}"}

        ran = run("--json", "-j", "1", "--login-base-url", BEHIND_PROXY, env=env)

        assert ran.code == 1
        for result in ran.json["results"]:
            assert result["error"]["kind"] == "unreachable"
            assert "407" in result["error"]["message"]
            assert "user:password@" in result["error"]["remedy"]
            assert result["error"]["transient"] is False
        assert len(proxy.asked) == 1
    assert idp.connections == 0


@pytest.mark.usefixtures("app")
def test_a_proxy_that_is_down_is_told(run: Command, idp: Emulator) -> None:
    """A proxy that nobody answers at is named as such; the request does not go around it."""
    env = {"HTTPS_PROXY": f"http://127.0.0.1:{closed_port()}"}

    ran = run("--json", "--max-attempts=1", "--login-base-url", BEHIND_PROXY, env=env)

    (result,) = ran.json["results"]
    assert (ran.code, result["error"]["kind"]) == (1, "unreachable")
    assert "HTTPS_PROXY" in result["error"]["remedy"]
    assert idp.connections == 0


@pytest.mark.usefixtures("app")
def test_a_proxy_scheme_that_is_not_spoken_is_told(run: Command, idp: Emulator) -> None:
    """socks5:// is refused in words, not with a traceback, and not gone around."""
    env = {"ALL_PROXY": f"socks5://127.0.0.1:{closed_port()}"}

    ran = run("--max-attempts", "1", "--login-base-url", BEHIND_PROXY, env=env)

    assert ran.code in {1, 2}
    assert "proxy" in ran.stderr
    assert "unexpected" not in ran.stderr
    assert idp.connections == 0


def test_tls_is_verified_through_a_proxy(project: Project, run: Command, idp: Emulator) -> None:
    """A tunnel changes nothing about whom to trust."""
    project.add_all(apps(1))
    with connect_proxy(leads_to=idp.port) as proxy:
        env = {"HTTPS_PROXY": f"http://{proxy.address}"}

        ran = run("--json", "--login-base-url", BEHIND_PROXY, env=env, bare=True)

        assert proxy.asked
        (result,) = ran.json["results"]
        assert (result["error"]["kind"], result["attempts"]) == ("untrusted", 1)
        assert "--ca-bundle" in result["error"]["remedy"]
    assert idp.requests == []


def test_netrc_and_msals_region_are_not_read(project: Project, run: Command, idp: Emulator) -> None:
    """Neither ~/.netrc nor MSAL_FORCE_REGION changes where a request goes or what it carries."""
    project.add_all(apps(1))
    project.private(".netrc", "machine localhost login somebody password else\n")

    ran = run(env={"MSAL_FORCE_REGION": "westeurope", "REGION_NAME": "westeurope"})

    assert ran.code == 0, ran.stderr
    assert len(idp.requests) == idp.connections == 1


def test_old_tls_is_refused() -> None:
    """Nothing older than TLS 1.2 is spoken, whatever the system allows."""
    assert tls_context(None).minimum_version >= ssl.TLSVersion.TLSv1_2
