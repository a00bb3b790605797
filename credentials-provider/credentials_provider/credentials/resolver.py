"""Where an identity says that its credential is, turned into what msal takes.

Only what is due is resolved, each source once a run however many identities and threads want it.
What cannot be had is a `Failure` of that identity alone; it names the source, never its content.
"""

from __future__ import annotations

import os
import re
import threading
from concurrent.futures import Future
from datetime import date, datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from credentials_provider.errors import ConfigurationError, SecretUnavailableError, quoted
from credentials_provider.identities import rules
from credentials_provider.identities.fields import LITERALS, PASSWORD_FIELDS, SECRET_KINDS
from credentials_provider.minting import Failure
from credentials_provider.permissions import EVERYBODY, is_open, read_file
from credentials_provider.tokens.claims import decode_claims, epoch_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from credentials_provider.identities.fields import Identity
    from credentials_provider.settings import Settings

MAXIMUM_SIZE = 1 << 16  # bytes of a file with a credential; a chain of certificates has some 8,000
EXPIRY_WARNING = 30 * 86400.0  # seconds before its end
ASSERTION_LEEWAY = 300  # seconds; Entra ID forgives as much of a clock

_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})", re.ASCII)


class Credential(NamedTuple):
    """What msal takes: a secret, or a dictionary with a key or an assertion. It has no repr.

    `field` is the identity's field that it comes from; `expires_on`, in epoch seconds, where its
    end is known; `warnings` begin with a verb and lack their subject.
    """

    field: str
    for_msal: str | dict[str, Any] | None  # None: the machine's own managed identity
    expires_on: float | None = None
    warnings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Credential({self.field!r})"


class Resolver:
    """The credentials of one run; thread-safe.

    Relative paths belong to the folder of the identities file; `now` gives epoch seconds;
    `timeout`, in seconds, is for one request to a Key Vault; `strict` takes no file that every user
    of this machine can read.
    """

    def __init__(
        self,
        settings: Settings,
        now: Callable[[], float],
        *,
        timeout: float = 20.0,
        strict: bool = False,
    ) -> None:
        self._settings = settings
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
                return Credential(field, None)
            if field == "federated_token_file":  # short-lived: read again at each use
                return self._federated(field, value)
            if field in LITERALS:
                found = Credential(field, value)
            elif field == "certificate_file":
                passwords = tuple(getattr(identity, each) for each in PASSWORD_FIELDS)
                found = self._once(
                    (field, value, passwords), lambda: self._certificate(field, value, identity)
                )
            else:
                found = self._once((field, value), lambda: self._secret(field, value))
        except SecretUnavailableError as error:
            return Failure(
                "secret_unavailable", error.message, error.hint or "", transient=error.transient
            )
        if field in SECRET_KINDS and identity.client_secret_expires_on:
            name = identity.identity_name
            end = date.fromisoformat(identity.client_secret_expires_on)
            midnight = datetime(end.year, end.month, end.day, tzinfo=timezone.utc)
            return self._with_expiry(found, midnight.timestamp(), f"{name}: the client secret")
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
        elif kind == "client_secret_file":
            path = self._path(place, field)
            what = f"{path} ({field})"
            content, warnings = _read(path, field, strict=self._strict)
            secret = _first_line(content, what)
        else:
            what = f"{place} ({field})"
            from credentials_provider.credentials.keyvault import fetch_secret  # noqa: PLC0415  an extra

            secret = fetch_secret(place, field, self._settings, self._timeout).strip()
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
                f"Set {name} in the environment or in .env; a timer's environment is not your "
                "shell's.",
            )
        return value.strip()

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

    def _federated(self, field: str, place: str) -> Credential:
        path = self._path(place, field)
        content, warnings = _read(path, field, strict=self._strict)
        what = f"{path} ({field})"
        token = _first_line(content, what)
        if not token:
            raise SecretUnavailableError(
                f"{what} is empty", "Look at what is to write a token there."
            )
        claims = decode_claims(token)
        if claims is None:
            raise SecretUnavailableError(
                f"{what} holds no federated token: a JSON Web Token is expected",
                "Name the file that the platform writes its token to, in Kubernetes "
                "$AZURE_FEDERATED_TOKEN_FILE.",
            )
        end = epoch_claim(claims, "exp")
        if end is not None and end + ASSERTION_LEEWAY < self._now():
            raise SecretUnavailableError(
                f"the federated token in {what} expired on {_day(end)}",
                "Look at what is to renew that file, and at this machine's clock.",
            )
        return Credential(field, {"client_assertion": lambda: token}, warnings=warnings)

    def _certificate(self, field: str, place: str, identity: Identity) -> Credential:
        # Only a run with a certificate needs the library that reads them.
        from credentials_provider.credentials.certificates import (  # noqa: PLC0415
            CertificateError,
            load_certificate,
        )

        path = self._path(place, field)
        content, warnings = _read(path, field, strict=self._strict)
        password = None
        if identity.certificate_password_env:
            name = identity.certificate_password_env
            password = self._variable(name, "certificate_password_env")
        elif identity.certificate_password_file:
            theirs = self._path(identity.certificate_password_file, "certificate_password_file")
            text, more = _read(theirs, "certificate_password_file", strict=self._strict)
            password = _first_line(text, f"{theirs} (certificate_password_file)")
            warnings += more
        try:
            certificate = load_certificate(content, password, self._now())
        except CertificateError as error:
            message = f"{path} ({field}) {error.problem}"
            raise SecretUnavailableError(message, error.remedy) from None
        for_msal = {"private_key": certificate.key, "public_certificate": certificate.pem}
        found = Credential(field, for_msal, warnings=warnings)
        return self._with_expiry(found, certificate.expires_on, f"the certificate in {path}")

    def _with_expiry(self, found: Credential, end: float, what: str) -> Credential:
        warning = expiry_warning(what, end, self._now())
        warnings = (*found.warnings, warning) if warning else found.warnings
        return found._replace(expires_on=end, warnings=warnings)


def expiry_warning(what: str, end: float, now: float) -> str | None:
    """What to say of a credential that ends within the next 30 days, or has ended."""
    if end > now + EXPIRY_WARNING:
        return None
    if end <= now:
        return f"{what} expired on {_day(end)}: replace it"
    days = int((end - now) // 86400)
    left = f"in {days} days" if days > 1 else "within two days"
    return f"{what} expires {left}, on {_day(end)}: replace it before"


def _day(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, tz=timezone.utc).date().isoformat()


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
    if not is_open(content.mode, EVERYBODY):
        return content.data, ()
    if strict:
        raise SecretUnavailableError(
            f"{path} ({field}) can be read by every user of this machine (--strict-permissions)",
            f"Run chmod 600 {quoted(path)}, or let what writes it keep it from others.",
        )
    warning = (
        f"{path} ({field}) can be read by every user of this machine; run chmod 600 "
        f"{quoted(path)}, or let what writes it keep it from others"
    )
    return content.data, (warning,)


def _first_line(content: bytes, what: str) -> str:
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise SecretUnavailableError(
            f"{what} is not UTF-8 text", "Put the credential into the file's first line."
        ) from None
    return lines[0].strip() if lines else ""
