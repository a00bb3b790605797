"""`Credential` with the libraries that programs use: requests, httpx2, MCP's SDK, Azure's."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import httpx2
import pytest
import requests
from filelock import FileLock

import credentials_provider
from assistants.bench import Bench
from credentials_provider import Credential, CredentialsProviderError, NoTokenError
from credentials_provider.emulator import Fault
from credentials_provider.tokens.store import LOCK_NAME
from support import PACKAGES, SCOPE, apps, assert_no_secret, entry, environment, renew

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.emulator import App
    from support import Command, Project

    from .conftest import Api


def minted(project: Project) -> int:
    return len(project.idp.token_requests)


# The module


def test_the_public_surface_is_named_whole() -> None:
    """What a program may use: a new name is a promise, a missing one a break."""
    assert credentials_provider.__all__ == [
        "Credential",
        "CredentialsProviderError",
        "NoTokenError",
        "__version__",
    ]
    assert dir(credentials_provider) == credentials_provider.__all__
    assert {name for name in vars(Credential) if not name.startswith("_")} == {
        *("token", "get_token", "get_token_info", "close"),
        *("sync_auth_flow", "async_auth_flow", "requires_request_body", "requires_response_body"),
    }
    with pytest.raises(AttributeError):
        _ = credentials_provider.credential


def test_importing_it_costs_nothing() -> None:
    """Neither our own modules nor anybody's library are loaded before the first use."""
    code = "import sys; old = {*sys.modules}; import credentials_provider; "
    code += "print(*{*sys.modules} - old)"
    line = [sys.executable, "-S", "-c", code]
    done = subprocess.run(
        line, env={"PYTHONPATH": PACKAGES}, capture_output=True, text=True, check=True
    )
    assert set(done.stdout.split()) <= {"credentials_provider", "__future__"}


# The token


def test_the_files_are_those_of_the_command(
    app: App, project: Project, make: Callable[..., Credential]
) -> None:
    """A token is minted once, for every object and process; the only identity needs no name."""
    credential = make(app.name)
    assert credential.token() == project.token(app.name)["access_token"]
    assert make().token(min_ttl=60) == credential.token()
    assert minted(project) == 1
    assert repr(make()) == f"Credential('{app.name}')"


def test_a_token_is_renewed_below_the_least_life(
    app: App, project: Project, make: Callable[..., Credential]
) -> None:
    """In the same object, and also where another process has renewed it."""
    credential = make(app.name)
    first = credential.token()
    project.age(app.name, left=200)
    assert credential.token(min_ttl=100) == first
    second = credential.token()
    assert second not in {"", first}
    assert credential.token() == second == make(app.name).token()
    assert minted(project) == 2


def test_another_definition_of_the_identity_counts_at_once(
    app: App, project: Project, make: Callable[..., Credential]
) -> None:
    """A running program asks as the file says now."""
    credential = make(app.name)
    first = credential.token()
    entries = project.entries()
    entries[0]["tenant_id"] = entries[0]["tenant_id"].upper()
    project.write(entries)
    assert credential.token() != first


def test_an_old_token_is_given_with_a_warning_and_not_tried_at_each_call(
    app: App,
    project: Project,
    make: Callable[..., Credential],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While the provider is down; a program does not wait for it at each of its requests."""
    credential = make(app.name)
    first = credential.token()
    project.age(app.name, left=100)
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    before = minted(project)
    with caplog.at_level(logging.WARNING, "credentials_provider"):
        assert {credential.token() for _ in range(5)} == {first}
    assert minted(project) == before + 1
    assert "not renewed, the token expires in" in caplog.text
    assert_no_secret(caplog.text, [app])


def test_no_token_is_an_error_that_explains_itself(
    app: App, project: Project, make: Callable[..., Credential]
) -> None:
    """With the cure as its hint, and without a secret."""
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    with pytest.raises(NoTokenError, match="the client secret is wrong") as error:
        make(app.name).token()
    assert isinstance(error.value, CredentialsProviderError)
    assert "Certificates & secrets" in str(error.value.hint)
    assert_no_secret(repr(error.value), [app])


def test_many_threads_make_one_request(
    app: App, project: Project, make: Callable[..., Credential]
) -> None:
    """Of one object and of several."""
    credential, other = make(app.name), make(app.name)
    tokens: list[str] = []
    threads = [
        threading.Thread(target=lambda each=each: tokens.append(each.token()))
        for each in [credential, other] * 8
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(tokens), len(set(tokens)), minted(project)) == (16, 1, 1)


def test_what_cannot_be_used_is_refused_at_once(
    app: App, project: Project, make: Callable[..., Credential]
) -> None:
    """No object is made for an identity that does not exist."""
    project.add(apps(2)[1])
    for wrong in ({"name": f"{app.name}x"}, {}, {"name": app.name, "cloud": "moon"}):
        with pytest.raises(CredentialsProviderError):
            make(**wrong)


def test_two_entries_of_a_name_are_a_mistake_that_is_told(
    app: App, project: Project, run: Command, make: Callable[..., Credential]
) -> None:
    """Also where the token is written nowhere."""
    project.write(project.entries() * 2)
    with pytest.raises(CredentialsProviderError, match="mistake") as error:
        make(app.name).token()
    assert any("the same name" in str(each) for each in getattr(error.value, "problems", ()))
    for words in ((), ("--no-store",)):
        ran = run("token", *words, app.name)
        assert (ran.code, "the same name" in ran.stderr) == (2, True), ran.stderr
    assert minted(project) == 0


# requests


def test_requests_takes_it(app: App, api: Api, make: Callable[..., Credential]) -> None:
    """As `auth=`, once or for a session; the gateway's header has another name."""
    credential = make(app.name)
    assert requests.get(api.url, auth=credential, timeout=9).status_code == 200
    assert api.tokens == [f"Bearer {credential.token()}"]
    with requests.Session() as session:
        session.auth = make(app.name, header_name="X-Authorization")
        assert session.post(api.url, json={"a": 1}, timeout=9).status_code == 200
    assert api.bodies[-1] == b'{"a": 1}'


def old(project: Project, app: App, api: Api, seconds: float = 400) -> str:
    """A token, minted so many seconds ago, that the server refuses."""
    token: str = project.token(app.name)["access_token"]
    life = project.token(app.name)["expires_in"]
    project.age(app.name, left=life - seconds)
    api.refused.add(token)
    return token


def test_requests_renews_once_after_a_401(
    app: App, api: Api, project: Project, make: Callable[..., Credential]
) -> None:
    """The body is sent again; the answer has the refused one in its history."""
    credential = make(app.name)
    first = credential.token()
    old(project, app, api)
    answer = requests.post(api.url, auth=credential, data=b"body", timeout=9)
    assert answer.status_code == 200
    assert [each.status_code for each in answer.history] == [401]
    assert api.bodies == [b"body", b"body"]
    assert api.tokens == [f"Bearer {first}", f"Bearer {credential.token()}"]
    assert minted(project) == 2


def test_a_server_that_refuses_all_costs_one_renewal(
    app: App, api: Api, project: Project, make: Callable[..., Credential]
) -> None:
    """In five minutes; a token that was just minted is not renewed at all."""
    credential = make(app.name)
    credential.token()
    api.everything = True
    assert requests.get(api.url, auth=credential, timeout=9).status_code == 401
    assert (minted(project), len(api.seen)) == (1, 1)
    old(project, app, api)
    for _ in range(3):
        assert requests.get(api.url, auth=credential, timeout=9).status_code == 401
    assert minted(project) == 2


def test_a_refused_token_is_not_sent_again_where_it_cannot_be_renewed(
    app: App, api: Api, project: Project, make: Callable[..., Credential]
) -> None:
    """Another run holds the lock, or the provider gives none: the server's answer stands."""
    credential = make(app.name)
    credential.token()
    source = credential._source
    source._options = source._options._replace(lock_timeout=0.05)
    old(project, app, api)
    with FileLock(f"{project.output}/{LOCK_NAME}"):
        assert requests.get(api.url, auth=credential, timeout=9).status_code == 401
    project.idp.inject(Fault("aadsts", code=7000215), times=None)
    source._forced.clear()
    assert requests.get(api.url, auth=credential, timeout=9).status_code == 401
    assert len(api.seen) == 2


def test_a_token_that_another_process_has_renewed_needs_no_renewal(
    app: App, api: Api, project: Project, run: Command, make: Callable[..., Credential]
) -> None:
    """The one on disk is taken, although the refused one is young."""
    credential = make(app.name)
    api.refused.add(credential.token())
    second = run("token", "--force", app.name).stdout.strip()
    known = credential._source._known
    known[app.name] = (credential._source._files(app.name), known[app.name][1])
    assert requests.get(api.url, auth=credential, timeout=9).status_code == 200
    assert credential.token() == second
    assert minted(project) == 2


@pytest.mark.parametrize("header", ["Authorization", "X-Authorization"])
def test_a_redirect_to_another_host_gets_no_token(
    app: App, api: Api, make: Callable[..., Credential], header: str
) -> None:
    """Nor does a 401 of that host make one."""
    credential = make(app.name, header_name=header)
    target = api.url.replace("127.0.0.1", "localhost")
    answer = requests.get(f"{api.url}/elsewhere?{target}", auth=credential, timeout=9)
    assert answer.status_code == 401
    assert [bool(token) for token in api.tokens] == [True, False]


@pytest.mark.parametrize("target", ["http://[", "https://127.0.0.1:port/"])
def test_a_redirect_to_no_address_is_the_library_s_to_refuse(
    app: App, api: Api, make: Callable[..., Credential], target: str
) -> None:
    """Who follows none has the answer."""
    url, auth = f"{api.url}/elsewhere?{target}", make(app.name)
    assert requests.get(url, auth=auth, timeout=9, allow_redirects=False).status_code == 302
    with pytest.raises((requests.RequestException, ValueError)):
        requests.get(url, auth=auth, timeout=9)
    assert len(api.tokens) == 2


def test_no_token_is_sent_in_the_clear(app: App, make: Callable[..., Credential]) -> None:
    """Only loopback is spoken to without TLS."""
    for send in (requests.get, httpx2.get):
        with pytest.raises(CredentialsProviderError, match="not encrypted"):
            send("http://api.example.com/", auth=make(app.name), timeout=9)


# httpx2


def test_httpx_takes_it(
    app: App, api: Api, project: Project, make: Callable[..., Credential]
) -> None:
    """Sync and async, with one renewal after a 401."""
    credential = make(app.name)
    assert isinstance(credential, httpx2.Auth)
    with httpx2.Client(auth=credential) as client:
        assert client.get(api.url).status_code == 200
        old(project, app, api)
        answer = client.post(api.url, json={"a": 1})
        assert (answer.status_code, [each.status_code for each in answer.history]) == (200, [401])
        assert api.bodies[-1] == api.bodies[-2] == b'{"a":1}'

    async def ask() -> list[int]:
        async with httpx2.AsyncClient(auth=credential) as client:
            answers = [await client.get(api.url) for _ in range(2)]
            return [each.status_code for each in answers]

    assert asyncio.run(ask()) == [200, 200]
    assert minted(project) == 2


def test_a_stream_that_has_gone_is_not_sent_again(
    app: App, api: Api, project: Project, make: Callable[..., Credential]
) -> None:
    """The 401 is the caller's."""
    credential = make(app.name)
    credential.token()
    old(project, app, api)
    for answer in (
        httpx2.post(api.url, content=iter([b"x"]), auth=credential),
        requests.post(api.url, data=iter([b"x"]), auth=credential, timeout=9),
    ):
        assert answer.status_code == 401
    assert minted(project) == 1


def test_a_renewal_blocks_no_event_loop(
    app: App, api: Api, project: Project, make: Callable[..., Credential]
) -> None:
    """While the provider takes its time, other tasks run; many requests renew once."""
    credential = make(app.name)
    project.idp.inject(Fault("slow", seconds=2), times=1)
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    async def ask() -> list[int]:
        ticking = asyncio.create_task(tick())
        async with httpx2.AsyncClient(auth=credential, timeout=20) as client:
            answers = await asyncio.gather(*(client.get(api.url) for _ in range(5)))
        ticking.cancel()
        return [each.status_code for each in answers]

    assert asyncio.run(ask()) == [200] * 5
    assert minted(project) == 1
    assert longest < 1.5


def test_httpx_follows_a_redirect_without_the_token(
    app: App, api: Api, make: Callable[..., Credential]
) -> None:
    """And does not take the other host's 401 for the API's."""
    target = api.url.replace("127.0.0.1", "localhost")
    answer = httpx2.get(f"{api.url}/elsewhere?{target}", auth=make(app.name), follow_redirects=True)
    assert answer.status_code == 401
    assert [bool(token) for token in api.tokens] == [True, False]


# Azure


def test_azure_takes_it_by_shape(
    app: App, project: Project, make: Callable[..., Credential]
) -> None:
    """Its protocols, with the times that its policies ask for."""
    from azure.core.credentials import SupportsTokenInfo, TokenCredential

    credential = make(app.name)
    assert isinstance(credential, TokenCredential)
    assert isinstance(credential, SupportsTokenInfo)
    with credential as same:
        token, info = same.get_token(SCOPE), same.get_token_info(SCOPE, options={})
        value, expiry = token
        assert (value, expiry) == (token.token, token.expires_on)
    on_disk = project.token(app.name)
    assert (token.token, token.expires_on) == (on_disk["access_token"], on_disk["expires_on"])
    assert token.expires_on > (info.refresh_on or 0) > time.time()
    assert info.token_type == "Bearer"
    assert token.token not in repr(token)
    with pytest.raises(CredentialsProviderError, match="not for https://graph"):
        credential.get_token("https://graph.microsoft.com/.default")


def test_a_key_vault_s_client_takes_it(
    app: App, project: Project, make: Callable[..., Credential]
) -> None:
    """Azure's own client answers the vault's challenge with the identity's token."""
    from azure.core.pipeline.transport import RequestsTransport
    from azure.keyvault.secrets import SecretClient

    from credentials_provider.emulator import Emulator

    reader = replace(app, roles=("Key Vault Secrets User",))
    with Emulator([reader], vault={"db": "s3cret"}) as idp:
        project.idp = idp
        project.write([entry(reader, scope="https://vault.azure.net/.default")])
        client = SecretClient(
            idp.base_url,
            make(app.name),
            transport=RequestsTransport(connection_verify=str(idp.ca_file)),
            verify_challenge_resource=False,
        )
        assert [client.get_secret("db").value for _ in range(2)] == ["s3cret", "s3cret"]
        assert minted(project) == 1


# MCP

OTHER = os.environ.get("TEST_OTHER_MCP_PYTHON", "")


@pytest.mark.parametrize(
    ("library", "python"),
    [
        ("sdk", sys.executable),
        *(
            pytest.param(
                *(library, OTHER),
                marks=[
                    pytest.mark.clients,
                    pytest.mark.skipif(
                        not OTHER, reason="TEST_OTHER_MCP_PYTHON names no Python with another mcp"
                    ),
                ],
                id=f"{library} of another Python",
            )
            for library in ("sdk", "fastmcp")
        ),
    ],
)
def test_mcp_s_clients_take_it(app: App, project: Project, library: str, python: str) -> None:
    """The SDK of this Python, that of another major version, and fastmcp."""
    bench = Bench(project, app)
    bench.start()
    settings = {
        "identity_name": app.name,
        "identities_file": project.identities_file,
        "output_dir": project.output,
        "login_base_url": project.idp.base_url,
        "ca_bundle": str(project.idp.ca_file),
        "env_file": project.private(".env", ""),
    }
    try:
        assert renew(project).exit_code == 0
        project.age(app.name, left=project.token(app.name)["expires_in"] - 400)
        program = os.path.join(os.path.dirname(__file__), "mcp_client.py")
        done = subprocess.run(
            [python, program, library, bench.url, json.dumps(settings)],
            env=environment(project.folder, {"PYTHONWARNINGS": "ignore"}),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.stdout.strip(), done.returncode) == ('["2", "3"]', 0), done.stderr
    finally:
        bench.kill()
    assert any(line.startswith("401") for line in bench.judgements)
    assert minted(project) == 2
