"""The headers that a client of the protocol of 2026-07-28 derives from a message's body.

https://modelcontextprotocol.io/specification/2026-07-28/basic/transports/streamable-http#request-metadata
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from credentials_provider.assistants.bridge.messages import object_at, redacted, stated_version
from credentials_provider.assistants.bridge.trouble import log

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.assistants.bridge.messages import Message

VERSION = "mcp-protocol-version"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_ANNOTATION = "x-mcp-header"
_PRIMITIVES = frozenset({"string", "integer", "boolean"})
_SAFEST_INTEGER = 2**53 - 1
_PLAIN = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_ENCODED = re.compile(r"=\?base64\?.*\?=")
_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
# Keywords whose value is not a schema: it holds schemas by name, or is data.
_MAPS = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})
_DATA = frozenset({"const", "enum", "default", "examples", "required", "properties", "type"})

Path = tuple[str, ...]
Annotations = dict[Path, str]
"""Where in a tool's arguments a value stands, and the name of its header after `Mcp-Param-`."""


class InvalidAnnotationError(ValueError):
    """A tool's schema names a header where the protocol allows none."""


class Tools:
    """Which of their arguments a server's tools want as headers, by its answers to `tools/list`."""

    def __init__(self) -> None:
        self._wanted: dict[str, Annotations] = {}

    def headers(self, message: Message) -> dict[str, str]:
        """The headers of a request that states its protocol version; none of another message."""
        version = stated_version(message)
        if version is None:
            return {}
        method, params = str(message["method"]), object_at(message, "params")
        found = {VERSION: version, "mcp-method": method}
        name = params.get(_NAMED.get(method, ""))
        if isinstance(name, str):
            found["mcp-name"] = encoded(name)
            if method == "tools/call":
                found |= _parameters(self._wanted.get(name, {}), params.get("arguments"))
        return found

    def learn(self, answer: Message) -> Message | None:
        """Remember it; an answer without the tools that no client may offer, where there are such.

        The protocol wants those left out, so that one malformed tool does not cost the others.
        """
        result = object_at(answer, "result")
        tools = result.get("tools")
        if not isinstance(tools, list):
            return None
        valid = [tool for tool in tools if self._is_valid(tool)]
        if len(valid) == len(tools):
            return None
        return {**answer, "result": {**result, "tools": valid}}

    def _is_valid(self, tool: Any) -> bool:
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            return True  # for the client to judge
        try:
            self._wanted[tool["name"]] = annotations_of(tool.get("inputSchema"))
        except InvalidAnnotationError as error:
            log(f"the tool {redacted(tool['name'])[:80]!r} is left out: {redacted(str(error))}")
            return False
        return True


def encoded(value: str) -> str:
    """A text as a header's value: as it is where that can be, else in base64 between marks."""
    if _PLAIN.fullmatch(value) and not _ENCODED.fullmatch(value):
        return value
    content = value.encode("utf-8", "surrogatepass")
    return f"=?base64?{base64.b64encode(content).decode()}?="


def _parameters(annotations: Annotations, arguments: Any) -> dict[str, str]:
    found = {}
    for path, name in annotations.items():
        value = arguments
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and abs(value) <= _SAFEST_INTEGER:
            value = str(value)
        if isinstance(value, str):
            found[f"mcp-param-{name.lower()}"] = encoded(value)
    return found


def annotations_of(schema: Any) -> Annotations:
    """The headers that a tool's `inputSchema` asks for.

    Raises:
        InvalidAnnotationError: one is where, or what, it may not be.

    """
    found: Annotations = {}
    for path, part in _positions(schema):
        if _ANNOTATION not in part:
            continue
        name = part[_ANNOTATION]
        if not path:
            raise InvalidAnnotationError(f"{_ANNOTATION} stands where no argument is")
        if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
            raise InvalidAnnotationError(f"{_ANNOTATION} of {path[-1]!r} is not a header's name")
        if part.get("type") not in _PRIMITIVES:
            raise InvalidAnnotationError(f"{_ANNOTATION} of {path[-1]!r} is on no simple type")
        if name.lower() in map(str.lower, found.values()):
            raise InvalidAnnotationError(f"{_ANNOTATION} names {name!r} twice")
        found[path] = name
    return found


def _positions(schema: Any) -> Iterator[tuple[Path | None, dict[str, Any]]]:
    """Every part of a schema that could be annotated, with its path in the arguments.

    None instead of the path: more than `properties` leads there. What a schema quotes (`const`,
    `enum`, `default`, `examples`) is data and no part of it.
    """
    stack: list[tuple[Path | None, Any]] = [((), schema)]
    while stack:
        path, part = stack.pop()
        if isinstance(part, list):
            stack.extend((None, each) for each in part)
        if not isinstance(part, dict):
            continue
        yield path, part
        for key, value in part.items():
            if key == "properties" and isinstance(value, dict):
                for name, each in value.items():
                    stack.append((None if path is None else (*path, name), each))
            elif key in _MAPS and isinstance(value, dict):
                stack.extend((None, each) for each in value.values())
            elif key not in _DATA and isinstance(value, (dict, list)):
                stack.append((None, value))
