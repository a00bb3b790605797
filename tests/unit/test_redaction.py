"""Entra's own words of an error that is not in our table, without anything that may be secret."""

from __future__ import annotations

from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.entra.answers import refusal
from credentials_provider.entra.redaction import LONGEST, REDACTED, redacted_description

GUID = "6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3"
SECRET = "v5u8Q~sample+secret/with=odd&characters%"
TAIL = f" Trace ID: {GUID} Correlation ID: {GUID} Timestamp: 2026-11-25 09:00:00Z"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"AADSTS7000999: The app is on hold.{TAIL}", "The app is on hold."),
        ("AADSTS7000999: One.\r\nTrace ID: x\r\nTimestamp: y", "One."),
        (f"App '{GUID}' in api://{GUID}/x is off.", f"App '{GUID}' in api://{GUID}/x is off."),
        ("See https://aka.ms/entra?code=secret#x.", "See https://aka.ms/entra."),
        (f"The secret '{SECRET}' is wrong.", f"The secret '{REDACTED}' is wrong."),
        ("Sent abc8Q~short twice.", f"Sent {REDACTED} twice."),
        ("Token eyJhbGciOi was sent.", f"Token {REDACTED} was sent."),
        (f"Word {'x' * 40} here.", f"Word {REDACTED} here."),
        (f"Word {'x' * 24} here.", f"Word {REDACTED} here."),
        (f"Word {'x' * 23} here.", f"Word {'x' * 23} here."),
        ("word " * 47 + "words", "word " * 47 + "words"),
        ("word " * 48 + "x", "word " * 47 + "word ..."),
        ("Bell\x07 and\x1b[31m escape", "Bell and [31m escape"),
        ("", None),
        (None, None),
        (["AADSTS1"], None),
        (TAIL, None),
    ],
)
def test_what_is_left_of_a_description(text: object, words: str | None) -> None:
    """Its sentence, with ids of tenants and applications, without what could be a secret."""
    assert redacted_description(text, [SECRET]) == words


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=4, max_size=60),
    st.text(max_size=30),
    st.sampled_from([str, quote, quote_plus, str.upper, lambda each: quote(each, safe="")]),
)
def test_a_secret_is_in_no_words(secret: str, around: str, form: object) -> None:
    """In whichever form it came back."""
    written = form(secret)  # type: ignore[operator]  # one of the functions above
    found = redacted_description(f"{around} '{written}' {around}", [secret]) or ""
    plain = found.replace(REDACTED, "").lower()
    assert written.lower() not in plain or written.lower() in f"{around} '' {around}".lower()


@given(st.text(max_size=6000))
def test_words_are_one_line_of_plain_text(text: str) -> None:
    """However long and strange the description is."""
    found = redacted_description(text, [])
    assert found is None or (found.isprintable() and found.isascii() and len(found) <= LONGEST + 4)


def test_a_known_code_is_told_in_our_words() -> None:
    """The table comes first; a guess of an OAuth error does not come before Entra's words."""
    known = {"error": "invalid_client", "error_codes": [7000222], "error_description": "Hello."}
    assert "Hello" not in refusal(known, []).message
    unknown = {**known, "error_codes": [7000999]}
    told = refusal(unknown, [])
    assert told.message == "Entra ID refuses it with: Hello."
    assert "error?code=7000999" in told.remedy
    assert "Hello" not in refusal(unknown).message
