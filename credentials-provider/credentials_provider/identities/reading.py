"""The identities file as raw entries: enough for a plan, without pydantic."""

from __future__ import annotations

import json
import os
from codecs import BOM_UTF8
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.errors import (
    ConfigurationError,
    NoIdentitiesError,
    Problem,
    UnknownIdentityError,
    printable,
    quoted,
)
from credentials_provider.identities import rules
from credentials_provider.identities.fields import (
    CREDENTIAL_KINDS,
    DEFINITION_FIELDS,
    FIELDS,
    keeps_the_rules,
    shown_field,
)
from credentials_provider.model import Entry
from credentials_provider.permissions import is_open, read_file
from credentials_provider.settings import CLOUDS, Settings, login_base, login_host_problem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credentials_provider.environment import Environment

try:
    from _blake2 import blake2b  # hashlib's own; hashlib loads OpenSSL too, a tenth of a run's time
except ImportError:
    from hashlib import blake2b

# Set by the webhook of a cluster with workload identity:
# https://azure.github.io/azure-workload-identity/docs/topics/service-account-labels-and-annotations.html
POD_VARIABLES = ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_ID", "AZURE_TENANT_ID")
INGRESS = "ingress"  # the registry's own default identity
FINGERPRINT_VERSION = "1"
MAXIMUM_SIZE = 1 << 26  # bytes: a hundred thousand identities


class IdentitiesFile(NamedTuple):
    """The entries of one file, valid or not, each with what is wrong with its form."""

    path: str
    entries: list[Entry]
    warnings: list[str]

    @property
    def obvious(self) -> bool:
        """Whether every entry is valid, and there is nothing to warn of in it."""
        return all(entry.obvious for entry in self.entries)

    @property
    def problems(self) -> list[Problem]:
        """What is wrong with the form of the file: places and names, not values."""
        return [problem for entry in self.entries for problem in entry.problems]


def read_entries(settings: Settings) -> IdentitiesFile:
    """Read the identities file, or make the one identity that the environment defines.

    Raises:
        NoIdentitiesError: no file and no identity in the environment.
        ConfigurationError: the file is not a JSON array.

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
    if not parsed.entries:
        warnings.append(f"{path} names no identity: there is nothing to do")
    parsed.warnings.extend(warnings)
    return parsed


def parse_entries(content: bytes, settings: Settings) -> IdentitiesFile:
    """The entries of an identities file's content.

    Raises:
        ConfigurationError: it is not a JSON array.

    """
    path = settings.identities_file
    objects = _parse(content, path)
    problems = _same(objects, settings)
    entries = [
        make_entry(index, fields, settings, problems.get(index, ()))
        for index, fields in enumerate(objects, start=1)
    ]
    return IdentitiesFile(path, entries, [])


class _Doubled(dict[str, Any]):
    """An object with a field that stands in it more than once: JSON would take the last one."""

    names: list[str]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    names = [name for name, _ in pairs]
    doubled = [name for name in fields if names.count(name) > 1] if len(fields) < len(pairs) else []
    for name, value in fields.items():  # what is within a field counts as the field's
        within = value if isinstance(value, list) else [value]
        if any(isinstance(each, _Doubled) for each in within) and name not in doubled:
            doubled.append(name)
    if not doubled:
        return fields
    marked = _Doubled(fields)
    marked.names = doubled
    return marked


def _parse(content: bytes, path: str) -> list[Any]:
    try:
        objects = json.loads(content.removeprefix(BOM_UTF8).decode(), object_pairs_hook=_object)
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
            hint="It must be a JSON array with one object for each identity.",
        ) from None
    if not isinstance(objects, list):
        kind = "an object" if isinstance(objects, dict) else "no array"
        raise ConfigurationError(
            f"{path} must hold a JSON array of identities, but holds {kind}",
            hint="Put [ and ] around the identities.",
        )
    return objects


def _same(objects: list[Any], settings: Settings) -> dict[int, list[Problem]]:
    """By index: entries of one name or sink, which both fail; names and sinks of our own files."""
    path, output_dir = map(os.path.abspath, (settings.identities_file, settings.output_dir))
    stem = os.path.splitext(os.path.basename(path))[0]
    places: dict[str, list[int]] = {}
    for index, fields in enumerate(objects, start=1):
        name = fields.get("identity_name") if isinstance(fields, dict) else None
        if isinstance(name, str) and name:
            places.setdefault(rules.name_key(name), []).append(index)
    problems: dict[int, list[Problem]] = {}

    def add(index: int, message: str, field: str = "identity_name") -> None:
        name = printable(str(objects[index - 1].get("identity_name") or ""))[:64]
        problem = Problem(message, index, name or None, field)
        problems.setdefault(index, []).append(problem)

    def is_ours(place: str) -> bool:
        folder, name = os.path.split(place)
        token = name.endswith(".json") and rules.name_key(name[: -len(".json")]) in places
        return place == path or (folder == output_dir and (token or name.startswith(".cred")))

    for index, message in rules.wrong_sinks(objects, os.path.dirname(path), is_ours):
        add(index, message, "sinks")
    for index in places.get(rules.name_key(stem), ()) if rules.identity_name(stem) is None else ():
        add(index, f"{printable(stem)}.json is the name of the identities file itself")
    for same in places.values():
        for index in same if len(same) > 1 else ():
            other = next(each for each in same if each != index)
            add(index, f"the same name as entry {other} (case does not count: it names a file)")
    return problems


def make_entry(
    index: int, given: Any, settings: Settings, problems: Sequence[Problem] = ()
) -> Entry:
    """An entry with the environment's defaults filled in, its fingerprint and `problems`."""
    if not isinstance(given, dict):
        wrong = Problem("is not a JSON object", index)
        return Entry(index, "", {}, "", obvious=False, problems=(wrong,), is_object=False)
    fields = _with_defaults(given, settings)
    definition = [_text(fields, field) for field in DEFINITION_FIELDS]
    name = printable(definition[0] or "")
    found = [*problems]
    if isinstance(given, _Doubled):
        found += [
            Problem("stands more than once", index, name[:64] or None, shown_field(field))
            for field in given.names
        ]
    host = _text(fields, "login_base_url")
    if host is not None and (problem := login_host_problem(host, settings)):
        found.append(Problem(problem, index, name[:64] or None, "login_base_url"))
    obvious = not found and fields.keys() <= FIELDS.keys() and keeps_the_rules(fields)
    fingerprint = _fingerprint([*definition, authority_base(fields, settings)])
    return Entry(index, name, fields, fingerprint, obvious=obvious, problems=tuple(found))


def _with_defaults(given: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The fields of an entry with what the environment, or another field, says of absent ones."""
    fields = dict(given)
    if isinstance(name := fields.get("identity_name"), str):
        fields["identity_name"] = rules.composed(name)
    if settings.tenant_id:
        fields.setdefault("tenant_id", settings.tenant_id)
    if isinstance(fields.get("managed_identity"), str):
        fields.setdefault("client_id", fields["managed_identity"])
    kinds = [kind for kind in CREDENTIAL_KINDS if kind in fields]
    if kinds in ([], ["federated_token_file"]):
        _take_pod_identity(fields, settings.environment)
    if fields.get("scope") is None or fields["scope"] == "":
        own = _text(fields, "client_id")
        scope = default_scope(settings) or (own and f"api://{own}{rules.SCOPE_END}")
        if scope:
            fields["scope"] = scope
    return fields


def _take_pod_identity(fields: dict[str, Any], environment: Environment) -> None:
    """Fill in what the cluster has set for this pod."""
    token_file, client_id, tenant_id = POD_VARIABLES
    if environment.get(token_file):
        fields.setdefault("federated_token_file", f"${token_file}")
        for field, variable in (("client_id", client_id), ("tenant_id", tenant_id)):
            if value := environment.get(variable):
                fields.setdefault(field, value)


def default_scope(settings: Settings) -> str | None:
    """The scope of an identity that names none, as far as the environment says one."""
    if settings.scope:
        return settings.scope
    if uri := settings.environment.get("ENTRA_APPLICATION_ID_URI"):
        return uri.rstrip("/") + rules.SCOPE_END
    return f"api://{settings.client_id}{rules.SCOPE_END}" if settings.client_id else None


def _text(fields: Mapping[str, Any], field: str) -> str | None:
    """A field of an entry that nobody has validated: None unless it is a string."""
    value = fields.get(field)
    return value if isinstance(value, str) else None


def authority_base(fields: Mapping[str, Any], settings: Settings) -> str:
    """The login host of an entry: its own `login_base_url` or `cloud`, else the settings'."""
    own = _text(fields, "login_base_url")
    if own is not None:
        return login_base(own)
    return CLOUDS.get(_text(fields, "cloud") or "", settings.login_base_url)


def _fingerprint(definition: list[str | None]) -> str:
    """Fingerprint of an identity's definition without its credential."""
    canonical = json.dumps(definition)
    digest = blake2b(canonical.encode(), digest_size=16).hexdigest()
    return f"{FINGERPRINT_VERSION}:{digest}"


def _from_environment(settings: Settings) -> IdentitiesFile:
    """The registry's `ENTRA_…` variables (or options), or those of a pod, define `ingress`."""
    missing, given = missing_parts(settings), settings.identities_file_given
    if not missing and not given:
        return _one_identity(
            "the environment (ENTRA_TENANT_ID, ENTRA_CLIENT_ID, ENTRA_CLIENT_SECRET)", settings
        )
    raise NoIdentitiesError(
        f"there is no identities file at {settings.identities_file}",
        hint=settings.moved
        if settings.moved and not given
        else f"Set {' and '.join(missing)} as well, or create the file."
        if not given and len(missing) < _PARTS
        else "Make it with `credentials-provider identities init`, which asks for what it needs, "
        "or by hand: a JSON array of objects with identity_name, tenant_id, client_id, "
        "client_secret and scope.",
    )


def identity_of_options(settings: Settings) -> IdentitiesFile:
    """The one identity that tenant, client and scope on the command line define; no file is read.

    Its credential comes from the environment.

    Raises:
        ConfigurationError: something is missing.

    """
    if missing := missing_parts(settings):
        raise ConfigurationError(
            f"the identity lacks {' and '.join(missing)}",
            hint="Set the variable, or name the option. A secret belongs in the environment. A job "
            "of GitHub Actions needs none with `permissions: id-token: write`.",
        )
    return _one_identity("the command line", settings)


_PARTS = 3  # tenant, client, credential
# The variable of a job that may have a token of its platform.
_JOBS = {"github": "ACTIONS_ID_TOKEN_REQUEST_URL", "azure-pipelines": "SYSTEM_OIDCREQUESTURI"}


def missing_parts(settings: Settings) -> list[str]:
    """The variables that are not there for the environment to define an identity."""
    fields = _fields_of(settings)
    parts = {
        "ENTRA_TENANT_ID": fields.get("tenant_id"),
        "ENTRA_CLIENT_ID": fields.get("client_id"),
        "ENTRA_CLIENT_SECRET": fields.keys() & {*CREDENTIAL_KINDS},
    }
    return [name for name, value in parts.items() if not value]


def _fields_of(settings: Settings) -> dict[str, Any]:
    """The fields that the environment and the command line have for one identity.

    In a pod the cluster has set the identity's own application, and the registry's `.env` the
    gateway's: an option is over both.
    """
    environment = settings.environment
    token_file, client_id, tenant_id = map(environment.get, POD_VARIABLES)
    fields: dict[str, Any] = {
        "identity_name": INGRESS,
        "tenant_id": settings.tenant_id,
        "client_id": settings.client_id,
    }
    if settings.client_secret:
        fields["client_secret"] = settings.client_secret
    elif token_file:
        fields["federated_token_file"] = token_file
        fields["tenant_id"] = settings.tenant_id or tenant_id
        if client_id and settings.client_id in {None, environment.get("ENTRA_CLIENT_ID")}:
            fields["client_id"] = client_id
    else:
        jobs = (name for name, variable in _JOBS.items() if environment.get(variable))
        fields["federated_token"] = next(jobs, None)
    return {name: value for name, value in fields.items() if value}


def _one_identity(path: str, settings: Settings) -> IdentitiesFile:
    return IdentitiesFile(path, [make_entry(0, _fields_of(settings), settings)], [])


def select(entries: Sequence[Entry], names: Sequence[str], path: str) -> list[Entry]:
    """The entries of these names, all without one.

    Raises:
        UnknownIdentityError: there is no entry of a name.

    """
    known = {entry.name for entry in entries}
    wanted = dict.fromkeys(rules.composed(name) for name in names)
    if unknown := [name for name in wanted if name not in known]:
        problems = [
            Problem(f"{path} has no identity of this name{_near(name, known)}", None, name[:128])
            for name in unknown
        ]
        raise UnknownIdentityError(unknown, problems)
    return [entry for entry in entries if not names or entry.name in wanted]


def _near(name: str, known: set[str]) -> str:
    import difflib  # only to help with a mistake

    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""
