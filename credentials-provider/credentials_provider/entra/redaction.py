"""Entra's own words of an error, without what could be a secret."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from credentials_provider.identities.rules import is_guid

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST = 240  # characters that are shown
REDACTED = "[redacted]"
_LONG_WORD = 24  # characters; a client secret has about 40, a token hundreds
_ENDS = re.compile(r"\s*(?:Trace ID|Correlation ID|Timestamp):.*", re.DOTALL)
_CODE = re.compile(r"AADSTS[0-9]{1,9}:\s*")
_PUNCTUATION = ".,;:!?'\"()[]<>\u2018\u2019\u201c\u201d"


def redacted_description(description: object, secrets: Iterable[str]) -> str | None:
    """The sentence of an `error_description`, None where there is none.

    Ids and times go, since they are shown apart. So do `secrets` in every form that a form or a
    query has them in, and every word that could be one.
    """
    if not isinstance(description, str):
        return None
    text = description[:4096]
    for secret in secrets:
        if secret.strip():
            text = re.sub(_any_form(secret.strip()), REDACTED, text, flags=re.IGNORECASE)
    text = _CODE.sub("", _ENDS.sub("", text))
    text = "".join(each if each.isprintable() and each.isascii() else " " for each in text)
    words = [_shown(word) for word in text.split()]
    whole = " ".join(words)
    if len(whole) > LONGEST:
        whole = whole[:LONGEST].rpartition(" ")[0] + " ..."
    return whole or None


def _any_form(secret: str) -> str:
    """A pattern of a secret, each character as it is or percent-encoded, as forms and queries do.

    JSON's escapes are gone by now.
    """
    forms = []
    for character in secret:
        encoded = "".join(f"%{byte:02X}" for byte in character.encode(errors="replace"))
        plus = r"|\+" if character == " " else ""
        forms.append(f"(?:{re.escape(character)}|{encoded}{plus})")
    return "".join(forms)


def _shown(word: str) -> str:
    core = word.strip(_PUNCTUATION)
    if core.lower().startswith(("https://", "api://")):
        address = re.split(r"[?#]", core, maxsplit=1)[0]
        if not any(_is_suspicious(part) for part in address.partition("://")[2].split("/")):
            return word.replace(core, address)
        return REDACTED
    return REDACTED if _is_suspicious(core) else word


def _is_suspicious(text: str) -> bool:
    return not is_guid(text) and (len(text) >= _LONG_WORD or "~" in text or "eyJ" in text)
