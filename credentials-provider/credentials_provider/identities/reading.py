"""The identities file as raw entries: enough for a plan, without validating what is known.

A fingerprint is written to disk only with the token of a validated entry, so an entry whose
fingerprint stands on disk needs no second validation, as long as what the fingerprint leaves out
(the credential) is obviously in order.
"""

from __future__ import annotations

import json
import re
from datetime import date
from typing import TYPE_CHECKING, Any

from credentials_provider.errors import (
    ConfigurationError,
    Problem,
    UnknownIdentityError,
    printable,
    quoted,
)
from credentials_provider.model import Entry
from credentials_provider.permissions import is_open, read_file
from credentials_provider.settings import CLOUDS, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

try:
    from _blake2 import blake2b  # hashlib's own; hashlib loads OpenSSL too, a tenth of a run's time
except ImportError:
    from hashlib import blake2b

INGRESS = "ingress"  # the registry's own default identity
DEFINITION_FIELDS = ("identity_name", "tenant_id", "client_id", "scope")
AUTHORITY_FIELDS = ("login_base_url", "cloud")
SECRET_KINDS = (
    "client_secret",
    "client_secret_env",
    "client_secret_file",
    "client_secret_keyvault",
)
LITERALS = ("client_secret", "client_secret_previous")
CREDENTIAL_KINDS = (*SECRET_KINDS, "certificate_file", "federated_token_file", "managed_identity")
PREVIOUS_KINDS = tuple(
    kind.replace("client_secret", "client_secret_previous") for kind in SECRET_KINDS
)
PASSWORD_FIELDS = ("certificate_password_env", "certificate_password_file")
EXPIRY_FIELD = "client_secret_expires_on"
CREDENTIAL_FIELDS = (*CREDENTIAL_KINDS, *PREVIOUS_KINDS, *PASSWORD_FIELDS, EXPIRY_FIELD)
FIELDS = frozenset((*DEFINITION_FIELDS, *AUTHORITY_FIELDS, *CREDENTIAL_FIELDS))
FINGERPRINT_VERSION = "1"
MAXIMUM_SIZE = 1 << 26  # bytes: a hundred thousand identities

# The guide's own sample values, and other ways to say "put yours here".
_PLACEHOLDER_PARTS = ("your-", "your_", "{", "}", "<", ">", "xxxx")
_PLACEHOLDER_ENDS = ("-m2m-client-id", "-m2m-client-secret")
_BRACED_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
_VAULT_URL = (
    r"https://[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?/secrets/[A-Za-z0-9-]{1,127}(/[A-Za-z0-9]{1,64})?/?"
)
_FIELD_NAME = re.compile(r"[A-Za-z0-9_$ .-]{1,64}", re.ASCII)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


class IdentitiesFile:
    """Entries of one file, with what is wrong with its form so far."""

    __slots__ = ("entries", "path", "problems", "warnings")

    def __init__(
        self, path: str, entries: list[Entry], problems: list[Problem], warnings: list[str]
    ) -> None:
        self.path = path
        self.entries = entries
        self.problems = problems
        self.warnings = warnings

    @property
    def obvious(self) -> bool:
        """Whether a fingerprint known from disk is all that is needed to trust every entry."""
        return not self.problems and all(entry.obvious for entry in self.entries)


def shown_field(name: str) -> str:
    """A field's name as messages show it: what cannot be one may be a secret in the wrong place."""
    return name[:64] if _FIELD_NAME.fullmatch(name) else "(no field's name)"


def is_placeholder(value: str) -> bool:
    """Whether a value is a sample from a guide instead of a real one."""
    lowered = value.lower()
    return any(part in lowered for part in _PLACEHOLDER_PARTS) or lowered.endswith(
        _PLACEHOLDER_ENDS
    )


def without_variables(path: str) -> str:
    """A path whose `${VARIABLES}` are no longer taken for a guide's `{placeholders}`."""
    return _BRACED_VARIABLE.sub(r"$\1", path)


def is_variable(text: str) -> bool:
    """Whether a text can be the name of an environment variable."""
    return text.isascii() and text.isidentifier() and len(text) <= 128  # noqa: PLR2004


def is_vault_secret(text: str) -> bool:
    """Whether a text is a Key Vault's secret, `https://{vault}/secrets/{name}[/{version}]`."""
    return re.fullmatch(_VAULT_URL, text, re.ASCII) is not None


def is_date(text: str) -> bool:
    """Whether a text is a calendar date, YYYY-MM-DD."""
    try:
        return _DATE.fullmatch(text) is not None and bool(date.fromisoformat(text))
    except ValueError:
        return False


def read_entries(settings: Settings) -> IdentitiesFile:
    """Read the identities file, or make the one identity that the environment defines.

    Raises:
        ConfigurationError: no file and no identity in the environment, or the file is not a JSON
            array.

    """
    path = settings.identities_file
    content = read_file(path, maximum=MAXIMUM_SIZE)
    if content is None:
        return _from_environment(settings)
    warnings = []
    if is_open(content.mode):
        warnings.append(
            f"{path} can be read by other users of this machine; run: chmod 600 {quoted(path)}"
        )
    parsed = parse_entries(content.data, settings)
    if not parsed.entries and not parsed.problems:
        warnings.append(f"{path} names no identity: there is nothing to do")
    parsed.warnings.extend(warnings)
    return parsed


def parse_entries(content: bytes, settings: Settings) -> IdentitiesFile:
    """The entries of an identities file's content.

    Raises:
        ConfigurationError: it is not a JSON array.

    """
    objects, problems = _parse(content, settings.identities_file)
    entries, more = _entries(objects, settings)
    return IdentitiesFile(settings.identities_file, entries, problems + more, [])


def _parse(content: bytes, path: str) -> tuple[list[Any], list[Problem]]:
    doubled: list[str] = []

    def without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            names = [name for name, _ in pairs]
            doubled.extend({name for name in names if names.count(name) > 1})
        return fields

    try:
        objects = json.loads(content.decode("utf-8-sig"), object_pairs_hook=without_doubles)
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text", hint="Save it as UTF-8.") from None
    except json.JSONDecodeError as error:
        cut = error.pos >= len(error.doc) or error.msg.startswith("Unterminated")
        raise ConfigurationError(
            f"{path} is not valid JSON: {error.msg}, line {error.lineno}, column {error.colno}",
            hint="Was it cut off while it was written?"
            if cut
            else "Look there and just before: a comma, quote or bracket is missing or too many.",
        ) from None
    except (RecursionError, ValueError):
        raise ConfigurationError(
            f"{path} is not a list of identities",
            hint="It is a JSON array with one object an identity.",
        ) from None
    if not isinstance(objects, list):
        kind = "an object" if isinstance(objects, dict) else "no array"
        raise ConfigurationError(
            f"{path} must hold a JSON array of identities, but holds {kind}",
            hint="Put [ and ] around the identities.",
        )
    problems = [
        Problem("stands more than once in one entry", field=shown_field(name)) for name in doubled
    ]
    return objects, problems


def _entries(objects: list[Any], settings: Settings) -> tuple[list[Entry], list[Problem]]:
    entries: list[Entry] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    for index, fields in enumerate(objects, start=1):
        if not isinstance(fields, dict):
            problems.append(Problem("is not a JSON object", entry=index))
            continue
        entry = make_entry(index, fields, settings)
        entries.append(entry)
        first = seen.setdefault(entry.name.lower(), index)
        if first != index and entry.name:
            problems.append(
                Problem(
                    f"the same name as entry {first} (case does not count: it names a file)",
                    entry=index,
                    identity_name=entry.name[:64],
                    field="identity_name",
                )
            )
    return entries, problems


def make_entry(index: int, given: dict[str, Any], settings: Settings) -> Entry:
    """An entry with the environment's defaults filled in, and its fingerprint."""
    fields = dict(given)
    if settings.tenant_id:
        fields.setdefault("tenant_id", settings.tenant_id)
    if settings.scope:
        fields.setdefault("scope", settings.scope)
    elif settings.client_id:
        fields.setdefault("scope", f"api://{settings.client_id}/.default")
    if isinstance(fields.get("managed_identity"), str):
        fields.setdefault("client_id", fields["managed_identity"])
    name, *_ = definition = [_text(fields, field) for field in DEFINITION_FIELDS]
    obvious = (
        all(definition)
        and fields.keys() <= FIELDS
        and _obvious_authority(fields)
        and _obvious_credential(fields)
    )
    return Entry(
        index,
        printable(name or ""),
        fields,
        _fingerprint([*definition, authority_base(fields, settings)]),
        obvious=obvious,
    )


def _text(fields: dict[str, Any], field: str) -> str | None:
    """A field of an entry that nobody has validated: None unless it is a string."""
    value = fields.get(field)
    return value if isinstance(value, str) else None


def _obvious_authority(fields: dict[str, Any]) -> bool:
    """Whether it is all in the fingerprint, which tells neither of two hosts nor of none."""
    own, cloud = (fields.get(field) for field in AUTHORITY_FIELDS)
    return (cloud is None and isinstance(own, str)) or (
        own is None and (cloud is None or (isinstance(cloud, str) and cloud in CLOUDS))
    )


def _obvious_credential(fields: dict[str, Any]) -> bool:
    """Whether there is exactly one credential, and nothing about it needs a closer look."""
    given = [field for field in CREDENTIAL_FIELDS if field in fields]
    kinds = [field for field in given if field in CREDENTIAL_KINDS]
    if len(kinds) != 1:
        return False
    if kinds == ["managed_identity"]:
        value = fields["managed_identity"]
        return len(given) == 1 and (value is True or value == fields.get("client_id"))
    return (
        sum(field in PREVIOUS_KINDS for field in given) <= 1
        and sum(field in PASSWORD_FIELDS for field in given) <= (kinds == ["certificate_file"])
        and not (EXPIRY_FIELD in given and kinds[0] not in SECRET_KINDS)
        and all(_obvious_value(field, fields[field]) for field in given)
    )


def _obvious_value(field: str, value: object) -> bool:
    if not isinstance(value, str) or value != value.strip() or not value.isprintable():
        return False
    if field == EXPIRY_FIELD:
        return is_date(value)
    if field.endswith("_env"):
        return is_variable(value)
    if field.endswith("_keyvault"):
        return is_vault_secret(value)
    if field in LITERALS:
        return value != "" and value.isascii() and not is_placeholder(value)
    return value != "" and not is_placeholder(without_variables(value))


def authority_base(fields: dict[str, Any], settings: Settings) -> str:
    """The login host of an entry: its own `login_base_url` or `cloud`, else the settings'."""
    own = _text(fields, "login_base_url")
    if own is not None:
        return own.strip().rstrip("/")
    return CLOUDS.get(_text(fields, "cloud") or "", settings.login_base_url)


def _fingerprint(definition: list[str | None]) -> str:
    """Fingerprint of an identity's definition without its credential."""
    canonical = json.dumps(definition)
    digest = blake2b(canonical.encode(), digest_size=16).hexdigest()
    return f"{FINGERPRINT_VERSION}:{digest}"


def _from_environment(settings: Settings) -> IdentitiesFile:
    """The registry's `ENTRA_…` variables (or options) define one identity named `ingress`."""
    path = settings.identities_file
    missing = _missing(settings)
    if settings.identities_file_given or missing:
        raise ConfigurationError(
            f"there is no identities file at {path}",
            hint=(
                f"Set {' and '.join(missing)} as well, or create the file."
                if not settings.identities_file_given and 0 < len(missing) < _PARTS
                else "Make it with `credentials-provider identities init`, which asks for what it "
                "needs, or by hand: a JSON array of objects with identity_name, tenant_id, "
                "client_id, client_secret and scope."
            ),
        )
    return _one_identity(
        "the environment (ENTRA_TENANT_ID, ENTRA_CLIENT_ID, ENTRA_CLIENT_SECRET)", settings
    )


def identity_of_options(settings: Settings) -> IdentitiesFile:
    """The one identity that tenant, client and scope on the command line define; no file is read.

    Its credential comes from the environment.

    Raises:
        ConfigurationError: something is missing.

    """
    if missing := _missing(settings):
        raise ConfigurationError(
            f"the identity lacks {' and '.join(missing)}",
            hint="Set the variable, or name the option. A secret belongs into the environment.",
        )
    return _one_identity("the command line", settings)


_PARTS = 3  # tenant, client, credential


def _missing(settings: Settings) -> list[str]:
    parts = {
        "ENTRA_TENANT_ID": settings.tenant_id,
        "ENTRA_CLIENT_ID": settings.client_id,
        "ENTRA_CLIENT_SECRET": _credential(settings),
    }
    return [name for name, value in parts.items() if not value]


def _credential(settings: Settings) -> dict[str, str]:
    """The credential field of an identity that the environment defines; none if it has none."""
    if settings.client_secret:
        return {"client_secret": settings.client_secret}
    token_file = settings.environment.get("AZURE_FEDERATED_TOKEN_FILE")
    return {"federated_token_file": token_file} if token_file else {}


def _one_identity(path: str, settings: Settings) -> IdentitiesFile:
    fields = {
        "identity_name": INGRESS,
        "tenant_id": settings.tenant_id,
        "client_id": settings.client_id,
        **_credential(settings),
    }
    return IdentitiesFile(path, [make_entry(1, fields, settings)], [], [])


def select(entries: Sequence[Entry], names: Sequence[str], path: str) -> list[Entry]:
    """The entries of these names, all without one.

    Raises:
        UnknownIdentityError: there is no entry of a name.

    """
    known = {entry.name for entry in entries}
    if unknown := [name for name in dict.fromkeys(names) if name not in known]:
        problems = [
            Problem(f"{path} has no identity of this name{_near(name, known)}", None, name[:128])
            for name in unknown
        ]
        raise UnknownIdentityError(unknown, problems)
    return [entry for entry in entries if not names or entry.name in names]


def _near(name: str, known: set[str]) -> str:
    import difflib  # noqa: PLC0415  only to help with a mistake

    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
