"""Which of their arguments a server's tools want as headers, by its own lists of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from credentials_provider.assistants.bridge.headers import (
    Annotations,
    InvalidAnnotationError,
    annotations_of,
)
from credentials_provider.assistants.bridge.messages import redacted, result_of
from credentials_provider.assistants.bridge.trouble import log

if TYPE_CHECKING:
    from credentials_provider.assistants.bridge.messages import Message


class Tools:
    """What was learnt from the answers to `tools/list`."""

    def __init__(self) -> None:
        self.wanted: dict[str, Annotations] = {}

    def learn(self, answer: Message) -> Message | None:
        """Remember it; an answer without the tools that no client may offer, where there are such.

        The protocol wants those left out, so that one malformed tool does not cost the others.
        """
        result = result_of(answer)
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
            self.wanted[tool["name"]] = annotations_of(tool.get("inputSchema"))
        except InvalidAnnotationError as error:
            log(f"the tool {redacted(tool['name'])[:80]!r} is left out: {redacted(str(error))}")
            return False
        return True
