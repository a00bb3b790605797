"""The command line: one lazy group, one place that turns errors into exit codes."""

from __future__ import annotations

import importlib
import itertools
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from credentials_provider import __version__
from credentials_provider.cli import process
from credentials_provider.cli.helping import (
    LOG_FORMAT,
    PARSED,
    PROGRAM,
    Group,
    as_started,
    printing_flag,
    program_name,
)
from credentials_provider.errors import (
    EXIT_USAGE,
    ConfigurationError,
    CredentialsProviderError,
    StoppedError,
    StorageError,
    unexpected,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

COMPLETION_VARIABLE = "_CREDENTIALS_PROVIDER_COMPLETE"  # a shell asks for completions

# Each stands in the module of its name, which is loaded only to run it or to show its help.
COMMANDS = {
    "generate": "Mint access tokens, or renew those that are due.",
    "identities": "Make and change the identities file.",
    "status": "Show the state of every token, and which expires first.",
    "inspect": "Show what a token says, and verify it.",
    "doctor": "Find what is wrong, and say how to repair it.",
    "watch": "Stay in the foreground and renew each token before it expires.",
    "schedule": "Print a timer for systemd, cron or Kubernetes.",
    "token": "Print a valid token, renewing it first if needed.",
    "exec": "Run a command with a valid token in its environment.",
    "serve": "Serve tokens to Azure's client libraries on this machine.",
    "mcp-config": "Write an AI assistant's MCP configuration.",
    "mcp-bridge": "Serve a remote MCP server locally, with a valid token on each request.",
    "demo": "Show the main job on a local emulator.",
    "emulator": "Run a local Entra ID for demos and tests.",
    "completion": "Print a script that lets your shell complete commands and names.",
}


class LazyGroup(Group):
    """A group that imports a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"{__name__}.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101  a module without one is our own mistake
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and name[:1] != "-" and not ctx.resilient_parsing:
            near = _nearest_command(name, ctx)
            more = f" Did you mean '{near}'?" if near else ""
            raise click.NoSuchCommand(name, f"No such command '{name}'.{more}", ctx=ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        from click.shell_completion import CompletionItem  # the shell asks

        options = click.Command.shell_complete(self, ctx, incomplete)
        return [
            *(
                CompletionItem(name, help=text)
                for name, text in COMMANDS.items()
                if name.startswith(incomplete)
            ),
            *options,
        ]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    name=PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    invoke_without_command=True,
    params=[
        printing_flag(
            "--version",
            text=lambda _: f"{PROGRAM}, version {__version__}",
            help="Show the version and exit.",
        )
    ],
    examples="""
    # See it work, without a tenant
    credentials-provider demo
    # A first identity, and its token
    credentials-provider identities init
    credentials-provider generate
    """,
    epilog="Without a command it says what to do next. `generate --help` lists the exit codes.",
)
@click.pass_context
def group(ctx: click.Context) -> None:
    """Access tokens for machine identities from Microsoft Entra ID, renewed before they expire."""
    if ctx.invoked_subcommand is None:
        from credentials_provider.cli.next_step import show  # without a command only

        show(ctx.obj, ctx.info_name or PROGRAM)


def _nearest_command(word: str, ctx: click.Context) -> str | None:
    """What somebody may have meant who typed this in a command's place."""
    from difflib import get_close_matches  # only to help with a mistake

    meant = dict.fromkeys(("renew", "refresh"), "generate --refresh-ahead")
    for name in ("schedule", "identities"):
        below = group.get_command(ctx, name)
        assert isinstance(below, click.Group)  # noqa: S101  ours
        meant |= {each: f"{name} {each}" for each in below.list_commands(ctx)}
    meant |= {name: name for name in COMMANDS}
    near = get_close_matches(word, meant, n=1)
    return meant[near[0]] if near else None


def main(args: Sequence[str] | None = None, root: str = "", *, script: bool = False) -> NoReturn:
    """Run the program and exit.

    Args:
        args: the command line without the program's name; the process's own by default.
        root: the checkout, to which the default paths belong; empty for an installed program.
        script: whether `generate_creds.sh` started it, which means `generate` without a command.

    """
    arguments = list(sys.argv[1:] if args is None else args)
    if script:
        arguments = _with_default_command(arguments)
    process.install()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if COMPLETION_VARIABLE in os.environ:
        from credentials_provider.cli.completion import answer  # the shell asks

        code = answer(group, root)
    else:
        code = _run(arguments, root)
    if failure := process.output_failure():
        message = f"standard output cannot be written: {failure}"
        if _wants_json_log(arguments):
            _log_event("warning", message)
        else:
            click.echo(f"warning: {message}", err=True)
    sys.exit(code)


def _with_default_command(arguments: list[str]) -> list[str]:
    first = arguments[0] if arguments else ""
    if first == "--demo":
        return ["demo", *arguments[1:]]
    known = (*COMMANDS, "help", "version", "--version")
    return arguments if first in known else ["generate", *arguments]


def colour() -> bool | None:
    """False where nobody wants colours (https://no-color.org), None where a terminal decides."""
    unwanted = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return False if unwanted else None


def _run(arguments: list[str], root: str) -> int:
    arguments = _resolve_aliases(arguments)
    context = None
    try:
        context = group.make_context(program_name(root), list(arguments), obj=root, color=colour())
        with context:
            return int(context.command.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code
    except (StoppedError, KeyboardInterrupt, click.Abort) as stop:
        by = stop if isinstance(stop, StoppedError) else StoppedError(signal.SIGINT, "SIGINT")
        message = f"stopped by {by.signal_name}; every file is whole"
        stopped = CredentialsProviderError(message)
        stopped.exit_code = by.exit_code
        if _tell_programs(stopped, context, arguments, event="stopped") != "events":
            click.echo(message, err=True)
        return by.exit_code
    except Exception as error:  # noqa: BLE001  a traceback could show a secret
        known = _known(error)
        if _tell_programs(known, context, arguments):
            return known.exit_code
        if isinstance(error, click.UsageError):
            error.show()
        else:
            _print_error(known, context, arguments)
        return known.exit_code


def _known(error: Exception) -> CredentialsProviderError:
    """An error in words of ours: what the command line, the file system or nobody foresaw."""
    if isinstance(error, CredentialsProviderError):
        return error
    if isinstance(error, click.UsageError):
        return ConfigurationError(error.format_message())
    if isinstance(error, UnicodeEncodeError):
        return ConfigurationError(
            "a name or path is not text in UTF-8, so no file can name it", hint="Rename it."
        )
    if isinstance(error, OSError):
        what = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return StorageError(
            f"{what}{error.strerror or type(error).__name__}",
            hint="Check that it is what it should be, its owner and permissions, and the disk.",
        )
    message = f"{unexpected(error)}; this is a mistake of this program, please report it"
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith(__package__):
        from credentials_provider.extras import cure

        message = f"the module {error.name} is missing. {cure()}"
    if isinstance(error, MemoryError):
        message = "this process has too little memory (ulimit -v, or its container's limit)"
    return CredentialsProviderError(message)


def _resolve_aliases(arguments: list[str]) -> list[str]:
    """The words that people try first, as the options that they mean."""
    if arguments[:1] == ["version"]:
        return ["--version", *arguments[1:]]
    return [*arguments[1:], "--help"] if arguments[:1] == ["help"] else arguments


def _own_arguments(arguments: Sequence[str]) -> Sequence[str]:
    """The arguments that are ours: those after `--` belong to another command."""
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _tell_programs(
    error: CredentialsProviderError,
    context: click.Context | None,
    arguments: Sequence[str],
    *,
    event: str = "error",
) -> str:
    """Say what went wrong in the forms that were asked for; the one that stderr has, if any.

    They were asked for by the options that were parsed; where none were, by the words.
    """
    meta: dict[str, Any] = context.meta if context else {}
    as_json = "--json" in _own_arguments(arguments)
    if options := meta.get(PARSED):
        as_json = options.get("as_json")
    if as_json:
        import json

        errors = [problem._asdict() for problem in error.problems]
        document = {"version": 1, "exit_code": error.exit_code, "errors": errors}
        click.echo(json.dumps(document, indent=2))
    if meta[LOG_FORMAT] == "json" if LOG_FORMAT in meta else _wants_json_log(arguments):
        for problem in error.problems:
            _log_event(event, str(problem), error.hint)
        return "events"
    return "document" if as_json else ""


def _wants_json_log(arguments: Sequence[str]) -> bool:
    words = _own_arguments(arguments)
    return "--log-format=json" in words or ("--log-format", "json") in itertools.pairwise(words)


def _log_event(name: str, message: str, remedy: str | None = None) -> None:
    from credentials_provider.cli.logs import event  # where a log is asked for

    event(name, "error" if name == "error" else "warning", message=message, remedy=remedy)


def _print_error(
    error: CredentialsProviderError, context: click.Context | None, arguments: Sequence[str]
) -> None:
    from credentials_provider.cli.table import wrapped

    lines = [f"{click.style('error:', fg='red')} {error.message}"]
    if error.problems[0].message != error.message:
        lines += [f"  {problem}" for problem in error.problems]
    # `generate_creds.sh statsu` is `generate statsu`, whether or not there are identities.
    if context and error.exit_code == EXIT_USAGE and arguments[:1] == ["generate"]:
        word = arguments[1] if arguments[1:] and arguments[1][:1] != "-" else None
        if word and (near := _nearest_command(word, context)):
            command = as_started(f"`{PROGRAM} {near}`", context)
            lines.append(f"  Did you mean the command {command}?")
    if error.hint:
        lines.append(f"  {as_started(error.hint, context, identity=error.identity_name)}")
    for line in lines:
        click.echo(wrapped(line, err=True), err=True, color=colour())
