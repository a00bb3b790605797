"""What the tests of the whole job share with these."""

from __future__ import annotations

from e2e.conftest import no_backoff

__all__ = ["no_backoff"]
