"""What went wrong and what to do about it, in words for people: the tables of `explanations.json`.

Nothing that a server wrote is repeated, apart from values whose shape was checked. AADSTS numbers
only explain: Microsoft may change them at any time and asks programs not to decide by them.
https://learn.microsoft.com/entra/identity-platform/reference-error-codes

In the file, `$name` is one of its phrases, `{name}` a value. A key names all that means the same.
Breadcrumbs are the portal's own labels.
"""

from __future__ import annotations

import functools
import json
import math
import os
import string
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.transport.proxies import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.transport.connections import Trouble

# Who is asked, and what changes that.
LOGIN_HOST = "the login host (--cloud, --login-base-url)"
GRAPH = "the national cloud (--cloud), which decides the address of Microsoft Graph"
REGISTRY = "the registry's address (--registry-url)"

_LOGIN_ONLY = {400, 401, 403, 404}  # their words are about the token endpoint
_LOOKUP = "Look the code up at https://login.microsoftonline.com/error?code={code}."
_TOLERATED_SKEW = 60  # seconds
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Diagnosis(NamedTuple):
    """One failure, explained."""

    cause: str  # a fragment in lower case without a period: "the client secret has expired"
    cure: str  # one or two imperative sentences
    transient: bool = False  # trying again later, with nothing changed, can help


def _read() -> dict[str, Any]:
    path = os.path.join(os.path.dirname(__file__), "explanations.json")
    with open(path, encoding="utf-8") as file:
        document: dict[str, Any] = json.load(file)
    document["unreachable"] |= {
        name: {"cause": cause, "cure": cure} for name, (cause, cure) in PROBLEMS.items()
    }
    return document


# Read at the import: a later failure may be that no file can be opened any more.
_TABLES = _read()


@functools.cache
def rows(table: str) -> dict[str, Diagnosis]:
    """A table as it stands in the file, with its phrases; `{names}` stand for values."""
    phrases = _TABLES["phrases"]

    def whole(text: str) -> str:
        return string.Template(text).substitute(phrases)

    return {
        key: Diagnosis(whole(row["cause"]), whole(row["cure"]), row.get("transient", False))
        for key, row in _TABLES[table].items()
    }


@functools.cache
def _by_name(table: str) -> dict[str, Diagnosis]:
    return {name: row for key, row in rows(table).items() for name in key.split(", ")}


def diagnosis(table: str, *names: str, **values: object) -> Diagnosis:
    """The row of the first name that has one, else that of `other`, with these values."""
    found = _by_name(table)
    row = next((found[name] for name in names if name in found), None) or found["other"]
    return Diagnosis(row.cause.format_map(values), row.cure.format_map(values), row.transient)


def explain_rejection(error: str | None, codes: Sequence[int]) -> Diagnosis:
    """An error answer: the first known AADSTS code explains it, else the OAuth error.

    A code that is not known here leads to Microsoft's own page about it.
    """
    explained = diagnosis("refused", *map(str, codes), error or "")
    if codes and not is_known(codes):
        return explained._replace(cure=_LOOKUP.format(code=codes[0]))
    return explained


def is_known(codes: Sequence[int]) -> bool:
    """Whether one of these AADSTS codes has an explanation of its own here."""
    return any(str(code) in _by_name("refused") for code in codes)


def explain_trouble(trouble: Trouble, host: str, peer: str = LOGIN_HOST) -> Diagnosis:
    """Why a request of the transport to `host` got no answer that can be used.

    `peer` says who was asked, and with what option or variable that can be changed.
    """
    if trouble.kind == "throttled":
        return explain_status(429, trouble.retry_after)
    if trouble.kind in {"unreachable", "unavailable"} and trouble.answer is not None:
        return explain_status(trouble.answer.status, trouble.retry_after, peer)
    table = "unreachable" if trouble.kind == "unavailable" else trouble.kind
    detail = trouble.detail or "no reason given"
    return diagnosis(table, trouble.reason, host=host, peer=peer, detail=detail)


def explain_status(status: int, retry_after: float | None, peer: str = LOGIN_HOST) -> Diagnosis:
    """An HTTP status whose body explains nothing; retry_after in seconds, as the server asked."""
    if status in _LOGIN_ONLY and peer != LOGIN_HOST:
        return Diagnosis(f"it answered HTTP {status}", f"Check {peer}.")
    names = (str(status), f"{status // 100}xx")
    explained = diagnosis("status", *names, status=status, peer=peer)
    if explained.transient and retry_after is not None and 0 < retry_after < math.inf:
        wait = duration(retry_after)
        return explained._replace(cure=f"Wait {wait}, as the provider asks, and run again.")
    return explained


def explain_bad_response(reason: str, host: str, peer: str = LOGIN_HOST) -> Diagnosis:
    """An answer that is not a token; the reason is a key of the table `bad_response`."""
    return diagnosis("bad_response", reason, host=host, peer=peer)


def clock_skew_warning(skew_seconds: float) -> str | None:
    """A fragment like a cause, or None within 60 s; a positive skew: this clock is ahead."""
    if not _TOLERATED_SKEW < abs(skew_seconds) < math.inf:
        return None
    side = "ahead of" if skew_seconds > 0 else "behind"
    return (
        f"this machine's clock is {duration(abs(skew_seconds))} {side} the provider's Date header:"
        " synchronise it (NTP), or expiry times on disk are wrong and certificates may be refused"
    )


def duration(seconds: float) -> str:
    """Seconds as a person says them, in its two largest units: "2 min 5 s"."""
    rest = math.ceil(seconds)
    parts = []
    for size, unit in _UNITS:
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])
