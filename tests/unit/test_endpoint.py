"""The local endpoint's guards: one request for each line that refuses."""

from __future__ import annotations

from datetime import datetime, timezone
from hashlib import sha256
from typing import TYPE_CHECKING, Any, cast

import pytest
from freezegun import freeze_time

from credentials_provider.endpoint.answers import API_VERSION, PATH, Answer, Answers, Call, Query
from credentials_provider.endpoint.server import BadRequestError, parse
from credentials_provider.errors import CredentialsProviderError, LockBusyError
from credentials_provider.identities.reading import make_entry
from credentials_provider.model import Observer, RunOptions
from credentials_provider.run.access import ValidToken
from credentials_provider.run.source import TokenSource
from unit.making import CLIENT, GATEWAY, NOW, UNREACHABLE, Project, sample_fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.minting import Failure

HEADER = "h" * 43
RESOURCE = f"api://{GATEWAY}"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"GET / HTTP/1.1 x", 400),
        (b"GET / HTTP/2.0", 400),
        (b"GET / http/1.1", 400),
        (b"GET /\x7f HTTP/1.1", 400),
        (b"GET /\xff HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHOST: b", 400),
        (b"GET / HTTP/1.1\r\nHost", 400),
        (b"GET / HTTP/1.1\r\n: a", 400),
        (b"GET / HTTP/1.1\r\nHost : a", 400),
        (b"GET / HTTP/1.1\r\n Host: a", 400),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: identity", 413),
        (b"GET / HTTP/1.1\r\nContent-Length: 1", 413),
        (b"GET / HTTP/1.1\r\nContent-Length: -0", 413),
    ],
)
def test_a_head_that_is_ambiguous_or_has_a_body_is_refused(head: bytes, status: int) -> None:
    """What two readers could read in two ways is no request."""
    with pytest.raises(BadRequestError) as error:
        parse(head)
    assert error.value.status == status


@pytest.mark.parametrize(("version", "connection"), [("1.1", None), ("1.0", "close")])
def test_a_head_in_order_is_read(version: str, connection: str | None) -> None:
    """Names in lower case, values without blanks around them; a body of no bytes is none."""
    call = parse(f"GET /a HTTP/{version}\r\nX-A:  b \r\nContent-Length: 0".encode())
    assert (call.method, call.target) == ("GET", "/a")
    assert (call.headers["x-a"], call.headers.get("connection")) == ("b", connection)


@pytest.fixture
def check(project: Project) -> Callable[..., Query | Answer]:
    """What the endpoint of one identity says to a request with these changes."""
    project.identities("ci")
    settings = project.settings()
    source = TokenSource(RunOptions(settings), Observer())
    answers = Answers(source, settings, ["ci"], HEADER)

    def checked(
        query: str = f"api-version={API_VERSION}&resource={RESOURCE}",
        *,
        method: str = "GET",
        path: str = PATH,
        port: int | None = 8080,
        **headers: str | None,
    ) -> Query | Answer:
        given = {"host": "127.0.0.1:8080", "x_identity_header": HEADER, **headers}
        named = {name.replace("_", "-"): each for name, each in given.items() if each is not None}
        return answers.check(Call(method, f"{path}?{query}", named), port)

    return checked


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"host": "LOCALHOST:8080"},
        {"host": "[::1]:8080"},
        {"host": "localhost", "port": None},
        {"host": "localhost:1", "port": None},
        {"query": f"api-version={API_VERSION}&resource={RESOURCE}/.default"},
        {"query": f"api-version={API_VERSION}&resource={RESOURCE}/&client_id={CLIENT.upper()}"},
    ],
    ids=str,
)
def test_a_request_in_order_is_of_the_identity(
    check: Callable[..., Query | Answer], changes: dict[str, Any]
) -> None:
    found = check(**changes)
    assert isinstance(found, Query)
    assert found.entry.name == "ci"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"x_identity_header": None}, 401),
        ({"x_identity_header": ""}, 401),
        ({"x_identity_header": HEADER[:-1]}, 401),
        ({"x_identity_header": f"{HEADER}h"}, 401),
        ({"x_identity_header": HEADER.upper()}, 401),
        ({"x_identity_header": "\ud800"}, 401),
        ({"host": None}, 403),
        ({"host": "localhost"}, 403),
        ({"host": "localhost:1"}, 403),
        ({"host": "localhost:"}, 403),
        ({"host": "attacker.example:8080"}, 403),
        ({"host": "127.0.0.1.attacker.example:8080"}, 403),
        ({"host": None, "port": None}, 403),
        ({"host": "attacker.example", "port": None}, 403),
        ({"origin": "null"}, 403),
        ({"x_forwarded_for": ""}, 403),
        ({"forwarded": ""}, 403),
        ({"method": "POST"}, 405),
        ({"method": "get"}, 405),
        ({"path": f"{PATH}/"}, 404),
        ({"path": "/"}, 404),
        ({"query": f"resource={RESOURCE}"}, 400),
        ({"query": f"api-version=2017-09-01&resource={RESOURCE}"}, 400),
        ({"query": f"api-version={API_VERSION}"}, 400),
        ({"query": f"api-version={API_VERSION}&resource="}, 400),
        ({"query": f"api-version={API_VERSION}&resource=https://graph.microsoft.com"}, 400),
        ({"query": f"api-version={API_VERSION}&resource={RESOURCE}&client_id={GATEWAY}"}, 400),
        ({"query": f"api-version={API_VERSION}&resource={RESOURCE}&object_id={CLIENT}"}, 400),
        ({"query": f"api-version={API_VERSION}&resource={RESOURCE}&mi_res_id={CLIENT}"}, 400),
        ({"query": f"api-version={API_VERSION}&resource={RESOURCE}&principal_id={CLIENT}"}, 400),
    ],
    ids=str,
)
def test_a_request_that_is_not_in_order_gets_no_token(
    check: Callable[..., Query | Answer], changes: dict[str, Any], status: int
) -> None:
    """Each is wrong in one thing alone."""
    found = check(**changes)
    assert isinstance(found, Answer)
    assert (found.status, b"access_token" in found.body) == (status, False)


@pytest.mark.parametrize(
    ("others", "query", "status"),
    [
        ([sample_fields("b", client_id=GATEWAY)], "", 400),
        ([sample_fields("b", client_id=GATEWAY)], f"&client_id={CLIENT}", None),
        ([sample_fields("b")], f"&client_id={CLIENT}", 400),
        ([sample_fields("b", scope="api://b/.default")], f"&client_id={CLIENT}", None),
    ],
)
def test_where_several_could_be_meant_there_is_no_token(
    project: Project, others: list[dict[str, Any]], query: str, status: int | None
) -> None:
    """An application may have several identities: its resource then chooses one."""
    project.identities("ci", *others)
    settings = project.settings()
    answers = Answers(TokenSource(RunOptions(settings), Observer()), settings, [], HEADER)
    target = f"{PATH}?api-version={API_VERSION}&resource={RESOURCE}{query}"
    found = answers.check(
        Call("GET", target, {"host": "localhost:1", "x-identity-header": HEADER}), 1
    )
    assert (found.status if isinstance(found, Answer) else None) == status


class Source:
    """Has one token, and another one once that is refused."""

    def __init__(self, token: ValidToken | CredentialsProviderError) -> None:
        self._token = token
        self.another: ValidToken | None = None

    def ready(self, *_: object) -> ValidToken | None:
        return self._token if isinstance(self._token, ValidToken) else None

    def get(self, *_: object) -> ValidToken:
        if isinstance(self._token, CredentialsProviderError):
            raise self._token
        return self._token

    def replaced(self, name: str, refused: str) -> ValidToken | None:
        del name
        assert refused == "first"
        return self.another


def valid(token: str = "first", *, left: float = 3600, kept: Failure | None = None) -> ValidToken:
    return ValidToken({"access_token": token}, NOW + left, kept)


def asked(project: Project, source: Source, **changes: Any) -> tuple[Answer | None, Answer]:
    """What there is at once, and what after a renewal."""
    answers = Answers(cast("TokenSource", source), project.settings(), [], HEADER)
    query = Query(make_entry(1, sample_fields(), project.settings()), RESOURCE, False, "")
    query = query._replace(**changes)
    with freeze_time(datetime.fromtimestamp(NOW, timezone.utc)):
        return answers.ready(query), answers.take(query)


FIRST = sha256(b"first").hexdigest()


@pytest.mark.parametrize(
    ("token", "changes", "at_once"),
    [
        (valid(), {}, True),
        (valid(), {"refused": "f" * 64}, True),
        (valid(), {"refused": FIRST}, False),
        (valid(), {"refused": FIRST.upper()}, False),
        (valid(), {"forced": True}, False),
        (valid(kept=UNREACHABLE), {}, False),
        (LockBusyError("busy"), {}, False),
    ],
)
def test_only_a_token_that_nobody_refused_is_given_from_memory(
    project: Project, token: ValidToken | CredentialsProviderError, changes: Any, *, at_once: bool
) -> None:
    found, _ = asked(project, Source(token), **changes)
    assert (found is not None and b'"first"' in found.body) is at_once


@pytest.mark.parametrize("changes", [{"refused": FIRST}, {"forced": True}], ids=str)
def test_a_refused_token_is_replaced_where_there_is_another(
    project: Project, changes: dict[str, Any]
) -> None:
    """The old one is given only where there is none."""
    source = Source(valid())
    assert b'"first"' in asked(project, source, **changes)[1].body
    source.another = valid("second")
    assert b'"second"' in asked(project, source, **changes)[1].body
    assert b'"first"' in asked(project, source)[1].body


@pytest.mark.parametrize(("left", "status"), [(60, 200), (59.9, 503), (-1, 503)])
def test_a_token_is_given_for_a_minute_at_least(project: Project, left: float, status: int) -> None:
    """Else an error that says why it is not renewed."""
    _, answer = asked(project, Source(valid(left=left, kept=UNREACHABLE)))
    assert (answer.status, b"first" in answer.body) == (status, status == 200)
    assert (UNREACHABLE.message in answer.why) is (status == 503)


def test_a_failure_is_an_error_with_its_cure(project: Project) -> None:
    """And no token."""
    _, answer = asked(project, Source(LockBusyError("it is busy", hint="Try again.")))
    assert (answer.status, answer.why) == (500, "it is busy Try again.")
