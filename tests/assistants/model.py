"""A model that calls a tool: what an assistant's own program needs to work for a while.

It speaks four providers' streaming APIs as far as the programs need it. As long as there are
results to come it calls the tool whose name ends in `add`, then it says that it is done.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DONE = "all is done"
_SEARCH = "tool_search"
_JSON = "application/json"


class Model:
    """`calls` calls of the tool; `before` is told the number of each, from 0, before it is made."""

    def __init__(self, calls: int, before: Callable[[int], None]) -> None:
        self.calls = calls
        self.before = before
        self.results: list[str] = []
        self.unknown: list[str] = []
        self._told: set[int] = set()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
                for end, speak in _SPEAKERS.items():
                    if self.path.partition("?")[0].endswith(end):
                        content = b"".join(speak(outer, body))
                        events = content.startswith((b"data:", b"event:"))
                        self._send(content, "text/event-stream" if events else _JSON)
                        return
                outer.unknown.append(self.path)
                self._send(b"{}", _JSON)

            def do_GET(self) -> None:
                self._send(b'{"data": []}', _JSON)

            do_HEAD = do_GET  # noqa: N815

            def _send(self, content: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def decide(self, tools: list[str], results: list[str]) -> tuple[str, dict[str, int]] | None:
        """The next call, by the results in the conversation; None: there is none."""
        name = next((each for each in tools if each.endswith("add")), None)
        if name is None:
            return None
        with self._lock:
            self.results = max(self.results, results, key=len)
            number = len(results)
            if number >= self.calls:
                return None
            if number not in self._told:
                self._told.add(number)
                self.before(number)
        return name, {"a": number, "b": 1}


def _event(data: dict[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def _anthropic(model: Model, body: dict[str, Any]) -> Iterator[bytes]:
    found = [
        json.dumps(part.get("content"))
        for message in body.get("messages", [])
        if isinstance(message["content"], list)
        for part in message["content"]
        if part.get("type") == "tool_result"
    ]
    call = model.decide([each["name"] for each in body.get("tools") or []], found)
    usage = {"input_tokens": 1, "output_tokens": 1}
    start = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m"}
    message = {**start, "stop_reason": None, "stop_sequence": None, "usage": usage}
    block: dict[str, Any] = {"type": "text", "text": ""}
    delta = {"type": "text_delta", "text": DONE}
    if call is not None:
        block = {"type": "tool_use", "id": f"t{len(found)}", "name": call[0], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
    reason = {"stop_reason": "end_turn" if call is None else "tool_use", "stop_sequence": None}
    for kind, more in (
        ("message_start", {"message": message}),
        ("content_block_start", {"index": 0, "content_block": block}),
        ("content_block_delta", {"index": 0, "delta": delta}),
        ("content_block_stop", {"index": 0}),
        ("message_delta", {"delta": reason, "usage": usage}),
        ("message_stop", {}),
    ):
        yield _event({"type": kind, **more}, kind)


def _chat(model: Model, body: dict[str, Any]) -> Iterator[bytes]:
    answers = [each for each in body["messages"] if each["role"] == "tool"]
    found = [str(each["content"]) for each in answers if each["tool_call_id"] != _SEARCH]
    names = [each["function"]["name"] for each in body.get("tools") or []]
    call: tuple[str, dict[str, Any]] | None = model.decide(names, found)
    number = f"t{len(found)}"
    if call is None and not answers and _SEARCH in names:  # it shows its tools on request
        call, number = (_SEARCH, {"query": "select:mcp__gw__add"}), _SEARCH
    delta: dict[str, Any] = {"role": "assistant", "content": DONE}
    if call is not None:
        function = {"name": call[0], "arguments": json.dumps(call[1])}
        made = {"index": 0, "id": number, "type": "function", "function": function}
        delta = {"role": "assistant", "content": None, "tool_calls": [made]}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    end = "stop" if call is None else "tool_calls"
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    yield _event({**chunk, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    last = {"index": 0, "delta": {}, "finish_reason": end}
    yield _event({**chunk, "choices": [last], "usage": usage})
    yield b"data: [DONE]\n\n"


def _responses(model: Model, body: dict[str, Any]) -> Iterator[bytes]:
    found = [
        json.dumps(each["output"])
        for each in body.get("input", [])
        if each.get("type") == "function_call_output"
    ]
    names: list[str] = []
    spaces: dict[str, str] = {}
    for tool in body.get("tools") or []:
        inner = tool.get("tools") if tool.get("type") == "namespace" else None
        for each in inner or [tool]:
            if "name" in each:
                names.append(each["name"])
                if inner:
                    spaces[each["name"]] = tool["name"]
    call = model.decide(names, found)
    item: dict[str, Any] = {
        "type": "message",
        "id": "m",
        "role": "assistant",
        "content": [{"type": "output_text", "text": DONE}],
    }
    if call is not None:
        number = f"t{len(found)}"
        item = {"type": "function_call", "id": number, "call_id": number, "name": call[0]}
        item["arguments"] = json.dumps(call[1])
        if call[0] in spaces:
            item["namespace"] = spaces[call[0]]
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    for kind, more in (
        ("response.created", {"response": {"id": "r"}}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": {"id": "r", "usage": usage, "output": [item]}}),
    ):
        yield _event({"type": kind, **more}, kind)


def _gemini(model: Model, body: dict[str, Any]) -> Iterator[bytes]:
    parts = [part for content in body["contents"] for part in content.get("parts") or []]
    found = [json.dumps(part["functionResponse"]) for part in parts if "functionResponse" in part]
    names = [
        each["name"]
        for tool in body.get("tools") or []
        for each in tool.get("functionDeclarations") or []
    ]
    call = model.decide(names, found)
    part: dict[str, Any] = {"text": DONE}
    if call is not None:
        part = {"functionCall": {"name": call[0], "args": call[1]}}
    content = {"role": "model", "parts": [part]}
    candidate = {"content": content, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
    yield _event({"candidates": [candidate], "usageMetadata": usage})


def _gemini_aside(model: Model, body: dict[str, Any]) -> Iterator[bytes]:
    del model, body
    content = {"role": "model", "parts": [{"text": "{}"}]}
    yield json.dumps({"candidates": [{"content": content, "finishReason": "STOP"}]}).encode()


_SPEAKERS = {
    "/messages": _anthropic,
    "/chat/completions": _chat,
    "/responses": _responses,
    ":streamGenerateContent": _gemini,
    ":generateContent": _gemini_aside,
}
