"""Retries without the wait between them."""

from __future__ import annotations

import pytest

from credentials_provider.transport import retrying


@pytest.fixture
def no_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a batch in this process retry almost at once where no Retry-After says otherwise."""
    monkeypatch.setattr(retrying, "FIRST_BACKOFF", 0.01)
