"""The rule of each value of an identity: what is wrong with it, None if nothing is.

Pure, and cheap to load: a run with nothing due imports it. No message repeats a value that can be a
secret in the wrong place.
"""

from __future__ import annotations

import os
import re
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from credentials_provider.settings import CLOUDS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

SCOPE_END = "/.default"
LOOKS_LIKE_ID = "looks like a Secret ID; Entra ID wants the secret's Value"
LONGEST_SECRET = 256  # characters; a client secret has about 40
LONGEST_NAME = 128  # characters
_LONGEST_VARIABLE = 128
LONGEST_NAME_BYTES = 200  # most file systems take 255; suffixes and temporary files need some
FEDERATED_PLATFORMS = ("github", "azure-pipelines")
SHARED_FORMATS = ("dotenv", "netrc")  # of files that hold other things, too
SINK_FORMATS = ("json", "raw", "header", "dotenv", "netrc")

_GUID = r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}"
_DOMAIN = (
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"(?:[A-Za-z]{2,63}|[Xx][Nn]--[A-Za-z0-9-]{1,59})"
)
_VAULT_URL = (
    r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?/secrets/[A-Za-z0-9-]{1,127}(/[A-Za-z0-9]{1,64})?/?"
)
_NO_TENANT = {"common", "organizations", "consumers"}
# https://learn.microsoft.com/windows/win32/fileio/naming-a-file
_DEVICES = {
    *("con", "prn", "aux", "nul"),
    *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789\u00b9\u00b2\u00b3"),
}
_OVERWRITES = {"entra-identities", "mcp", "vscode_mcp"}
# The sample values of the registry's guide and of this project's documents, in lower case. Nothing
# vaguer: a real secret can hold "<", "{" or "xxxx".
_PLACEHOLDERS = {
    *("your-tenant-id", "your-client-id", "your-app-client-id", "your-m2m-client-id"),
    *("your-client-secret", "your-m2m-client-secret", "your-secret-value-here"),
    *("cursor-m2m-client-id", "cursor-m2m-client-secret"),
    *("cicd-m2m-client-id", "cicd-m2m-client-secret"),
    *("{tenant_id}", "{app_client_id}", "{m2m_client_id}", "{m2m_client_secret}"),
    *("xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx", "xxxxx~xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"),
}
_SAMPLE = "still holds the guide's sample value: put yours in its place"
# Eight characters, three dots and four, as the registry masks a secret; or stars, or bullets.
_MASKED = r".{0,8}(\.\.\.|\u2026|\*{3,}|\u2022{3,}).{0,4}"
_MASKED_LENGTH = 15
# What stands where a secret belongs when something else failed: (pattern, what it is).
_NO_SECRETS = (
    (
        r"@Microsoft\.KeyVault\(.*|(op|keyvault)://.*|(vault|secretref|ref\+[a-z]+):.*",
        "is a reference to a secret that nothing resolved",
    ),
    (
        r"\$\{?[A-Za-z_][A-Za-z0-9_]*\}?|\$\([A-Za-z_][A-Za-z0-9_.]*\)|\$?\{\{.*\}\}|%[A-Z_]+%",
        "is the name of a variable that nothing resolved",
    ),
    (_MASKED, "is masked: it is not the whole secret"),
    (
        r"(?:export )?(?:(?i:[a-z0-9_]*(?:secret|password)) ?[=:] ?|[A-Z0-9]+(?:_[A-Z0-9]+)+=).+",
        "begins with a name: put only the secret's Value there",
    ),
    (r"([\"'`]).*\1", "stands in quotes: leave them out"),
    (r"-----BEGIN .*", "is a key or a certificate: use certificate_file"),
)


def is_guid(text: str) -> bool:
    """Whether a text is a GUID, as portals show tenants and applications."""
    return re.fullmatch(_GUID, text, re.ASCII) is not None


def is_placeholder(value: str) -> bool:
    """Whether a value is a sample from a guide instead of a real one."""
    lowered = value.lower()
    core = lowered.removeprefix("api://").removesuffix(SCOPE_END)
    return lowered in _PLACEHOLDERS or core in _PLACEHOLDERS


def is_date(text: str) -> bool:
    """Whether a text is a calendar date, YYYY-MM-DD."""
    try:
        return len(text) == len("2026-12-31") and bool(date.fromisoformat(text))
    except ValueError:
        return False


def composed(name: str) -> str:
    """A name in Unicode's form C: macOS and some editors write accents as separate characters."""
    if name.isascii():
        return name
    import unicodedata  # only for names beyond ASCII

    return unicodedata.normalize("NFC", name)


def name_key(name: str) -> str:
    """What two names have in common that would name the same file somewhere."""
    return composed(name).casefold()


def identity_name(value: str) -> str | None:
    """It names a file, on every system, and no other than its own."""
    if not value:
        return "is empty"
    if len(value) > LONGEST_NAME or len(value.encode(errors="replace")) > LONGEST_NAME_BYTES:
        return f"is too long: {LONGEST_NAME} characters and {LONGEST_NAME_BYTES} bytes at most"
    plain = (
        re.fullmatch(r"[A-Za-z0-9_.@+ -]*", value) is not None
        if value.isascii()
        else all(map(_is_name_character, value))
    )
    if (
        not plain
        or "  " in value
        or not (value[0] == "_" or value[0].isalnum())
        or value[-1] in " ."
    ):
        return (
            "must hold only letters, digits, '_', '.', '-', '@', '+' and single spaces, begin with "
            "a letter, a digit or '_', and not end with '.' or a space (it names a file)"
        )
    folded = name_key(value)
    if folded.partition(".")[0].rstrip() in _DEVICES:
        return f"{value} is the name of a device on Windows, not of a file"
    if folded in _OVERWRITES:
        return f"{value}.json is another file of the registry and would be overwritten"
    return None


def _is_name_character(character: str) -> bool:
    """A letter or digit of any script, with the marks that belong to its letters."""
    if character in "_.@+ -":
        return True
    import unicodedata  # only for names beyond ASCII

    category = unicodedata.category(character)
    return category[0] in "LM" or category == "Nd"


def _plain(value: str) -> str | None:
    if not value:
        return "is empty"
    if value != value.strip():
        return "has white space around it"
    if not value.isprintable() or not value.isascii():
        return "holds a character that cannot stand there"
    if is_placeholder(value):
        return _SAMPLE
    return None


@lru_cache(maxsize=16)  # of many identities' tenants and scopes, most are the same
def tenant_id(value: str) -> str | None:
    """One tenant, by its GUID or domain; it becomes a part of a URL."""
    if problem := _plain(value):
        return problem
    if value.lower() in _NO_TENANT:
        return f"{value!r} names no tenant: a machine identity needs its own (a GUID or a domain)"
    if not is_guid(value) and not re.fullmatch(_DOMAIN, value, re.ASCII):
        return "must be a GUID or a domain name (Microsoft Entra ID, Overview, Tenant ID)"
    return None


def client_id(value: str) -> str | None:
    """An application; whoever wrote its secret here must not see it sent, or shown."""
    if value != value.strip() or not any(each in value for each in " /\\?#&~<>{}"):
        return _plain(value)
    if is_placeholder(value):
        return _SAMPLE
    return "must be an application (client) ID (App registrations, Overview)"


@lru_cache(maxsize=16)
def scope(value: str) -> str | None:
    """One resource, by its Application ID URI."""
    if len(value.split()) > 1:
        return "must name one resource: Entra ID takes a single one with client credentials"
    if problem := _plain(value):
        return problem
    if any(each in value for each in "{}<>"):
        return _SAMPLE
    if not value.endswith(SCOPE_END) or value == SCOPE_END:
        return "must end in /.default, as in api://{APP_CLIENT_ID}/.default"
    return None


def _one_of(values: Collection[str]) -> Callable[[str], str | None]:
    """The rule of a value that is one of these."""

    def rule(value: str) -> str | None:
        return None if value in values else f"must be one of {', '.join(values)}"

    return rule


cloud = _one_of(CLOUDS)
federated_token = _one_of(FEDERATED_PLATFORMS)


def secret(value: str) -> str | None:
    """What cannot be a client secret of Entra ID. The value is never repeated."""
    if problem := _plain(value):
        return problem
    if len(value) > LONGEST_SECRET:
        return (
            f"has more than {LONGEST_SECRET} characters: a client secret has about 40. A "
            "certificate belongs to certificate_file"
        )
    if len(value) > _MASKED_LENGTH and re.fullmatch(r"[A-Za-z0-9~._-]+", value):
        return None  # as Entra ID makes them: none of the patterns below has these alone
    found = (what for pattern, what in _NO_SECRETS if re.fullmatch(pattern, value))
    return next(found, None)


def is_masked(value: str) -> bool:
    """Whether a text is what is shown instead of a secret."""
    return re.fullmatch(_MASKED, value) is not None


def variable(value: str) -> str | None:
    """The name of a variable; whoever wrote the secret itself here must not read it."""
    if value.isascii() and value.isidentifier() and len(value) <= _LONGEST_VARIABLE:
        return None
    return "must be the name of an environment variable, not its value"


def path(value: str) -> str | None:
    """A path, with `~` and `$VARIABLES`."""
    if not value:
        return "is empty"
    if value != value.strip() or not value.isprintable():
        return "must be the path of a file, without white space around it"
    if is_placeholder(value):
        return _SAMPLE
    return None


def vault_secret(value: str) -> str | None:
    """A secret of a Key Vault."""
    if re.fullmatch(_VAULT_URL, value, re.ASCII):
        return None
    return (
        "must be a secret of a vault: https://VAULT.vault.azure.net/secrets/NAME, or with "
        "/VERSION behind it"
    )


def managed_identity(value: object) -> str | None:
    """The machine itself, or the client ID of an identity assigned to it."""
    if value is True or (isinstance(value, str) and is_guid(value)):
        return None
    return "must be true, or the client ID of a user-assigned managed identity"


def day(value: str) -> str | None:
    """A calendar date."""
    return None if is_date(value) else "must be a date such as 2026-12-31"


def sinks(value: object) -> str | None:
    """Where else the token goes: the first mistake, with the number of its object."""
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return 'must be an array of objects such as {"path": "token.txt", "format": "raw"}'
    for number, sink in enumerate(value, start=1):
        if problem := _sink(sink):
            return f"number {number}: {problem}"
    places = [sink_place(each) for each in value]
    return None if len(places) == len(set(places)) else "two of them have the same path or key"


def sink_place(sink: dict[str, object], folder: str = "") -> str:
    """Where a sink is, valid or not: its path, full with the identities' folder, or its Secret."""
    if path := sink.get("path"):
        return os.path.normpath(os.path.join(folder, os.path.expanduser(str(path))))
    return f"{sink.get('kubernetes_secret')} {sink.get('key', SECRET_KEY)}"


def wrong_sinks(
    objects: list[Any], folder: str, is_ours: Callable[[str], bool]
) -> Iterator[tuple[int, str]]:
    """Entries that would write over another's token or a file of the program: by index, why."""
    places: dict[str, list[int]] = {}
    for index, fields in enumerate(objects, start=1):
        sinks = fields.get("sinks") if isinstance(fields, dict) else None
        for number, sink in enumerate(sinks if isinstance(sinks, list) else (), start=1):
            if isinstance(sink, dict):
                place = sink_place(sink, folder)
                if is_ours(place):
                    yield index, f"number {number}: path is a file of this program itself"
                if not _is_shared(sink):
                    places.setdefault(place, []).append(index)
    for indices in places.values():
        for index in {*indices} if len({*indices}) > 1 else ():
            other = next(each for each in indices if each != index)
            yield index, f"entry {other} has the same sink: each needs a path or key of its own"


def _is_shared(sink: dict[str, object]) -> bool:
    return "path" in sink and sink.get("format") in SHARED_FORMATS


def _mode(value: str) -> str | None:
    if not re.fullmatch(r"0?[0-7]{3}", value, re.ASCII) or int(value, 8) & 0o133:
        return 'must be "0600", "0640" or the like: no right to run it, none for others to write it'
    return None


def _one_word(value: str) -> str | None:
    return None if re.fullmatch(r"[\w.@:$-]{1,253}", value, re.ASCII) else "must be one word"


def _secret_name(value: str) -> str | None:
    """As https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ has it."""
    label = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
    if len(value) <= _LONGEST_SECRET and re.fullmatch(rf"{label}(\.{label})*", value, re.ASCII):
        return None
    return "must be the name of a Secret: a-z, 0-9, '-' and '.'"


def _secret_key(value: str) -> str | None:
    # The field manager that owns the key has its name, and at most 128 characters.
    if re.fullmatch(r"[A-Za-z0-9._-]{1,100}", value, re.ASCII) and value.strip("."):
        return None
    return "must be of letters, digits, '-', '_' and '.', 100 at most"


SINK_RULES = {
    "path": path,
    "format": _one_of(SINK_FORMATS),
    "mode": _mode,
    "owner": _one_word,
    "group": _one_word,
    "variable": variable,
    "machine": _one_word,
    "kubernetes_secret": _secret_name,
    "key": _secret_key,
}
SECRET_KEY = "token"  # noqa: S105  the default key of a Secret
_LONGEST_SECRET = 253  # characters
_OF_FILES = ("mode", "owner", "group")  # what a Secret has not


def _sink(sink: dict[str, object]) -> str | None:
    for name, value in sink.items():
        rule = SINK_RULES.get(name)
        if rule is None:
            return f"unknown field; there are {', '.join(SINK_RULES)}"
        problem = rule(value) if isinstance(value, str) else "must be a string"
        if problem:
            return f"{name} {problem}"
    if ("path" in sink) == ("kubernetes_secret" in sink):
        return "exactly one of path and kubernetes_secret must be there"
    strange = ("key",) if "path" in sink else _OF_FILES
    if wrong := next((name for name in strange if name in sink), None):
        return f"{wrong} does not go with {'path' if 'path' in sink else 'kubernetes_secret'}"
    if sink.get("format") == "netrc" and "machine" not in sink:
        return "machine is missing: the host that netrc's line is for"
    return None
