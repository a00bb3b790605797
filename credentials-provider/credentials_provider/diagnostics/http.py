"""Gets a document over HTTPS, without retries: every answer is a finding."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from credentials_provider.entra import answers
from credentials_provider.transport.connections import HttpRequest, Trouble
from credentials_provider.transport.retrying import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credentials_provider.minting import Failure
    from credentials_provider.transport.connections import Answer

TIMEOUT = 15.0  # seconds for one request
HTTP_OK = 200


class HttpClient:
    """Gets documents until `deadline`, a `time.monotonic()`; close it after use."""

    def __init__(self, ca_bundle: str | None, deadline: float) -> None:
        self._transport = Transport(
            timeout=TIMEOUT,
            max_attempts=1,
            deadline=min(deadline, time.monotonic() + 2 * TIMEOUT),
            connections=1,
            ca_bundle=ca_bundle,
        )

    def close(self) -> None:
        self._transport.close()

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Answer | Failure:
        """An answer of any status, or why there is none."""
        wanted = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
        result = self._transport.send(HttpRequest("GET", url, wanted)).result
        if isinstance(result, Trouble):
            return result.answer or answers.explain(result, urlsplit(url).netloc)
        return result


def json_object(answer: Answer) -> dict[str, Any]:
    """The JSON object of a successful answer; empty where there is none."""
    return (answers.json_object(answer) if answer.status == HTTP_OK else None) or {}
