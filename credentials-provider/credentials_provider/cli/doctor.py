"""`doctor`: the whole way from `.env` to a token in the registry, checked piece by piece."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command, as_started
from credentials_provider.cli.options import flags_of, identity_names, settings_of, settings_options
from credentials_provider.cli.process import stoppable
from credentials_provider.cli.table import marked, terminal, wrapped
from credentials_provider.diagnostics import doctor
from credentials_provider.diagnostics.doctor.tokens import curl
from credentials_provider.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, printable
from credentials_provider.identities.reading import read_entries, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from credentials_provider.diagnostics.doctor.checks import Check

_COLOURS = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "cyan"}
_MOST_NAMES = 3
_INDENT = 23  # columns before what was seen


@click.command(
    "doctor",
    cls=Command,
    examples="""
    # Everything, up to the registry
    credentials-provider doctor --registry-url https://gateway.example.com
    # The token request of one identity, to be made by hand
    credentials-provider doctor ci --curl
    """,
    epilog="Exit codes: 0 no failure (warnings aside); 1 a failure; 2 usage, or a configuration of "
    "which nothing can be used.",
)
@click.argument("name", required=False, shell_complete=identity_names)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--registry-url", metavar="URL", help="Also present the tokens to this registry.")
@click.option("--scopes-file", metavar="PATH", help="The registry's scope files: map groups.")
@click.option("--curl", "as_curl", is_flag=True, help="Print NAME's token request for curl.")
@settings_options
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Check the whole way from .env to a token in the registry, and say how to repair it."""
    name = options["name"]
    if options["as_curl"]:
        if not name:
            raise click.UsageError("--curl needs the NAME of an identity.")
        if options["as_json"]:
            raise click.UsageError("--curl and --json exclude one another.")
        _show_curl(name, root, options)
        return EXIT_OK
    question = doctor.DoctorOptions(
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
    code = _exit_code(checks)
    counts = {verdict: sum(check.verdict == verdict for check in checks) for verdict in _COLOURS}
    if options["as_json"]:
        document = {
            "version": 1,
            "exit_code": code,
            "summary": counts,
            "checks": [_document(check) for check in checks],
        }
        click.echo(json.dumps(document, indent=2))
        return code
    summary = ", ".join(
        f"{count} {verdict}{'s' if count != 1 and verdict in {'warning', 'failure'} else ''}"
        for verdict, count in counts.items()
        if count
    )
    click.echo(f"\n{summary}")
    if not options["registry_url"]:
        left = "Not checked: whether the registry accepts the token (--registry-url URL)"
        click.echo(wrapped(left))
    return code


def _exit_code(checks: Sequence[Check]) -> int:
    failed = {check.name for check in checks if check.verdict == "failure"}
    good = {check.name for check in checks if check.verdict == "ok"}
    if "settings" in failed or "identities" in failed - good:
        return EXIT_USAGE
    return EXIT_FAILED if failed else EXIT_OK


def _document(check: Check) -> dict[str, Any]:
    return {**check._asdict(), "cure": _cure(check), "identity_name": _only_name(check)}


def _only_name(check: Check) -> str | None:
    return check.identity_names[0] if len(check.identity_names) == 1 else None


def _cure(check: Check) -> str:
    return as_started(check.cure, identity=_only_name(check))


def _show(check: Check) -> None:
    names = ", ".join(check.identity_names[:_MOST_NAMES])
    if more := len(check.identity_names[_MOST_NAMES:]):
        names += f" and {more} more"
    trace = f"; Trace ID {check.trace_id}" if check.trace_id else ""
    seen = printable(f"{names}{': ' if names else ''}{check.seen}{trace}")
    colour, text = _COLOURS[check.verdict], f" {check.name:13} {seen}"
    click.echo(marked(f"{check.verdict:8}", colour, text, hang=_INDENT))
    for line in (_cure(check), check.link):
        if line:
            whole = f"{'':{_INDENT}}{printable(line)}"
            click.echo(whole if len(whole) <= terminal()[0] else wrapped(whole))


def _show_curl(name: str, root: str, options: dict[str, Any]) -> None:
    settings = settings_of(options, root)
    file = read_entries(settings)
    entry, *_ = select(file.entries, (name,), file.path)
    click.echo(
        f"# A token request for {name}, to be sent by hand. First put the secret's Value into\n"
        "# CLIENT_SECRET, unseen and kept out of the shell's history:  read -rs CLIENT_SECRET\n"
        + curl(entry, settings)
    )
