"""A token's claims, read from whatever comes."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.tokens.claims import decode_claims, epoch_claim


def part(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


JSON_VALUES = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers())


@given(st.dictionaries(st.text(), JSON_VALUES))
def test_the_claims_of_a_token_come_out_as_they_went_in(claims: dict[str, Any]) -> None:
    """Whatever their length: base64url without padding."""
    assert decode_claims(f"{part({'alg': 'RS256'})}.{part(claims)}.c2ln") == claims


@given(st.text() | st.text("eyJ0.-_=", max_size=60))
def test_any_text_has_claims_or_none(text: str) -> None:
    """No exception."""
    claims = decode_claims(text)
    assert claims is None or isinstance(claims, dict)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "token",
    [
        "",
        "..",
        "a.b",
        f"{part({})}.{part({})}",
        f"{part({})}.{part({})}.x.y",
        f"{part([])}.{part({})}.x",
        f"{part('no json')}.{part({})}.x",
        f"{part({})}.{part([])}.x",
        f"{part({})}.{part('{')}.x",
        f"{part({})}.{part('[' * 50_000)}.x",
        f"{part({})}.{part('9' * 50_000)}.x",
        f"{part({})}.{part({'a': 'b' * 200_000})}.x",
        f"{part({})}.{part({})}.\u00e9",
        f"{part({})}.{part({})[:-1]}!.x",
        f"{part({})}.a.x",
    ],
    ids=range(15),
)
def test_what_is_no_signed_token_has_no_claims(token: str) -> None:
    """Too few or many parts, no object, cut off, too deep, too large, not ASCII."""
    assert decode_claims(token) is None


@pytest.mark.parametrize(
    ("value", "epoch"),
    [
        *((1_800_000_000, 1_800_000_000), (1_800_000_000.9, 1_800_000_000)),
        *((0, None), (-1, None), (True, None), (None, None), ("1800000000", None), ([], None)),
        *((math.nan, None), (math.inf, None), (10**400, None), (2**53, None)),
    ],
)
def test_a_time_claim_is_a_sensible_number_or_none(value: object, epoch: int | None) -> None:
    """In whole seconds."""
    assert epoch_claim({"exp": value}, "exp") == epoch
    assert epoch_claim({}, "exp") is None
