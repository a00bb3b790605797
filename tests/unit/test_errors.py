"""Errors carry data, cure and exit code, and never what they must not show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.errors import (
    ConfigurationError,
    CredentialsProviderError,
    LockBusyError,
    Problem,
    StoppedError,
    StorageError,
    unexpected,
)
from unit.making import SECRET


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem("is missing", 2, "ci", "scope"), 'entry 2, "ci", scope: is missing'),
        (Problem("is missing", 2, None, "scope"), "entry 2, scope: is missing"),
        (Problem("is no object", 2), "entry 2: is no object"),
        (Problem("is unknown", None, "ci"), '"ci": is unknown'),
        (Problem("is empty"), "is empty"),
    ],
)
def test_a_problem_names_its_place_as_far_as_it_is_known(problem: Problem, text: str) -> None:
    """Entry, identity, field, then what is wrong."""
    assert str(problem) == text


@given(st.text(), st.text(), st.text())
def test_a_problem_that_quotes_control_characters_is_still_harmless(
    message: str, name: str, field: str
) -> None:
    """No line break, escape sequence or surrogate reaches a terminal; the rest stands as it is."""
    text = str(Problem(message, 1, name, field))
    assert text.isprintable()
    text.encode()
    if f"{message}{name}{field}".isprintable():
        assert text.endswith(message)
        assert name in text
        assert field in text


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (CredentialsProviderError("m"), 1),
        (StorageError("m"), 1),
        (LockBusyError("m"), 75),
        (ConfigurationError("m"), 2),
        (StoppedError(2, "SIGINT"), 130),
        (StoppedError(15, "SIGTERM"), 143),
    ],
)
def test_an_error_knows_its_exit_code(
    error: CredentialsProviderError | StoppedError, exit_code: int
) -> None:
    """The one that the design's table gives it."""
    assert error.exit_code == exit_code
    assert isinstance(error, Exception) != isinstance(error, StoppedError)


def test_an_error_without_problems_is_its_own() -> None:
    """So that whoever prints them needs no second case."""
    assert ConfigurationError("m", hint="h").problems == (Problem("m"),)
    assert ConfigurationError("m", problems=[Problem("a", 1)]).problems == (Problem("a", 1),)
    assert StorageError("m").problems == (Problem("m"),)


def test_an_unexpected_error_is_told_by_type_and_place_and_not_by_its_message() -> None:
    """What a library puts into a message may be a secret."""

    def fail() -> None:
        raise KeyError(SECRET)

    with pytest.raises(KeyError) as raised:
        fail()
    text = unexpected(raised.value)
    assert text.startswith("unexpected KeyError at test_errors.py:")
    assert SECRET not in text
    assert unexpected(ValueError(SECRET)) == "unexpected ValueError"
