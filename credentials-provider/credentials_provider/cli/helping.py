"""How help looks: what a command does, examples to copy, options in groups."""

from __future__ import annotations

import inspect
import os
import re
from typing import TYPE_CHECKING, Any

import click

from credentials_provider.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

PROGRAM = "credentials-provider"
SCRIPT = "generate_creds.sh"  # the same program, in a checkout
UTC = "credentials_provider.utc"  # in a context's meta: whether times are shown in UTC
LOG_FORMAT = "credentials_provider.log_format"  # in a context's meta: text or json
PARSED = "credentials_provider.parsed"  # in a context's meta: the options of the command that ran

_FILES = "Files"
# A group's title, and the parameters that belong there in every command that has them.
_GROUPS = {
    "Credential, exactly one": (),
    _FILES: ("identities_file", "output_dir", "env_file", "trust_owner"),
    "Provider": ("login_base_url", "cloud", "ca_bundle"),
    "Limits": ("concurrency", "timeout", "max_attempts", "deadline", "lock_timeout"),
    "After a run": (
        *("on_renew", "on_failure", "hook_env", "hook_timeout", "metrics_file", "interval"),
    ),
    "Output": ("as_json", "quiet", "verbose", "log_format", "audit_file", "audit_syslog"),
    "As the registry's own scripts have them": (
        *("auth_provider", "keycloak_url", "keycloak_realm", "entra_tenant_id"),
        *("entra_client_id", "entra_client_secret", "ingress_only", "all_agents"),
    ),
}
_GROUP_OF = {name: title for title, names in _GROUPS.items() for name in names}


# What tells another command where identities and tokens are.
_WHERE = ("identities_file", "output_dir", "env_file", "login_base_url", "cloud", "ca_bundle")


def program_name(root: str) -> str:
    """What to type here to start this program: the script of the checkout `root`, or its name."""
    script = os.path.join(root, SCRIPT)
    if not root or not os.path.exists(script):
        return PROGRAM
    return f"./{SCRIPT}" if _is_here(root) else quoted(os.path.abspath(script))


def _default_folder(root: str | None) -> str:
    """The folder of the default files; empty for who stands there, or outside of the program."""
    if root is None or (root and _is_here(root)):
        return ""
    from credentials_provider.settings import own_folder  # only for help

    folder, home = root or own_folder(os.environ), os.path.expanduser("~")
    return folder.replace(home, "~", 1) if folder.startswith(home + os.sep) else folder


def _is_here(folder: str) -> bool:
    try:
        return os.getcwd() == os.path.abspath(folder)
    except OSError:  # the folder was removed
        return False


def as_started(text: str, ctx: click.Context | None = None, *, identity: str | None = None) -> str:
    """A text whose quoted commands can be typed here: the program as it was started, its paths.

    Where the text concerns one `identity`, its name takes the place of NAME. `ctx` is needed where
    the command has ended.
    """
    ctx = ctx or click.get_current_context(silent=True)
    program = (ctx and ctx.find_root().info_name) or PROGRAM

    def replace(found: re.Match[str]) -> str:
        command = found[1]
        if identity is not None:
            command = re.sub(r"\bNAME\b", lambda _: quoted(identity), command)
        return f"`{program} {command}{_where(ctx, command.split()) if ctx else ''}`"

    return re.sub(rf"`{PROGRAM} ([^`]*)`", replace, text)


def _where(ctx: click.Context, words: Sequence[str]) -> str:
    """The options that were typed and that this other command needs to find the same files.

    A timer's own options stand behind `--`.
    """
    command = ctx.find_root().command
    for word in words:
        below = command.get_command(ctx, word) if isinstance(command, click.Group) else None
        if below is None:
            break
        command = below
    takes = {param.name for param in command.params}
    typed = ctx.meta.get(PARSED, ctx.params)
    options: dict[bool, str] = {True: "", False: ""}
    for name in _WHERE:
        if value := typed.get(name):
            word = os.path.abspath(value) if name == "ca_bundle" else str(value)
            options[name in takes] += f" --{name.replace('_', '-')} {quoted(word)}"
    timer = f" --{options[False]}" if options[False] and words[0] == "schedule" else ""
    return options[True] + timer


def printing_flag(
    *names: str,
    text: Callable[[click.Context], str],
    help: str,  # noqa: A002  click's own word
) -> click.Option:
    """An option that prints a text and ends the program.

    click's own would look for translations of their help, which takes a short run noticeable time.
    """

    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(text(ctx), color=ctx.color)
            ctx.exit()

    return click.Option(
        names, is_flag=True, is_eager=True, expose_value=False, callback=show, help=help
    )


def _whole_help(ctx: click.Context) -> str:
    assert isinstance(ctx.command, Command)  # noqa: S101  ours
    ctx.command.first = ()
    return ctx.get_help()


_HELP = printing_flag(
    "-h", "--help", text=click.Context.get_help, help="Show this message and exit."
)
_HELP_ALL = printing_flag("--help-all", text=_whole_help, help="Show every option and exit.")


class Command(click.Command):
    """A command; `examples` has lines to copy, each below a line that begins with `#`.

    Where `first` names parameters, --help shows those and --help-all shows all.
    """

    def __init__(
        self,
        *args: Any,
        examples: str = "",
        first: Collection[str] = (),
        exit_codes: Mapping[int, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.first = first
        self.exit_codes = exit_codes
        if first:
            self.params.append(_HELP_ALL)

    def get_help_option(self, ctx: click.Context) -> click.Option:  # noqa: ARG002  click's signature
        return _HELP

    def make_parser(self, ctx: click.Context) -> Any:
        parser = super().make_parser(ctx)
        # click looks for -i among the long options first, and for what resembles it: that loads
        # difflib and locale, 3 % of a run with nothing due.
        getattr(parser, "_long_opt", {}).update(getattr(parser, "_short_opt", {}))
        return parser

    def invoke(self, ctx: click.Context) -> Any:
        ctx.meta[PARSED] = ctx.params
        return super().invoke(ctx)

    def program(self, ctx: click.Context) -> str:
        """The program's name in the examples."""
        return ctx.find_root().info_name or PROGRAM

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            program = self.program(ctx)
            with formatter.section("Examples"):  # as they are, however narrow the terminal is
                for line in inspect.cleandoc(self.examples).replace(PROGRAM, program).splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *_GROUPS)}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            shown = not self.first or param.is_eager or param.name in self.first
            if record is not None and isinstance(param, click.Option) and shown:
                title = getattr(param, "group", None) or _GROUP_OF.get(param.name or "", "Options")
                groups[title].append(record)
        for title, records in groups.items():
            if records:
                folder = _default_folder(ctx.find_root().obj) if title == _FILES else ""
                with formatter.section(f"{title}, by default in {folder}" if folder else title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.exit_codes:
            with formatter.section("Exit codes"):
                formatter.write_dl([(str(code), text) for code, text in self.exit_codes.items()])
        super().format_epilog(ctx, formatter)


class Group(click.Group, Command):
    """A group of such commands."""

    command_class = Command
