"""Which proxy a URL goes through, from the environment."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.transport.proxies import ProxySettingError, is_direct, proxy_for

URL = "https://login.example.com"
SECRET = "pl4nted"


def proxied(**environment: str) -> str | None:
    found = proxy_for(URL, environment)
    return found.url if found else None


@pytest.mark.parametrize(
    ("environment", "url"),
    [
        ({}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy"}, "http://proxy:80"),
        ({"ALL_PROXY": "https://proxy"}, "https://proxy:443"),
        ({"HTTPS_PROXY": "http://[fd00::1]:8080/"}, "http://[fd00::1]:8080"),
        ({"HTTPS_PROXY": "http://one:1", "https_proxy": "http://two:2"}, "http://two:2"),
        ({"HTTPS_PROXY": "http://one:1", "ALL_PROXY": "http://two:2"}, "http://one:1"),
        ({"HTTP_PROXY": "http://one:1"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": ""}, "http://proxy:1"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://proxy:1"}, None),
    ],
)
def test_the_variable_that_counts(environment: dict[str, str], url: str | None) -> None:
    """Small letters before capitals, the scheme's own before that for all."""
    assert proxied(**environment) == url


@pytest.mark.parametrize(
    ("listed", "host", "port", "direct"),
    [
        ("example.com", "login.example.com", 443, True),
        (".example.com", "login.example.com", 443, True),
        ("*.example.com", "login.example.com", 443, True),
        ("EXAMPLE.com.", "login.Example.COM", 443, True),
        ("ample.com", "login.example.com", 443, False),
        ("login.example.com", "example.com", 443, False),
        ("localhost, 10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.1", "10.0.0.1", 443, True),
        ("10.0.0.1", "10.0.0.10", 443, False),
        ("fd00::/8", "fd12::1", 443, True),
        ("[::1]", "::1", 443, True),
        ("[::1]:8443", "::1", 443, False),
        ("10.0.0.1:8443", "10.0.0.1", 8443, True),
        ("login.example.com:8443", "login.example.com", 8443, True),
        ("login.example.com:8443", "login.example.com", 443, False),
        ("0.0.0.0/0", "login.example.com", 443, False),
        (",, ,", "login.example.com", 443, False),
        ("10.0.0.0/99", "10.0.0.1", 443, False),
        ("*", "anything", 1, True),
    ],
)
def test_hosts_that_need_no_proxy(listed: str, host: str, port: int, direct: bool) -> None:
    """Names and their domains, addresses and ranges, each with a port or without."""
    assert is_direct(host, port, {"NO_PROXY": listed}) is direct
    assert is_direct(host, port, {"no_proxy": listed, "NO_PROXY": "x"}) is direct


@pytest.mark.parametrize(
    ("host", "direct"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("[::1]", True),
        ("localhost.example.com", False),
        ("notlocalhost", False),
        ("127.0.0.1.example.com", False),
        ("128.0.0.1", False),
        ("10.0.0.1", False),
        ("[::2]", False),
    ],
)
@pytest.mark.parametrize("listed", ["", "x.test"])
def test_this_machine_needs_no_proxy(host: str, direct: bool, listed: str) -> None:
    """Whatever NO_PROXY says: a proxy's loopback is another machine's."""
    proxies = dict.fromkeys(("HTTPS_PROXY", "ALL_PROXY"), "http://proxy:1")
    assert (proxy_for(f"https://{host}:8443", {**proxies, "NO_PROXY": listed}) is None) is direct


@pytest.mark.parametrize(
    ("value", "login"),
    [
        (f"http://jo:{SECRET}@proxy:1", f"jo:{SECRET}"),
        ("http://jo:p%40ss%2Fw%23rd@proxy:1", "jo:p@ss/w#rd"),
        ("http://jo:p@ss@proxy:1", "jo:p@ss"),
        ("http://DOM%5Cjo:x@proxy:1", "DOM\\jo:x"),
        ("http://DOM\\jo:x@proxy:1", "DOM\\jo:x"),
        ("http://jö:pä€@proxy:1", "jö:pä€"),
        ("http://jo@proxy:1", "jo:"),
    ],
)
def test_a_login_goes_into_a_header_and_nowhere_else(value: str, login: str) -> None:
    """Decoded, in UTF-8; neither address nor repr has it."""
    found = proxy_for(URL, {"HTTPS_PROXY": value})
    assert found is not None
    encoded = found.headers["proxy-authorization"].removeprefix("Basic ")
    assert base64.b64decode(encoded).decode() == login
    assert found.url == "http://proxy:1"
    assert login not in repr(found)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (f"http://jo:{SECRET}#1@proxy:3128", "proxy_url"),
        (f"http://jo:{SECRET}/1@proxy:3128", "proxy_url"),
        (f"http://jo:{SECRET}?1@proxy:3128", "proxy_url"),
        (f"http://jo:12/{SECRET}@proxy:3128", "proxy_url"),
        ("http://proxy:port", "proxy_url"),
        ("http://proxy:99999", "proxy_url"),
        ("http://:3128", "proxy_url"),
        ("http://proxy:3128/path", "proxy_url"),
        ("http://pro xy:3128", "proxy_url"),
        ("http://[fd00::1:3128", "proxy_url"),
        ("socks5h://proxy:1080", "proxy_scheme"),
        ("socks4://proxy:1080", "proxy_scheme"),
        ("htp://proxy:1", "proxy_scheme"),
    ],
)
def test_what_is_no_proxys_address_is_refused(value: str, problem: str) -> None:
    """With the variable's name and what to write; nothing of its value."""
    for name in ("HTTPS_PROXY", "all_proxy"):
        with pytest.raises(ProxySettingError) as refused:
            proxy_for(URL, {name: value})
        assert (refused.value.where, refused.value.problem) == (name, problem)
        told = f"{refused.value} {refused.value.hint}"
        assert name in told
        assert SECRET not in told
        assert "proxy:3128" not in told


def test_http_proxy_counts_for_nothing() -> None:
    """It may be a web request's header `Proxy` (CVE-2016-1000110), and plain HTTP takes none."""
    for name in ("HTTP_PROXY", "http_proxy"):
        for url in (URL, "http://registry.example.com"):
            assert proxy_for(url, {name: "http://evil:1", "REQUEST_METHOD": "GET"}) is None
            assert proxy_for(url, {name: "http://evil:1"}) is None
    assert proxy_for("http://registry.example.com", {"ALL_PROXY": "http://proxy:1"}) is None


@given(st.text(), st.text(max_size=40))
def test_any_setting_is_a_proxy_or_is_refused(value: str, listed: str) -> None:
    """Never another error: it would end a run that needs no proxy."""
    try:
        found = proxy_for(URL, {"HTTPS_PROXY": value, "NO_PROXY": listed})
    except ProxySettingError:
        return
    assert found is None or (found.host and 0 < found.port < 65536)
