"""How help looks: what a command does, examples to copy, options in groups."""

from __future__ import annotations

import inspect
from typing import Any

import click

PROGRAM = "credentials-provider"
SCRIPT = "./generate_creds.sh"  # the same program, in a checkout

# A group's title, and the parameters that belong there in every command that has them.
_GROUPS = {
    "Credential, exactly one": (),
    "Files": ("identities_file", "output_dir", "env_file"),
    "Provider": ("login_base_url", "cloud", "ca_bundle"),
    "Limits": ("concurrency", "timeout", "max_attempts", "deadline", "lock_timeout"),
    "After a run": ("on_renew", "hook_timeout", "metrics_file"),
    "Output": ("as_json", "quiet", "verbose", "log_format"),
    "As the registry's own scripts have them": (
        "auth_provider",
        "entra_tenant_id",
        "entra_client_id",
        "entra_client_secret",
        "ingress_only",
        "all_agents",
    ),
}
_GROUP_OF = {name: title for title, names in _GROUPS.items() for name in names}


def as_started(text: str, program: str | None = None) -> str:
    """A text whose quoted commands are those of the script where that was started."""
    if program is None:
        ctx = click.get_current_context(silent=True)
        program = (ctx and ctx.find_root().info_name) or PROGRAM
    return text.replace(f"`{PROGRAM} ", f"`{program} ")


class Command(click.Command):
    """A command; `examples` has lines to copy, each below a line that begins with `#`."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            program = ctx.find_root().info_name or PROGRAM
            with formatter.section("Examples"):  # as they are, however narrow the terminal is
                for line in inspect.cleandoc(self.examples).replace(PROGRAM, program).splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        groups: dict[str, list[tuple[str, str]]] = {title: [] for title in ("Options", *_GROUPS)}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                title = getattr(param, "group", None) or _GROUP_OF.get(param.name or "", "Options")
                groups[title].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(click.Group, Command):
    """A group of such commands."""

    command_class = Command
