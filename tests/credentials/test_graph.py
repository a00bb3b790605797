"""An application's credentials at Graph, added, listed and removed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from credentials.making import certificate, pem, rsa_key
from credentials_provider.credentials.resolver import Credential
from credentials_provider.emulator import App, Emulator, Fault
from credentials_provider.entra import graph
from credentials_provider.identities.identity import Identity
from credentials_provider.minting import Failure
from credentials_provider.transport.retrying import Transport
from support import SCOPE, apps

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


MADE = '"keyId": "x", "endDateTime": "2031-01-01T00:00:00Z", "secretText"'


@pytest.mark.parametrize(
    "body",
    [
        *("[]", "{}", '{"passwordCredentials": [{}]}', '{"keyId": "x"}'),
        *(f'{{{MADE}: ""}}', f"{{{MADE}: 7}}", f"{{{MADE}: null}}"),
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
