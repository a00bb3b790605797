"""A transport without a network, where what is sent and what is made of answers matters alone."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, cast

import jwt

from credentials_provider.transport.connections import Answer, Trouble
from credentials_provider.transport.retrying import Reply, Transport

if TYPE_CHECKING:
    from credentials_provider.transport.connections import HttpRequest

SKEW = 7.0  # seconds, of each answer


class Scripted:
    """Answers as it is told, status and body, and keeps what it was asked."""

    def __init__(
        self, *answers: tuple[int, object] | Trouble, headers: dict[str, str] | None = None
    ) -> None:
        self._answers = list(answers)
        self._headers = headers or {}
        self.requests: list[HttpRequest] = []

    def send(self, request: HttpRequest, **_: Any) -> Reply:
        self.requests.append(request)
        said = self._answers.pop(0)
        if isinstance(said, Trouble):
            return Reply(said, 1)
        status, body = said
        text = body if isinstance(body, str) else json.dumps(body)
        return Reply(Answer(status, self._headers, text.encode(), time.time() + SKEW, SKEW), 1)

    @property
    def transport(self) -> Transport:
        """It, for those who ask for the real one."""
        return cast("Transport", self)


def access_token(**claims: object) -> str:
    """One for an hour, of these claims."""
    return jwt.encode({"exp": int(time.time()) + 3600, **claims}, "k" * 32)
