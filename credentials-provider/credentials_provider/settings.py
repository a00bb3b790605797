"""Settings: flags, then the process environment, then `.env`, then defaults."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

from credentials_provider.environment import read_dotenv
from credentials_provider.errors import ConfigurationError, printable
from credentials_provider.permissions import check_links, check_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import dataclass

    from credentials_provider.environment import Environment
else:

    def dataclass(**_: bool) -> Callable[[type], type]:
        """Give a class attributes by keyword: making real ones takes 6 % of a short run."""

        def with_attributes(cls: type) -> type:
            cls.__init__ = lambda self, **values: self.__dict__.update(values)
            return cls

        return with_attributes


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
AUDIT_FILE_VARIABLE = "CREDENTIALS_PROVIDER_AUDIT_FILE"
AUDIT_SYSLOG_VARIABLE = "CREDENTIALS_PROVIDER_AUDIT_SYSLOG"
HOSTS_VARIABLE = "ENTRA_LOGIN_HOSTS"
_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")
_DOTENV = ".env"
_HOST = r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Flags:
    """What was said on the command line; None where nothing was. Secret: it has no repr."""

    identities_file: str | None = None
    output_dir: str | None = None
    env_file: str | None = None
    auth_provider: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    scope: str | None = None
    login_base_url: str | None = None
    cloud: str | None = None
    ca_bundle: str | None = None
    audit_file: str | None = None
    audit_syslog: str | None = None  # anything: yes


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Settings:
    """What a run works with. Secret: it has no repr."""

    identities_file: str
    identities_file_given: bool  # named by the user: it must be there
    output_dir: str
    login_base_url: str
    login_hosts: frozenset[str]  # as login_base_url: those that an identity may name
    ca_bundle: str | None
    tenant_id: str | None
    client_id: str | None
    client_secret: str | None
    scope: str | None
    audit_file: str | None  # a line for each token that is handed out goes there
    audit_syslog: bool
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
    own = own_folder(process)
    for path in (flags.identities_file, flags.output_dir, flags.env_file, root, own):
        _check_path(path)
    base = root or own
    dotenv = os.path.normpath(os.path.join(base, _DOTENV)) if base else os.devnull
    environment, warnings = read_dotenv(
        flags.env_file or dotenv, process, named=flags.env_file is not None
    )
    provider = flags.auth_provider or environment.get("AUTH_PROVIDER") or PROVIDER
    if provider.strip().lower() != PROVIDER:
        raise ConfigurationError(
            f"AUTH_PROVIDER is {provider[:40]!r}; this program only supports {PROVIDER!r}",
            hint="Set AUTH_PROVIDER=entra, or use the generator of that provider.",
        )
    login_base_url = _login_base_url(flags, environment)
    moved = None if root else _moved(flags, own)
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
        audit_file=_check_path(flags.audit_file or environment.get(AUDIT_FILE_VARIABLE)),
        audit_syslog=bool(flags.audit_syslog or environment.get(AUDIT_SYSLOG_VARIABLE)),
        environment=environment,
        moved=moved,
        warnings=(*warnings, *([moved] if moved else ())),
    )


def _check_path(path: str | None) -> str | None:
    """Keep what moves a terminal, or ends a line of a unit or a crontab, out of every message."""
    if any(each < " " or "\x7f" <= each <= "\x9f" for each in path or ""):
        raise ConfigurationError(
            f"the path {printable(path or '')} has a control character", hint="Name another path."
        )
    return path


def own_folder(process: Mapping[str, str]) -> str:
    """The user's own folder for this program; empty where the user has no home."""
    if home := process.get(HOME_VARIABLE):
        return os.path.expanduser(home)
    from click import get_app_dir  # loaded already, or hardly any more than this

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
        f"{names} of the working directory {'are' if len(found) > 1 else 'is'} not read. This "
        f"program's own folder is {base or f'not set ({HOME_VARIABLE})'}. "
        f"To use what lies here: credentials-provider generate {options}"
    )


def _login_base_url(flags: Flags, environment: Environment) -> str:
    if flags.login_base_url or flags.cloud:
        return _checked_login_url(flags.login_base_url or CLOUDS[flags.cloud or "public"])
    configured = environment.get("ENTRA_LOGIN_BASE_URL")
    if configured and login_base(configured) not in CLOUDS.values():
        configured = environment.get_named("ENTRA_LOGIN_BASE_URL")
    return _checked_login_url(configured) if configured else CLOUDS["public"]


def _login_hosts(environment: Environment) -> frozenset[str]:
    """The hosts of `ENTRA_LOGIN_HOSTS`, as login hosts; with or without `https://`."""
    listed = (environment.get_named(HOSTS_VARIABLE) or "").replace(",", " ").split()
    urls = [each if "://" in each else f"https://{each}" for each in listed]
    for each, url in zip(listed, urls, strict=True):
        if problem := login_url_problem(url):
            raise ConfigurationError(
                f"{HOSTS_VARIABLE}: {each.rpartition('@')[2][:80]!r} {problem}",
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
    parts = re.fullmatch(_HOST, host, re.ASCII)
    address, port = parts.groups() if parts else (None, None)
    if not parts or (address and not _is_ipv6(address)) or (port and not 0 < int(port) < 2**16):
        return "must be https://host or https://host:port, without a path"
    return None


def _is_ipv6(text: str) -> bool:
    import ipaddress  # hardly ever

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _checked_ca_bundle(flag: str | None, environment: Environment) -> str | None:
    """The bundle's path; the environment names it as it does for requests, curl and OpenSSL."""
    for name in ("--ca-bundle", *_CA_VARIABLES):
        path = _check_path(flag if name == "--ca-bundle" else environment.get_named(name))
        if path:
            expanded = os.path.expanduser(path)
            try:
                found = os.stat(expanded)
            except PermissionError:
                raise ConfigurationError(
                    f"{name}: you may not read the CA bundle at {expanded}",
                    hint="Put it where this user can read it, or name another.",
                ) from None
            except (OSError, ValueError):
                raise ConfigurationError(
                    f"{name}: there is no CA bundle at {expanded}{_shadowed(name, environment)}",
                    hint="Name a PEM file with the certification authorities to trust.",
                ) from None
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                raise ConfigurationError(
                    f"{name}: {expanded} is not a regular file",
                    hint="A pipe or a device is not read.",
                )
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
