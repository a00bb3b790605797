"""Every failure that the provider or the way to it can cause has a cause and a cure in words."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.entra import explanations
from credentials_provider.entra.answers import aadsts_codes, safe_error, safe_id
from credentials_provider.entra.explanations import (
    clock_skew_warning,
    explain_bad_response,
    explain_rejection,
    explain_status,
    explain_trouble,
    rows,
)
from credentials_provider.transport.connections import Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from credentials_provider.entra.explanations import Diagnosis

# The codes that a machine identity meets: permanent, permanent unless just set up, transient.
PERMANENT = (
    *(
        7000222,
        7000216,
        7000218,
        700025,
        700027,
        700030,
        50012,
        50048,
        50027,
        700021,
        700229,
        70001,
        7000112,
    ),
    *(90002, 900023, 50059, 50128, 90019, 9001023, 50194, 90130, 900382, 900432, 90038),
    *(70011, 28002, 1002012, 700022, 700023, 901002, 900144, 90014, 90015, 90023, 9002313, 90013),
    *(90100, 900561, 500011, 50001, 500014, 650052, 650056, 650057, 501051, 53003, 530032, 100007),
)
NEW = (7000215, 70021, 700211, 700212, 700213, 7002138, 700016, 7000229, 65001)
TRANSIENT = (700024, 50196, 90055, 50033, 90006, 90024, 90090, 90033, 90012, 90091)

ERRORS = {
    "access_denied": False,
    "consent_required": False,
    "interaction_required": False,
    "invalid_client": False,
    "invalid_grant": False,
    "invalid_request": False,
    "invalid_resource": False,
    "invalid_scope": False,
    "invalid_target": False,
    "server_error": True,
    "temporarily_unavailable": True,
    "unauthorized_client": False,
    "unsupported_grant_type": False,
}
UNREACHABLE = tuple(rows("unreachable"))
SETTINGS = {
    "proxy_url",
    "proxy_scheme",
    "proxy_login",
    "proxy_forbidden",
}  # last until somebody changes them
UNTRUSTED = tuple(rows("untrusted"))
BAD_RESPONSE = (
    *("html", "not_json", "too_large", "no_access_token", "no_expiry", "expired", "wrong_tenant"),
    *("wrong_client", "redirect"),
)
STATUSES = (100, 204, 302, 307, 400, 401, 403, 404, 407, 408, 418, 429, 500, 501, 502, 503, 504)
HOST = "login.partner.microsoftonline.cn"

NEW_SETUP = "just now, wait a minute and run again."
UNKNOWN_CODE = 4999999


def explain_unreachable(reason: str, host: str) -> Diagnosis:
    return explain_trouble(Trouble("unreachable", reason), host)


def explain_untrusted(reason: str, host: str) -> Diagnosis:
    return explain_trouble(Trouble("untrusted", reason), host)


EVERYTHING = {
    **{f"AADSTS{c}": explain_rejection(None, [c]) for c in (*PERMANENT, *NEW, *TRANSIENT)},
    **{e: explain_rejection(e, []) for e in (*ERRORS, "unheard_of")},
    **{f"{e} unknown code": explain_rejection(e, [UNKNOWN_CODE]) for e in (*ERRORS, "unheard_of")},
    "nothing": explain_rejection(None, []),
    **{f"HTTP {s}": explain_status(s, None) for s in STATUSES},
    **{f"HTTP {s} wait": explain_status(s, 90) for s in STATUSES},
    **{f"unreachable {r}": explain_unreachable(r, HOST) for r in UNREACHABLE},
    **{f"untrusted {r}": explain_untrusted(r, HOST) for r in UNTRUSTED},
    **{f"bad response {r}": explain_bad_response(r, HOST) for r in BAD_RESPONSE},
}


@pytest.mark.parametrize("found", EVERYTHING.values(), ids=EVERYTHING.keys())
def test_wording(found: Diagnosis) -> None:
    """A cause is a short fragment, a cure one or two short sentences, both plain ASCII."""
    cause, cure, _ = found
    assert len(cause) <= 160
    assert len(cure) <= 240
    assert cause.isascii()
    assert cause.isprintable()
    assert cure.isascii()
    assert cure.isprintable()
    assert not cause.endswith(".")
    assert cause[0].islower() or cause.startswith(HOST)
    assert cure.endswith(".")
    assert cure[0].isupper()
    assert cure.count(". ") <= 1
    assert "{" not in cause + cure
    assert "  " not in cause + cure


@pytest.mark.parametrize("code", [*PERMANENT, *NEW, *TRANSIENT])
def test_each_code_is_explained(code: int) -> None:
    """Each documented AADSTS code has an explanation of its own, not the fallback."""
    found = explain_rejection("invalid_client", [code])
    assert found.cause != explain_rejection("invalid_client", []).cause
    assert "login.microsoftonline.com/error" not in found.cure


@pytest.mark.parametrize("code", [*PERMANENT, *NEW, *TRANSIENT])
def test_verdicts(code: int) -> None:
    """Only passing faults are transient, and only what may just have been set up says to wait."""
    found = explain_rejection(None, [code])
    assert found.transient is (code in TRANSIENT)
    assert found.cure.endswith(NEW_SETUP) is (code in NEW)


def test_each_name_stands_in_one_row() -> None:
    """No code has two rows, of which the later would silently win."""
    path = Path(str(explanations.__file__)).with_suffix(".json")

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        names = [name for key, _ in pairs for name in key.split(", ")]
        assert len(names) == len(set(names))
        return dict(pairs)

    assert json.loads(path.read_text(), object_pairs_hook=once).keys() >= {"refused", "status"}


def test_every_phrase_is_used() -> None:
    """In two rows at least: else it could stand in its row."""
    path = Path(str(explanations.__file__)).with_suffix(".json")
    text = path.read_text()
    for name in json.loads(text)["phrases"]:
        assert len(re.findall(rf"\${name}\b", text)) > 1, name


def test_wrong_and_expired_secrets_are_told_apart() -> None:
    """7000215 names Secret ID, Value and expiry, since it is met for all; 7000222 is expiry."""
    wrong = explain_rejection("invalid_client", [7000215])
    assert "wrong" in wrong.cause
    assert "expired" in wrong.cause
    assert "Value, not its Secret ID" in wrong.cure
    assert "Certificates & secrets" in wrong.cure
    expired = explain_rejection("invalid_client", [7000222])
    assert expired.cause == "the client secret has expired"
    assert "Certificates & secrets" in expired.cure


@pytest.mark.parametrize(
    ("code", "blade"),
    [
        (700016, "Overview"),
        (500011, "Expose an API"),
        (70011, "Expose an API"),
        (65001, "API permissions"),
        (501051, "API permissions"),
        (7000112, "Enterprise applications"),
        (7000229, "Enterprise applications"),
        (70021, "Federated credentials"),
        (700025, "Authentication"),
    ],
)
def test_cures_name_the_blade(code: int, blade: str) -> None:
    """A cure in the portal names the blade as the portal and the setup guide do."""
    assert blade in explain_rejection(None, [code]).cure


def test_the_first_known_code_wins() -> None:
    """Unknown codes before a known one do not hide it, nor does a later one replace it."""
    assert explain_rejection("invalid_client", [UNKNOWN_CODE, 7000222, 700016]) == (
        explain_rejection(None, [7000222])
    )


@pytest.mark.parametrize("error", ERRORS)
def test_oauth_errors(error: str) -> None:
    """Without a code the OAuth error explains, and tells a passing fault from a lasting one."""
    found = explain_rejection(error, [])
    assert found.cause != explain_rejection(None, []).cause
    assert found.transient is ERRORS[error]


@pytest.mark.parametrize("error", [*ERRORS, "unheard_of", None])
def test_unknown_codes_lead_to_microsofts_page(error: str | None) -> None:
    """An unknown code keeps the OAuth error's cause, and its cure is Microsoft's page about it."""
    found = explain_rejection(error, [UNKNOWN_CODE, UNKNOWN_CODE - 1])
    known = explain_rejection(error, [])
    assert (found.cause, found.transient) == (known.cause, known.transient)
    assert f"https://login.microsoftonline.com/error?code={UNKNOWN_CODE}." in found.cure


def test_an_unheard_of_error_is_not_repeated() -> None:
    """What a server wrote stays out of the words, even in place of an error code."""
    assert explain_rejection("call 555 0100 now", []) == explain_rejection(None, [])


@pytest.mark.parametrize("status", STATUSES)
def test_statuses(status: int) -> None:
    """Each status is named, and only 408, 429 and 5xx are worth another try."""
    found = explain_status(status, None)
    assert f"HTTP {status}" in found.cause
    assert found.transient is (status in {408, 429} or status >= 500)


@pytest.mark.parametrize(
    ("retry_after", "words"),
    [(0.2, "1 s"), (60, "1 min"), (125, "2 min 5 s"), (3600, "1 h"), (90_061, "1 d 1 h")],
)
def test_retry_after_is_told(retry_after: float, words: str) -> None:
    """The wait that the server asked for is the cure of a throttled or overloaded answer."""
    assert explain_status(429, retry_after).cure == (
        f"Wait {words}, as the provider asks, and run again."
    )


@pytest.mark.parametrize("retry_after", [0, -1, math.nan, math.inf])
def test_a_senseless_retry_after_is_ignored(retry_after: float) -> None:
    """A wait that is no positive number of seconds leaves the general cure."""
    assert explain_status(503, retry_after) == explain_status(503, None)


def test_waiting_does_not_cure_a_permanent_status() -> None:
    """Retry-After on an answer that stays the same is not passed on as a cure."""
    assert explain_status(407, 60) == explain_status(407, None)


@pytest.mark.parametrize("reason", UNREACHABLE)
def test_unreachable_names_the_host_and_can_pass(reason: str) -> None:
    """A network failure names the host and may be over by the next run."""
    found = explain_unreachable(reason, HOST)
    if reason in SETTINGS:
        assert not found.transient
    else:
        assert HOST in found.cause
        assert found.transient


@pytest.mark.parametrize("reason", UNTRUSTED)
def test_untrusted_names_the_host_and_stays(reason: str) -> None:
    """A TLS failure names the host, and someone has to act."""
    found = explain_untrusted(reason, HOST)
    assert HOST in found.cause
    assert not found.transient


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("unknown_ca", "--ca-bundle"),
        ("self_signed", "--ca-bundle"),
        ("expired", "clock"),
        ("not_yet_valid", "clock"),
        ("hostname", "login host"),
    ],
)
def test_untrusted_cures(reason: str, word: str) -> None:
    """The cure of a TLS failure names the option, the clock or the login host."""
    assert word in explain_untrusted(reason, HOST).cure


@pytest.mark.parametrize("reason", BAD_RESPONSE)
def test_bad_responses_are_told_apart(reason: str) -> None:
    """Each reason has its own cause; only what something on the way did may pass by itself."""
    causes = [explain_bad_response(other, HOST).cause for other in BAD_RESPONSE]
    found = explain_bad_response(reason, HOST)
    assert causes.count(found.cause) == 1
    assert found.transient is (reason in {"html", "not_json"})


@pytest.mark.parametrize("explain", [explain_unreachable, explain_untrusted, explain_bad_response])
def test_an_unknown_reason_is_explained_in_general(
    explain: Callable[[str, str], Diagnosis],
) -> None:
    """A reason without a row gets the general words, never an exception on the error path."""
    assert explain("no such reason", HOST) == explain("other", HOST)


def test_a_host_is_not_a_template() -> None:
    """Braces in a configured host are shown as they are."""
    assert "{0.x}" in explain_unreachable("dns", "{0.x}").cause


@pytest.mark.parametrize("skew", [0, 59.9, -60, 60, math.nan, math.inf, -math.inf])
def test_small_or_senseless_skew_is_silent(skew: float) -> None:
    """Within a minute, or without a sensible measurement, there is no warning."""
    assert clock_skew_warning(skew) is None


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (61, "1 min 1 s ahead of"),
        (-300, "5 min behind"),
        (7_260, "2 h 1 min ahead of"),
        (-86_400 * 3, "3 d behind"),
    ],
)
def test_skew_is_told(skew: float, words: str) -> None:
    """A larger skew is told with its size, its side and what to do, on one line."""
    warning = clock_skew_warning(skew)
    assert warning is not None
    assert f"this machine's clock is {words} the provider's Date header" in warning
    assert "synchronise" in warning
    assert warning.isprintable()


# Parsing untrusted answers

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.integers(0, 99_999_999).map(str),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({}, ()),
        ({"error_codes": [7000215]}, (7000215,)),
        ({"error_codes": ["7000215", 50012, 7000215]}, (7000215, 50012)),
        ({"error_codes": [True, None, -50012, 50012.0, "x", "\u0665" * 5, "50012\n", 10**30]}, ()),
        ({"error_codes": ["9" * 5000, 10**5000]}, ()),
        ({"error_codes": list(range(50000, 50020))}, tuple(range(50000, 50008))),
        ({"error_codes": 50012, "error_description": "AADSTS700016: no app"}, (700016,)),
        ({"error_codes": [], "error_description": "AADSTS700016: x AADSTS50012"}, (700016, 50012)),
        ({"error_codes": [50012], "error_description": "AADSTS700016: no app"}, (50012,)),
        ({"error_description": "AADSTS123 AADSTS12345678 aadsts50012"}, ()),
        ({"error_description": ["AADSTS50012"]}, ()),
    ],
)
def test_codes_of_an_answer(body: dict[str, object], codes: tuple[int, ...]) -> None:
    """Codes come from error_codes, else from the description; whatever is no code is ignored."""
    assert aadsts_codes(body) == codes


@given(st.fixed_dictionaries({}, optional={"error_codes": JSON, "error_description": JSON}))
def test_codes_of_any_answer(body: dict[str, object]) -> None:
    """Whatever an answer holds, at most eight distinct plain numbers come out of it."""
    codes = aadsts_codes(body)
    assert len(codes) == len(set(codes)) <= 8
    assert all(type(code) is int and 1_000 <= code <= 9_999_999 for code in codes)
    assert explain_rejection(None, codes).cure


@given(st.lists(st.integers(1_000, 9_999_999), min_size=1, unique=True))
def test_a_description_yields_the_codes_it_was_made_of(codes: list[int]) -> None:
    """Codes written into a description as Entra writes them are read back in order."""
    text = "\r\n".join(f"AADSTS{code}: words." for code in codes)
    assert aadsts_codes({"error_description": text}) == tuple(codes[:8])


@given(st.uuids())
def test_guids_are_shown_in_lower_case(guid: object) -> None:
    """A GUID in either case is a fit id, and comes out in lower case."""
    assert safe_id(str(guid).upper()) == str(guid)


@pytest.mark.parametrize(
    "value",
    [
        None,
        7,
        "",
        "12345678-1234-1234-1234-12345678901",
        "12345678-1234-1234-1234-123456789012\n",
        "\u06612345678-1234-1234-1234-12345678901",
        "{12345678-1234-1234-1234-123456789012}",
    ],
)
def test_other_ids_are_not_shown(value: object) -> None:
    """Nothing but a whole GUID passes as an id, not even one with a line break behind it."""
    assert safe_id(value) is None


@pytest.mark.parametrize("error", ERRORS)
def test_oauth_errors_are_shown(error: str) -> None:
    """Every error code of the protocol passes unchanged."""
    assert safe_error(error) == error


@pytest.mark.parametrize(
    "value",
    [None, 7, "", "ab", "a" * 41, "Invalid_client", "_x_y", "invalid_client\n", "a b", "\xe4bc"],
)
def test_other_errors_are_not_shown(value: object) -> None:
    """Nothing but 3 to 40 lower-case letters and underscores passes as an error code."""
    assert safe_error(value) is None


@given(
    JSON | st.from_regex(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}") | st.from_regex("[a-z_]+")
)
def test_what_is_shown_is_harmless(value: object) -> None:
    """Whatever a server sends, what passes as id or error code holds no control character."""
    for shown in (safe_id(value), safe_error(value)):
        assert shown is None or not any(unicodedata.category(c).startswith("C") for c in shown)
