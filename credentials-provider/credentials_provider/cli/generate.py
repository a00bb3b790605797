"""`generate`: options to a run, a rendered report, an exit code."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.cli.helping import Command
from credentials_provider.cli.logs import JsonLog, is_json, set_shard, show_requests
from credentials_provider.cli.options import (
    DURATION,
    DURATION_OR_NONE,
    SHARD,
    ca_bundle_option,
    cloud_option,
    env_file_option,
    identities_file_option,
    identity_names,
    log_format_option,
    output_dir_option,
    settings_of,
    trust_option,
)
from credentials_provider.cli.output import Console, show_report
from credentials_provider.cli.process import limit_writing, stoppable
from credentials_provider.errors import EXIT_CODES, NoIdentitiesError, UnknownIdentityError
from credentials_provider.model import RunOptions
from credentials_provider.policy import parse_lead
from credentials_provider.run import batch

if TYPE_CHECKING:
    from credentials_provider.model import Observer, Report
    from credentials_provider.policy import Lead

# In a context's meta: the word behind --refresh-ahead, a name, or a value as version 1 took it.
_NAME_OR_VALUE = "credentials_provider.name_or_value"
_SEEN_BY_ALL = (
    "--entra-client-secret is visible to every user of this machine (ps): "
    "set ENTRA_CLIENT_SECRET instead"
)
_WRITE_TIMEOUT = 1.0  # seconds that a renewal waits for the reader of its messages
# What `RunOptions` calls as the options do.
_SAME_NAME = (
    *("force", "dry_run", "concurrency", "timeout", "max_attempts", "deadline", "lock_timeout"),
    *("strict_permissions", "shard", "on_renew", "on_failure", "hook_timeout", "hook_env"),
    *("metrics_file", "interval", "quiet"),
)


class GenerateCommand(Command):
    """Lets `--refresh-ahead` stand without a value before a name."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        # In a checkout this is what `generate_creds.sh --help` shows, and there is no other.
        if ctx.parent is not None and isinstance(ctx.parent.command, click.Group) and ctx.obj:
            ctx.parent.command.format_commands(ctx.parent, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ours = args[: args.index("--")] if "--" in args else args
        words: list[str] = []
        for place, word in enumerate(ours):
            following = ours[place + 1] if place + 1 < len(ours) else ""
            if word != "--refresh-ahead":
                words.append(word)
            else:
                ctx.meta[_NAME_OR_VALUE] = following
                words.append("--refresh-ahead=auto")
        return super().parse_args(ctx, words + args[len(ours) :])


@click.command(
    "generate",
    cls=GenerateCommand,
    examples="""
    # A new token for every identity
    credentials-provider generate
    # Only what is due, as a timer does it
    credentials-provider generate --refresh-ahead --quiet
    # One identity, with a report for a script
    credentials-provider generate ci --json
    """,
    first=(
        *("refresh_ahead", "identities_file", "output_dir", "force", "dry_run", "on_renew"),
        *("as_json", "quiet", "verbose"),
    ),
    exit_codes=EXIT_CODES,
)
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=identity_names)
@click.option(
    "--refresh-ahead",
    metavar="[=auto|=DURATION|=PERCENT]",
    help="Renew only what is due: by each token's own time, or when this much of its life is left.",
)
@click.option(
    "--refresh-before",
    metavar="DURATION|PERCENT",
    help="The same as --refresh-ahead with a value: renew what has this much of its life left.",
)
@identities_file_option
@output_dir_option
@click.option("-f", "--force", is_flag=True, help="Renew everything that is selected.")
@click.option("--dry-run", is_flag=True, help="Say what is due and why. Request and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
@click.option(
    "-q", "--quiet", is_flag=True, help="Print only what is wrong, and each warning once a day."
)
@click.option(
    "-v",
    "--verbose",
    count=True,
    show_default=False,
    help="Name every identity, fresh ones too. -vv: a line for each request as well.",
)
@click.option(
    "-j",
    "--concurrency",
    type=click.IntRange(1, 512),
    default=32,
    help="Most requests at the same time.",
)
@click.option("--timeout", type=DURATION, default="20s", help="Longest time for one request.")
@click.option(
    "--max-attempts", type=click.IntRange(1, 20), default=4, help="Most requests for one identity."
)
@click.option("--deadline", type=DURATION, default="2m", help="Longest time for the whole run.")
@click.option(
    "--lock-timeout",
    type=DURATION_OR_NONE,
    default="30s",
    help="Longest time to wait for another run.",
)
@click.option(
    "--strict-permissions",
    is_flag=True,
    help="Refuse identities, .env, output folder and files of credentials that others can read.",
)
@click.option(
    "--on-renew",
    metavar="COMMAND",
    help="Shell command to run when new tokens are in place. If it fails, the next run repeats it.",
)
@click.option(
    "--on-failure",
    metavar="COMMAND",
    help="Shell command to run after each run in which a renewal failed.",
)
@click.option(
    "--hook-timeout", type=DURATION, default="1m", help="Longest time for such a command."
)
@click.option(
    "--hook-env",
    metavar="NAME",
    multiple=True,
    help="A variable that such a command inherits besides PATH, HOME, LANG and the like.",
)
@click.option("--metrics-file", metavar="FILE", help="Write metrics for Prometheus to this file.")
@click.option(
    "--interval",
    type=DURATION,
    default="5m",
    help="How often a timer runs this command, for alerts on the metrics.",
)
@click.option(
    "--shard", type=SHARD, metavar="K/N", help="Only part K of N of the identities, counted from 0."
)
@log_format_option
@env_file_option
@trust_option
@click.option(
    "--login-base-url",
    "--entra-login-url",
    metavar="URL",
    help="Login host. Default: https://login.microsoftonline.com",
)
@cloud_option
@ca_bundle_option
@click.option("-a", "--auth-provider", metavar="NAME", help="Only entra is supported.")
@click.option(
    "-k", "--keycloak-url", metavar="URL", expose_value=False, help="Accepted, and ignored."
)
@click.option(
    "-r", "--keycloak-realm", metavar="NAME", expose_value=False, help="Accepted, and ignored."
)
@click.option("--entra-tenant-id", metavar="ID", help="Tenant of identities that name none.")
@click.option("--entra-client-id", metavar="ID", help="The gateway's application.")
@click.option(
    "--entra-client-secret",
    metavar="SECRET",
    help="Better: ENTRA_CLIENT_SECRET in the environment.",
)
@click.option("--ingress-only", is_flag=True, help="Only the identity named ingress.")
@click.option("--all-agents", is_flag=True, help="All identities, which is the default.")
@click.pass_obj
def command(root: str, /, **options: Any) -> int:
    """Mint an access token for every identity, or the named ones.

    Each goes into the output folder, as NAME.json.
    """
    run_options = options_of(root, options)
    if options["verbose"] > 1:
        show_requests()
    set_shard(run_options.shard)
    quiet, verbose = options["quiet"], bool(options["verbose"])
    console = JsonLog(quiet=quiet) if is_json() else Console(quiet=quiet, verbose=verbose)
    ends_at = time.monotonic() + run_options.deadline
    limit_writing(until=ends_at, timeout=_WRITE_TIMEOUT)
    with stoppable(), contextlib.closing(console):
        report = _run(run_options, console)
    limit_writing(until=max(ends_at, time.monotonic() + _WRITE_TIMEOUT))
    if not isinstance(console, Console):
        console.report(report)
        if not options["as_json"]:
            return report.exit_code
    show_report(report, run_options, as_json=options["as_json"], verbose=verbose)
    return report.exit_code


def _run(run_options: RunOptions, console: Observer) -> Report:
    try:
        return batch.run(run_options, console)
    except (NoIdentitiesError, UnknownIdentityError) as error:
        ctx = click.get_current_context()
        value = ctx.meta.get(_NAME_OR_VALUE)
        if value in run_options.names and run_options.lead is None:
            try:
                meant = _with_lead(run_options, value)
            except ValueError:
                error.hint = (
                    "--refresh-ahead takes its value with =: --refresh-ahead=auto, =10m or =25%."
                )
            else:
                return _run(meant, console)
        names = () if ctx.params.get("ingress_only") else run_options.names
        if names and isinstance(error, NoIdentitiesError):
            error.message = (
                f"{names[0][:128]!r} is neither a command nor an identity: {error.message}"
            )
        raise


def _with_lead(run_options: RunOptions, value: str) -> RunOptions:
    """What is asked for if `value`, which names no identity, is the value of --refresh-ahead."""
    note = f"--refresh-ahead takes its value with =; write --refresh-ahead={value}"
    return run_options._replace(
        names=tuple(name for name in run_options.names if name != value),
        lead=parse_lead(value),
        warnings=(*run_options.warnings, note),
    )


def options_of(root: str, options: dict[str, Any]) -> RunOptions:
    """What the options ask for."""
    settings = settings_of(
        options,
        root,
        auth_provider=options["auth_provider"],
        tenant_id=options["entra_tenant_id"],
        client_id=options["entra_client_id"],
        client_secret=options["entra_client_secret"],
    )
    refresh_ahead, lead = _lead(options)
    source = click.get_current_context().get_parameter_source("deadline")
    return RunOptions(
        settings,
        names=(*options["names"], *(("ingress",) if options["ingress_only"] else ())),
        refresh_ahead=refresh_ahead,
        lead=lead,
        deadline_given=source is not click.core.ParameterSource.DEFAULT,
        warnings=(_SEEN_BY_ALL,) if options["entra_client_secret"] else (),
        **{name: options[name] for name in _SAME_NAME},
    )


def _lead(options: dict[str, Any]) -> tuple[bool, Lead | None]:
    """Whether only what is due is renewed, and how much life must be left, if not auto."""
    ahead, before = options["refresh_ahead"], options["refresh_before"]
    if before is not None:
        if ahead not in {None, "auto"}:
            raise click.UsageError("--refresh-ahead=… and --refresh-before exclude one another.")
        if before.strip().lower() == "auto":
            raise click.BadParameter("auto is --refresh-ahead", param_hint="'--refresh-before'")
    option = "--refresh-ahead" if before is None else "--refresh-before"
    value = ahead if before is None else before
    try:
        return value is not None, parse_lead(value) if value else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=f"'{option}'") from None
