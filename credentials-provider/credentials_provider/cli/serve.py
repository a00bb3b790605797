"""`serve`: the local token endpoint by itself."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import log, observer, warn
from credentials_provider.cli.options import (
    identity_names,
    limited,
    renewing_options,
    settings_of,
)
from credentials_provider.cli.process import stoppable
from credentials_provider.endpoint.answers import PATH, Answers
from credentials_provider.endpoint.server import serving
from credentials_provider.errors import ConfigurationError, CredentialsProviderError, quoted
from credentials_provider.files import make_folders, write_whole
from credentials_provider.identities.reading import read_entries, select
from credentials_provider.permissions import read_file
from credentials_provider.run.access import audit_for
from credentials_provider.run.source import TokenSource
from credentials_provider.run.watching import Notifier

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from credentials_provider.settings import Settings

ENV_FILE = ".endpoint.env"
_HEADER_BYTES = 32


@click.command(
    "serve",
    cls=Command,
    examples="""
    # Then, in the shell of a program: set -a; . FILE; set +a
    credentials-provider serve ci
    # On a port and with a file that a service's unit names
    credentials-provider serve --port 8460 --write-env /run/my-agent/identity.env
    """,
    epilog="It acts as Azure App Service's managed identity. Where several identities are served, "
    "clients choose one by client_id. For systemd with Type=notify.",
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=identity_names)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default="any free one",
    help="On loopback.",
)
@click.option("--socket", "path", metavar="PATH", help="A unix socket instead of a port.")
@click.option(
    "--write-env",
    metavar="FILE",
    help="Write IDENTITY_ENDPOINT and IDENTITY_HEADER there. Default: .endpoint.env beside the "
    "tokens.",
)
@renewing_options
@click.pass_obj
def command(root: str, /, names: Sequence[str], port: int, path: str | None, **options: Any) -> int:
    """Serve tokens to Azure's client libraries on this machine, until it is stopped."""
    settings = settings_of(options, root)
    if path is not None and (port or os.name == "nt"):
        raise click.UsageError("--socket and --port exclude one another; Windows has no sockets.")
    file = read_entries(settings)
    for warning in (*settings.warnings, *file.warnings):
        warn(warning)
    served = select(file.entries, names, file.path)
    if not served:
        raise ConfigurationError(f"{file.path} has no identity", hint="Add one first.")
    source = TokenSource(limited(settings, options), observer())
    notifier = Notifier(os.environ)
    place = os.path.abspath(options["write_env"] or os.path.join(settings.output_dir, ENV_FILE))
    with (
        stoppable(),
        endpoint(source, settings, names, port=port, path=path) as variables,
        _written(place, variables),
    ):
        log(
            f"serving {', '.join(each.name for each in served)} at {variables['IDENTITY_ENDPOINT']}"
        )
        log(f"for a program: set -a; . {quoted(place)}; set +a")
        notifier.notify("READY=1")
        try:
            while True:
                threading.Event().wait((notifier.watchdog or 3600.0) / 2)
                notifier.ping_watchdog()
        finally:
            notifier.notify("STOPPING=1")


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


@contextlib.contextmanager
def _written(place: str, variables: dict[str, str]) -> Iterator[None]:
    """The file by which programs find the endpoint while it runs."""
    text = "".join(f"{name}={value}\n" for name, value in variables.items())
    make_folders(os.path.dirname(place))
    write_whole(place, text)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, CredentialsProviderError):
            content = read_file(place)
            # A link, such as /dev/stdout, stays, and so does what another `serve` has written.
            if not os.path.islink(place) and content is not None and content.text() == text:
                os.unlink(place)
