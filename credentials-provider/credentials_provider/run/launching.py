"""How another process is started so that it finds what this run found.

A timer or an assistant has another working directory and another environment than the shell in
which its command line is made: paths go along as absolute ones, settings as options. What has no
option can only be named, for its user to put into a `.env`.
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from typing import TYPE_CHECKING

from credentials_provider.identities.reading import missing_parts
from credentials_provider.permissions import TRUST_OPTION, trusted_owners

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

NAME = "credentials-provider"

_ALWAYS = ("AUTH_PROVIDER", "ENTRA_LOGIN_HOSTS", "ENTRA_APPLICATION_ID_URI", "SSL_CERT_DIR")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")
# What a platform sets for managed identities, and azure-identity for Key Vault.
_PLATFORM = (
    *("IDENTITY_ENDPOINT", "IDENTITY_HEADER", "IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT"),
    *("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_CLIENT_SECRET", "AZURE_FEDERATED_TOKEN_FILE"),
    *("AZURE_AUTHORITY_HOST", "AZURE_CLIENT_CERTIFICATE_PATH", "AZURE_KEYVAULT_HOSTS"),
)
_OF_EVERY_PROCESS = {"HOME", "USER", "LOGNAME", "CREDENTIALS_DIRECTORY"}
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))", re.ASCII)
_UV_CACHE = re.compile(r"/uv(?:/cache)?/(?:archive|environments|builds)-v[0-9]+/")


def program(root: str) -> list[str]:
    """How this program is started from anywhere: the project's script, or as it was installed."""
    script = os.path.abspath(os.path.join(root, "generate_creds.sh"))
    if root and os.name == "posix" and os.access(script, os.X_OK):
        return [script]
    started = os.path.abspath(sys.argv[0])
    installed = os.path.join(sysconfig.get_path("scripts"), NAME + (".exe" * (os.name == "nt")))
    for path in (started, installed):
        if os.path.isfile(path) and os.access(path, os.X_OK) and not path.endswith(".py"):
            return [path]
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    checkout = os.path.join(package, "__main__.py")
    if os.path.isfile(checkout):
        return [sys.executable, checkout]
    # Else files in the working directory decide what is imported; -I leaves out
    # the user's own packages as well.
    safe = "-P" if sys.version_info >= (3, 11) else "-I"
    return [sys.executable, safe, "-m", "credentials_provider"]


def options_of(settings: Settings, *, tokens: bool = True) -> list[str]:
    """The options by which another process finds the same identities, tokens and provider."""
    options = [
        ("--identities-file", os.path.abspath(settings.identities_file)),
        ("--output-dir", os.path.abspath(settings.output_dir) if tokens else None),
        ("--env-file", settings.environment.file and os.path.abspath(settings.environment.file)),
        ("--login-base-url", settings.login_base_url),
        ("--ca-bundle", settings.ca_bundle and os.path.abspath(settings.ca_bundle)),
    ]
    is_there = settings.identities_file_given or os.path.exists(settings.identities_file)
    if not is_there and not missing_parts(settings):
        del options[0]  # the environment defines the one identity
    options += [(TRUST_OPTION, name) for name in trusted_owners()]
    return [word for name, value in options if value for word in (name, value)]


def audit_options_of(settings: Settings) -> list[str]:
    """Those by which it leaves the same lines where it hands out a token."""
    file = ["--audit-file", os.path.abspath(settings.audit_file)] if settings.audit_file else []
    return [*file, *(["--audit-syslog"] if settings.audit_syslog else [])]


def variables_not_passed(settings: Settings, entries: Iterable[Entry]) -> tuple[str, ...]:
    """The variables of this process that these identities need and that no option can take along.

    One that the `.env` of `options_of` gives as well is none of them.
    """
    entries = list(entries)
    names = {*_ALWAYS, *_PROXIES} - ({"SSL_CERT_DIR"} if settings.ca_bundle else set())
    used = {value for entry in entries for value in entry.fields.values() if isinstance(value, str)}
    values = (
        ("ENTRA_TENANT_ID", settings.tenant_id),
        ("ENTRA_CLIENT_ID", settings.client_id),
        ("ENTRA_CLIENT_ID", f"api://{settings.client_id}/.default"),
        ("ENTRA_CLIENT_SECRET", settings.client_secret),
    )
    names |= {name for name, value in values if value and value in used}
    for entry in entries:
        for field, value in entry.fields.items():
            if field == "managed_identity" or field.endswith("_keyvault"):
                names.update(_PLATFORM)
            elif field.endswith("_env") and isinstance(value, str):
                names.add(value)
            elif field.endswith("_file") and isinstance(value, str):
                names.update(first or second for first, second in _VARIABLE.findall(value))
    environment = settings.environment
    return tuple(sorted(n for n in names - _OF_EVERY_PROCESS if environment.in_process_alone(n)))


def launch_warnings(
    start: Sequence[str], settings: Settings, entries: Iterable[Entry], passed: Collection[str] = ()
) -> Iterator[str]:
    """What to say where a command line is written for others to start.

    `start`: its beginning, as `program` gives it; empty where it is for another machine. `passed`:
    variables that go along.
    """
    names = [each for each in variables_not_passed(settings, entries) if each not in passed]
    if names:
        are, them = ("are", "them") if len(names) > 1 else ("is", "it")
        file = settings.environment.file
        where = os.path.abspath(file) if file else "a .env file and name it with --env-file"
        yield (
            f"{', '.join(names)} {are} set in this shell alone. What is started elsewhere does not "
            f"have {them}. Put {them} into {where}."
        )
    if start and _UV_CACHE.search(start[0].replace("\\", "/")):
        yield (
            f"{start[0]} is in uv's cache, which `uv cache prune` empties. Install the program "
            "with `uv tool install`, and run this again."
        )
