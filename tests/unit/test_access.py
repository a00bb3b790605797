"""One token on demand: never one that has expired by the time it is handed out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.reading import make_entry
from credentials_provider.model import Observer, RunOptions
from credentials_provider.run.access import NoTokenError, ValidToken, get_token
from support import closed_port
from unit.making import LIFE, NOW, Project, sample_fields

if TYPE_CHECKING:
    from credentials_provider.model import Outcome


class Clock(Observer):
    """Stands still until the renewal has failed, and then at `after`."""

    def __init__(self, after: float) -> None:
        self._times = (float(NOW), after)
        self.asked = False

    def __call__(self) -> float:
        return self._times[self.asked]

    def finish(self, outcome: Outcome) -> None:
        assert outcome.kind == "kept"
        self.asked = True


def token(project: Project, clock: Clock, *, left: int) -> ValidToken:
    """That of an identity with `left` seconds on disk, whose login host nobody answers at."""
    settings = project.settings(login_base_url=f"https://127.0.0.1:{closed_port()}")
    project.identities("ci")
    definition = make_entry(1, sample_fields("ci"), settings).fingerprint
    project.token("ci", issued_at=NOW - LIFE + left, definition=definition)
    return get_token(RunOptions(settings, max_attempts=1), "ci", 300.0, clock, now=clock)


def test_a_token_that_is_valid_for_long_enough_is_given_as_it_is(project: Project) -> None:
    """Nobody is asked."""
    clock = Clock(NOW)
    found = token(project, clock, left=301)
    assert (found.token, found.kept) == (project.document("ci")["access_token"], None)
    assert not clock.asked


def test_an_old_token_that_is_still_valid_is_given_with_the_reason(project: Project) -> None:
    """Up to its last second."""
    clock = Clock(NOW + 299)
    found = token(project, clock, left=300)
    assert clock.asked
    assert found.token == project.document("ci")["access_token"]
    assert found.kept is not None
    assert found.kept.kind == "unreachable"


@pytest.mark.parametrize("after", [NOW + 300, NOW + LIFE])
def test_a_token_that_expires_while_its_renewal_fails_is_not_given(
    project: Project, after: float
) -> None:
    """It was valid when the run kept it, and is not when it is handed out."""
    clock = Clock(after)
    with pytest.raises(NoTokenError, match="no token for ci"):
        token(project, clock, left=300)
    assert clock.asked


@pytest.mark.parametrize("left", [1, 0])
def test_a_mistake_in_the_entry_gives_only_a_token_that_is_valid(
    project: Project, left: int
) -> None:
    """With the mistake as the reason; an expired one costs an error."""
    project.identities(sample_fields("ci", client_secrets="misspelt"))
    project.token("ci", issued_at=NOW - LIFE + left)
    ask = partial(get_token, RunOptions(project.settings()), "ci", 300.0, Observer())
    if left:
        kept = ask(now=lambda: NOW).kept
        assert kept is not None
        assert kept.kind == "configuration"
    else:
        with pytest.raises(ConfigurationError, match="has a mistake"):
            ask(now=lambda: NOW)
