"""The bridge between pipes and little servers that do what real ones must not."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from assistants.piping import (
    MODERN,
    VERSION,
    Asked,
    Line,
    LittleServer,
    NoTokens,
    Reply,
    event,
    hello,
    meta,
    result,
)
from credentials_provider.assistants.bridge import http_transport
from credentials_provider.assistants.bridge.http_transport import HttpTransport
from credentials_provider.assistants.bridge.messages import LARGE
from credentials_provider.assistants.bridge.remote import Remote
from credentials_provider.transport.streaming import Channel
from support import closed_port, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credentials_provider.assistants.bridge.tokens import Tokens

    Answer = Callable[[Asked], Reply | Iterator[bytes]]

CALL = {"name": "add", "arguments": {}}


@contextlib.contextmanager
def bridged(answer: Answer, *, tokens: Any = None) -> Iterator[tuple[LittleServer, Line]]:
    """A server that answers so, and a bridge to it."""
    server = LittleServer(answer)
    line = Line(server.url, tokens)
    try:
        yield server, line
    finally:
        line.close()
        server.close()


def usual(answer: Answer) -> Answer:
    """The usual beginning, and then so."""
    return lambda asked: hello(asked) or answer(asked)


# What the client writes


@pytest.mark.parametrize(
    ("line", "code", "answered"),
    [
        (b"this is no message", -32700, None),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping"', -32700, 7),
        (b'{"jsonrpc":"2.0","id":"a\\"b","method":', -32700, 'a"b'),
        (b'{"id":7,"x":{"id":8}', -32700, None),
        (b'{"jsonrpc":"2.0","id":7,"method":"p\xff"}', -32700, 7),
        (b"[" * 100_000, -32700, None),
        (b"[]", -32600, None),
        (b'"text"', -32600, None),
        (b'{"jsonrpc":"2.0","id":7}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":7,"method":5}', -32600, 7),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}', -32600, None),
        (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600, None),
    ],
)
def test_what_cannot_be_passed_on_is_answered(line: bytes, code: int, answered: object) -> None:
    """With its id where that can be read; nothing goes to the server."""
    with bridged(usual(lambda asked: Reply(body=result(asked)))) as (server, bridge):
        bridge.send(line)
        found = bridge.wait_for(lambda m: "error" in m)
        assert (found["error"]["code"], found["id"]) == (code, answered)
        assert server.asked == []
        assert "result" in bridge.ask("ping", 9)


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":7,"method":"x","params":{"text":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":7,"method":"x","params":[1,2]}',
        b'{"jsonrpc":"2.0","id":7,"method":"x","more":1e400,  "params":{"a":1,"a":2}}',
    ],
)
def test_messages_pass_as_they_are(line: bytes) -> None:
    """To the byte, whatever a library would make of them."""
    with bridged(usual(lambda asked: Reply(body=result(asked)))) as (server, bridge):
        bridge.send(line)
        assert "result" in bridge.answer(7)
        assert server.asked[0].body == line


def test_an_id_that_is_under_way_is_not_taken_twice() -> None:
    """Two answers of one id would be nobody's."""
    free = threading.Event()

    def answer(asked: Asked) -> Reply:
        free.wait(30)
        return Reply(body=result(asked))

    with bridged(usual(answer)) as (server, bridge):
        for _ in range(2):
            bridge.send({"jsonrpc": "2.0", "id": 5, "method": "ping"})
        assert "under way" in bridge.wait_for(lambda m: "error" in m)["error"]["message"]
        free.set()
        assert bridge.wait_for(lambda m: "result" in m)["id"] == 5
        assert len(server.asked) == 1


# What the server answers


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize("foreign", [None, "other"])
def test_an_error_of_no_call_belongs_to_the_request_that_it_answers(
    status: int, foreign: object
) -> None:
    """A client that waits for its id would wait for ever."""
    error = {"code": -32602, "message": "cannot read it", "data": [1]}
    body = {"jsonrpc": "2.0", "id": foreign, "error": error}
    with bridged(usual(lambda _: Reply(status, body))) as (_, bridge):
        assert bridge.ask("tools/call", 3, **CALL)["error"] == error


def test_an_error_of_no_call_in_a_stream_belongs_to_its_request() -> None:
    """As in a document."""
    body = {"jsonrpc": "2.0", "id": None, "error": {"code": -1, "message": "no"}}
    with bridged(usual(lambda _: iter([event(body)]))) as (_, bridge):
        assert bridge.ask("tools/call", 3, **CALL)["error"]["message"] == "no"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(202),
        Reply(200, b""),
        Reply(200, b"hello"),
        Reply(200, b"[" * 100_000),
        Reply(200, {"jsonrpc": "2.0", "method": "notifications/message"}),
        Reply(204),
        Reply(0),
        Reply(200, {"jsonrpc": "2.0", "id": 3, "result": {"text": "x" * 1000}}, cut=True),
    ],
    ids=["accepted", "empty", "text", "deep", "no answer", "no content", "silence", "cut"],
)
def test_no_call_is_left_without_its_answer(reply: Reply) -> None:
    """Whatever the server does in place of one."""
    with bridged(usual(lambda _: reply)) as (server, bridge):
        said = bridge.ask("tools/call", 3, **CALL)["error"]["message"]
        assert "check before you try again" in said
        ended = "ended its answer without a result" in said
        assert ended != ("broke before its answer came" in said)
        assert ended == (not reply.cut and reply.status != 0)
        assert len(server.posts("tools/call")) == 1


def test_an_answer_over_many_lines_becomes_one() -> None:
    """A client reads lines."""

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        text = json.dumps(result(asked, {"text": "a\nb"}), indent=2)
        if asked.message["method"] == "ping":
            return Reply(body=text.replace("\n", "\r\n").encode())
        return iter([event(text)])

    with bridged(usual(answer)) as (_, bridge):
        assert bridge.ask("ping", 1)["result"]["text"] == "a\nb"
        assert bridge.ask("tools/list", 2)["result"]["text"] == "a\nb"


def test_large_answers_and_half_surrogates_pass() -> None:
    """20 MB in one event, or in one document."""
    text = "x" * 20_000_000 + "\ud800"

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        found = result(asked, {"text": text})
        return Reply(body=found) if asked.message["id"] == 1 else iter([event(found)])

    with bridged(usual(answer)) as (_, bridge):
        assert bridge.ask("ping", 1)["result"]["text"] == text
        assert bridge.ask("ping", 2)["result"]["text"] == text


def test_a_batch_is_passed_on_one_by_one() -> None:
    """A server of 2025-03-26 may answer with one."""
    note = {"jsonrpc": "2.0", "method": "notifications/message", "params": {}}
    with bridged(usual(lambda asked: Reply(body=[note, result(asked)]))) as (_, bridge):
        assert "result" in bridge.ask("ping", 1)
        assert note in bridge.messages


# Once, and again


@pytest.mark.parametrize(
    "reply", [Reply(502), Reply(503), Reply(504), Reply(500), Reply(0), Reply(408)]
)
def test_a_tool_is_called_once(reply: Reply) -> None:
    """It may have been done: nobody but the user may say it again."""
    with bridged(usual(lambda _: reply)) as (server, bridge):
        bridge.begin()
        for method in ("tools/call", "made/up"):
            assert "error" in bridge.ask(method, method, **CALL)
            assert len(server.posts(method)) == 1


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("tools/list", Reply(502)),
        ("tools/list", Reply(0)),
        ("tools/list", Reply(200, {"result": "x" * 99}, cut=True)),
        ("resources/read", Reply(504)),
        ("tools/call", Reply(429)),
        ("tools/call", Reply(503, headers={"retry-after": "0"})),
        ("tools/list", Reply(401)),
        ("tools/call", Reply(401)),
    ],
)
def test_what_was_not_done_or_does_no_harm_is_said_again(method: str, reply: Reply) -> None:
    """Reading, and what the server says that it has not done."""
    first = itertools.chain([reply], itertools.repeat(None))

    def answer(asked: Asked) -> Reply:
        return next(first) or Reply(body=result(asked))

    with bridged(usual(answer)) as (server, bridge):
        bridge.begin()
        assert "result" in bridge.ask(method, 3, **CALL)
        assert len(server.posts(method)) == 2


@pytest.mark.parametrize("method", ["initialize", "subscriptions/listen"])
def test_what_begins_something_is_not_begun_again_after_a_cut(method: str) -> None:
    """The client learns that it lost what came in between."""
    cut = Reply(200, {"jsonrpc": "2.0", "id": 3, "result": {"text": "x" * 1000}}, cut=True)
    with bridged(lambda asked: Reply(405) if asked.method == "GET" else cut) as (server, bridge):
        said = bridge.ask(method, 3)["error"]["message"]
        assert "broke before its answer came" in said
        assert len(server.posts(method)) == 1


def test_a_pause_that_the_server_asks_for_is_obeyed() -> None:
    """One request in place of many, and an answer at once that says how long."""
    pause = Reply(429, {"detail": "slow down"}, {"retry-after": "120"})
    with bridged(usual(lambda _: pause)) as (server, bridge):
        bridge.begin()
        began = time.monotonic()
        assert '429): "slow down"' in bridge.ask("tools/list", 3)["error"]["message"]
        asked = len(server.asked)
        later = bridge.ask("tools/call", 4, **CALL)["error"]["message"]
        assert "asks to wait before the next request. Try again in " in later
        assert later.endswith(("2 min.", "s."))
        assert len(server.asked) == asked
        assert time.monotonic() - began < 3


# Tokens


def test_a_refused_token_gets_another_once() -> None:
    """And no third try."""
    with bridged(usual(lambda _: Reply(401, b"no"))) as (server, bridge):
        bridge.begin()
        message = bridge.ask("tools/call", 3, **CALL)["error"]["message"]
        assert 'refuses a new token of this identity (401): "no"' in message
        assert "--header-name" in message
        tokens = [asked.headers["authorization"] for asked in server.posts("tools/call")]
        assert len(tokens) == len(set(tokens)) == 2


def test_a_401_is_told_in_our_words_whatever_its_body() -> None:
    """The server's own error knows nothing of a header or an identity."""
    error = {"code": -32001, "message": "no session for you"}
    reply = Reply(401, {"jsonrpc": "2.0", "id": 3, "error": error})
    with bridged(usual(lambda _: reply)) as (_, bridge):
        said = bridge.ask("tools/call", 3, **CALL)["error"]["message"]
        assert 'refuses a new token of this identity (401): "no session for you"' in said


class Refused(NoTokens):
    """There is no other token."""

    def after_refusal(self, refused: str) -> str | None:
        del refused
        return None


def test_the_reason_of_a_refusal_is_the_server_s() -> None:
    """As it stands in the challenge, without a token."""
    challenge = 'Bearer error="invalid_token", error_description="eyJhbGciOiJSUzI1NiIsInR5 is old"'
    reply = Reply(401, b"", {"www-authenticate": challenge})
    with bridged(usual(lambda _: reply), tokens=Refused()) as (server, bridge):
        assert '(401): "… is old"' in bridge.ask("tools/call", 3, **CALL)["error"]["message"]
        assert len(server.posts("tools/call")) == 1


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(403, {"detail": "group g is unknown"}), 'identity (403): "group g is unknown"'),
        (Reply(400, {"error": {"message": "bad"}}), '(status 400): "bad"'),
        (
            Reply(500, b"Traceback: \x1b[31mred\x1b[0m\nmore"),
            r'"Traceback: \x1b[31mred\x1b[0m more"',
        ),
        (Reply(404, b"<html><title>Not here</title>"), '"Not here"'),
        (Reply(500, b"Bearer abcdefghijklmnopqrstuvwxyz failed"), '"Bearer … failed"'),
        (Reply(500, b"x" * 100_000), f'"{"x" * 300}"'),
        (Reply(500, b""), "(status 500)."),
        (
            Reply(200, b"<html><title>Sign in</title>", {"content-type": "text/html; charset=x"}),
            '(status 200): "Sign in"',
        ),
        (Reply(302, b"", {"location": "http://elsewhere.example/"}), "redirects to another"),
    ],
)
def test_the_server_s_own_reason_is_passed_on(reply: Reply, said: str) -> None:
    """In one short line that moves no terminal and holds no token."""
    with bridged(usual(lambda _: reply)) as (_, bridge):
        assert said in bridge.ask("tools/call", 3, **CALL)["error"]["message"]


def test_a_token_in_an_error_is_not_passed_on() -> None:
    """Assistants write errors into their logs."""

    def answer(asked: Asked) -> Reply:
        error = {"code": 1, "message": "for " + asked.headers["authorization"]}
        return Reply(body={"jsonrpc": "2.0", "id": asked.message["id"], "error": error})

    with bridged(usual(answer)) as (_, bridge):
        assert "eyJ" not in json.dumps(bridge.ask("tools/call", 3, **CALL))


def test_an_error_stays_json_whatever_is_taken_out_of_it() -> None:
    """What looks like a token can begin within an escape of JSON."""
    odd = "\u00feyJabcdefghijklmnopqrstuvw"

    def answer(asked: Asked) -> Reply:
        error = {
            "code": 1,
            "message": "\u00feyJabcdefghijklmnopqrstuvw",
            "data": ["eyJ" + "x" * 20],
        }
        return Reply(body={"jsonrpc": "2.0", "id": asked.message["id"], "error": error})

    with bridged(usual(answer)) as (_, bridge):
        error = bridge.ask("tools/call", 3, **CALL)["error"]
        assert error == {"code": 1, "message": odd, "data": ["..."]}


@pytest.mark.parametrize("depth", [100, 600, 900])
def test_an_error_that_is_nested_deeply_is_an_answer(depth: int) -> None:
    """By either transport; else a client would wait for ever."""
    nested = json.loads("[" * depth + "]" * depth)
    error = {"code": 1, "message": "no", "data": nested}

    def answer(asked: Asked) -> Reply:
        return Reply(body={"jsonrpc": "2.0", "id": asked.message["id"], "error": error})

    old = OldServer()
    old.error = error
    for each in (usual(answer), old):
        with bridged(each) as (_, bridge):
            bridge.begin()
            assert isinstance(bridge.ask("tools/call", 3, **CALL)["error"]["code"], int)


@pytest.mark.parametrize("location", ["http://[", ""])
def test_a_redirect_to_no_address_is_told(location: str) -> None:
    """It is the server's mistake, and nothing is sent again."""
    with bridged(usual(lambda _: Reply(307, headers={"location": location}))) as (server, bridge):
        said = bridge.ask("tools/call", 2, **CALL)["error"]["message"]
        assert "redirects to another address" in said
        assert len(server.asked) == 1


def test_a_redirect_within_the_server_is_followed_and_no_other() -> None:
    """The token goes nowhere else."""
    stranger = LittleServer(lambda asked: Reply(body=result(asked)))

    def answer(asked: Asked) -> Reply:
        if asked.path == "/mcp/":
            return Reply(body=result(asked))
        inside = asked.message["id"] == 1
        return Reply(307, headers={"location": "/mcp/" if inside else stranger.url})

    with bridged(usual(answer)) as (_, bridge):
        assert "result" in bridge.ask("ping", 1)
        assert "redirects to another address" in bridge.ask("ping", 2)["error"]["message"]
    assert stranger.asked == []
    stranger.close()


# First contact


def test_who_cannot_be_reached_is_told_in_time() -> None:
    """Within three seconds: an assistant waits five or ten."""
    with contextlib.closing(Line(f"http://127.0.0.1:{closed_port()}/mcp")) as bridge:
        began = time.monotonic()
        message = bridge.ask("initialize", 1)["error"]["message"]
        assert "refused the connection. Check host and port of the server's address" in message
        assert time.monotonic() - began < 3


def test_who_does_not_speak_tls_is_told_at_once() -> None:
    """An address of https at a port of http."""
    server = LittleServer(lambda _: Reply(400))
    with contextlib.closing(Line(server.url.replace("http:", "https:"))) as bridge:
        message = bridge.ask("initialize", 1)["error"]["message"]
        assert "Check the server's address: its port does not speak TLS" in message
    server.close()


def test_a_name_that_nobody_knows_is_told() -> None:
    """RFC 2606: no name ends in .invalid."""
    with contextlib.closing(Line("https://mcp.invalid/mcp")) as bridge:
        message = bridge.ask("initialize", 1)["error"]["message"]
        assert "could not be resolved. Check this machine's network and DNS, and the" in message
        assert "the spelling of the server's address" in message


def test_a_proxy_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """And by which setting it came in the way."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{closed_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with contextlib.closing(Line("https://mcp.example/mcp")) as bridge:
        assert "Check HTTPS_PROXY" in bridge.ask("initialize", 1)["error"]["message"]


def test_a_server_that_takes_no_connection_is_told_in_time() -> None:
    """Its queue is full: nothing is refused, and nothing answered."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        with contextlib.closing(Line(f"http://127.0.0.1:{address[1]}/mcp")) as bridge:
            began = time.monotonic()
            assert "in time" in bridge.ask("initialize", 1)["error"]["message"]
            assert time.monotonic() - began < 4
        for each in waiting:
            each.close()


# Sessions


@pytest.mark.parametrize("forgotten", [Reply(404), Reply(400, b"No valid session ID")])
def test_a_session_that_is_lost_is_made_anew(forgotten: Reply) -> None:
    """Nobody notices; what the old one was told is told again, and a tool is called once."""
    names = iter(["one", "two"])
    told: list[tuple[str | None, str]] = []

    def answer(asked: Asked) -> Reply:
        if asked.method != "POST":
            return Reply(405)
        name, method = asked.headers.get("mcp-session-id"), asked.message["method"]
        told.append((name, method))
        if method == "initialize":
            found = result(asked, {"protocolVersion": "2025-06-18"})
            return Reply(body=found, headers={"mcp-session-id": next(names)})
        if name == "one" and method == "tools/call":
            return forgotten
        return Reply(body=result(asked)) if "id" in asked.message else Reply(202)

    with bridged(answer) as (_, bridge):
        bridge.begin()
        bridge.ask("logging/setLevel", 1, level="debug")
        bridge.ask("resources/subscribe", 2, uri="a:b")
        assert "result" in bridge.ask("tools/call", 3, **CALL)
    assert told[4:] == [
        ("one", "tools/call"),
        (None, "initialize"),
        ("two", "notifications/initialized"),
        ("two", "logging/setLevel"),
        ("two", "resources/subscribe"),
        ("two", "tools/call"),
    ]


def test_the_stream_of_a_lost_session_is_left_for_the_new_one_s() -> None:
    """Whatever the server says by itself comes by the stream of the session that lasts."""
    names = iter(["one", "two"])
    free = threading.Event()

    def silence() -> Iterator[bytes]:
        yield event("", id="1")
        free.wait(60)

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        if asked.method == "GET":
            return silence()
        name, method = asked.headers.get("mcp-session-id"), asked.message.get("method")
        if method == "initialize":
            found = result(asked, {"protocolVersion": VERSION})
            return Reply(body=found, headers={"mcp-session-id": next(names)})
        if name == "one" and method == "tools/call":
            return Reply(404)
        return hello(asked) or Reply(body=result(asked))

    with bridged(answer) as (server, bridge):
        bridge.begin()
        until(lambda: any(asked.method == "GET" for asked in server.asked))
        assert "result" in bridge.ask("tools/call", 3, **CALL)
        heard = [("one", None), ("two", None)]
        until(
            lambda: (
                [
                    (asked.headers["mcp-session-id"], asked.headers.get("last-event-id"))
                    for asked in server.asked
                    if asked.method == "GET"
                ]
                == heard
            )
        )
        free.set()


def test_a_session_that_is_lost_at_every_try_is_told() -> None:
    """Three tries; a server must not be asked for ever."""

    def answer(asked: Asked) -> Reply:
        method = asked.message.get("method")
        return Reply(404) if method in {"tools/call", "note"} else hello(asked) or Reply(202)

    with bridged(answer) as (server, bridge):
        bridge.begin()
        assert "broke before" in bridge.ask("tools/call", 3, **CALL)["error"]["message"]
        assert len(server.posts("tools/call")) == 3


def test_a_notice_is_sent_again_in_a_new_session_and_no_third_time(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Nobody waits for an answer, so the log says that it did not get there."""
    said = ""

    def answer(asked: Asked) -> Reply:
        return Reply(404) if asked.message.get("method") == "note" else hello(asked) or Reply(202)

    with bridged(answer) as (server, bridge):
        bridge.begin()
        bridge.send({"jsonrpc": "2.0", "method": "note"})
        bridge.hang_up()
        said += capfd.readouterr().err
        assert "has no MCP server at this path (404)" in said
        assert len(server.posts("note")) == 2


def test_notices_take_one_connection() -> None:
    """Each is free for the next once its notice was taken."""
    ports: list[int] = []
    with bridged(usual(lambda asked: Reply(body=result(asked)))) as (server, bridge):
        bridge.begin()
        bridge.send({"jsonrpc": "2.0", "method": "note"})
        until(lambda: len(server.posts("note")) == 1)
        server.on_connect = ports.append
        for _ in range(3):
            bridge.send({"jsonrpc": "2.0", "method": "note"})
        until(lambda: len(server.posts("note")) == 4)
        assert ports == []


def test_a_call_without_a_session_makes_none() -> None:
    """What the protocol of 2026 is refused with is no lost session, whatever came before."""
    with bridged(usual(lambda _: Reply(404))) as (server, bridge):
        bridge.begin()
        assert "(404)" in bridge.ask_modern("tools/call", 3, **CALL)["error"]["message"]
        assert len(server.posts("initialize")) == 1


@pytest.mark.parametrize("version", ["2024-11-05", None])
def test_a_new_session_that_is_another_one_is_not_taken(version: str | None) -> None:
    """The client agreed on the first one's version: it has to begin again itself."""
    versions = iter(["2025-06-18", version])

    def answer(asked: Asked) -> Reply:
        if asked.method != "POST":
            return Reply(405)
        if asked.message["method"] == "initialize":
            found = result(asked, {"protocolVersion": next(versions)})
            return Reply(body=found, headers={"mcp-session-id": "any"})
        return Reply(404) if "id" in asked.message else Reply(202)

    with bridged(answer) as (server, bridge):
        bridge.begin()
        assert "a new one is not like it" in bridge.ask("tools/call", 3, **CALL)["error"]["message"]
        assert len(server.posts("tools/call")) == 1


def test_messages_keep_their_order_around_the_beginning() -> None:
    """Also of a client that waits for nothing."""
    order: list[str] = []

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        if asked.method == "POST":
            time.sleep(0.1 if len(order) < 2 else 0)
            order.append(asked.message["method"])
        return hello(asked) or Reply(body=result(asked))

    with bridged(answer) as (server, bridge):
        bridge.send({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})
        bridge.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        assert "result" in bridge.ask("tools/list", 1)
        assert order == ["initialize", "notifications/initialized", "tools/list"]
        last = server.posts("tools/list")[0].headers
        assert last["mcp-session-id"] == "s1"
        assert last["mcp-protocol-version"] == "2025-06-18"


def test_a_stream_that_breaks_goes_on_where_it_ended() -> None:
    """The call is not repeated; its rest is asked for."""

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        if asked.method == "GET" and asked.headers.get("last-event-id") == "5":
            return iter([event({"jsonrpc": "2.0", "id": 3, "result": {}}, id="6")])
        if asked.method == "POST" and asked.message.get("method") == "tools/call":
            return iter([event("", id="4"), event("", id="5", retry="10")])
        return hello(asked) or Reply(202)

    with bridged(answer) as (server, bridge):
        bridge.begin()
        assert "result" in bridge.ask("tools/call", 3, **CALL)
        assert len(server.posts("tools/call")) == 1
        (resumed,) = [asked for asked in server.asked if "last-event-id" in asked.headers]
        assert resumed.headers["mcp-session-id"] == "s1"
        assert resumed.headers["mcp-protocol-version"] == VERSION


def test_a_stream_that_is_answered_is_not_asked_for_its_rest() -> None:
    """Its call has all that it waits for."""

    def answer(asked: Asked) -> Iterator[bytes]:
        return iter([event(result(asked), id="1")])

    with bridged(usual(answer)) as (server, bridge):
        bridge.begin()
        assert "result" in bridge.ask("tools/call", 3, **CALL)
        assert "result" in bridge.ask("tools/call", 4, **CALL)
        bridge.hang_up()
        assert not any("last-event-id" in asked.headers for asked in server.asked)


@pytest.mark.parametrize("reply", [Reply(405), Reply(200, {}), Reply(404, b"gone")])
def test_a_server_that_gives_no_rest_is_told(reply: Reply) -> None:
    """Asked once; the call is not repeated, since it may have been done."""

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        if "last-event-id" in asked.headers:
            return reply
        return hello(asked) or iter([event("", id="4", retry="1")])

    with bridged(answer) as (server, bridge):
        bridge.begin()
        said = bridge.ask("tools/call", 3, **CALL)["error"]["message"]
        assert "broke before its answer came" in said
        assert sum("last-event-id" in asked.headers for asked in server.asked) == 1


def test_the_pause_before_a_rest_is_the_stream_s_and_ends_with_the_program() -> None:
    """A program that ends asks for nothing more."""
    pauses: list[float] = []

    def sleep(seconds: float) -> bool:
        pauses.append(seconds)
        return True

    server = LittleServer(lambda _: iter([event("", id="4", retry="70")]))
    channel = Channel(server.url, None)
    remote = Remote(server.url, "Authorization", cast("Tokens", NoTokens()), channel, sleep)
    transport = HttpTransport(remote, lambda _: None)
    call = transport.calls.open({"id": 1, "method": "tools/call"}, b"{}")
    assert call is not None
    transport.ask(call)
    assert (pauses, len(server.asked)) == ([0.07], 1)
    channel.close()
    server.close()


@pytest.mark.parametrize("resumed", [False, True])
def test_a_stream_that_stays_open_after_its_answer_holds_nothing(
    monkeypatch: pytest.MonkeyPatch, *, resumed: bool
) -> None:
    """Its thread and its connection end soon, also where it is the rest of another stream."""
    monkeypatch.setattr(http_transport, "REST_OF_STREAM", 0.05)
    free = threading.Event()

    def open_end(number: int) -> Iterator[bytes]:
        yield event({"jsonrpc": "2.0", "id": number, "result": {}}, id="9")
        free.wait(60)

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        if "last-event-id" in asked.headers:
            return open_end(3)
        if resumed:  # by another connection
            headers = {"content-type": "text/event-stream", "connection": "close"}
            return hello(asked) or Reply(200, event("", id="4", retry="1"), headers)
        return hello(asked) or open_end(3)

    with bridged(answer) as (_, bridge):
        bridge.begin()
        before = set(threading.enumerate())
        assert "result" in bridge.ask("tools/call", 3, **CALL)
        until(lambda: not any("_answer" in t.name for t in {*threading.enumerate()} - before))
        free.set()


def test_what_the_server_says_by_itself_is_heard_again_after_a_break() -> None:
    """From the event on that came last."""
    note = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
    seen: list[str | None] = []

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        if asked.method != "GET":
            return hello(asked) or Reply(202)
        seen.append(asked.headers.get("last-event-id"))
        return iter([event(note, id=str(len(seen)))]) if len(seen) < 3 else Reply(405)

    with bridged(answer) as (_, bridge):
        bridge.begin()
        until(lambda: len(seen) == 3)
        assert seen == [None, "1", "2"]
        assert bridge.messages.count(note) == 2


# The end


def test_a_cancelled_call_is_not_waited_for_at_the_end() -> None:
    """A client that hangs up waits for its child."""
    free = threading.Event()

    def answer(asked: Asked) -> Reply:
        free.wait(30)
        return Reply(body=result(asked))

    with bridged(usual(answer)) as (server, bridge):
        bridge.begin()
        bridge.send({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": CALL})
        until(lambda: len(server.posts("tools/call")) == 1)
        cancel = {"requestId": 4}
        bridge.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})
        assert bridge.hang_up() < 1
        assert len(server.posts("notifications/cancelled")) == 1
        free.set()


# The protocol of 2026


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("get_weather", "get_weather"),
        ("größe", "=?base64?" + base64.b64encode("größe".encode()).decode() + "?="),
        (" padded ", "=?base64?IHBhZGRlZCA=?="),
        ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
        ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
        ("", "=?base64??="),
    ],
)
def test_the_name_of_what_is_asked_for_is_a_header(name: str, header: str) -> None:
    """Encoded where it cannot stand there as it is."""
    with bridged(lambda asked: Reply(body=result(asked))) as (server, bridge):
        bridge.ask_modern("tools/call", 1, name=name)
        found = server.asked[0].headers
        assert found["mcp-name"] == header
        assert found["mcp-method"] == "tools/call"
        assert found["mcp-protocol-version"] == MODERN
        assert found["user-agent"].endswith("(sample/1)")
        assert "mcp-session-id" not in found


def test_a_notice_states_the_version_too() -> None:
    """It has no `_meta` of its own in which a server could find it."""
    with bridged(
        lambda asked: Reply(202) if "id" not in asked.message else Reply(body=result(asked))
    ) as (
        server,
        bridge,
    ):
        bridge.ask_modern("ping", 1)
        bridge.send({"jsonrpc": "2.0", "method": "note"})
        until(lambda: server.posts("note"))
        assert server.posts("note")[0].headers["mcp-protocol-version"] == MODERN


SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "where": {
            "type": "object",
            "properties": {"deep": {"type": "boolean", "x-mcp-header": "Deep"}},
        },
        "plain": {"type": "string", "default": {"x-mcp-header": "data, no schema"}},
    },
}
INVALID: list[dict[str, Any]] = [
    {"properties": {"a": {"type": "string", "x-mcp-header": ""}}},
    {"properties": {"a": {"type": "string", "x-mcp-header": "a\r\nb"}}},
    {"properties": {"a": {"type": "number", "x-mcp-header": "A"}}},
    {"properties": {"a": {"x-mcp-header": "A"}}},
    {"properties": {"a": {"type": "string", "x-mcp-header": 5}}},
    {"properties": {"a": {"anyOf": [{"type": "string", "x-mcp-header": "A"}]}}},
    {"properties": {"a": {"items": {"type": "string", "x-mcp-header": "A"}}}},
    {"$defs": {"a": {"type": "string", "x-mcp-header": "A"}}},
    {"type": "string", "x-mcp-header": "A"},
    {
        "properties": {
            "a": {"type": "string", "x-mcp-header": "A"},
            "b": {"type": "string", "x-mcp-header": "a"},
        }
    },
]


def weather(asked: Asked) -> Reply:
    """A server whose tools want headers, and one of which is as none may be."""
    method = asked.message["method"]
    if method == "tools/list":
        page = asked.message["params"].get("cursor")
        bad = [{"name": f"bad{n}", "inputSchema": schema} for n, schema in enumerate(INVALID)]
        tools = [{"name": "weather", "inputSchema": SCHEMA}] if page else bad
        return Reply(body=result(asked, {"tools": tools} | ({} if page else {"nextCursor": "2"})))
    if method == "tools/call" and "mcp-param-region" not in asked.headers:
        error = {"code": -32020, "message": "Header mismatch"}
        return Reply(400, {"jsonrpc": "2.0", "id": asked.message["id"], "error": error})
    return Reply(body=result(asked))


def test_arguments_that_a_tool_wants_are_headers() -> None:
    """Those of the schema, by their kind; what is missing is left out."""
    with bridged(weather) as (server, bridge):
        assert bridge.ask_modern("tools/list", 1)["result"]["tools"] == []
        assert len(bridge.ask_modern("tools/list", 2, cursor="2")["result"]["tools"]) == 1
        arguments = {"region": "Köln", "count": 42.0, "where": {"deep": True}, "plain": "x"}
        assert "result" in bridge.ask_modern("tools/call", 3, name="weather", arguments=arguments)
        found = server.asked[-1].headers
        assert {n: v for n, v in found.items() if n.startswith("mcp-param-")} == {
            "mcp-param-region": "=?base64?S8O2bG4=?=",
            "mcp-param-count": "42",
            "mcp-param-deep": "true",
        }


def test_a_large_list_of_tools_is_read_as_well() -> None:
    """Large results of other calls are only passed on."""
    tool = {"name": "weather", "inputSchema": SCHEMA, "description": "x" * (LARGE + 1)}

    def answer(asked: Asked) -> Reply:
        listed = asked.message["method"] == "tools/list"
        return Reply(body=result(asked, {"tools": [tool]} if listed else None))

    with bridged(answer) as (server, bridge):
        bridge.ask_modern("tools/list", 1)
        bridge.ask_modern("tools/call", 2, name="weather", arguments={"region": "west"})
        assert server.asked[-1].headers["mcp-param-region"] == "west"


def test_a_large_hello_is_read_as_well() -> None:
    """What follows has the version that it agreed on."""

    def answer(asked: Asked) -> Reply:
        if asked.message.get("method") != "initialize":
            return hello(asked) or Reply(body=result(asked))
        return Reply(body=result(asked, {"protocolVersion": VERSION, "text": "x" * (LARGE + 1)}))

    with bridged(answer) as (server, bridge):
        bridge.begin()
        bridge.ask("ping", 1)
        assert server.posts("ping")[0].headers["mcp-protocol-version"] == VERSION


def test_a_stream_of_2026_that_breaks_is_not_resumed() -> None:
    """That protocol has no way to ask for the rest."""

    def answer(_: Asked) -> Iterator[bytes]:
        return iter([event({"jsonrpc": "2.0", "method": "notifications/progress"}, id="4")])

    with bridged(answer) as (server, bridge):
        said = bridge.ask_modern("tools/call", 3, **CALL)["error"]["message"]
        assert "ended its answer without a result" in said
        assert [asked.method for asked in server.asked] == ["POST"]


def mismatch(asked: Asked) -> Reply:
    """The refusal of a request for its headers."""
    error = {"code": -32020, "message": "Header mismatch"}
    return Reply(400, {"jsonrpc": "2.0", "id": asked.message["id"], "error": error})


def test_only_a_tool_s_headers_can_be_learnt() -> None:
    """Those of a prompt are its name."""
    with bridged(mismatch) as (server, bridge):
        assert bridge.ask_modern("prompts/get", 1, name="p")["error"]["code"] == -32020
        assert [asked.message["method"] for asked in server.asked] == ["prompts/get"]


def test_a_list_of_tools_without_an_end_is_left() -> None:
    """After a hundred pages; the call's own error is its answer."""

    def answer(asked: Asked) -> Reply:
        listed = asked.message["method"] == "tools/list"
        return Reply(body=result(asked, {"nextCursor": "x"})) if listed else mismatch(asked)

    with bridged(answer) as (server, bridge):
        assert bridge.ask_modern("tools/call", 1, **CALL)["error"]["code"] == -32020
        assert len(server.posts("tools/list")) == 100
        assert len(server.posts("tools/call")) == 1


@pytest.mark.parametrize(
    "listed",
    [
        Reply(500, b"down"),
        Reply(200, {"jsonrpc": "2.0", "id": 1, "result": {"tools": ["x" * 999]}}, cut=True),
        Reply(200, {"jsonrpc": "2.0", "id": 1, "result": {"tools": [], "nextCursor": 5}}),
    ],
)
def test_where_nothing_is_learnt_the_call_s_own_error_is_its_answer(listed: Reply) -> None:
    """It is not sent again with the same headers."""

    def answer(asked: Asked) -> Reply:
        return listed if asked.message["method"] == "tools/list" else mismatch(asked)

    with bridged(answer) as (server, bridge):
        assert bridge.ask_modern("tools/call", 1, **CALL)["error"]["code"] == -32020
        assert len(server.posts("tools/call")) == len(server.posts("tools/list")) == 1


def test_tools_that_are_never_told_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that hangs costs the call as long as any other message."""
    monkeypatch.setattr(http_transport, "NOTICE_TIMEOUT", 0.05)
    monkeypatch.setattr("credentials_provider.assistants.bridge.remote.RETRY_TIMEOUT", 0.1)
    free = threading.Event()

    def answer(asked: Asked) -> Reply:
        if asked.message["method"] == "tools/list":
            free.wait(60)
        return mismatch(asked)

    with bridged(answer) as (_, bridge):
        said = bridge.ask_modern("tools/call", 1, **CALL)["error"]["message"]
        assert "did not answer in time" in said
        free.set()


def test_the_tools_are_asked_for_as_the_client_would() -> None:
    """With its name and version; what comes before the answer is passed over."""
    note = {"jsonrpc": "2.0", "method": "notifications/progress"}
    first = itertools.chain([True], itertools.repeat(False))

    def answer(asked: Asked) -> Reply | Iterator[bytes]:
        if asked.message["method"] != "tools/list":
            return mismatch(asked) if next(first) else Reply(body=result(asked))
        tools = [{"name": "weather", "inputSchema": SCHEMA}]
        return iter([event(note), event(result(asked, {"tools": tools}))])

    with bridged(answer) as (server, bridge):
        arguments = {"region": "west"}
        assert "result" in bridge.ask_modern("tools/call", 3, name="weather", arguments=arguments)
        (listed,) = server.posts("tools/list")
        assert listed.message["params"] == {"_meta": meta()}
        assert listed.headers["mcp-method"] == "tools/list"
        assert listed.headers["mcp-protocol-version"] == MODERN
        assert server.asked[-1].headers["mcp-param-region"] == "west"


def test_the_older_protocol_s_tools_are_for_the_client_to_judge() -> None:
    """It has no such headers, so none of them is malformed."""
    tools = [{"name": "bad", "inputSchema": INVALID[0]}]
    with bridged(usual(lambda asked: Reply(body=result(asked, {"tools": tools})))) as (_, bridge):
        bridge.begin()
        assert bridge.ask("tools/list", 1)["result"]["tools"] == tools


def test_headers_that_are_missing_are_learnt_from_the_server() -> None:
    """A bridge that was started anew has not seen the client ask for the tools."""
    with bridged(weather) as (server, bridge):
        arguments = {"region": "west", "count": 2**60}
        assert "result" in bridge.ask_modern("tools/call", 3, name="weather", arguments=arguments)
        assert len(server.posts("tools/call")) == 2
        assert "mcp-param-count" not in server.asked[-1].headers
        refused = bridge.ask_modern("tools/call", 4, name="weather", arguments={})
        assert refused["error"]["code"] == -32020
        assert len(server.posts("tools/call")) == 3


def test_the_end_of_the_connection_cancels_a_call() -> None:
    """There is no word for it, and no answer."""
    began = threading.Event()

    def answer(_: Asked) -> Iterator[bytes]:
        for _number in range(3000):
            yield event({"jsonrpc": "2.0", "method": "notifications/progress"})
            began.set()
            time.sleep(0.01)

    with bridged(answer) as (server, bridge):
        bridge.send(
            {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**CALL, "_meta": meta()}}
        )
        began.wait(30)
        cancel = {"requestId": 1}
        bridge.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": cancel})
        assert server.hung_up.wait(30)
        assert len(server.asked) == 1
        assert not [m for m in bridge.messages if "id" in m]


# The transport of 2024


class OldServer:
    """One stream for answers, an address for messages."""

    def __init__(self, endpoint: str = "/messages?session=1", status: int = 405) -> None:
        self.endpoint = endpoint
        self.status = status
        self.streams: list[Any] = []
        self.break_at = ""
        self.busy: set[str] = set()  # what is refused once
        self.error: object = None

    def __call__(self, asked: Asked) -> Reply | Iterator[bytes]:
        if asked.method == "GET":
            return self._stream()
        if asked.path.startswith("/mcp"):
            return Reply(self.status, b"Method Not Allowed")
        method = asked.message.get("method")
        if method in self.busy:
            self.busy.remove(method)
            return Reply(502)
        if method == self.break_at:
            self.streams[-1].put(None)
            self.break_at = ""
        elif "id" in asked.message:
            content = {"protocolVersion": "2024-11-05"} if method == "initialize" else {}
            answer = result(asked, content)
            if method == "tools/call" and self.error:
                answer = {"jsonrpc": "2.0", "id": asked.message["id"], "error": self.error}
            self.streams[-1].put(event(answer))
        return Reply(202, b"Accepted")

    def _stream(self) -> Iterator[bytes]:
        import queue

        mine: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.streams.append(mine)
        yield event(self.endpoint, event="endpoint")
        yield from iter(mine.get, None)


def test_a_server_of_the_older_transport_is_reached() -> None:
    """Its answers come by its stream; a stream that breaks is opened again."""
    old = OldServer()
    with bridged(old) as (server, bridge):
        bridge.begin()
        assert "result" in bridge.ask("tools/list", 1)
        assert server.asked[-1].path == "/messages?session=1"
        old.break_at = "tools/call"
        assert "check before you try again" in bridge.ask("tools/call", 2)["error"]["message"]
        assert "result" in bridge.ask("tools/call", 3)
        assert len(server.posts("tools/call")) == 2
        assert len(server.posts("initialize")) == 3  # the first one at /mcp
        assert [m["id"] for m in bridge.messages] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("method", "again"),
    [("initialize", True), ("note", True), ("tools/list", True), ("tools/call", False)],
)
def test_the_older_transport_too_repeats_only_what_does_no_harm(
    method: str, *, again: bool
) -> None:
    """A server that is busy for a moment."""
    old = OldServer()
    old.busy = {method}
    with bridged(old) as (server, bridge):
        bridge.begin()
        if method == "note":
            bridge.send({"jsonrpc": "2.0", "method": method})
        elif method != "initialize":
            assert ("result" in bridge.ask(method, 1)) == again
        until(lambda: len([a for a in server.posts(method) if a.path != "/mcp"]) == 1 + again)


@pytest.mark.parametrize("endpoint", ["https://elsewhere.example/x", "http://127.0.0.1:1/x", "//["])
def test_the_older_transport_leads_to_no_other_server(endpoint: str) -> None:
    """It would get the token."""
    with bridged(OldServer(endpoint)) as (_, bridge):
        message = bridge.ask("initialize", 1)["error"]["message"]
        assert "has no MCP server at this path (405)" in message


@pytest.mark.parametrize("status", [400, 404])
def test_a_server_of_the_older_transport_may_refuse_the_newer_in_other_words(status: int) -> None:
    """By one of the answers that the specification names."""
    with bridged(OldServer(status=status)) as (_, bridge):
        bridge.begin()
        assert "result" in bridge.ask("tools/list", 1)


@pytest.mark.parametrize(
    ("method", "status", "version"),
    [
        ("initialize", 500, None),
        ("tools/call", 405, None),
        ("server/discover", 400, MODERN),
        ("tools/call", 405, MODERN),
    ],
)
def test_the_older_transport_is_looked_for_at_the_beginning_alone(
    method: str, status: int, version: str | None
) -> None:
    """Any other refusal is the server's answer."""
    with bridged(OldServer(status=status)) as (server, bridge):
        found = bridge.ask(method, 1, **({"_meta": meta()} if version else {}))
        assert f"{status})" in found["error"]["message"]
        assert not [asked for asked in server.asked if asked.method == "GET"]
