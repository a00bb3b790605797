"""`inspect`: one token in plain words; it is only called verified where that was checked."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.options import (
    identity_names,
    settings_of,
    settings_options,
    utc_option,
)
from credentials_provider.cli.output import local_time, time_left
from credentials_provider.cli.table import marked, wrapped
from credentials_provider.diagnostics.http import HttpClient
from credentials_provider.diagnostics.inspection import registry
from credentials_provider.diagnostics.inspection.decoding import described, find_token
from credentials_provider.diagnostics.inspection.verifying import Expectation, verify
from credentials_provider.errors import EXIT_FAILED, EXIT_OK, ConfigurationError
from credentials_provider.identities.reading import authority_base, read_entries, select
from credentials_provider.identities.rules import SCOPE_END, composed, is_guid
from credentials_provider.identities.validation import valid_identity
from credentials_provider.permissions import MAXIMUM_SIZE, read_file
from credentials_provider.tokens.claims import epoch_claim
from credentials_provider.tokens.store import TokenStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from credentials_provider.diagnostics.inspection.decoding import Token
    from credentials_provider.diagnostics.inspection.registry import Finding
    from credentials_provider.diagnostics.inspection.verifying import Verification
    from credentials_provider.settings import Settings

_MARKS = {True: ("ok", "green"), False: ("refused", "red"), None: ("unknown", "yellow")}
_DEADLINE = 40.0  # seconds for all requests of --verify
_INDENT = 11  # columns before what the registry would say


@click.command(
    "inspect",
    cls=Command,
    examples="""
    # An identity's token, checked against its definition
    credentials-provider inspect ci --verify
    # Any token, from a file or from standard input
    pbpaste | credentials-provider inspect - --verify --identity ci
    """,
    epilog="Exit codes: 0 the token was read (with --verify: it is genuine, valid and that "
    "identity's own); 1 --verify found otherwise; 2 there is no token.",
)
@click.argument("target", metavar="NAME|FILE|-", shell_complete=identity_names)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option(
    "--verify", "verifies", is_flag=True, help="Check signature, tenant, application and audience."
)
@click.option(
    "--identity",
    metavar="NAME",
    help="With --verify: the identity whose token this should be. Default: NAME.",
)
@click.option("--audience", metavar="ID", help="With --verify: accept this audience, too.")
@click.option("--scopes-file", metavar="PATH", help="The registry's scope files: map its groups.")
@utc_option
@settings_options
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Show what a token says, and what the MCP Gateway Registry would say about it."""
    if not options["verifies"] and (options["identity"] or options["audience"]):
        raise click.UsageError("--identity and --audience need --verify.")
    settings = settings_of(options, root)
    token, fields = _find(options["target"], settings)
    if name := options["identity"]:
        fields = _identity(name, settings, required=True)
    now = time.time()
    verified = None
    if options["verifies"]:
        expected = _expectation(fields, settings, options["audience"])
        base = authority_base(dict(fields), settings)
        with contextlib.closing(
            HttpClient(settings.ca_bundle, time.monotonic() + _DEADLINE)
        ) as client:
            verified = verify(token, base, expected, client, now)
    findings = registry.registry_findings(
        token,
        registry.validator_of(settings, fields),
        now,
        signed=verified.signed if verified else None,
    )
    if options["scopes_file"]:
        findings.append(
            registry.mapping_finding(token, registry.read_group_mappings(options["scopes_file"]))
        )
    if options["as_json"]:
        click.echo(json.dumps(_document(token, verified, findings), indent=2))
    else:
        _show(token, verified, findings, now)
    return EXIT_OK if verified is None or verified.ok else EXIT_FAILED


def _find(target: str, settings: Settings) -> tuple[Token, Mapping[str, Any]]:
    """The token, and its identity's fields where it is one of ours."""
    fields: Mapping[str, Any] = {}
    path = TokenStore(settings.output_dir).path(composed(target))
    if target != "-" and os.path.basename(target) == target and os.path.isfile(path):
        fields = _identity(target, settings)
    else:
        path = target
    content = read_file(path, owned=False) if target != "-" else None  # it is only shown
    if content is None and target != "-":
        raise ConfigurationError(
            f"there is neither a token of the identity {target[:128]!r} nor a file of that name",
            hint=f"Tokens are looked for in {settings.output_dir}; `credentials-provider status` "
            "lists them.",
        )
    token = find_token(content.text() if content else sys.stdin.read(MAXIMUM_SIZE))
    if token is None:
        raise ConfigurationError(
            "there is no token to read: neither a JWT nor a JSON file with access_token",
            hint="An opaque token cannot be decoded, and neither can one that was cut off when it "
            "was copied.",
        )
    return token, fields


def _identity(name: str, settings: Settings, *, required: bool = False) -> Mapping[str, Any]:
    """An identity's fields; none where they are not in order, unless they are `required`."""
    try:
        file = read_entries(settings)
        entry, *_ = select(file.entries, [name], file.path)  # two of a name have mistakes
        valid_identity(entry)
    except ConfigurationError:
        if required:
            raise
        return {}
    return entry.fields


def _expectation(
    fields: Mapping[str, Any], settings: Settings, audience: str | None
) -> Expectation | None:
    """What the identity's token has to say, from its definition and not from the token."""
    if not fields:
        return None
    resource = str(fields["scope"]).removesuffix(SCOPE_END)
    audiences = [resource, audience]
    name = resource.removeprefix("api://")
    if is_guid(name):
        audiences.append(name)
    elif resource == settings.environment.get("ENTRA_APPLICATION_ID_URI"):
        audiences.append(settings.client_id)
    return Expectation(
        str(fields["identity_name"]),
        str(fields["tenant_id"]),
        str(fields["client_id"]),
        tuple(each for each in audiences if each),
    )


def _show(
    token: Token, verified: Verification | None, findings: Sequence[Finding], now: float
) -> None:
    word, colour = "Not verified", "yellow"
    seen = "anybody could have written this; --verify checks the signature"
    if verified is not None:
        words = {True: "Not verified", False: "Invalid", None: "Not checked"}
        word = "Verified" if verified.ok else words[verified.signed]
        colour, seen = "green" if verified.ok else "red", verified.seen
    click.echo(marked(word, colour, f": {seen}") + "\n")
    for label, text in (*described(token), *_times(token, now)):
        click.echo(f"{label:12} {text}")
    click.echo("\nThe MCP Gateway Registry would say:")
    for finding in findings:
        word, colour = _MARKS[finding.ok]
        text = f" {finding.about}: {finding.seen}"
        click.echo(marked(f"  {word:8}", colour, text, hang=_INDENT))
        if finding.ok is not True:
            for line in (finding.cure, finding.link):
                if line:
                    click.echo(wrapped(f"{'':{_INDENT}}{line}"))


def _times(token: Token, now: float) -> Iterator[tuple[str, str]]:
    for label, name in (("issued", "iat"), ("valid from", "nbf"), ("expires", "exp")):
        epoch = epoch_claim(token.claims, name)
        if epoch is None:
            yield label, "none"
        else:
            away = time_left(abs(epoch - now))
            relation = f"in {away}" if epoch > now else f"{away} ago"
            yield label, f"{_when(epoch, now)}, {relation}"


def _when(epoch: int, now: float) -> str:
    try:
        return local_time(epoch, now)
    except (OverflowError, OSError, ValueError):
        return str(epoch)


def _document(
    token: Token, verified: Verification | None, findings: Sequence[Finding]
) -> dict[str, Any]:
    return {
        "version": 1,
        "verified": verified.ok if verified else None,
        "verification": verified.seen if verified else "not asked for (--verify)",
        "header": token.header,
        "claims": token.claims,
        "registry": [each._asdict() for each in findings],
    }
