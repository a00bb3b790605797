"""`schedule kubernetes`: manifests, made from what the identities need."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import warn
from credentials_provider.cli.options import ca_bundle_option, env_file_option, flags_of
from credentials_provider.cli.schedule.planning import (
    NAME_TYPE,
    check_generate_options,
    common_options,
    environment_option,
    passed_variables,
)
from credentials_provider.errors import EXIT_OK
from credentials_provider.identities.fields import CREDENTIAL_KINDS
from credentials_provider.identities.reading import (
    POD_VARIABLES,
    authority_base,
    read_entries,
    select,
)
from credentials_provider.identities.sinks import sinks_of
from credentials_provider.run.launching import launch_warnings
from credentials_provider.schedule import NAME, kubernetes
from credentials_provider.settings import CLOUDS, HOSTS_VARIABLE, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.model import Entry
    from credentials_provider.settings import Settings

# What defines identities and is not a secret; the manifests show it.
_SETTINGS = ("ENTRA_TENANT_ID", "ENTRA_CLIENT_ID", "ENTRA_SCOPE", "ENTRA_APPLICATION_ID_URI")
_NAMED_SETTINGS = (HOSTS_VARIABLE, "ENTRA_KEYVAULT_HOSTS")
_LOGIN_HOST = "ENTRA_LOGIN_BASE_URL"
# Of the pod itself: paths that the cluster provides.
_OF_THE_POD = ("/var/run/secrets/", "/run/secrets/")
_OF_THE_CLUSTER = re.compile(rf"\$\{{?({'|'.join(POD_VARIABLES)})\b")
_PORT = 443


@click.command(
    "kubernetes",
    cls=Command,
    short_help="Manifests for kubectl apply.",
    examples="""
    # A CronJob
    credentials-provider schedule kubernetes --image registry.example.com/tokens:1 \\
        | kubectl apply -f -
    # Beside your own container
    credentials-provider schedule kubernetes --kind sidecar
    # Tokens as Secrets, by a service that stays
    credentials-provider schedule kubernetes --kind deployment --namespace agents
    """,
)
@common_options
@click.option("--rotate", "rotates", is_flag=True, hidden=True)  # refused, with the reason
@click.option(
    "--kind",
    type=click.Choice(["cronjob", "fleet", "deployment", "sidecar"]),
    default="cronjob",
    help="A CronJob; one of indexed Jobs, each with its part; `watch` in a pod of its own, for "
    "sinks that are Secrets; `watch` beside your container.",
)
@click.option("--image", default=f"{NAME}:latest", help="See docs.")
@click.option("--shards", type=click.IntRange(1, 1000), default=4, help="For a fleet.")
@click.option(
    "--namespace", type=NAME_TYPE, help="Of all that is made. Sinks that are Secrets need it."
)
@click.option("--wait-for", metavar="NAME", help="The identity that probes ask for. Default: any.")
@click.option(
    "-i",
    "--identities-file",
    metavar="FILE",
    help="Whose credentials the pod needs. Default: .oauth-tokens/entra-identities.json",
)
@env_file_option
@ca_bundle_option
@environment_option
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Print manifests for kubectl apply -f -, or kubectl delete -f -."""
    if options["rotates"]:
        raise click.UsageError(
            "--rotate: the identities are a Secret, which the pod cannot change. Run "
            "`identities rotate` where they are kept, and make the Secret anew."
        )
    kind = options["kind"]
    stays = kind in kubernetes.STAYING
    given = check_generate_options(options["more"], stays=stays)
    if given["identities_file"] or given["output_dir"]:
        raise click.UsageError("The pod has its own --identities-file and --output-dir.")
    where = {name: options[name] for name in ("identities_file", "env_file", "ca_bundle")}
    settings = load_settings(flags_of({**given, **where}), os.environ, root)
    there = settings.identities_file_given or os.path.exists(settings.identities_file)
    entries = read_entries(settings).entries if there else []
    if options["wait_for"]:
        select(entries, (options["wait_for"],), settings.identities_file)
    needs = _needs(settings, entries, options["names"])
    if needs.secrets and not options["namespace"]:
        raise click.UsageError(
            "Sinks that are Secrets need --namespace: it is where the Role counts."
        )
    if kind == "deployment" and not needs.secrets:
        raise click.UsageError(
            "Nothing could read the tokens of this kind: give an identity the sink "
            '{"kubernetes_secret": "NAME"}.'
        )
    listen = given.get("listen")
    same = ("kind", "image", "shards", "name", "namespace", "more", "wait_for")
    form = kubernetes.Form(
        **{name: options[name] for name in same},
        every=int(options["every"]),
        listens=listen[1] if listen else None,
    )
    click.echo(kubernetes.manifests(form, needs), nl=False)
    return EXIT_OK


def _needs(settings: Settings, entries: Sequence[Entry], names: Sequence[str]) -> kubernetes.Needs:
    """What these identities need in a pod."""
    variables = passed_variables(names)
    environment = settings.environment
    values = {name: environment.get(name) for name in _SETTINGS}
    values |= {name: environment.get_named(name) for name in _NAMED_SETTINGS}
    if settings.login_base_url != CLOUDS["public"]:
        values[_LOGIN_HOST] = settings.login_base_url
    files: dict[str, None] = {}
    for field, value in (field for entry in entries for field in entry.fields.items()):
        if field.endswith("_env") and isinstance(value, str):
            variables[value] = ""
        elif field.endswith("_file") and isinstance(value, str) and (path := _in_secret(value)):
            files[path] = None
    shown = {name: value for name, value in values.items() if value and name not in variables}
    for warning in launch_warnings((), settings, entries, {*variables, *shown}):
        warn(warning)
    urls = [*(authority_base(entry.fields, settings) for entry in entries)]
    urls += [value for name, value in variables.items() if name.lower().endswith("_proxy")]
    ports = {port for url in urls if (port := _port(url)) not in {None, _PORT}}
    sinks = [each for entry in entries for each in sinks_of(entry, settings.identities_file)]
    return kubernetes.Needs(
        identities=_shown(os.path.abspath(settings.identities_file)),
        files=tuple(files),
        variables=tuple(variables),
        values=shown,
        ca_bundle=settings.ca_bundle,
        secrets=tuple(dict.fromkeys(sink.secret for sink in sinks if sink.secret)),
        workload_identity=_workload_identity(entries, settings),
        managed_identity=any("managed_identity" in entry.fields for entry in entries),
        ports=tuple(sorted(port for port in ports if port)),
    )


def _shown(path: str) -> str:
    """From here, where it is below."""
    return path.removeprefix(os.path.join(os.getcwd(), "")).replace(os.sep, "/")


def _in_secret(value: str) -> str | None:
    """A file's path below the identities file; None, with a warning, for one of this machine."""
    if value.startswith(_OF_THE_POD) or _OF_THE_CLUSTER.match(value):
        return None
    path = os.path.normpath(value)
    if value.startswith(("/", "~", "$")) or path.startswith(os.pardir):
        warn(
            f"{value} is not in the pod",
            "Put the file below the folder of the identities file, and name it by its relative "
            "path.",
        )
        return None
    return path


def _workload_identity(entries: Sequence[Entry], settings: Settings) -> str | None:
    """The client ID for the service account, empty if nothing says it; None: it needs none."""
    own = settings.environment.get("AZURE_CLIENT_ID") or ""
    for entry in entries:
        kinds = [kind for kind in CREDENTIAL_KINDS if kind in entry.fields]
        file = str(entry.fields.get("federated_token_file", ""))
        if not kinds or _OF_THE_CLUSTER.match(file):
            return own or str(entry.fields.get("client_id") or "")
    return own if any("client_secret_keyvault" in entry.fields for entry in entries) else None


def _port(url: str) -> int | None:
    try:
        return urlsplit(url if "://" in url else f"http://{url}").port
    except ValueError:
        return None
