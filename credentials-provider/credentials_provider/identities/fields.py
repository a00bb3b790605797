"""One identity: the table of its fields, and what they must be together.

The table is the only list of the fields. From it come the quick check of a run with nothing due,
pydantic's model, the JSON schema, the options of `identities add` and the documents' table. A new
field is one row here, a rule in `rules`, and its behaviour.
"""

from __future__ import annotations

from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from credentials_provider.identities import rules
from credentials_provider.settings import CLOUDS, login_url_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Part = Literal["definition", "authority", "credential", "previous", "companion", "use"]


class Field(NamedTuple):
    """One field of an identity.

    `part` is what it is for; those of `definition` and `authority` make the fingerprint. `rule`
    says what is wrong with a value; it gets strings only, or whatever is there if not `text`.
    """

    name: str
    part: Part
    help: str  # plain text: for the schema, the option and the documents
    rule: Callable[[Any], str | None]
    metavar: str | None = None  # of the option; None: there is none
    schema: Mapping[str, Any] = {"type": "string"}  # JSON schema of its value
    secret: bool = False  # its value is a secret
    text: bool = True  # its value is a string

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    def problem(self, value: object) -> str | None:
        """What is wrong with a value of this field; the value itself is never shown."""
        if self.text and not isinstance(value, str):
            return None if value is None and self.part == "authority" else "must be a string"
        return self.rule(value)


def _text(pattern: str) -> dict[str, str]:
    return {"type": "string", "pattern": pattern}


_path = partial(Field, rule=rules.path, metavar="FILE")
_variable = partial(
    Field, rule=rules.variable, metavar="NAME", schema=_text("^[A-Za-z_][A-Za-z0-9_]*$")
)
_vault = partial(
    Field, rule=rules.vault_secret, metavar="URL", schema=_text("^https://[^/]+/secrets/")
)
_secret = partial(Field, rule=rules.secret, secret=True)
_SECOND = "A second secret, during a rotation."
_SINKS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            name: {"enum": list(rules.SINK_FORMATS)} if name == "format" else {"type": "string"}
            for name in rules.SINK_RULES
        },
        "oneOf": [{"required": ["path"]}, {"required": ["kubernetes_secret"]}],
        "additionalProperties": False,
    },
}

_TABLE = (
    Field(
        "identity_name",
        "definition",
        "Name of the identity and of its token file: letters and digits of any script, '_', '.', "
        "'-', '@', '+' and single spaces, at most 128 characters. Unique without regard to case.",
        rules.identity_name,
        schema=_text("^[^\\s/\\\\.@+-][^/\\\\]{0,127}$"),
    ),
    Field(
        "tenant_id",
        "definition",
        "A GUID or a domain name. Default: ENTRA_TENANT_ID.",
        rules.tenant_id,
        "ID",
    ),
    Field(
        "client_id",
        "definition",
        "Application (client) ID of the identity's own app.",
        rules.client_id,
        "ID",
    ),
    Field(
        "scope",
        "definition",
        "api://{gateway's application}/.default. Default: ENTRA_SCOPE, else from "
        "ENTRA_APPLICATION_ID_URI or ENTRA_CLIENT_ID.",
        rules.scope,
        "SCOPE",
        {"anyOf": [_text("^(\\S+/\\.default)?$"), {"type": "null"}]},
    ),
    Field(
        "login_base_url",
        "authority",
        "Another login host, https://host, for this identity.",
        login_url_problem,
        "URL",
        _text("^[Hh][Tt][Tt][Pp][Ss]://"),
    ),
    Field(
        "cloud",
        "authority",
        "Another cloud's login host: public, usgov or china.",
        rules.cloud,
        "NAME",
        {"enum": list(CLOUDS)},
    ),
    Field(
        "federated_token",
        "credential",
        "The token of a CI platform, asked for at each use: github or azure-pipelines.",
        rules.federated_token,
        "PLATFORM",
        {"type": "string", "enum": list(rules.FEDERATED_PLATFORMS)},
    ),
    _variable(
        "federated_token_env",
        "credential",
        "Name of a variable with the platform's token, as GitLab's id_tokens set it.",
    ),
    _path(
        "federated_token_file",
        "credential",
        "File with the platform's token, read at each use, such as $AZURE_FEDERATED_TOKEN_FILE.",
    ),
    Field(
        "managed_identity",
        "credential",
        "true for this machine's own, or the client ID of one that is assigned to it.",
        rules.managed_identity,
        "[CLIENT_ID]",
        {"anyOf": [{"const": True}, {"type": "string"}]},
        text=False,
    ),
    _path("certificate_file", "credential", "PEM with private key and certificate, or PFX."),
    _path(
        "certificate_key_file",
        "companion",
        "The private key, where certificate_file does not hold it (tls.crt and tls.key).",
    ),
    _variable(
        "certificate_password_env", "companion", "Name of a variable with the key's password."
    ),
    _path("certificate_password_file", "companion", "File with the key's password."),
    _vault(
        "client_secret_keyvault",
        "credential",
        "The address of a secret in an Azure Key Vault, as the portal shows it.",
    ),
    _path(
        "client_secret_file",
        "credential",
        "File whose first line is the secret. ~ and $VARIABLES expand.",
    ),
    _variable(
        "client_secret_env",
        "credential",
        "Name of a variable with the secret, of the process or of .env.",
    ),
    _secret("client_secret", "credential", "The secret's Value. Better: one of the other kinds."),
    Field(
        "client_secret_expires_on",
        "companion",
        "The secret's last day, YYYY-MM-DD. A warning comes 30 days before.",
        rules.day,
        "DATE",
        _text("^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    ),
    _secret("client_secret_previous", "previous", _SECOND),
    _variable("client_secret_previous_env", "previous", _SECOND),
    _path("client_secret_previous_file", "previous", _SECOND),
    _vault("client_secret_previous_keyvault", "previous", _SECOND),
    Field(
        "sinks",
        "use",
        "Other files that get the token too: objects with path, and format, mode, owner, group, "
        "variable or machine. Or Kubernetes Secrets: objects with kubernetes_secret, and key.",
        rules.sinks,
        schema=_SINKS,
        text=False,
    ),
)
FIELDS: Mapping[str, Field] = {each.name: each for each in _TABLE}


def _of(part: Part) -> tuple[str, ...]:
    return tuple(each.name for each in _TABLE if each.part == part)


DEFINITION_FIELDS = _of("definition")
CREDENTIAL_KINDS = _of("credential")
PREVIOUS_KINDS = _of("previous")
SECRET_KINDS = tuple(kind for kind in CREDENTIAL_KINDS if kind.startswith("client_secret"))
# Those that can be made anew through Microsoft Graph, and that nobody else keeps.
ROTATED = ("client_secret_file", "client_secret_env", "client_secret", "certificate_file")
FEDERATED_KINDS = tuple(kind for kind in CREDENTIAL_KINDS if kind.startswith("federated_token"))
PASSWORD_FIELDS = ("certificate_password_env", "certificate_password_file")
CERTIFICATE_FIELDS = ("certificate_key_file", *PASSWORD_FIELDS)
EXPIRY_FIELD = "client_secret_expires_on"
SECRETS_FOLDER = ".secrets"  # beside the identities file
LITERALS = tuple(each.name for each in _TABLE if each.secret)
EXPIRY_WARNING = 30 * 86400.0  # seconds before a credential's end
_LONGEST_FIELD = 64  # characters of a name that messages show


def secret_end(fields: Mapping[str, Any]) -> float | None:
    """When an entry says that its secret ends, epoch seconds: the start of that day, UTC."""
    text = fields.get(EXPIRY_FIELD)
    if not isinstance(text, str) or not rules.is_date(text):
        return None
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp()


def day_of(epoch: float) -> str:
    """The day of a time, ISO 8601 in UTC."""
    return datetime.fromtimestamp(epoch, timezone.utc).date().isoformat()


def keeps_the_rules(fields: Mapping[str, Any]) -> bool:
    """Whether fields are a valid identity; unknown ones are somebody else's question."""
    for name, value in fields.items():
        if name in FIELDS and FIELDS[name].problem(value):
            return False
    return fields.keys() >= {*DEFINITION_FIELDS} and next(conflicts(fields), None) is None


def conflicts(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is wrong with fields together, as field and message: pure, and of any types."""
    kinds = [kind for kind in CREDENTIAL_KINDS if kind in fields]
    previous = [kind for kind in PREVIOUS_KINDS if kind in fields]
    if not kinds:
        others = ", ".join(kind for kind in CREDENTIAL_KINDS if kind != "client_secret")
        yield "client_secret", f"is missing, or another credential: {others}"
    passwords = [name for name in PASSWORD_FIELDS if name in fields]
    for names in (kinds, previous, passwords):
        if len(names) > 1:
            yield names[1], f"only one of {' and '.join(names)} may stand here: keep one of them"
    if "certificate_file" not in kinds:
        for name in CERTIFICATE_FIELDS:
            if name in fields:
                yield name, "belongs to certificate_file, which is not there"
    if EXPIRY_FIELD in fields and kinds and not {*kinds} & {*SECRET_KINDS}:
        yield EXPIRY_FIELD, f"does not go with {kinds[0]}"
    if fields.get("login_base_url") is not None and fields.get("cloud") is not None:
        yield "cloud", "login_base_url and cloud exclude one another: keep one of them"
    if "managed_identity" in kinds:
        yield from _conflicts_of_managed_identity(fields, previous)


def _conflicts_of_managed_identity(
    fields: Mapping[str, Any], previous: Sequence[str]
) -> Iterator[tuple[str, str]]:
    if previous:
        yield previous[0], "does not go with managed_identity"
    own, client_id = fields["managed_identity"], fields.get("client_id")
    if own and isinstance(own, str) and own.lower() != str(client_id).lower():
        yield "managed_identity", "is another client ID than client_id: keep one of them"


# What the registry's own API and people write beside the fields, though it resembles one.
_NO_MISTAKES = {"client_uuid", "client_name"}
_PLAIN_NAMES = {name.replace("_", ""): name for name in FIELDS}
_RESEMBLES = 0.75  # of 1: "tenantid", "scopes" and "login_url" do


def meant_field(name: str) -> str | None:
    """The field that an unknown one resembles so much that it must be a mistake."""
    plain = "".join(filter(str.isalnum, name.lower()))
    if name in _NO_MISTAKES or name[:1] in {"_", "$", "#", "/"} or len(name) > _LONGEST_FIELD:
        return None
    import difflib  # only to help with a mistake

    near = difflib.get_close_matches(plain, _PLAIN_NAMES, n=1, cutoff=_RESEMBLES)
    return _PLAIN_NAMES[near[0]] if near else None


def shown_field(name: str) -> str:
    """A field's name as messages show it: what cannot be one may be a secret in the wrong place."""
    possible = name.isascii() and all(each.isalnum() or each in "_$ .-" for each in name)
    return name[:_LONGEST_FIELD] if possible and name else "(no field's name)"
