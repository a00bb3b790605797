"""Settings: flags, then the process environment, then `.env`, then defaults."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.errors import ConfigurationError
from credentials_provider.permissions import is_open, read_file

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

_HOST = re.compile(
    r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{1,5}))?", re.ASCII
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
        file: str | None = None,
        open_file: str | None = None,
    ) -> None:
        self._process = process
        self._dotenv = dotenv
        self.file = file  # the `.env` that was read
        self.open_file = open_file  # the `.env`, where other users can read it

    def get(self, name: str) -> str | None:
        return self._process.get(name) or self._dotenv.get(name) or None

    def in_dotenv(self, name: str) -> bool:
        return bool(self._dotenv.get(name))

    def in_process_alone(self, name: str) -> bool:
        """Whether a process that reads the same `.env` elsewhere would not have this value."""
        value = self._process.get(name)
        return bool(value) and value != self._dotenv.get(name)

    def __repr__(self) -> str:
        return "Environment(…)"


class Flags(NamedTuple):
    """What was said on the command line; None where nothing was."""

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

    def __repr__(self) -> str:
        return "Flags(…)"


class Settings(NamedTuple):
    """What a run works with. `client_secret` makes it unfit for printing: it has no repr."""

    identities_file: str
    identities_file_given: bool  # named by the user: it must be there
    output_dir: str
    login_base_url: str
    ca_bundle: str | None
    tenant_id: str | None
    client_id: str | None
    client_secret: str | None
    scope: str | None
    environment: Environment
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Settings(identities_file={self.identities_file!r}, output_dir={self.output_dir!r})"


def load_settings(flags: Flags, process: Mapping[str, str], base: str) -> Settings:
    """Settings for a run whose default paths lie below the folder `base`.

    Raises:
        ConfigurationError: an `.env` that was named is missing or unreadable, another
            `AUTH_PROVIDER`, a login host that is not `https://host`, a CA bundle that is not there.

    """
    dotenv, warnings, open_file = _read_dotenv(flags.env_file, base)
    environment = Environment(
        process,
        dotenv,
        file=_dotenv_path(flags.env_file, base) if dotenv else None,
        open_file=open_file,
    )
    provider = flags.auth_provider or environment.get("AUTH_PROVIDER") or PROVIDER
    if provider.strip().lower() != PROVIDER:
        raise ConfigurationError(
            f"AUTH_PROVIDER is {provider[:40]!r}; this program only supports {PROVIDER!r}",
            hint="Set AUTH_PROVIDER=entra, or use the generator of that provider.",
        )
    login_base_url = (
        flags.login_base_url
        or (CLOUDS[flags.cloud] if flags.cloud else None)
        or environment.get("ENTRA_LOGIN_BASE_URL")
        or CLOUDS["public"]
    )
    return Settings(
        identities_file=flags.identities_file or os.path.join(base, TOKEN_FOLDER, IDENTITIES_FILE),
        identities_file_given=flags.identities_file is not None,
        output_dir=flags.output_dir or os.path.join(base, TOKEN_FOLDER),
        login_base_url=_checked_login_url(login_base_url),
        ca_bundle=_checked_ca_bundle(flags.ca_bundle, environment),
        tenant_id=flags.tenant_id or environment.get("ENTRA_TENANT_ID"),
        client_id=flags.client_id or environment.get("ENTRA_CLIENT_ID"),
        client_secret=flags.client_secret or environment.get("ENTRA_CLIENT_SECRET"),
        scope=flags.scope or environment.get("ENTRA_SCOPE"),
        environment=environment,
        warnings=warnings,
    )


def _checked_login_url(url: str) -> str:
    if problem := login_url_problem(url):
        raise ConfigurationError(f"the login host {problem}", hint=f"Example: {CLOUDS['public']}")
    return login_base(url)


def login_base(url: str) -> str:
    """A login host as everything compares it: scheme and host in lower case, no slash behind."""
    return url.strip().rstrip("/").lower()


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
    for name in ("--ca-bundle", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        path = flag if name == "--ca-bundle" else environment.get(name)
        if path:
            expanded = os.path.expanduser(path)
            if not os.path.exists(expanded):
                raise ConfigurationError(
                    f"{name}: there is no CA bundle at {expanded}",
                    hint="Name a PEM file with the certification authorities to trust.",
                )
            return expanded
    return None


def _dotenv_path(given: str | None, base: str) -> str:
    return given or os.path.join(base, ".env")


def _read_dotenv(
    given: str | None, base: str
) -> tuple[dict[str, str], tuple[str, ...], str | None]:
    """The values of `.env`, read as python-dotenv reads them and never executed.

    With warnings, and with its path where other users can read it.
    """
    path = _dotenv_path(given, base)
    if path == os.devnull or (given is None and os.path.isdir(path)):  # a virtual environment
        return {}, (), None
    content = read_file(path)
    if content is None:
        if given is None:
            return {}, (), None
        raise ConfigurationError(
            f"--env-file: there is no file {path}", hint="Name the .env file, or leave it out."
        )
    text = content.text()

    # Imported only where there is a file: a run with nothing due starts a third faster without.
    import io  # noqa: PLC0415
    import logging  # noqa: PLC0415

    from dotenv import dotenv_values  # noqa: PLC0415
    from dotenv.parser import parse_stream  # noqa: PLC0415

    logging.getLogger("dotenv").addHandler(logging.NullHandler())
    bad = [
        str(binding.original.line) for binding in parse_stream(io.StringIO(text)) if binding.error
    ]
    warnings = (f"{path}: line {', '.join(bad)} cannot be understood, ignored",) if bad else ()
    values = dotenv_values(stream=io.StringIO(text))
    known = {name: value for name, value in values.items() if value is not None}
    return known, warnings, path if is_open(content.mode) else None


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
