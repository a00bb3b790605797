"""`doctor`: the whole way from `.env` to a token in the registry, checked piece by piece."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command, as_started
from credentials_provider.cli.options import (
    flags_of,
    identity_names,
    settings_of,
    settings_options,
)
from credentials_provider.cli.stopping import stoppable
from credentials_provider.diagnostics import doctor
from credentials_provider.errors import EXIT_FAILED, EXIT_OK, printable
from credentials_provider.identities.reading import read_entries, select

if TYPE_CHECKING:
    from credentials_provider.diagnostics.doctor import Check

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red"}


@click.command(
    "doctor",
    cls=Command,
    examples="""
    # Everything, up to the registry
    credentials-provider doctor --registry-url https://gateway.example.com
    # One identity; and its token request, to be made by hand
    credentials-provider doctor ci --curl
    """,
    epilog="Exit codes: 0 no failure (warnings aside); 1 a failure; 2 usage.",
)
@click.argument("name", required=False, shell_complete=identity_names)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--registry-url", metavar="URL", help="Show the registry a token, too.")
@click.option("--scopes-file", metavar="FILE", help="The registry's scopes.yml: map groups.")
@click.option("--curl", "as_curl", is_flag=True, help="Print NAME's token request for curl.")
@settings_options
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Check the whole way from .env to a token in the registry, and name the cure of what fails."""
    name = options["name"]
    if options["as_curl"]:
        if not name:
            raise click.UsageError("--curl wants the NAME of an identity.")
        _show_curl(name, root, options)
        return EXIT_OK
    question = doctor.Question(
        root=root,
        flags=flags_of(options),
        process=os.environ,
        names=(name,) if name else (),
        registry_url=options["registry_url"],
        scopes_file=options["scopes_file"],
    )
    checks: list[Check] = []
    with stoppable():
        for check in doctor.examine(question, time.time()):
            checks.append(check)
            if not options["as_json"]:
                _show(check)
    code = EXIT_FAILED if any(check.verdict == "failure" for check in checks) else EXIT_OK
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in _COLOURS}
    if options["as_json"]:
        document = {
            "version": 1,
            "exit_code": code,
            "summary": counts,
            "checks": [check._asdict() for check in checks],
        }
        click.echo(json.dumps(document, indent=2))
        return code
    told = ", ".join(
        f"{count} {verdict}{'s' if count != 1 and verdict != 'ok' else ''}"
        for verdict, count in counts.items()
        if count
    )
    click.echo(f"\n{told}")
    if not options["registry_url"]:
        click.echo("Not checked: whether the registry takes the token (--registry-url URL)")
    return code


def _show(check: Check) -> None:
    verdict = click.style(f"{check.verdict:8}", fg=_COLOURS[check.verdict])
    about = f"{check.identity_name}: " if check.identity_name else ""
    click.echo(f"{verdict} {check.name:13} {about}{printable(check.seen)}")
    for line in (check.cure, check.link):
        if line:
            click.echo(f"{'':23}{printable(as_started(line))}")


def _show_curl(name: str, root: str, options: dict[str, Any]) -> None:
    settings = settings_of(options, root)
    file = read_entries(settings)
    entry, *_ = select(file.entries, (name,), file.path)
    click.echo(
        f"# A token for {name}, asked for by hand. Put its secret's Value into CLIENT_SECRET first,"
        "\n# typed unseen and kept out of the shell's history:  read -rs CLIENT_SECRET\n"
        + doctor.curl(entry, settings)
    )
