"""The sample app that these tests ask for, and what they read from an answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jwt
import urllib3

from credentials_provider.emulator import App

TENANT = "0b6a1a5e-37a5-4a0e-9d0f-64a2ad3b8f21"
CLIENT = "c0ffee00-1234-4abc-8def-0123456789ab"
SECRET = "v5u8Q~sample+secret/with=odd&characters%"
API = "7f1b2c3d-0000-4000-8000-00000000feed"
SCOPE = f"api://{API}/.default"

APP = App(tenant_id=TENANT, client_id=CLIENT, secrets=(SECRET,), name="ci")

Ask = Callable[..., urllib3.BaseHTTPResponse]


def form() -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": CLIENT,
        "client_secret": SECRET,
        "scope": SCOPE,
    }


def claims(response: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    """The claims of the token in a response, unverified."""
    token = response.json()["access_token"]
    decoded: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return decoded


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until it holds; fails after five seconds."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
