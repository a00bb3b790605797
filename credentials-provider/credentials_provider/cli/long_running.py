"""`exec` for a command that runs for longer than a token is valid, and the local endpoint."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from typing import TYPE_CHECKING, Any

from credentials_provider.cli.exec import inherited
from credentials_provider.cli.logs import observer, warn
from credentials_provider.cli.options import limited
from credentials_provider.endpoint.answers import PATH, Answers
from credentials_provider.endpoint.server import serving
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.run.access import audit_for, only_name
from credentials_provider.run.source import TokenSource
from credentials_provider.run.supervising import Child, keep_fresh
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from credentials_provider.run.access import ValidToken
    from credentials_provider.run.audit import Audit
    from credentials_provider.settings import Settings

_HEADER_BYTES = 32
# Other machines' identity endpoints, which client libraries would take for this one.
_OTHER_ENDPOINTS = (
    *("IDENTITY_SERVER_THUMBPRINT", "IMDS_ENDPOINT", "MSI_ENDPOINT", "MSI_SECRET"),
    "AZURE_FEDERATED_TOKEN_FILE",
)
_LOOPBACK = "127.0.0.1,localhost"


def token_source(
    settings: Settings, options: dict[str, Any], audit: Audit | None = None
) -> TokenSource:
    """The tokens of these settings, with the limits of `token_options`."""
    return TokenSource(limited(settings, options), observer(), audit=audit)


def run_with_endpoint(
    name: str, line: Sequence[str], settings: Settings, options: dict[str, Any]
) -> int:
    """Run a command beside the local token endpoint; its exit code."""
    source = token_source(settings, options)
    file = read_entries(settings)
    name = name or only_name(file.entries, file.path)
    source.get(name, options["min_ttl"])  # what keeps it from a token is said before it starts
    entry, *_ = select(file.entries, (name,), file.path)
    with endpoint(source, settings, (name,)) as variables:
        environment = {**inherited(settings), **variables}
        environment["AZURE_CLIENT_ID"] = str(entry.fields["client_id"])
        for other in _OTHER_ENDPOINTS:
            environment.pop(other, None)
        for proxies in ("NO_PROXY", "no_proxy"):  # the endpoint is not behind a proxy
            known = environment.get(proxies)
            environment[proxies] = f"{known},{_LOOPBACK}" if known else _LOOPBACK
        return Child(line).run(environment)


@contextlib.contextmanager
def endpoint(
    source: TokenSource,
    settings: Settings,
    names: Sequence[str],
    *,
    port: int = 0,
    path: str | None = None,
) -> Iterator[dict[str, str]]:
    """The endpoint, and the variables by which a client library finds it."""
    header = secrets.token_urlsafe(_HEADER_BYTES)
    audit = audit_for(settings, "endpoint")
    answers = Answers(source, settings, names, header, audit)
    with serving(answers.handle, warn, address=("127.0.0.1", port), path=path) as root:
        yield {"IDENTITY_ENDPOINT": path or root + PATH, "IDENTITY_HEADER": header}


def run_with_renewals(
    name: str, line: Sequence[str], settings: Settings, options: dict[str, Any]
) -> int:
    """Run a command and keep its token fresh; its exit code."""
    if not name:
        file = read_entries(settings)
        name = only_name(file.entries, file.path)
    source = token_source(settings, options, audit_for(settings, "exec"))
    child = Child(line)
    variable = options["env_var"]

    def environment(access: ValidToken) -> dict[str, str]:
        token_file = os.path.abspath(TokenStore(settings.output_dir).path(name))
        return {**inherited(settings), variable: access.token, f"{variable}_FILE": token_file}

    def renewed(access: ValidToken) -> None:
        if options["restart"]:
            child.restart(environment(access))
        elif options["signal_name"]:
            child.send(signal.Signals[f"SIG{options['signal_name']}"])

    access = source.get(name, options["min_ttl"])
    keep_fresh(source, name, access, renewed=renewed, warn=warn)
    return child.run(environment(access))
