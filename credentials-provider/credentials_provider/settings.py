"""Settings: flags, then the process environment, then `.env`, then defaults."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from credentials_provider.errors import ConfigurationError, quoted
from credentials_provider.permissions import check_links, check_owner, is_open, read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDER = "entra"
TOKEN_FOLDER = ".oauth-tokens"  # noqa: S105  a folder's name
IDENTITIES_FILE = "entra-identities.json"

# National clouds: https://learn.microsoft.com/en-us/entra/identity-platform/authentication-national-cloud
CLOUDS = {
    "public": "https://login.microsoftonline.com",
    "usgov": "https://login.microsoftonline.us",
    "china": "https://login.partner.microsoftonline.cn",
}

HOME_VARIABLE = "CREDENTIALS_PROVIDER_HOME"
HOSTS_VARIABLE = "ENTRA_LOGIN_HOSTS"
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_DOTENV = ".env"
_HOST = re.compile(
    r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?", re.ASCII
)

_READ_HERE = (
    *("AUTH_PROVIDER", "ENTRA_TENANT_ID", "ENTRA_CLIENT_ID", "ENTRA_CLIENT_SECRET"),
    *("ENTRA_LOGIN_BASE_URL", "ENTRA_APPLICATION_ID_URI", "ENTRA_SCOPE"),
)


class Environment:
    """The process environment over a `.env` file; empty values count as absent.

    It holds secrets: it has no repr of its content.
    """

    def __init__(
        self,
        process: Mapping[str, str],
        dotenv: Mapping[str, str],
        *,
        path: str = os.devnull,
        named: bool = False,
        open_file: str | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self._notes = notes or {}
        self._process = process
        self._dotenv = dotenv
        self.path = path  # of the `.env`, whether or not it is there
        self.file = path if dotenv else None  # the `.env`, where it holds anything
        self._named = named  # by the user, for this run
        self.open_file = open_file  # the `.env`, where other users can read it

    def get(self, name: str) -> str | None:
        return self._process.get(name) or self._dotenv.get(name) or None

    def get_named(self, name: str) -> str | None:
        """As `get`, for what decides where a secret goes: not from a file that nobody named.

        Raises:
            ConfigurationError: the `.env` of the default place has it.

        """
        if self._named or self._process.get(name) or not self._dotenv.get(name):
            return self.get(name)
        file = self.file or _DOTENV
        raise ConfigurationError(
            f"{name} is set in {file}, which nobody named: it decides where secrets go",
            hint=f"Add --env-file {quoted(file)}, or set {name} in the environment.",
        )

    def notes(self, *names: str) -> tuple[str, ...]:
        """Of these variables, whose value in `.env` is not what stands there: where, and why."""
        return tuple(
            self._notes[each]
            for each in names
            if each in self._notes and not self._process.get(each)
        )

    def in_dotenv(self, name: str) -> bool:
        return bool(self._dotenv.get(name))

    def in_process_alone(self, name: str) -> bool:
        """Whether a process that reads the same `.env` elsewhere would not have this value."""
        value = self._process.get(name)
        return bool(value) and value != self._dotenv.get(name)

    def __repr__(self) -> str:
        return "Environment(…)"


@dataclass(frozen=True, slots=True)
class Flags:
    """What was said on the command line; None where nothing was."""

    identities_file: str | None = None
    output_dir: str | None = None
    env_file: str | None = None
    auth_provider: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    scope: str | None = None
    login_base_url: str | None = None
    cloud: str | None = None
    ca_bundle: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run works with."""

    identities_file: str
    identities_file_given: bool  # named by the user: it must be there
    output_dir: str
    login_base_url: str
    login_hosts: frozenset[str]  # as login_base_url: those that an identity may name
    ca_bundle: str | None
    tenant_id: str | None
    client_id: str | None
    client_secret: str | None = field(repr=False)
    scope: str | None
    environment: Environment
    moved: str | None  # which files of version 1 are no longer read, and how to use them
    warnings: tuple[str, ...]


def load_settings(flags: Flags, process: Mapping[str, str], root: str) -> Settings:
    """Settings of a run.

    Args:
        flags: what was said on the command line.
        process: the environment.
        root: the checkout, to which the default paths belong; empty for an installed program,
            whose defaults lie in the user's own folder and never in the working directory.

    Raises:
        ConfigurationError: an `.env` that was named is missing or unreadable, another
            `AUTH_PROVIDER`, a login host that is not `https://host`, a CA bundle that is not there.

    """
    environment, warnings = _read_dotenv(flags.env_file, root, process)
    provider = flags.auth_provider or environment.get("AUTH_PROVIDER") or PROVIDER
    if provider.strip().lower() != PROVIDER:
        raise ConfigurationError(
            f"AUTH_PROVIDER is {provider[:40]!r}; this program only supports {PROVIDER!r}",
            hint="Set AUTH_PROVIDER=entra, or use the generator of that provider.",
        )
    login_base_url = _login_base_url(flags, environment)
    moved = None if root else _moved(flags, own_folder(process))
    return Settings(
        identities_file=flags.identities_file
        or default_path(root, process, TOKEN_FOLDER, IDENTITIES_FILE),
        identities_file_given=flags.identities_file is not None,
        output_dir=flags.output_dir or default_path(root, process, TOKEN_FOLDER),
        login_base_url=login_base_url,
        login_hosts=_login_hosts(environment) | {login_base_url, *CLOUDS.values()},
        ca_bundle=_checked_ca_bundle(flags.ca_bundle, environment),
        tenant_id=flags.tenant_id or environment.get("ENTRA_TENANT_ID"),
        client_id=flags.client_id or environment.get("ENTRA_CLIENT_ID"),
        client_secret=flags.client_secret or environment.get("ENTRA_CLIENT_SECRET"),
        scope=flags.scope or environment.get("ENTRA_SCOPE"),
        environment=environment,
        moved=moved,
        warnings=(*warnings, *([moved] if moved else ())),
    )


def own_folder(process: Mapping[str, str]) -> str:
    """The user's own folder for this program; empty where the user has no home."""
    if home := process.get(HOME_VARIABLE):
        return os.path.expanduser(home)
    from click import get_app_dir  # noqa: PLC0415  loaded already, or hardly any more than this

    folder = get_app_dir("credentials-provider")
    return folder if os.path.isabs(folder) else ""


def default_path(root: str, process: Mapping[str, str], *parts: str) -> str:
    """A path below the checkout, or for an installed program (no root) below the own folder.

    Raises:
        ConfigurationError: the user has no home.

    """
    if not (base := root or own_folder(process)):
        raise ConfigurationError(
            "this user has no home folder for the default files",
            hint=f"Set {HOME_VARIABLE} to a folder, or name --identities-file and --output-dir.",
        )
    return os.path.normpath(os.path.join(base, *parts))


def _moved(flags: Flags, base: str) -> str | None:
    """What to say of files in the working directory that version 1 would have read."""
    own = os.path.join(TOKEN_FOLDER, IDENTITIES_FILE)
    if os.path.lexists(os.path.join(base, own)):
        return None
    found = [
        (path, options)
        for path, given, options in (
            (_DOTENV, flags.env_file, f"--env-file {_DOTENV}"),
            (own, flags.identities_file, f"-i {own} -o {TOKEN_FOLDER}"),
        )
        if given is None and os.path.lexists(path)
    ]
    if not found:
        return None
    names = " and ".join(path for path, _ in found)
    options = " ".join(options for _, options in found)
    return (
        f"{names} of the working directory {'are' if len(found) > 1 else 'is'} not read; this "
        f"program's own folder is {base or f'not set ({HOME_VARIABLE})'}. "
        f"To use what lies here: credentials-provider generate {options}"
    )


def _login_base_url(flags: Flags, environment: Environment) -> str:
    if flags.login_base_url or flags.cloud:
        return _checked_login_url(flags.login_base_url or CLOUDS[flags.cloud or "public"])
    configured = environment.get("ENTRA_LOGIN_BASE_URL")
    if configured and login_base(configured) not in CLOUDS.values():
        configured = environment.get_named("ENTRA_LOGIN_BASE_URL")
    return _checked_login_url(configured or CLOUDS["public"])


def _login_hosts(environment: Environment) -> frozenset[str]:
    """The hosts of `ENTRA_LOGIN_HOSTS`, as login hosts; with or without `https://`."""
    listed = (environment.get_named(HOSTS_VARIABLE) or "").replace(",", " ").split()
    urls = [each if "://" in each else f"https://{each}" for each in listed]
    for each, url in zip(listed, urls, strict=True):
        if problem := login_url_problem(url):
            raise ConfigurationError(
                f"{HOSTS_VARIABLE}: {each[:80]!r} {problem}",
                hint="List hosts, with a comma between them: login.example.com, other:8443",
            )
    return frozenset(map(login_base, urls))


def login_host_problem(url: str, settings: Settings) -> str | None:
    """Why an identity may not have this login host, if it may not."""
    if login_url_problem(url) or login_base(url) in settings.login_hosts:
        return None  # a wrong one is its own mistake
    host = login_base(url).removeprefix("https://")
    return (
        "is a host that only the identities file names. If its secret may go there, set "
        f"{HOSTS_VARIABLE}={host} in the environment or in the file of --env-file"
    )


def _checked_login_url(url: str) -> str:
    if problem := login_url_problem(url):
        raise ConfigurationError(f"the login host {problem}", hint=f"Example: {CLOUDS['public']}")
    return login_base(url)


def login_base(url: str) -> str:
    """A login host as everything compares it: `https://host[:port]` in lower case.

    Without the default port. What is not a login host loses its blanks and slashes alone.
    """
    stripped = url.strip().rstrip("/")
    return stripped if login_url_problem(url) else stripped.lower().removesuffix(":443")


def login_url_problem(url: str) -> str | None:
    """What keeps a URL from being a login host: it is `https://host[:port]` and nothing more."""
    scheme, separator, rest = url.strip().partition("://")
    host = rest.rstrip("/")
    if not separator or scheme.lower() != "https":
        return "must begin with https://"
    if "@" in host:
        return "must not hold a user name or password"
    parts = _HOST.fullmatch(host)
    address, port = parts.groups() if parts else (None, None)
    if not parts or (address and not _is_ipv6(address)) or (port and not 0 < int(port) < 2**16):
        return "must be https://host or https://host:port, without a path"
    return None


def _is_ipv6(text: str) -> bool:
    import ipaddress  # noqa: PLC0415  hardly ever

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _checked_ca_bundle(flag: str | None, environment: Environment) -> str | None:
    """The bundle's path; the environment names it as it does for requests, curl and OpenSSL."""
    for name in ("--ca-bundle", *_CA_VARIABLES):
        path = flag if name == "--ca-bundle" else environment.get_named(name)
        if path:
            expanded = os.path.expanduser(path)
            try:
                found = os.stat(expanded)
            except (OSError, ValueError):
                raise ConfigurationError(
                    f"{name}: there is no CA bundle at {expanded}{_shadowed(name, environment)}",
                    hint="Name a PEM file with the certification authorities to trust.",
                ) from None
            if os.name == "posix":
                check_links(expanded)
                check_owner(expanded, found)
            return expanded
    return None


def _shadowed(name: str, environment: Environment) -> str:
    """What to add where the environment's value hides that of `.env`."""
    if environment.in_dotenv(name) and environment.in_process_alone(name):
        return f" (the environment's {name} comes before the one in {environment.file})"
    return ""


def _read_dotenv(
    given: str | None, root: str, process: Mapping[str, str]
) -> tuple[Environment, tuple[str, ...]]:
    """The values of `.env`, read as python-dotenv reads them and never executed; and warnings."""
    base = root or own_folder(process)
    path = given or (os.path.normpath(os.path.join(base, _DOTENV)) if base else os.devnull)
    if path == os.devnull or (given is None and os.path.isdir(path)):  # a virtual environment
        return Environment(process, {}, path=path), ()
    content = read_file(path)
    if content is None:
        if given is None:
            return Environment(process, {}, path=path), ()
        raise ConfigurationError(
            f"--env-file: there is no file {path}", hint="Name the .env file, or leave it out."
        )
    text = content.text()

    # Imported only where there is a file: a run with nothing due starts a third faster without.
    import io  # noqa: PLC0415
    import logging  # noqa: PLC0415

    from dotenv import dotenv_values  # noqa: PLC0415
    from dotenv.parser import parse_stream  # noqa: PLC0415

    from credentials_provider.dotenv_notes import changed_values  # noqa: PLC0415

    logging.getLogger("dotenv").addHandler(logging.NullHandler())
    bindings = list(parse_stream(io.StringIO(text)))
    bad = [str(binding.original.line) for binding in bindings if binding.error]
    unread = f"{path}: line {', '.join(bad)} is ignored: write NAME=value"
    warnings = (unread,) if bad else ()
    values = dotenv_values(stream=io.StringIO(text))
    known = {name: value for name, value in values.items() if value is not None}
    environment = Environment(
        process,
        known,
        path=path,
        named=given is not None,
        open_file=path if is_open(content.mode) else None,
        notes=changed_values(path, bindings, values),
    )
    return environment, (*warnings, *environment.notes(*_READ_HERE))


def dotenv_with(text: str, values: Mapping[str, str]) -> str:
    """The text of a `.env` with more variables at its end.

    Raises:
        ConfigurationError: one of them is there with another value, or could not be read back.

    """
    import io  # noqa: PLC0415

    from dotenv import dotenv_values  # noqa: PLC0415

    present = dotenv_values(stream=io.StringIO(text))
    new = text if not text or text.endswith("\n") else f"{text}\n"
    for name, value in values.items():
        if present.get(name) not in {None, "", value}:
            raise ConfigurationError(
                f"{name} is in the .env file already, with another value",
                hint="Remove it there, or move the secrets into files: leave out --to env.",
            )
        if present.get(name) != value:
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            new += f"{name}='{quoted}'\n"
    read = dotenv_values(stream=io.StringIO(new))
    if bad := [name for name, value in values.items() if read.get(name) != value]:
        raise ConfigurationError(
            f"the .env file cannot hold the characters of {' or '.join(bad)}",
            hint="Move the secrets into files: leave out --to env.",
        )
    return new
