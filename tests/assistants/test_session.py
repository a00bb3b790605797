"""What the bridge believes about its session with a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from credentials_provider.assistants.bridge.session import Session, is_unknown_session

if TYPE_CHECKING:
    from credentials_provider.assistants.bridge.remote import Remote

UNKNOWN_METHOD = b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "no"}}'


@pytest.mark.parametrize(
    ("version", "believed"),
    [
        ("2025-06-18", True),
        ("2025-06-18\r\nX-Evil: 1", False),
        ("2025-06-18\x00", False),
        ("2025\u201306\u201318", False),
        (20250618, False),
        (None, False),
    ],
)
def test_only_a_version_that_fits_into_a_header_gets_into_one(
    version: object, *, believed: bool
) -> None:
    """The server chose its characters."""
    session = Session(cast("Remote", None))
    session.negotiated({"result": {"protocolVersion": version}})
    assert session.headers() == ({"mcp-protocol-version": version} if believed else {})


@pytest.mark.parametrize("answer", [{}, {"result": None}, {"result": []}, {"error": {"code": 1}}])
def test_an_answer_without_a_version_agrees_on_none(answer: dict[str, object]) -> None:
    session = Session(cast("Remote", None))
    session.negotiated(answer)
    assert session.headers() == {}


@pytest.mark.parametrize(
    ("name", "status", "body", "unknown"),
    [
        ("s1", 404, b"", True),
        ("s1", 404, b"<html>", True),
        ("s1", 404, UNKNOWN_METHOD, False),
        ("s1", 400, b"No valid Session ID", True),
        ("s1", 400, b"bad request", False),
        ("s1", 500, b"session", False),
        ("s1", 200, b"session", False),
        (None, 404, b"", False),
        (None, 400, b"session", False),
    ],
)
def test_a_session_is_unknown_where_the_server_says_so(
    name: str | None, status: int, body: bytes, *, unknown: bool
) -> None:
    """Another error of the same status is the call's own: it is not sent once more."""
    assert is_unknown_session(name, status, body) is unknown
