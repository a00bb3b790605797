"""What msal is let do: ask for a token at the pinned endpoint, and nothing else."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.credentials.resolver import Credential
from credentials_provider.entra.client_credentials import _HttpClient, mint
from credentials_provider.identities.identity import Identity
from credentials_provider.minting import Failure
from credentials_provider.transport.connections import Answer
from credentials_provider.transport.retrying import Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.transport.connections import HttpRequest

HOST = "https://login.microsoftonline.com"
TENANT = "6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3"
CLIENT = "14c8ccfc-dc9c-4397-aa1e-37461544567d"
IDENTITY = Identity("ci", TENANT, CLIENT, "api://x/.default")
PROOF = Credential("client_secret", "s3cret")


class Transport:
    """Answers with what it was given, and notes what it was asked."""

    def __init__(self, status: int, document: object) -> None:
        self._answer = Answer(status, {}, json.dumps(document).encode(), time.time(), None)
        self.urls: list[str] = []
        self.is_temporary: Callable[[Answer], bool] | None = None

    def send(self, request: HttpRequest, **more: Any) -> Reply:
        self.urls.append(request.url)
        self.is_temporary = more["is_temporary"]
        return Reply(self._answer, 1)


def client(transport: Transport) -> Any:
    return _HttpClient(transport, f"{HOST}/{TENANT}", IDENTITY, PROOF)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/oauth2/v2.0/token",
        f"{HOST}/{TENANT}/oauth2/token",
        f"{HOST}/common/oauth2/v2.0/token",
        f"{HOST}/{TENANT}/oauth2/v2.0/token?x=y",
    ],
)
def test_no_other_endpoint_gets_the_secret(url: str) -> None:
    """Whatever msal would find out or be told."""
    transport = Transport(200, {})
    with pytest.raises(AssertionError, match="does not use"):
        client(transport).post(url, data={"client_secret": "s3cret"}, headers={})
    with pytest.raises(AssertionError, match="does not use"):
        client(transport).get(url)
    assert transport.urls == []


def test_parameters_do_not_get_into_the_address() -> None:
    """They would end in logs."""
    transport = Transport(200, {})
    url = f"{HOST}/{TENANT}/oauth2/v2.0/token"
    with pytest.raises(AssertionError, match="does not use"):
        client(transport).post(url, data={}, headers={}, params={"client_secret": "s3cret"})
    assert transport.urls == []


@pytest.mark.parametrize(
    ("status", "error", "temporary"),
    [
        (400, "temporarily_unavailable", True),
        (401, "temporarily_unavailable", True),
        (200, "temporarily_unavailable", False),
        (404, "temporarily_unavailable", False),
        (400, "invalid_client", False),
    ],
)
def test_only_a_refusal_can_ask_to_be_tried_again(status: int, error: str, temporary: bool) -> None:
    """By its OAuth error: any other answer stands as it is."""
    transport = Transport(status, {"error": error})
    result = mint(IDENTITY, PROOF, HOST, transport)  # type: ignore[arg-type]
    assert isinstance(result, Failure)
    assert transport.is_temporary is not None
    assert transport.is_temporary(transport._answer) is temporary
