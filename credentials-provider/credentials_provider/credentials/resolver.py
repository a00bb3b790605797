"""Where an identity says that its credential is, turned into what msal takes.

Only what is due is resolved, each source once a run however many identities and threads want it.
What cannot be had is a `Failure` of that identity alone; it names the source, never its content.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from credentials_provider.errors import ConfigurationError, SecretUnavailableError, quoted
from credentials_provider.identities import rules
from credentials_provider.identities.fields import (
    CERTIFICATE_FIELDS,
    EXPIRY_FIELD,
    EXPIRY_WARNING,
    FEDERATED_KINDS,
    LITERALS,
    SECRET_KINDS,
    day_of,
    secret_end,
)
from credentials_provider.identities.reading import POD_VARIABLES, authority_base
from credentials_provider.minting import Failure
from credentials_provider.permissions import EVERYBODY, is_open, open_folder_of, read_file
from credentials_provider.tokens.claims import decode_claims, epoch_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from credentials_provider.identities.identity import Identity
    from credentials_provider.settings import Settings
    from credentials_provider.transport.retrying import Transport

MAXIMUM_SIZE = 1 << 16  # bytes of a file with a credential; a chain of certificates has some 8,000
ASSERTION_LEEWAY = 300  # seconds; Entra ID forgives as much of a clock

_HOST_VARIABLES = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT")
_PEM = b"-----BEGIN "
_KEY = b"PRIVATE KEY-----"
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """What msal takes: a secret, or a dictionary with a key or an assertion; it is not shown.

    `field` is the identity's field that it comes from; `expires_on`, in epoch seconds, where its
    end is known.
    """

    field: str
    for_msal: str | dict[str, Any] | None = dataclasses.field(repr=False)  # None: the machine's own
    expires_on: float | None = None
    warnings: tuple[str, ...] = ()


class Resolver:
    """The credentials of one run; thread-safe.

    Relative paths belong to the folder of the identities file; `now` gives epoch seconds;
    `timeout`, in seconds, is for one request to a Key Vault; `strict` takes no file that every user
    of this machine can read; `transport` asks CI platforms (None: one is made where it is needed).
    """

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], float],
        *,
        timeout: float = 20.0,
        strict: bool = False,
        transport: Transport | None = None,
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._timeout = timeout
        self._strict = strict
        self._environment = settings.environment
        self._folder = os.path.dirname(os.path.abspath(settings.identities_file))
        self._now = now
        self._lock = threading.Lock()
        self._found: dict[Hashable, Future[Credential]] = {}

    def resolve(self, identity: Identity, field: str) -> Credential | Failure:
        """The credential that an identity's `field` names."""
        value = getattr(identity, field)
        try:
            if field == "managed_identity":
                return self._managed(identity)
            if field in FEDERATED_KINDS:  # short-lived: fetched again at each use
                return self._federated(identity, field, value)
            if field in LITERALS:
                found = Credential(field, value)
            elif field == "certificate_file":
                companions = tuple(getattr(identity, each) for each in CERTIFICATE_FIELDS)
                found = self._once(
                    (field, value, companions), lambda: self._certificate(field, value, identity)
                )
            else:
                found = self._once((field, value), lambda: self._secret(field, value))
        except SecretUnavailableError as error:
            return Failure(
                "secret_unavailable", error.message, error.hint or "", transient=error.transient
            )
        end = secret_end({EXPIRY_FIELD: identity.client_secret_expires_on})
        if field in SECRET_KINDS and end is not None:
            return self._with_expiry(found, end, f"{identity.identity_name}: the client secret")
        return found

    def _once(self, key: Hashable, make: Callable[[], Credential]) -> Credential:
        """One thread makes it, the others wait for that; a failure is everybody's, too."""
        with self._lock:
            mine = key not in self._found
            future = self._found.setdefault(key, Future())
        if mine:
            try:
                future.set_result(make())
            except Exception as error:  # noqa: BLE001  those who wait get it as well
                future.set_exception(error)
        return future.result()

    def _secret(self, field: str, place: str) -> Credential:
        kind = field.replace("_previous", "")
        warnings: tuple[str, ...] = ()
        if kind == "client_secret_env":
            what = f"the environment variable {place} ({field})"
            secret = self._variable(place, field)
            warnings = self._environment.notes(place)
        elif kind == "client_secret_file":
            what, secret, warnings = self._line(place, field)
        else:
            what = f"{place} ({field})"
            from credentials_provider.credentials.keyvault import fetch_secret  # an extra

            fetched = fetch_secret(place, field, self._settings, self._timeout)
            if isinstance(fetched, bytes):
                return self._loaded(field, what, fetched, None, ())
            secret = fetched
        if not secret:
            raise SecretUnavailableError(f"{what} is empty", "Put the secret's Value there.")
        if problem := rules.secret(secret):
            raise SecretUnavailableError(
                f"{what} holds no client secret: it {problem}",
                "Put the secret's Value there, and nothing else.",
            )
        if rules.is_guid(secret):
            warnings = (*warnings, f"{what} {rules.LOOKS_LIKE_ID}")
        return Credential(field, secret, warnings=warnings)

    def _variable(self, name: str, field: str) -> str:
        value = self._environment.get(name)
        if value is None:
            raise SecretUnavailableError(
                f"the environment variable {name} ({field}) is not set, or empty",
                f"Set {name} in the environment or in .env. A timer's environment is not your "
                "shell's.",
            )
        return value.strip()

    def _line(self, place: str, field: str) -> tuple[str, str, tuple[str, ...]]:
        """A file's name for messages, its first line, and warnings about the file."""
        path = self._path(place, field)
        what = f"{path} ({field})"
        content, warnings = _read(path, field, strict=self._strict)
        try:
            lines = content.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise SecretUnavailableError(
                f"{what} is not UTF-8 text", "Put the credential into the file's first line."
            ) from None
        return what, lines[0].strip() if lines else "", warnings

    def _path(self, place: str, field: str) -> str:
        """The full path: `~`, `$NAME` and `${NAME}` expand, from the environment or `.env`."""

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            found = self._environment.get(name)
            if found is None:
                raise SecretUnavailableError(
                    f"{field} is {place}, but {name} is not set in the environment",
                    f"Run where {name} is set, or name the file without it.",
                )
            return found

        expanded = os.path.expanduser(_VARIABLE.sub(value, place))
        return os.path.join(self._folder, expanded)

    def _managed(self, identity: Identity) -> Credential:
        """The machine's own, but a pod's where its cluster gives one: as azure-identity does it.

        The metadata service of a cluster's node would answer with the node's identity.
        """
        names = self._environment.get
        if all(map(names, POD_VARIABLES)) and not any(map(names, _HOST_VARIABLES)):
            found = self._federated(identity, "federated_token_file", f"${POD_VARIABLES[0]}")
            return dataclasses.replace(found, field="managed_identity")
        return Credential("managed_identity", None)

    def _federated(self, identity: Identity, field: str, place: str) -> Credential:
        warnings: tuple[str, ...] = ()
        if field == "federated_token":
            what, token = f"{place} ({field})", self._platform_token(identity, place)
        elif field == "federated_token_env":
            what = f"the environment variable {place} ({field})"
            token = self._variable(place, field)
        else:
            what, token, warnings = self._line(place, field)
        if not token:
            raise SecretUnavailableError(
                f"{what} is empty", "Check the program that should write a token there."
            )
        claims = decode_claims(token)
        if claims is None:
            raise SecretUnavailableError(
                f"{what} holds no federated token: a JSON Web Token is expected",
                "Name the place that the platform writes its token to, in Kubernetes "
                "$AZURE_FEDERATED_TOKEN_FILE.",
            )
        end = epoch_claim(claims, "exp")
        if end is not None and end + ASSERTION_LEEWAY < self._now():
            raise SecretUnavailableError(
                f"the federated token in {what} expired on {day_of(end)}",
                "Check the program that should renew it, and this machine's clock.",
            )
        return Credential(field, {"client_assertion": lambda: token}, warnings=warnings)

    def _platform_token(self, identity: Identity, platform: str) -> str:
        from credentials_provider.credentials.platforms import (  # the network
            TIMEOUT,
            platform_token,
        )
        from credentials_provider.transport.retrying import Transport

        base = authority_base(identity.more, self._settings)
        if self._transport is not None:
            return platform_token(platform, self._environment, base, self._transport)
        own = Transport(
            timeout=self._timeout,
            max_attempts=2,
            deadline=time.monotonic() + TIMEOUT,
            connections=1,
            ca_bundle=self._settings.ca_bundle,
        )
        with contextlib.closing(own):
            return platform_token(platform, self._environment, base, own)

    def _certificate(self, field: str, place: str, identity: Identity) -> Credential:
        path = self._path(place, field)
        content, warnings = _read(path, field, strict=False)
        if identity.certificate_key_file and _KEY not in content:
            warnings = ()  # a certificate without its key is not secret
        elif self._strict:
            content, warnings = _read(path, field, strict=True)
        what = f"{path} ({field})"
        if identity.certificate_key_file:
            theirs = self._path(identity.certificate_key_file, "certificate_key_file")
            key, more = _read(theirs, "certificate_key_file", strict=self._strict)
            if _PEM not in content:
                raise SecretUnavailableError(
                    f"{what} is not PEM, so its key cannot stand in another file",
                    "Leave certificate_key_file out for a PFX, or convert the certificate to PEM.",
                )
            if _PEM not in key:
                raise SecretUnavailableError(
                    f"{theirs} (certificate_key_file) holds no private key in PEM",
                    "Name the file with the private key.",
                )
            # The key of its own file counts, whatever else the certificate's file holds.
            content, warnings = key + b"\n" + content, (*warnings, *more)
            what = f"{path} with {theirs}"
        password = None
        if identity.certificate_password_env:
            name = identity.certificate_password_env
            password = self._variable(name, "certificate_password_env")
        elif identity.certificate_password_file:
            place = identity.certificate_password_file
            _, password, more = self._line(place, "certificate_password_file")
            warnings += more
        return self._loaded(field, what, content, password, warnings)

    def _loaded(
        self, field: str, what: str, content: bytes, password: str | None, warnings: tuple[str, ...]
    ) -> Credential:
        # Only a run with a certificate needs the library that reads them.
        from credentials_provider.credentials.certificates import load_certificate

        try:
            for_msal, end = load_certificate(content, password, self._now())
        except SecretUnavailableError as error:
            raise SecretUnavailableError(f"{what} {error.message}", error.hint or "") from None
        found = Credential(field, for_msal, warnings=warnings)
        return self._with_expiry(found, end, f"the certificate in {what}")

    def certificate_end(self, identity: Identity) -> float | None:
        """When the certificate of an identity's file ends, epoch seconds; None: it is not known.

        The key of a PEM file is left alone: to read and check one takes a tenth of a second.
        """
        from credentials_provider.credentials.certificates import first_end

        try:
            path = self._path(str(identity.certificate_file), "certificate_file")
            content, _ = _read(path, "certificate_file", strict=False)
            if end := first_end(content):
                return end
        except SecretUnavailableError:
            return None
        found = self.resolve(identity, "certificate_file")
        return found.expires_on if isinstance(found, Credential) else None

    def _with_expiry(self, found: Credential, end: float, what: str) -> Credential:
        warning = expiry_warning(what, end, self._now())
        warnings = (*found.warnings, warning) if warning else found.warnings
        return dataclasses.replace(found, expires_on=end, warnings=warnings)


def expiry_warning(what: str, end: float, now: float) -> str | None:
    """What to say of a credential that ends within the next 30 days, or has ended."""
    if end > now + EXPIRY_WARNING:
        return None
    if end <= now:
        return f"{what} expired on {day_of(end)}: replace it"
    days = int((end - now) // 86400)
    left = f"in {days} days" if days > 1 else "within two days"
    return f"{what} expires {left}, on {day_of(end)}: replace it before"


def _read(path: str, field: str, *, strict: bool) -> tuple[bytes, tuple[str, ...]]:
    """A regular file's content, and a warning if everybody may read it; `strict`: a refusal.

    A group may: it is how systemd and Kubernetes hand out credentials.
    """
    shown = f"{path} ({field})"
    try:
        content = read_file(path, shown=shown, maximum=MAXIMUM_SIZE)
    except ConfigurationError as error:
        raise SecretUnavailableError(error.message, error.hint or "") from None
    if content is None:
        raise SecretUnavailableError(
            f"{shown} cannot be read: No such file or directory",
            "Check the path, and that whatever puts the file there has done so.",
        )
    if is_open(content.mode, EVERYBODY):
        seen, cure = (
            f"{shown} can be read by every user of this machine",
            f"chmod 600 {quoted(path)}",
        )
    elif folder := open_folder_of(path):
        seen = f"{shown} can be replaced by every user of this machine, who may write into {folder}"
        cure = f"chmod o-w {quoted(folder)}"
    else:
        return content.data, ()
    if strict:
        raise SecretUnavailableError(
            f"{seen} (--strict-permissions)",
            f"Run {cure}, or let what writes it keep it from others.",
        )
    return content.data, (f"{seen}; run {cure}, or let what writes it keep it from others",)
