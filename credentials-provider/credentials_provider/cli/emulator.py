"""`emulator`: a local Entra ID in the foreground, until it is stopped."""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import PROGRAM, Command
from credentials_provider.cli.options import DURATION, DURATION_OR_NONE, Parsed
from credentials_provider.cli.process import stoppable
from credentials_provider.credentials.resolver import Resolver
from credentials_provider.errors import ConfigurationError, StoppedError, StorageError
from credentials_provider.extras import cure
from credentials_provider.files import write_whole
from credentials_provider.identities.reading import read_entries
from credentials_provider.identities.validation import validate
from credentials_provider.minting import Failure
from credentials_provider.settings import (
    IDENTITIES_FILE,
    TOKEN_FOLDER,
    Flags,
    default_path,
    load_settings,
)

try:
    from credentials_provider.emulator import App, Emulator, Fault, sample_apps
except ModuleNotFoundError as missing:
    if missing.name != "trustme":
        raise
    raise ConfigurationError(
        "the emulator needs packages that are not installed", hint=cure("emulator")
    ) from None

if TYPE_CHECKING:
    from collections.abc import Iterable

    from credentials_provider.credentials.resolver import Credential

_NEVER = "2099-12-31T00:00:00Z"  # the end of a secret, as Microsoft Graph shows it
_ROTATE = "Application.ReadWrite.OwnedBy"
_SCOPE = "api://6b2e1a77-3c1d-4f0a-8a54-0d9f6f4c2b10/.default"
FAULT = Parsed("fault", Fault.parse)


@click.command(
    "emulator",
    cls=Command,
    examples="""
    # Serve your own identities
    credentials-provider emulator -i my-identities.json
    # Throttle three requests
    credentials-provider emulator --fault throttle:retry_after=5,times=3
    """,
    epilog="docs/emulator.md lists every kind of fault.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=0, show_default="any free one")
@click.option("-i", "--identities-file", metavar="FILE", help="Serve the identities of this file.")
@click.option(
    "--identities",
    type=click.IntRange(1, 10_000),
    default=3,
    help="Number of sample identities, without a file.",
)
@click.option(
    "--folder",
    metavar="FOLDER",
    help="For ca.pem and the sample identities. Default: .oauth-tokens/emulator",
)
@click.option("--latency", type=DURATION_OR_NONE, default="0s", help="Delay before each answer.")
@click.option("--token-lifetime", type=DURATION, help="Default: 60 to 90 minutes, at random.")
@click.option(
    "--propagation",
    type=DURATION_OR_NONE,
    default="0s",
    help="Delay until a new secret of Microsoft Graph works.",
)
@click.option(
    "--fault",
    "faults",
    type=FAULT,
    multiple=True,
    help="A fault to inject, KIND[:PARAM=VALUE,…]; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print its addresses in one JSON document.")
@click.pass_obj
def command(
    root: str, /, identities_file: str | None, token_lifetime: float, **options: Any
) -> int:
    """Run a local Entra ID over TLS on loopback, for demos and tests."""
    default = default_path(root, os.environ, TOKEN_FOLDER, "emulator")
    folder = os.path.abspath(options["folder"] or default)
    if identities_file is None:
        apps = [replace(a, secrets_end=(_NEVER,)) for a in sample_apps(options["identities"])]
    else:
        apps = list(_apps_of(identities_file, root))
    # So that `identities rotate` can be tried.
    apps = [replace(a, graph_roles=(_ROTATE,), owners=(a.client_id,)) for a in apps]
    emulator = Emulator(
        apps,
        port=options["port"],
        latency=options["latency"],
        token_lifetime=max(1, int(token_lifetime)) if token_lifetime else None,
        ca_file=os.path.join(folder, "ca.pem"),
        propagation=options["propagation"],
    )
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if identities_file is None:
            identities_file = os.path.join(folder, IDENTITIES_FILE)
            write_identities(identities_file, apps)
        emulator.start()
    except OSError as error:
        raise _not_started(error, options["port"]) from None
    try:
        for injection in options["faults"]:
            emulator.inject(*injection)
        _say(root, emulator, identities_file, as_json=options["as_json"])
        with stoppable():
            threading.Event().wait()
    except StoppedError:
        pass  # that is how it ends
    finally:
        emulator.close()
    return 0


def _not_started(error: OSError, port: int) -> StorageError:
    what = f"port {port}" if error.filename is None else str(error.filename)
    return StorageError(
        f"the emulator cannot use {what}: {error.strerror}",
        hint="Choose another with --port or --folder.",
    )


def _apps_of(identities_file: str, root: str) -> Iterable[App]:
    """The apps behind the identities of a file; one that the emulator cannot be is left out."""
    settings = load_settings(Flags(identities_file=identities_file), os.environ, root)
    resolver = Resolver(settings, time.time)
    for identity in validate(read_entries(settings))[0].values():
        app = App(identity.tenant_id, identity.client_id, name=identity.identity_name)
        for field in (identity.credential, identity.previous):
            app = _with_proof(app, resolver.resolve(identity, field)) if field else app
        if app.secrets or app.certificates:
            yield app
        else:
            click.echo(
                f"{app.name} is left out: the emulator knows secrets and certificates, not "
                f"{identity.credential}",
                err=True,
            )


def _with_proof(app: App, found: Credential | Failure) -> App:
    if isinstance(found, Failure):
        raise ConfigurationError(f"{app.name}: {found.message}", hint=found.remedy)
    if isinstance(found.for_msal, str):
        secrets = (*app.secrets, found.for_msal)
        return replace(app, secrets=secrets, secrets_end=(_NEVER,) * len(secrets))
    if isinstance(found.for_msal, dict) and (pem := found.for_msal.get("public_certificate")):
        return replace(app, certificates=(*app.certificates, str(pem)))
    return app


def write_identities(path: str, apps: Iterable[App], **wrong_secrets: str) -> None:
    """Write an identities file for apps of the emulator; a secret can be wrong on purpose."""
    identities = [
        {
            "identity_name": app.name,
            "tenant_id": app.tenant_id,
            "client_id": app.client_id,
            "client_secret": wrong_secrets.get(app.name, app.secrets[0]),
            "scope": _SCOPE,
        }
        for app in apps
    ]
    write_whole(path, json.dumps(identities, indent=2) + "\n")


def _say(root: str, emulator: Emulator, identities_file: str, *, as_json: bool) -> None:
    base_url, ca_file = emulator.base_url, emulator.ca_file
    if as_json:
        document = {
            "version": 1,
            "login_base_url": base_url,
            "ca_file": ca_file,
            "identities_file": os.path.abspath(identities_file),
            "pid": os.getpid(),
        }
        click.echo(json.dumps(document))
        return
    program = [os.path.join(root, "generate_creds.sh")] if root else [PROGRAM, "generate"]
    files = ["--identities-file", identities_file, "--output-dir", os.path.dirname(ca_file)]
    provider = ["--login-base-url", base_url, "--ca-bundle", ca_file]
    click.echo(f"Entra ID emulator at {base_url} (Ctrl-C stops it). Mint from another terminal:\n")
    click.echo(f"  {shlex.join([*program, *files])} \\\n    {shlex.join(provider)}\n")
