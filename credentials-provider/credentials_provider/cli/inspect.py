"""`inspect`: one token in plain words; unverified unless asked, and then said so."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.options import identity_names, settings_of, settings_options
from credentials_provider.cli.output import local_time, time_left
from credentials_provider.diagnostics import inspection
from credentials_provider.diagnostics.inspection import Expected, Finding, Token, Verification
from credentials_provider.errors import EXIT_FAILED, EXIT_OK, ConfigurationError
from credentials_provider.identities.fields import GUID
from credentials_provider.identities.reading import IdentitiesFile, authority_base, read_entries
from credentials_provider.identities.validation import validate
from credentials_provider.permissions import MAXIMUM_SIZE, read_file
from credentials_provider.tokens.claims import epoch_claim
from credentials_provider.tokens.store import TokenStore
from credentials_provider.transport.retrying import Transport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from credentials_provider.settings import Settings

_MARKS = {True: ("ok", "green"), False: ("refused", "red"), None: ("unknown", "yellow")}
_TIMEOUT = 20.0  # seconds


@click.command(
    "inspect",
    cls=Command,
    examples="""
    # An identity's token, with its signature checked
    credentials-provider inspect ci --verify
    # Any token from a file, or from standard input
    pbpaste | credentials-provider inspect -
    """,
    epilog="Exit codes: 0 read (with --verify: genuine and alive); 1 not so; 2 no token there.",
)
@click.argument("target", metavar="NAME|FILE|-", shell_complete=identity_names)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option("--verify", is_flag=True, help="Check the signature against the provider's keys.")
@click.option("--scopes-file", metavar="FILE", help="The registry's scopes.yml: map its groups.")
@settings_options
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Say what a token says, and what the MCP Gateway Registry makes of it."""
    settings = settings_of(options, root)
    token, fields = _find(options["target"], settings)
    expected = _expected(settings, fields, token)
    now = time.time()
    findings = inspection.registry_findings(token, expected, now)
    if options["scopes_file"]:
        mappings = inspection.read_group_mappings(options["scopes_file"])
        findings.append(inspection.mapping_finding(token, mappings))
    verified = _verify(token, expected, settings) if options["verify"] else None
    if options["as_json"]:
        click.echo(json.dumps(_document(token, verified, findings), indent=2))
    else:
        _show(token, verified, findings, now)
    if verified is None:
        return EXIT_OK
    alive = (epoch_claim(token.claims, "exp") or 0) > now
    return EXIT_OK if verified.ok and alive else EXIT_FAILED


def _find(target: str, settings: Settings) -> tuple[Token, Mapping[str, Any]]:
    """The token, and its identity's fields where it is one of ours."""
    fields: Mapping[str, Any] = {}
    path = TokenStore(settings.output_dir).path(target)
    if target == "-":
        content = sys.stdin.read(MAXIMUM_SIZE)
    elif os.path.basename(target) == target and os.path.isfile(path):
        fields = _identity(target, settings)
        content = _read(path)
    elif os.path.exists(target):
        content = _read(target)
    else:
        raise ConfigurationError(
            f"there is neither a token of the identity {target[:128]!r} nor a file of that name",
            hint=f"Tokens are looked for in {settings.output_dir}; `credentials-provider status` "
            "lists them.",
        )
    token = inspection.find_token(content)
    if token is None:
        raise ConfigurationError(
            "there is no token to read: neither a JWT nor a JSON file with access_token",
            hint="An opaque token cannot be looked into; one that was cut off when it was copied "
            "cannot either.",
        )
    return token, fields


def _identity(name: str, settings: Settings) -> Mapping[str, Any]:
    """An identity's fields; none where they are not in order: a token can be looked at without."""
    try:
        found = [each for each in read_entries(settings).entries if each.name == name]
        validate(IdentitiesFile(settings.identities_file, found, [], []))
    except ConfigurationError:
        return {}
    return found[0].fields if found else {}


def _read(path: str) -> str:
    content = read_file(path, owned=False)  # it is only shown
    if content is None:
        raise ConfigurationError(
            f"there is no file {path}", hint="Name an identity, a file, or - for standard input."
        )
    return content.text()


def _expected(settings: Settings, fields: Mapping[str, Any], token: Token) -> Expected:
    """The registry's own settings, else what the identity says, else the token's tenant."""
    own = fields.get("scope", "").removeprefix("api://").removesuffix("/.default")
    tenant = settings.tenant_id or fields.get("tenant_id")
    if not (isinstance(tenant, str) and GUID.fullmatch(tenant)):
        told = token.claims.get("tid")
        tenant = told if isinstance(told, str) and GUID.fullmatch(told) else None
    gateway = settings.client_id or (own if GUID.fullmatch(own) else None)
    return Expected(authority_base(dict(fields), settings), tenant, gateway)


def _verify(token: Token, expected: Expected, settings: Settings) -> Verification:
    if expected.tenant_id is None:
        return Verification(ok=False, seen="the token names no tenant of Entra ID")
    transport = Transport(
        timeout=_TIMEOUT,
        max_attempts=1,
        deadline=time.monotonic() + _TIMEOUT,
        connections=1,
        ca_bundle=settings.ca_bundle,
    )
    try:
        return inspection.verify(token, expected.login_base_url, expected.tenant_id, transport)
    finally:
        transport.close()


def _show(
    token: Token, verified: Verification | None, findings: Sequence[Finding], now: float
) -> None:
    if verified is None:
        head = click.style("not verified", fg="yellow")
        click.echo(f"{head}: anybody could have written this; --verify checks the signature\n")
    elif verified.ok:
        click.echo(f"{click.style('verified', fg='green')}: {verified.seen}\n")
    else:
        click.echo(f"{click.style('NOT GENUINE', fg='red')}, or not to be told: {verified.seen}\n")
    for label, text in (*inspection.described(token), *_times(token, now)):
        click.echo(f"{label:12} {text}")
    click.echo("\nThe MCP Gateway Registry would say:")
    for finding in findings:
        word, colour = _MARKS[finding.ok]
        click.echo(f"  {click.style(f'{word:8}', fg=colour)} {finding.about}: {finding.seen}")
        if finding.ok is not True:
            for line in (finding.cure, finding.link):
                if line:
                    click.echo(f"           {line}")


def _times(token: Token, now: float) -> Sequence[tuple[str, str]]:
    lines = []
    for label, name in (("issued", "iat"), ("valid from", "nbf"), ("expires", "exp")):
        moment = epoch_claim(token.claims, name)
        if moment is None:
            lines.append((label, "none"))
            continue
        away = time_left(abs(moment - now))
        relation = f"in {away}" if moment > now else f"{away} ago"
        lines.append((label, f"{_when(moment, now)}, {relation}"))
    return lines


def _when(moment: int, now: float) -> str:
    try:
        return local_time(moment, now)
    except (OverflowError, OSError, ValueError):
        return str(moment)


def _document(
    token: Token, verified: Verification | None, findings: Sequence[Finding]
) -> dict[str, Any]:
    return {
        "version": 1,
        "verified": verified.ok if verified else None,
        "verification": verified.seen if verified else "not asked for (--verify)",
        "header": token.header,
        "claims": token.claims,
        "registry": [
            {"about": f.about, "ok": f.ok, "seen": f.seen, "cure": f.cure, "link": f.link}
            for f in findings
        ],
    }
