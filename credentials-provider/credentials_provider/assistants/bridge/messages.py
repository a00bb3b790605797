"""JSON-RPC messages as lines: read as far as the transport needs, and passed on as they are.

https://www.jsonrpc.org/specification
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from credentials_provider.errors import printable

Message = dict[str, Any]

PARSE_ERROR, INVALID_REQUEST, NO_SUCH_METHOD, SERVER_ERROR = -32700, -32600, -32601, -32000
HEADER_MISMATCH = -32020  # basic, "Error Codes" of 2026-07-28
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CLIENT_KEY = "io.modelcontextprotocol/clientInfo"

# How every token of Entra begins: one that a server sends back must not get into a client's log.
_TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{16}[A-Za-z0-9._~+/=-]*|(?<=Bearer )[A-Za-z0-9._~+/=-]{16,}")
LARGE = 1 << 18  # bytes
_ID_VALUE = rb'-?[0-9]{1,18}|"(?:[^"\\\x00-\x1f]|\\.){0,200}"'
_RESULT = re.compile(
    rb'\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*(%s)\s*,\s*"result"\s*:' % _ID_VALUE
)
_ID = re.compile(rb'"id"\s*:\s*(%s)' % _ID_VALUE)


@dataclass(frozen=True, slots=True)
class Invalid:
    """A line that is not a message: the error that answers it."""

    code: int
    message: str
    id: Any = None

    def line(self) -> bytes:
        return error_line(self.id, {"code": self.code, "message": self.message})


def parse_line(line: bytes) -> Message | Invalid:
    """What a client wrote: a request, a notification or a response; or why it is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        known = set(_ID.findall(line))
        message = "this line is not JSON; each message is one line of UTF-8"
        return Invalid(PARSE_ERROR, message, parse(known.pop()) if len(known) == 1 else None)
    if not isinstance(found, dict):
        kind = "a batch of messages" if isinstance(found, list) else "a single value"
        return Invalid(
            INVALID_REQUEST, f"{kind} is not a message; each is one JSON object on a line"
        )
    asked, method = found.get("id"), found.get("method")
    if isinstance(asked, bool) or not isinstance(asked, (str, int, float, type(None))):
        return Invalid(INVALID_REQUEST, "an id is a string or a number")
    if "method" not in found:
        if is_response(found) and asked is not None:
            return found
        return Invalid(INVALID_REQUEST, "a message has a method, a result or an error", asked)
    if isinstance(method, str) and (asked is not None or "id" not in found):
        return found
    return Invalid(INVALID_REQUEST, "a request has a method and an id", asked)


def parse(content: bytes | bytearray | str) -> Any:
    """A JSON value; None where there is none."""
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError):
        return None


def skimmed(content: bytes | bytearray, expected: Any) -> Message | None:
    """A large result of this id that says so at its beginning; None where it may be anything else.

    To read all of it takes longer than to pass it on.
    """
    if expected is None or len(content) < LARGE or not content.endswith(b"}"):
        return None
    found = _RESULT.match(content)
    known = found is not None and key_of(parse(found[1])) == key_of(expected)
    return {"id": expected, "result": None} if known else None


def is_response(message: Message) -> bool:
    """Whether it answers a request, with a result or an error."""
    return "method" not in message and ("result" in message or "error" in message)


def error_in(body: bytes) -> dict[str, Any]:
    """The error object of a JSON-RPC response; empty where a body is none."""
    error = object_at({"body": parse(body)}, "body", "error")
    return error if "code" in error else {}


def key_of(message_id: Any) -> str:
    """An id as a key: 1 and "1" are two."""
    return json.dumps(message_id)


def stated_version(message: Message) -> str | None:
    """The protocol version that a message itself names, from 2026-07-28 on."""
    version = object_at(message, "params", "_meta").get(VERSION_KEY)
    return version if isinstance(version, str) and "method" in message else None


def object_at(message: Message, *keys: str) -> dict[str, Any]:
    """The object to which these keys lead, one within the other; empty where there is none."""
    for key in keys:
        found = message.get(key)
        message = found if isinstance(found, dict) else {}
    return message


def line_of(content: bytes | bytearray) -> bytes | bytearray:
    """A message as one line: outside of strings a line end is white space, and in them is none."""
    if b"\r" in content or b"\n" in content:
        content = content.replace(b"\r", b" ").replace(b"\n", b" ").strip()
    return content


def dumped(message: Any) -> bytes:
    """In ASCII, so that even half a surrogate pair passes as it came."""
    return json.dumps(message, separators=(",", ":")).encode()


def error_line(message_id: Any, error: object) -> bytes:
    """An error as the answer to a request."""
    return dumped({"jsonrpc": "2.0", "id": message_id, "error": error})


def redacted(text: str) -> str:
    """A text of a server without tokens, and unable to move a terminal."""
    return printable(_TOKEN.sub("…", text))


def redacted_error(error: Any) -> Any:
    """A server's error object without tokens; another one where it is nested too deeply."""
    try:
        return _without_tokens(error)
    except RecursionError:
        return {"code": SERVER_ERROR, "message": "the server's error is nested too deeply"}


def _without_tokens(value: Any) -> Any:
    if isinstance(value, str):
        return _TOKEN.sub("...", value)
    if isinstance(value, list):
        return [_without_tokens(each) for each in value]
    if isinstance(value, dict):
        return {_without_tokens(key): _without_tokens(each) for key, each in value.items()}
    return value


def reason_in(body: bytes) -> str:
    """What a server says about a failure, in one short line; empty where it says nothing."""
    found = parse(body)
    for _ in range(3):
        if isinstance(found, dict):
            keys = ("error_description", "message", "detail", "title", "error", "msg", "reason")
            found = next((found[key] for key in keys if found.get(key)), None)
        elif isinstance(found, list):
            found = found[0] if found else None
    if isinstance(found, str):
        text = found
    else:
        text = "" if found is not None else body.decode(errors="replace")
        if "<" in text[:200]:  # a web page
            title = re.search(r"<title>\s*([^<]{1,200})", text, re.IGNORECASE)
            text = title[1] if title else ""
    return redacted(" ".join(text.split()))[:300]
