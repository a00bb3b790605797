"""docs/errors.md: current, complete, and of one mind with the README."""

from __future__ import annotations

import os
from typing import get_args

from credentials_provider.errors import EXIT_CODES
from credentials_provider.minting import FailureKind
from support import CHECKOUT
from update_errors import DOCUMENT, KINDS, USAGE, document, own_messages


def test_the_committed_document_is_that_of_the_code() -> None:
    """Else: python tests/update_errors.py."""
    with open(DOCUMENT, encoding="utf-8") as file:
        assert file.read() == document()


def test_every_message_says_what_to_do() -> None:
    """In a hint of its own; usage errors stand below the usage line, an extra is one line."""
    messages = own_messages()
    assert len(messages) > 80
    mute = [each for each in messages if not each.cure and each.kind != USAGE]
    assert [each for each in mute if "pip install" not in each.text] == []
    assert {each.code for each in messages} == {1, 2, 75}


def test_every_kind_of_failure_is_described() -> None:
    """And none that there is not."""
    assert KINDS.keys() == set(get_args(FailureKind))


def test_the_readme_has_the_same_exit_codes() -> None:
    """Word by word."""
    with open(os.path.join(CHECKOUT, "README.md"), encoding="utf-8") as file:
        readme = file.read()
    for code, text in EXIT_CODES.items():
        assert f"| {code} | {text} |" in readme
