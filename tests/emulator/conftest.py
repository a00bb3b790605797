"""A running emulator with one app, and a way to ask it without any client library of Entra's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import urllib3

from credentials_provider.emulator import Emulator
from emulator.asking import APP, TENANT, Ask, form

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def idp() -> Iterator[Emulator]:
    with Emulator([APP]) as emulator:
        yield emulator


@pytest.fixture
def pool(idp: Emulator) -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(ca_certs=idp.ca_file, retries=False, timeout=10) as manager:
        yield manager


@pytest.fixture
def ask(idp: Emulator, pool: urllib3.PoolManager) -> Ask:
    """POSTs a token request; keyword arguments change or (None) remove a field of the form."""

    def post(
        tenant: str = TENANT,
        headers: dict[str, str] | None = None,
        timeout: float = 10,
        **changes: str | None,
    ) -> urllib3.BaseHTTPResponse:
        fields = {**form(), **changes}
        return pool.request(
            "POST",
            f"{idp.base_url}/{tenant}/oauth2/v2.0/token",
            fields={name: value for name, value in fields.items() if value is not None},
            encode_multipart=False,
            headers=headers,
            timeout=timeout,
            redirect=False,
        )

    return post
