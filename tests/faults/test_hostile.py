"""Hostile input: no traceback, no hang, no secret, a documented exit code.

The promises are in tests/fuzz/targets.py; here hypothesis makes the input, and what any fuzzer ever
found stays as a case.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.targets import CLIENT, FIELDS, SECRET, TARGETS, TENANT

from .tracing import LONG

if TYPE_CHECKING:
    from support import Command, Project

hostile = settings(
    max_examples=2000 if LONG else 80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)

TEXTS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [
            *("", " ", "\x00", "\x1b[2J", "\u202e", "\ud800", "\r\nX: y", "{}", "-", "--"),
            *("../../etc/passwd", "CON", "a" * 5000, "common", "https://", "https://a@b"),
            *("http://x", "${HOME}", "$(id)", "api://x/.default", TENANT, CLIENT, SECRET),
            *("9" * 400, "\u0661\u0662", "1e999", "NaN"),
        ]
    ),
)
NUMBERS = st.one_of(
    st.integers(), st.floats(), st.sampled_from([2**63, -(2**63), 10**400, 1e308, float("nan")])
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


def _dumped(value: object) -> bytes:
    return json.dumps(value).encode()


def _variant(good: dict[str, Any], more: tuple[str, ...] = ()) -> st.SearchStrategy[dict[str, Any]]:
    """A good object in which some fields were replaced, removed or added."""
    names = st.sampled_from([*good, *more])
    return st.dictionaries(names, JSON, max_size=3).flatmap(
        lambda changes: st.lists(names, max_size=1).map(
            lambda gone: {k: v for k, v in {**good, **changes}.items() if k not in gone}
        )
    )


def _token(parts: list[bytes]) -> bytes:
    return b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)


TOKEN_FILE = {
    "identity_name": "ci",
    "access_token": "a.b.c",
    "expires_in": 3600,
    "generated_at": "2027-01-15T08:00:00+00:00",
    "expires_at": "2027-01-15T09:00:00+00:00",
    "refresh_at": "2027-01-15T08:40:00+00:00",
    "expires_on": 1_800_003_600,
    "definition": "1:0",
}
ANSWER = {
    "token_type": "Bearer",
    "expires_in": 3599,
    "refresh_in": 1800,
    "access_token": "eyJhbGciOiJSUzI1NiJ9.eyJleHAiOjE4MDAwMDM2MDB9.c2ln",
    "error": "invalid_client",
    "error_description": "AADSTS7000215: Invalid client secret provided.",
    "error_codes": [7000215],
    "trace_id": TENANT,
    "correlation_id": CLIENT,
}
RAW = st.binary(max_size=300)
STATUS = st.integers(0, 7).map(lambda number: bytes((number,)))
SEGMENT = st.one_of(JSON.map(_dumped), RAW)

INPUT: dict[str, st.SearchStrategy[bytes]] = {
    "identities_file": st.one_of(
        RAW,
        JSON.map(_dumped),
        st.lists(
            st.one_of(
                _variant(FIELDS, ("login_base_url", "cloud", "clientSecret", "client_secret_env")),
                JSON,
            ),
            max_size=4,
        ).map(_dumped),
        st.lists(_variant(FIELDS), max_size=2).map(lambda value: _dumped(value)[:-7]),
    ),
    "dotenv": st.one_of(
        RAW,
        st.lists(
            st.tuples(
                st.sampled_from(
                    ["ENTRA_TENANT_ID", "AUTH_PROVIDER", "ENTRA_LOGIN_BASE_URL", "export X"]
                ),
                st.sampled_from(["=", " = ", ":", "='", '="', ""]),
                TEXTS,
            ).map("".join)
        ).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    ),
    "token_file": st.one_of(RAW, JSON.map(_dumped), _variant(TOKEN_FILE).map(_dumped)),
    "token_response": st.builds(
        bytes.__add__, STATUS, st.one_of(RAW, JSON.map(_dumped), _variant(ANSWER).map(_dumped))
    ),
    "jwt": st.one_of(RAW, st.lists(SEGMENT, min_size=2, max_size=4).map(_token)),
    "duration": st.one_of(RAW, TEXTS.map(lambda t: t.encode("utf-8", "surrogatepass"))),
    "retry_after": st.one_of(
        RAW,
        st.sampled_from(["Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +9999", "60"])
        .flatmap(lambda text: st.tuples(st.just(text), st.text(max_size=6)).map("".join))
        .map(lambda text: text.encode("latin-1", "replace")),
    ),
    "login_url": st.one_of(
        RAW,
        TEXTS.map(lambda t: b"https://" + t.encode("utf-8", "surrogatepass")),
        st.from_regex(r"https://[\[\]@:./\\?#a-z0-9%]{0,30}", fullmatch=True).map(str.encode),
    ),
    "arguments": st.lists(
        st.one_of(
            TEXTS,
            st.sampled_from(
                [
                    *("--refresh-ahead", "--json", "-q", "-v", "--timeout", "-j", "--cloud", "="),
                    *("ci", "10m", "--deadline", "--env-file", "--login-base-url", "-o", "-a"),
                    *("--ca-bundle", "--strict-permissions"),
                ]
            ),
        ),
        max_size=5,
    ).map(lambda words: "\n".join(words).encode("utf-8", "surrogatepass")),
}


@pytest.mark.timeout(3600 if LONG else 120)
@pytest.mark.parametrize("name", TARGETS)
def test_any_input_is_met_as_promised(name: str) -> None:
    """What the target's docstring says holds for whatever hypothesis makes up."""

    @hostile
    @given(data=INPUT[name])
    def meet(data: bytes) -> None:
        TARGETS[name](data)

    meet()


# Found by fuzzing or by hand, each once a broken promise or close to one.
REGRESSIONS: list[tuple[str, bytes]] = [
    ("duration", "\u0661\u0662m".encode()),
    ("duration", b"9" * 5000),
    ("duration", b"505%" + b"\x1c" * 200),  # the message repeated all of it
    ("retry_after", b"Mon, 01 Jan 0001 00:00:00 +9999"),
    ("retry_after", b"9" * 400),
    ("identities_file", b"[" * 100_000),
    ("identities_file", b'[{"identity_name": "\\ud800"}]'),
    ("identities_file", b'[{"identity_name": 1' + b"0" * 5000 + b"}]"),
    *(
        # Looked at before it was validated: an open .env, a table, a terminal, the plan.
        ("identities_file", _dumped([{**FIELDS, field: value}]))
        for field in FIELDS
        for value in (["x"], {"a": 1}, 1, None, "[/]", "\x1b[2J\n")
    ),
    # A secret in the wrong place.
    *(
        ("identities_file", _dumped([{**FIELDS, "client_secret": None, field: SECRET}]))
        for field in (*FIELDS, "client_secret_env", "client_secret_keyvault", "managed_identity")
    ),
    ("identities_file", _dumped([FIELDS, FIELDS])),
    ("token_file", b'{"access_token": "x", "expires_at": 1e400}'),
    ("token_file", b'{"access_token": "x", "expires_at": NaN}'),
    ("token_response", b"\x00" + b"[" * 100_000),
    ("token_response", b'\x00{"access_token": "x.y.z", "expires_in": 1e400}'),
    ("jwt", b"e30." + b"A" * 100_000 + b"."),
]


@pytest.mark.parametrize(("name", "data"), REGRESSIONS)
def test_what_was_found_once_stays_mended(name: str, data: bytes) -> None:
    """Inputs that broke a promise keep it now."""
    TARGETS[name](data)


def test_the_command_itself_meets_a_hostile_file(project: Project, run: Command) -> None:
    """The promises of the targets hold for the real process, too."""
    for content in ("[" * 100_000, '[{"identity_name": "\\ud800\\u001b[2J"}]', "\x00", '"'):
        project.write(content)

        ran = run("--json")

        assert (ran.code, ran.stderr) == (2, "")
        assert ran.json["exit_code"] == 2
        assert "\x1b" not in ran.stdout
