"""An application's credentials at Graph, added, listed and removed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from credentials.making import certificate, pem, rsa_key
from credentials.scripted import Scripted, access_token
from credentials_provider.credentials.resolver import Credential
from credentials_provider.emulator import App, Emulator, Fault
from credentials_provider.entra import graph
from credentials_provider.identities.identity import Identity
from credentials_provider.minting import Failure
from credentials_provider.settings import CLOUDS
from credentials_provider.transport.connections import Trouble
from credentials_provider.transport.retrying import Transport
from support import OTHER_TENANT, SCOPE, apps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Connect = Callable[[], graph.Application]

END = 1_900_000_000.0
pytestmark = pytest.mark.usefixtures("no_backoff")


@pytest.fixture
def app() -> App:
    (made,) = apps(1)
    owner = (made.client_id,)
    return replace(made, roles=("Application.ReadWrite.OwnedBy",), owners=owner)


@pytest.fixture
def idp(app: App) -> Iterator[Emulator]:
    with Emulator([app]) as emulator:
        yield emulator


@pytest.fixture
def connect(app: App, idp: Emulator) -> Iterator[Connect]:
    """Makes the application's own view of itself."""
    transport = Transport(
        timeout=2,
        max_attempts=3,
        deadline=time.monotonic() + 20,
        connections=2,
        ca_bundle=idp.ca_file,
    )

    def make() -> graph.Application:
        identity = Identity("ci", app.tenant_id, app.client_id, SCOPE, {"client_secret": "x"})
        proof = Credential("client_secret", app.secrets[0])
        made = graph.application(identity, proof, idp.base_url, transport)
        assert not isinstance(made, Failure), made.message
        return made

    yield make
    transport.close()


def known(application: graph.Application) -> graph.Credentials:
    found = application.credentials()
    assert not isinstance(found, Failure), found.message
    return found


def failure(result: object) -> Failure:
    assert isinstance(result, Failure)
    return result


def test_a_secret_is_made_listed_and_removed(connect: Connect) -> None:
    """By its key id; its value is in no repr."""
    application = connect()
    made = application.add_password("rotated", END)
    assert not isinstance(made, Failure)
    assert (made.end, made.secret in repr(made)) == (END, False)
    (listed,) = known(application).passwords
    assert (listed.key_id, listed.end, listed.name) == (made.key_id, END, "rotated")
    assert listed.hint == made.secret[:3]
    assert application.remove_password(made.key_id) is None
    assert known(application).passwords == ()


def test_removing_a_secret_that_is_gone_is_no_failure(connect: Connect) -> None:
    """So that a run that was killed can be repeated."""
    application = connect()
    made = application.add_password("rotated", END)
    assert not isinstance(made, Failure)
    assert application.remove_password(made.key_id) is None
    assert application.remove_password(made.key_id) is None


def test_a_certificate_joins_and_leaves_the_others(
    app: App, idp: Emulator, connect: Connect
) -> None:
    """The one that was there stays as it was."""
    idp.add_app(replace(app, certificates=(pem(certificate()),)))
    application = connect()
    (old,) = known(application).keys
    new = certificate(rsa_key(1)).public_bytes(Encoding.DER)
    assert application.set_keys([old], new, "rotated") is None
    both = known(application).keys
    assert (both[0].key_id, both[1].name) == (old.key_id, "rotated")
    assert application.set_keys(both[1:]) is None
    assert [each.key_id for each in known(application).keys] == [both[1].key_id]


REFUSALS: list[tuple[dict[str, object], str, str]] = [
    ({"password_policy": "forbidden"}, "forbids this kind", "certificate"),
    ({"password_policy": 90}, "so long a life", "--lifetime"),
    ({"owners": ()}, "no right to change", "Owners"),
    ({"roles": ()}, "no right to change", "Application.ReadWrite.OwnedBy"),
]


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_explained(
    app: App, idp: Emulator, connect: Connect, case: tuple[dict[str, object], str, str]
) -> None:
    """With the policy or the right that is missing."""
    change, says, cure = case
    idp.add_app(replace(app, **change))  # type: ignore[arg-type]  # fields of App
    refused = failure(connect().add_password("rotated", END))
    assert says in refused.message
    assert cure in refused.remedy
    assert refused.kind == "rejected"


def test_a_secret_is_not_asked_for_twice(idp: Emulator, connect: Connect) -> None:
    """An answer that was lost may have been a success: only a throttle is asked again."""
    application = connect()
    idp.inject(Fault("unavailable", endpoint="discovery"), 1)
    refused = failure(application.add_password("rotated", END))
    assert refused.kind == "unavailable"
    asked = [each for each in idp.requests if each.path.endswith("addPassword")]
    assert len(asked) == 1
    idp.inject(Fault("throttle", endpoint="discovery"), 1)
    assert not isinstance(application.add_password("rotated", END), Failure)
    assert not isinstance(application.add_password("another", END), Failure)


LISTED = '{"passwordCredentials": [%s], "keyCredentials": []}'
MADE = '"keyId": "x", "endDateTime": "2031-01-01T00:00:00Z", "secretText"'


@pytest.mark.parametrize(
    "body",
    [
        *("[]", "{}", '{"passwordCredentials": [{}]}', '{"keyId": "x"}'),
        *(f'{{{MADE}: ""}}', f"{{{MADE}: 7}}", f"{{{MADE}: null}}"),
        *(LISTED % '{"keyId": "x"}', LISTED % '{"keyId": "x", "endDateTime": "soon"}'),
        *(LISTED % "7", '{"passwordCredentials": null, "keyCredentials": []}'),
        *('{"keyId": "x", "endDateTime": "soon", "secretText": "s"}', "no JSON"),
        '{"keyId": "x", "endDateTime": 7, "secretText": "s"}',
    ],
)
def test_an_answer_that_is_not_graphs_is_refused(
    idp: Emulator, connect: Connect, body: str
) -> None:
    """Whatever is missing."""
    application = connect()
    idp.inject(Fault("status", status=200, body=body, endpoint="discovery"), 2)
    assert failure(application.credentials()).kind == "bad_response"
    assert failure(application.add_password("rotated", END)).kind == "bad_response"


# What is sent, and what is made of answers

ME = Identity("ci", OTHER_TENANT, "0f5c2f3e-7a1b-4c7d-9e42-5b8a1c6d7e91", SCOPE)
PROOF = Credential("client_secret", "abcdef")
GUID = "6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3"


def token() -> tuple[int, object]:
    """The login host's answer."""
    made = access_token(tid=ME.tenant_id, azp=ME.client_id)
    return 200, {"access_token": made, "token_type": "Bearer", "expires_in": 3600}


def seen(scripted: Scripted, client_id: str = "x") -> graph.Application:
    return graph.Application(scripted.transport, "https://graph.test", client_id, "t")


def refused(code: object, **more: object) -> tuple[int, object]:
    return 403, {"error": {"code": code, **more}}


@pytest.mark.parametrize(
    ("login_host", "api"),
    [
        (CLOUDS["public"], "https://graph.microsoft.com"),
        (CLOUDS["usgov"], "https://graph.microsoft.us"),
        (CLOUDS["china"], "https://microsoftgraph.chinacloudapi.cn"),
    ],
)
def test_each_cloud_has_a_graph_of_its_own(login_host: str, api: str) -> None:
    """Its token is for that one, and goes there."""
    scripted = Scripted(token(), (200, {"passwordCredentials": [], "keyCredentials": []}))
    made = graph.application(ME, PROOF, login_host, scripted.transport, "another")
    assert not isinstance(made, Failure)
    assert made.credentials() == graph.Credentials((), ())
    login, asked = scripted.requests
    assert login.url.startswith(f"{login_host}/")
    assert quote(f"{api}/.default", safe="") in str(login.body)
    assert asked.url.startswith(f"{api}/v1.0/applications(appId='another')?")
    assert asked.headers["Authorization"].startswith("Bearer eyJ")


def test_a_login_host_that_is_not_microsofts_answers_for_graph_itself() -> None:
    """For the public one's token."""
    scripted = Scripted(token(), (204, ""))
    made = graph.application(ME, PROOF, "https://idp.test:8443", scripted.transport)
    assert not isinstance(made, Failure)
    assert made.set_keys([]) is None
    login, asked = scripted.requests
    assert quote("https://graph.microsoft.com/.default", safe="") in str(login.body)
    assert asked.url == f"https://idp.test:8443/v1.0/applications(appId='{ME.client_id}')"


def test_without_a_token_graph_is_not_asked() -> None:
    """The login host's refusal is the answer."""
    scripted = Scripted((401, {"error": "invalid_client", "error_codes": [7000222]}))
    result = graph.application(ME, PROOF, CLOUDS["public"], scripted.transport)
    assert failure(result).aadsts == 7000222
    said = graph.secret_expiry(
        ME,
        PROOF,
        CLOUDS["public"],
        Scripted((401, {"error": "invalid_client", "error_codes": [7000222]})).transport,
    )
    assert said == "Microsoft Graph gives no token: the client secret has expired"


def test_a_request_is_json_of_a_quoted_application() -> None:
    """Whatever an id holds, it stays within the address of its application."""
    scripted = Scripted((204, ""))
    assert seen(scripted, "a')/x?y").remove_password("key") is None
    (asked,) = scripted.requests
    assert "(appId='a%27%29%2Fx%3Fy')/removePassword" in asked.url
    assert (asked.method, json.loads(str(asked.body))) == ("POST", {"keyId": "key"})
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.headers["Accept-Encoding"] == "identity"  # what is bounded is what comes
    assert asked.timeout == graph.TIMEOUT


@pytest.mark.parametrize(
    ("listing", "gone"),
    [
        ((200, LISTED % ""), True),
        ((200, LISTED % '{"keyId": "key", "endDateTime": "2031-01-01T00:00:00Z"}'), False),
        (refused("Authorization_RequestDenied"), False),
        (Trouble("unreachable", "dns"), False),
    ],
)
def test_a_removal_that_was_refused_counts_where_the_secret_is_gone(
    listing: tuple[int, object] | Trouble, gone: bool
) -> None:
    """Only where Graph says so; else the refusal of the removal itself is told."""
    scripted = Scripted(refused("Request_BadRequest"), listing)
    result = seen(scripted).remove_password("key")
    assert (result is None) == gone
    if not gone:
        assert "Request_BadRequest" in failure(result).message


def test_certificates_that_graph_does_not_take_are_told() -> None:
    """Nothing was changed."""
    result = seen(Scripted(refused("CredentialTypeNotAllowedAsPerAppPolicy"))).set_keys([])
    assert "forbids this kind" in failure(result).message


def test_a_refusal_names_the_right_that_is_missing() -> None:
    """To read, or to change."""
    denied = refused("Authorization_RequestDenied")
    reading = failure(seen(Scripted(denied)).credentials())
    assert "no right to read" in reading.message
    assert "Application.Read.All" in reading.remedy
    changing = failure(seen(Scripted(denied)).credentials(to_change=True))
    assert "no right to change" in changing.message
    assert "Application.ReadWrite.OwnedBy" in changing.remedy


@pytest.mark.parametrize(
    ("code", "says"),
    [("Request_ResourceNotFound", "knows no application"), ("InvalidAuthenticationToken", "token")],
)
def test_known_codes_have_words_of_their_own(code: str, says: str) -> None:
    told = failure(seen(Scripted(refused(code))).credentials())
    assert says in told.message
    assert code not in told.message


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (refused("Some_Code"), ", Some_Code"),
        (refused("call 555 0100 now"), ""),
        (refused(["x"]), ""),
        (refused(None), ""),
        ((403, {"error": "words"}), ""),
        ((403, "words"), ""),
        ((302, ""), ""),
    ],
)
def test_nothing_of_a_refusal_is_shown_but_a_code(answer: tuple[int, object], shown: str) -> None:
    """Whatever its form."""
    told = failure(seen(Scripted(answer)).credentials())
    assert told.message == f"Microsoft Graph answered HTTP {answer[0]}{shown}"


@pytest.mark.parametrize(
    ("inner", "trace_id"),
    [({"request-id": GUID}, GUID), ({"request-id": "call me"}, None), ("x", None)],
)
def test_a_request_id_is_shown_where_it_is_one(inner: object, trace_id: str | None) -> None:
    told = failure(seen(Scripted(refused("X_y_z", innerError=inner))).credentials())
    assert told.trace_id == trace_id


def test_trouble_on_the_way_names_what_leads_to_graph() -> None:
    """Not the login host."""
    told = failure(seen(Scripted(Trouble("unreachable", "dns"))).credentials())
    assert "graph.test" in told.message
    assert "national cloud" in told.remedy


def test_times_are_utc_wherever_this_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are read, with a fraction or without, and those that are sent."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        end = '"endDateTime": "2030-03-17T17:46:40.1234567Z"'
        scripted = Scripted((200, f'{{"keyId": "x", {end}, "secretText": "s"}}'))
        made = seen(scripted).add_password("rotated", END)
        assert not isinstance(made, Failure)
        assert made.end == END
        assert "2030-03-17T17:46:40Z" in str(scripted.requests[0].body)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_graph_leaves_out_is_empty() -> None:
    """Name, hint and start of a credential may be null or absent; its repr shows no key."""
    end = '"endDateTime": "2031-01-01T00:00:00Z"'
    entry = f'{{"keyId": "x", {end}, "hint": null, "displayName": null, "startDateTime": null}}'
    other = f'{{"keyId": "y", {end}, "startDateTime": "2030-01-01T00:00:00Z", "key": "S3CRET"}}'
    body = f'{{"passwordCredentials": [{entry}], "keyCredentials": [{entry}, {other}]}}'
    found = seen(Scripted((200, body))).credentials()
    assert not isinstance(found, Failure)
    (password,) = found.passwords
    assert (password.hint, password.name, password.start) == ("", "", None)
    assert [(each.name, each.start) for each in found.keys] == [("", None), ("", 1893456000.0)]
    assert "S3CRET" not in repr(found)


@pytest.mark.parametrize(
    ("hints", "says"),
    [
        (("abc", "abc", "xyz"), 2.0),
        (("xyz",), "Microsoft Graph knows no secret that begins like this one"),
    ],
)
def test_the_first_end_of_secrets_that_begin_alike_counts(
    hints: tuple[str, ...], says: object
) -> None:
    """Graph shows three characters of each."""
    ends = ("1970-01-01T00:00:03Z", "1970-01-01T00:00:02Z", "1970-01-01T00:00:01Z")
    entries = [
        {"keyId": "x", "hint": hint, "endDateTime": end}
        for hint, end in zip(hints, ends, strict=False)
    ]
    scripted = Scripted(token(), (200, {"passwordCredentials": entries, "keyCredentials": []}))
    assert graph.secret_expiry(ME, PROOF, CLOUDS["public"], scripted.transport) == says


def test_an_end_that_may_not_be_read_says_what_to_grant() -> None:
    scripted = Scripted(token(), refused("Authorization_RequestDenied"))
    said = graph.secret_expiry(ME, PROOF, CLOUDS["public"], scripted.transport)
    assert "no right to read applications. Grant" in str(said)
