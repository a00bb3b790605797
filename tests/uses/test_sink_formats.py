"""The text of a sink: the token in its form, and every other line as it was."""

from __future__ import annotations

import io
import netrc
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from credentials_provider.errors import StorageError
from credentials_provider.identities.sinks import Sink
from credentials_provider.run.sink_formats import with_token, without_token

DOCUMENT = {"access_token": "eyJ0.eyJ1.-_~+/=", "identity_name": "ci"}
TOKEN = DOCUMENT["access_token"]


def sink(form: str) -> Sink:
    return Sink("/f", form, None, None, None, "TOKEN", "host.example.com")


def variables(text: str) -> dict[str, str | None]:
    return dotenv_values(stream=io.StringIO(text), interpolate=False)


def logins(text: str) -> dict[str, tuple[str, str | None, str | None]]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "netrc")
        path.write_text(text)
        return netrc.netrc(str(path)).hosts


def test_whole_files_hold_the_token_alone() -> None:
    """A raw one without an end of line, which would be part of the token for some programs."""
    assert with_token(sink("raw"), "old", DOCUMENT) == TOKEN
    assert with_token(sink("header"), "old", DOCUMENT) == f"Authorization: Bearer {TOKEN}\n"
    assert f'"access_token": "{TOKEN}"' in with_token(sink("json"), "old", DOCUMENT)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "TOKEN={}\n"),
        ("A=1", "A=1\nTOKEN={}\n"),
        ("A=1\r\n", "A=1\r\nTOKEN={}\r\n"),
        ("# mine\nTOKEN=old\nB=2\n", "# mine\nTOKEN={}\nB=2\n"),
        ("  export TOKEN = 'old'  # why\nB=2", "  export TOKEN = {}  # why\nB=2"),
        ("TOKEN=\nB=2\n", "TOKEN={}\nB=2\n"),
        ('TOKEN="two\nlines"\nB=2\n', "TOKEN={}\nB=2\n"),
        ("A='x\nTOKEN=inner\n'\n", "A='x\nTOKEN=inner\n'\nTOKEN={}\n"),
        ("TOKEN=old\r\nB=2\r\n", "TOKEN={}\r\nB=2\r\n"),
        ("TOKEN=a\nTOKEN=b\n", "TOKEN={}\nTOKEN={}\n"),
        ("MY_TOKEN=x\nTOKENS=y\n#TOKEN=z\n", "MY_TOKEN=x\nTOKENS=y\n#TOKEN=z\nTOKEN={}\n"),
    ],
)
def test_a_dotenv_file_keeps_its_other_lines(old: str, new: str) -> None:
    """Comments, quotes and line ends included; the variable stays where it was."""
    assert with_token(sink("dotenv"), old, DOCUMENT) == new.replace("{}", TOKEN)


_NAMES = st.sampled_from(["A", "TOKEN", "_b1"])
_TEXT = st.text("ab TOKEN=#\\\n\t$", max_size=12)
_LINES = st.one_of(
    st.builds(lambda text: "# " + text.replace("\n", ""), _TEXT),
    st.builds(lambda n, v: f"{n}={v}".replace("\n", ""), _NAMES, _TEXT),
    st.builds(lambda n, v: f"export {n}='{v}'".replace("\\", ""), _NAMES, _TEXT),
    st.builds(lambda n, v: f'{n} = "{v}"  # c'.replace("\\", ""), _NAMES, _TEXT),
    st.just(""),
)


@given(st.lists(_LINES, max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_python_dotenv_reads_the_token_and_the_rest_as_before(
    lines: list[str], newline: str
) -> None:
    """Writing it again changes nothing; taking it out leaves the others."""
    old = newline.join(lines)
    new = with_token(sink("dotenv"), old, DOCUMENT)
    assert variables(new) == {**variables(old), "TOKEN": TOKEN}
    assert with_token(sink("dotenv"), new, DOCUMENT) == new
    left = variables(without_token(sink("dotenv"), new))
    assert left == {name: value for name, value in variables(old).items() if name != "TOKEN"}


HOST = "host.example.com"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", "@\n"),
        (f"machine {HOST} login me password old\n", f"machine {HOST} login me password {{}}\n"),
        (f"machine {HOST}\n  login me\n", f"machine {HOST}\n  login me password {{}}\n"),
        (
            "# mine\nmachine a login b password c\n\ndefault login x password y\n",
            "# mine\nmachine a login b password c\n\n@\ndefault login x password y\n",
        ),
        (
            f"macdef m\nmachine {HOST} password x\n\nmachine b login c password d",
            f"macdef m\nmachine {HOST} password x\n\nmachine b login c password d\n@\n",
        ),
        (
            f'machine {HOST} password "o \\" ld" login me\nmachine b login c password d\n',
            f"machine {HOST} password {{}} login me\nmachine b login c password d\n",
        ),
    ],
)
def test_a_netrc_file_keeps_its_other_entries(old: str, new: str) -> None:
    """Comments and macros included; the entry for all others stays the last."""
    new = new.replace("@", f"machine {HOST} login token password {{}}")
    assert with_token(sink("netrc"), old, DOCUMENT) == new.replace("{}", TOKEN)


_MACHINES = st.sampled_from(["a", "b.example.com", HOST])
_WORDS = st.text("abT=#/", min_size=1, max_size=5).filter(lambda word: word[0] != "#")
_ENTRIES = st.one_of(
    st.builds(lambda w: f"#{w}", _WORDS),  # with a space Python reads on in some lines
    st.just(""),
    st.builds(lambda m, u, p: f"machine {m} login {u} password {p}", _MACHINES, _WORDS, _WORDS),
    st.builds(
        lambda m, u, p: f"machine {m}\n\tpassword {p}\n\tlogin {u}", _MACHINES, _WORDS, _WORDS
    ),
)


@given(st.lists(_ENTRIES, max_size=5).filter(lambda all_: "\n".join(all_).count(HOST) < 2))
def test_netrc_reads_the_token_and_the_rest_as_before(entries: list[str]) -> None:
    """As Python's own netrc does."""
    old = "\n".join(entries)
    new = with_token(sink("netrc"), old, DOCUMENT)
    before, after = logins(old), logins(new)
    assert after.pop(HOST)[2] == TOKEN
    before.pop(HOST, None)
    assert after == before
    assert with_token(sink("netrc"), new, DOCUMENT) == new
    assert logins(without_token(sink("netrc"), new)) == before


def test_two_entries_of_the_machine_are_left_to_their_author() -> None:
    """One of them may be another account."""
    with pytest.raises(StorageError, match="2 entries"):
        with_token(sink("netrc"), f"machine {HOST} login a password b\n" * 2, DOCUMENT)
