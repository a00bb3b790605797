"""What the official conformance suite tests: a server with all that it asks for, and a way to it.

The suite speaks HTTP, the bridge standard input and output: `Front` is HTTP before a bridge, so
that the suite sees the same server with the bridge on the way.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
from typing import TYPE_CHECKING, Any

from assistants.piping import Asked, Reply, event
from support import PATIENCE, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SOUND = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
VERSION = "2025-11-25"


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _resource(uri: str, **content: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": "text/plain", **content}}


IMAGE = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
CONTENT: dict[str, list[dict[str, Any]]] = {
    "test_simple_text": [_text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [{"type": "audio", "data": SOUND, "mimeType": "audio/wav"}],
    "test_embedded_resource": [_resource("test://embedded-resource", text="embedded")],
    "test_multiple_content_types": [
        _text("Multiple content types test:"),
        IMAGE,
        _resource("test://mixed-content-resource", text='{"test": 1}'),
    ],
    "test_tool_with_logging": [_text("logged")],
    "test_tool_with_progress": [_text("done")],
    "test_sampling": [_text("LLM response")],
    "test_elicitation": [_text("User response")],
    "test_elicitation_sep1034_defaults": [_text("Elicitation completed")],
    "test_elicitation_sep1330_enums": [_text("Elicitation completed")],
}
_TITLED = [{"const": f"value{n}", "title": f"Option {n}"} for n in (1, 2, 3)]
_PLAIN = ["option1", "option2", "option3"]
SCHEMAS: dict[str, dict[str, Any]] = {
    "test_elicitation": {"response": {"type": "string", "description": "User's response"}},
    "test_elicitation_sep1034_defaults": {
        "name": {"type": "string", "default": "John Doe"},
        "age": {"type": "integer", "default": 30},
        "score": {"type": "number", "default": 95.5},
        "status": {
            "type": "string",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": {"type": "boolean", "default": True},
    },
    "test_elicitation_sep1330_enums": {
        "untitledSingle": {"type": "string", "enum": _PLAIN},
        "titledSingle": {"type": "string", "oneOf": _TITLED},
        "legacyEnum": {
            "type": "string",
            "enum": _PLAIN,
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _PLAIN}},
        "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
    },
}
JSON_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {"address": {"type": "object", "properties": {"street": {"type": "string"}}}},
    "properties": {"name": {"type": "string"}, "address": {"$ref": "#/$defs/address"}},
    "additionalProperties": False,
}


class Everything:
    """The server, for `LittleServer`."""

    def __init__(self) -> None:
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def __call__(self, asked: Asked) -> Reply | Iterator[bytes]:
        if asked.method != "POST":
            return Reply(405 if asked.method == "GET" else 200)
        message = asked.message
        if "method" not in message:
            self._answers.put(message)
            return Reply(202)
        if "id" not in message:
            return Reply(202)
        if message["method"] == "initialize":
            return Reply(
                body=_answer(message, _HELLO), headers={"mcp-session-id": "session-of-the-suite"}
            )
        if message["method"] == "tools/call":
            return self._call(message)
        answer = _PLAIN_ANSWERS.get(message["method"])
        found = answer(message.get("params") or {}) if answer else None
        return Reply(body=_answer(message, found))

    def _call(self, message: dict[str, Any]) -> Iterator[bytes]:
        params = message["params"]
        name = params["name"]
        if name == "test_tool_with_logging":
            for text in ("started", "processing", "completed"):
                note = {"level": "info", "data": f"Tool execution {text}"}
                yield _note("notifications/message", note)
        if name == "test_tool_with_progress":
            token = (params.get("_meta") or {}).get("progressToken")
            for done in (0, 50, 100):
                progress = {"progressToken": token, "progress": done, "total": 100}
                yield _note("notifications/progress", progress)
        if name == "test_sampling":
            asked = {"role": "user", "content": _text(params["arguments"]["prompt"])}
            yield from self._ask("sampling/createMessage", {"messages": [asked], "maxTokens": 100})
        if name in SCHEMAS:
            schema = {"type": "object", "properties": SCHEMAS[name], "required": []}
            text = (params.get("arguments") or {}).get("message") or "Please answer"
            yield from self._ask("elicitation/create", {"message": text, "requestedSchema": schema})
        found: dict[str, Any] = {"content": CONTENT.get(name, [_text("intended error")])}
        if name not in CONTENT:
            found["isError"] = True
        yield event(_answer(message, found))

    def _ask(self, method: str, params: object) -> Iterator[bytes]:
        yield event(
            {"jsonrpc": "2.0", "id": f"server-{method}", "method": method, "params": params}
        )
        self._answers.get(timeout=PATIENCE)


def _answer(message: dict[str, Any], found: object) -> dict[str, Any]:
    head = {"jsonrpc": "2.0", "id": message["id"]}
    if found is None:
        return {**head, "error": {"code": -32601, "message": "no such method"}}
    return {**head, "result": found}


def _note(method: str, params: object) -> bytes:
    return event({"jsonrpc": "2.0", "method": method, "params": params})


_HELLO = {
    "protocolVersion": VERSION,
    "serverInfo": {"name": "everything", "version": "1"},
    "capabilities": {
        "tools": {"listChanged": True},
        "resources": {"subscribe": True, "listChanged": True},
        "prompts": {"listChanged": True},
        "logging": {},
        "completions": {},
    },
}


def _tools() -> list[dict[str, Any]]:
    names = [*CONTENT, "test_error_handling"]
    schema = {"type": "object", "properties": {}}
    plain = [{"name": each, "description": each, "inputSchema": schema} for each in names]
    odd = {"name": "json_schema_2020_12_tool", "description": "odd", "inputSchema": JSON_SCHEMA}
    return [*plain, odd]


def _read(params: dict[str, Any]) -> dict[str, Any]:
    uri = params["uri"]
    content: dict[str, Any] = {"uri": uri, "mimeType": "text/plain", "text": "static text"}
    if uri.endswith("binary"):
        content = {"uri": uri, "mimeType": "image/png", "blob": PIXEL}
    elif "template" in uri:
        number = uri.split("/")[3]
        text = json.dumps({"id": number, "templateTest": True, "data": f"Data for ID: {number}"})
        content |= {"mimeType": "application/json", "text": text}
    return {"contents": [content]}


def _prompt(params: dict[str, Any]) -> dict[str, Any]:
    given = params.get("arguments") or {}
    content: dict[str, Any] = _text(f"Prompt with {given.get('arg1')} and {given.get('arg2')}")
    if params["name"].endswith("image"):
        content = IMAGE
    elif params["name"].endswith("resource"):
        uri = given.get("resourceUri", "test://example-resource")
        content = _resource(uri, text="embedded")
    elif params["name"] == "test_simple_prompt":
        content = _text("This is a simple prompt for testing.")
    messages = [{"role": "user", "content": content}]
    return {"messages": [*messages, {"role": "user", "content": _text("Please process it.")}]}


def _prompts() -> list[dict[str, Any]]:
    first, second = ({"name": f"arg{n}", "required": True} for n in (1, 2))
    return [
        {"name": "test_simple_prompt", "description": "simple"},
        {"name": "test_prompt_with_arguments", "description": "x", "arguments": [first, second]},
        {
            "name": "test_prompt_with_embedded_resource",
            "description": "x",
            "arguments": [{"name": "resourceUri", "required": True}],
        },
        {"name": "test_prompt_with_image", "description": "x"},
    ]


def _resources(_: dict[str, Any]) -> dict[str, Any]:
    names = ("static-text", "static-binary", "watched-resource")
    return {"resources": [{"uri": f"test://{n}", "name": n, "description": n} for n in names]}


_PLAIN_ANSWERS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "ping": lambda _: {},
    "tools/list": lambda _: {"tools": _tools()},
    "resources/list": _resources,
    "resources/templates/list": lambda _: {
        "resourceTemplates": [{"uriTemplate": "test://template/{id}/data", "name": "t"}]
    },
    "resources/read": _read,
    "resources/subscribe": lambda _: {},
    "resources/unsubscribe": lambda _: {},
    "prompts/list": lambda _: {"prompts": _prompts()},
    "prompts/get": _prompt,
    "logging/setLevel": lambda _: {},
    "completion/complete": lambda _: {
        "completion": {"values": ["one", "two"], "total": 2, "hasMore": False}
    },
}


class Front:
    """HTTP before a bridge: each `initialize` starts one. For `LittleServer`."""

    def __init__(self, line: Sequence[str], folder: str) -> None:
        self._line = line
        self._folder = folder
        self._bridges: dict[str, _Bridge] = {}

    def __call__(self, asked: Asked) -> Reply | Iterator[bytes]:
        if asked.method == "GET":
            return Reply(405)
        message = asked.message if asked.method == "POST" else {}
        if message.get("method") == "initialize":
            name = f"session-{len(self._bridges)}"
            self._bridges[name] = _Bridge(self._line, self._folder)
            (*_, answer) = self._bridges[name].ask(message)
            return Reply(body=answer, headers={"mcp-session-id": name})
        bridge = self._bridges.get(asked.headers.get("mcp-session-id", ""))
        if bridge is None:
            return Reply(404)
        if asked.method == "DELETE":
            bridge.close()
            return Reply(200)
        if "method" in message and "id" in message:
            return (event(each) for each in bridge.ask(message))
        bridge.send(message)
        return Reply(202)

    def close(self) -> None:
        for each in self._bridges.values():
            each.close()


class _Bridge:
    """A bridge's process. The suite makes one call after the other: what comes belongs to it."""

    def __init__(self, line: Sequence[str], folder: str) -> None:
        self._process = subprocess.Popen(
            list(line),
            env=environment(folder),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for each in self._process.stdout:
            self._messages.put(json.loads(each))

    def send(self, message: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, message: dict[str, Any]) -> Iterator[Any]:
        """All that comes until the answer, and it."""
        self.send(message)
        while True:
            found = self._messages.get(timeout=PATIENCE)
            yield found
            if found.get("id") == message["id"] and "method" not in found:
                return

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()
            self._process.wait(PATIENCE)
            self._reader.join(PATIENCE)
            self._process.stdout.close()
