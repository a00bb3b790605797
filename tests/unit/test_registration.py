"""The registry's answers to making a machine identity, as its API and its command give them."""

from __future__ import annotations

import json

import pytest

from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.registration import read_registration

CLIENT = "6d1f0c2b-3e4a-4b5c-8d6e-7f8091a2b3c4"
SECRET = "v5u8Q~sample+secret/with=odd&characters"
ANSWER = {
    "client_id": CLIENT,
    "client_uuid": "0f5c2f3e-7a1b-4c7d-9e42-5b8a1c6d7e90",
    "service_principal_id": "1",
    "client_secret": SECRET,
    "groups": ["a"],
}
TEXT = f"""M2M account created successfully!

Client ID: {CLIENT}
Client Secret: {SECRET}
Groups: a, b
Service Principal ID: 1
"""


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ANSWER),
        json.dumps(ANSWER, indent=2),
        "\ufeff" + json.dumps(ANSWER),
        TEXT,
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("Client", "  - Client"),
        "".join(f"\x1b[32m{line}\x1b[0m\n" for line in TEXT.splitlines()),
    ],
)
def test_both_forms_give_client_and_secret(text: str) -> None:
    """And the repr shows no secret."""
    found = read_registration(text)
    assert (found.client_id, found.client_secret) == (CLIENT, SECRET)
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    "masked", [f"{SECRET[:8]}...{SECRET[-4:]}", "********", "•••••", "abc…xyz"]
)
def test_a_masked_secret_is_refused(masked: str) -> None:
    """With what to do instead."""
    for text in (json.dumps({**ANSWER, "client_secret": masked}), TEXT.replace(SECRET, masked)):
        with pytest.raises(ConfigurationError, match="masked") as error:
            read_registration(text)
        assert error.value.hint


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("", "client ID"),
        ("{}", "client ID"),
        ("[1]", "client ID"),
        ("hello", "client ID"),
        (f"Client ID: {CLIENT}", "client secret"),
        (json.dumps({**ANSWER, "client_secret": 5}), "client secret"),
        (f"Client Secret: {SECRET}", "client ID"),
    ],
)
def test_what_is_missing_is_told_without_the_secret(text: str, missing: str) -> None:
    """By its name."""
    with pytest.raises(ConfigurationError, match=missing) as error:
        read_registration(text)
    assert SECRET not in f"{error.value.message}{error.value.hint}"


@pytest.mark.timeout(20)
def test_a_long_line_takes_no_longer_than_its_length() -> None:
    found = read_registration(f"Note:{' ,' * 100_000}x\n{TEXT}")
    assert (found.client_id, found.client_secret) == (CLIENT, SECRET)
