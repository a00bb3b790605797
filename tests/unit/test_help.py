"""Help: every command says what it does, shows how, and suggests what a slip may have meant."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click
import pytest

from command_lines import calls, lines, parse
from credentials_provider.cli import COMMANDS, group, main
from credentials_provider.cli.helping import _GROUP_OF, PROGRAM, Command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def commands(ctx: click.Context) -> Iterator[click.Context]:
    """A command, and all below it."""
    yield ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            assert command is not None
            yield from commands(click.Context(command, info_name=name, parent=ctx))


ALL = {ctx.command_path: ctx for ctx in commands(click.Context(group, info_name=PROGRAM))}
EACH = pytest.mark.parametrize("ctx", ALL.values(), ids=ALL.keys())


def run(
    capsys: pytest.CaptureFixture[str], *args: str, root: str | None = None
) -> tuple[int, str, str]:
    """The program in this process: exit code, stdout, stderr."""
    with pytest.raises(SystemExit) as end:
        main(args, root=root)
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


@EACH
def test_a_command_says_in_one_line_what_it_does(ctx: click.Context) -> None:
    """A sentence that fits a terminal beside nothing else."""
    purpose = (ctx.command.help or "").split("\n\n")[0]
    assert purpose.endswith(".")
    assert len(purpose) <= 100


@EACH
def test_a_command_shows_two_examples_that_it_understands(
    ctx: click.Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of itself, whole in its help, each below what it is for; all options and values are right."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "answer.json").touch()
    assert isinstance(ctx.command, Command)
    shown = ctx.get_help()
    examples = [line.strip() for line in ctx.command.examples.strip().splitlines()]
    assert sum(line.startswith("#") for line in examples) >= 2
    assert all(line in shown for line in examples)
    called = [words for line in lines(ctx.command.examples) for words in calls(line)]
    assert len(called) >= 2
    own = ctx.command_path.split()[1:]
    for words in called:
        assert words[: len(own)] == own
        parse(words)


def test_options_stand_in_groups_that_exist() -> None:
    """A group that names an option which no command has would be a slip."""
    assert {each.name for ctx in ALL.values() for each in ctx.command.params} >= _GROUP_OF.keys()
    titles = re.findall(r"^(\S.*):$", ALL[f"{PROGRAM} generate"].get_help(), re.MULTILINE)
    assert titles[:3] == ["Examples", "Options", "Files"]


def test_the_summary_lists_every_command() -> None:
    """And nothing that is none."""
    assert {path.split()[1] for path in ALL if " " in path} == set(COMMANDS)


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        (["statsu"], "'status'"),
        (["identities", "chek"], "'check'"),
        (["schedule", "corn"], "'cron'"),
        (["status", "--jsn"], "--json"),
        (["generate", "--refresh-ahed"], "--refresh-ahead"),
        (["identities", "add", "ci", "--client-idd", "x"], "--client-id"),
    ],
)
def test_a_slip_is_told_with_what_was_meant(
    capsys: pytest.CaptureFixture[str], slip: Sequence[str], meant: str
) -> None:
    """Commands, commands of groups, options."""
    code, out, err = run(capsys, *slip)
    assert (code, out) == (2, "")
    assert meant in err


def test_a_command_that_the_script_took_for_a_name_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`generate_creds.sh statsu` is `generate statsu`; the nearest command is named."""
    folder = tmp_path / ".oauth-tokens"
    folder.mkdir(mode=0o700)
    file = folder / "entra-identities.json"
    file.write_text('[{"identity_name": "ci"}]')
    file.chmod(0o600)
    code, _, err = run(capsys, "generate", "statsu", root=str(tmp_path))
    assert code == 2
    assert "`./generate_creds.sh status`?" in err


def test_help_in_a_checkout_names_its_script_and_every_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What is shown can be typed: `generate_creds.sh --help` is `generate --help`."""
    code, out, _ = run(capsys, "generate", "--help", root=str(tmp_path))
    assert code == 0
    assert "Usage: ./generate_creds.sh generate" in out
    assert "./generate_creds.sh generate ci --json" in out
    assert PROGRAM not in out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "Commands:" not in run(capsys, "generate", "--help")[1]


def test_a_hint_names_the_program_as_it_was_started(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The missing identities file leads to the command that makes it."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ENTRA_")]:
        monkeypatch.delenv(name)
    assert "`credentials-provider identities init`" in run(capsys, "generate")[2]
    assert "`./generate_creds.sh identities init`" in run(capsys, "status", root=str(tmp_path))[2]
