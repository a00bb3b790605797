"""Help: every command says what it does, shows how, and suggests what a slip may have meant."""

from __future__ import annotations

import json
import os
import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from command_lines import calls, lines, parse
from credentials_provider import __version__
from credentials_provider.cli import COMMANDS, group, main
from credentials_provider.cli.helping import _GROUP_OF, PARSED, PROGRAM, Command, as_started

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


def run(capsys: pytest.CaptureFixture[str], *args: str, root: str = "") -> tuple[int, str, str]:
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
        (["init"], "'identities init'"),
        (["systemd"], "'schedule systemd'"),
        (["renew"], "'generate --refresh-ahead'"),
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


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the script, where somebody stands."""
    (tmp_path / "generate_creds.sh").touch()
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("ENTRA_")]:
        monkeypatch.delenv(name)
    return tmp_path


@pytest.mark.parametrize("content", ['[{"identity_name": "ci"}]', None])
def test_a_command_that_the_script_took_for_a_name_is_suggested(
    capsys: pytest.CaptureFixture[str], checkout: Path, content: str | None
) -> None:
    """`generate_creds.sh statsu` is `generate statsu`; with an identities file and without one."""
    folder = checkout / ".oauth-tokens"
    folder.mkdir(mode=0o700)
    if content is not None:
        file = folder / "entra-identities.json"
        file.write_text(content)
        file.chmod(0o600)
    code, _, err = run(capsys, "generate", "statsu", root=str(checkout))
    assert code == 2
    assert "`./generate_creds.sh status`?" in err
    first = err.splitlines()[0]
    assert "unknown identity" in first if content else "'statsu' is neither a command nor" in first


@pytest.mark.parametrize("content", ["[]", None])
def test_a_value_of_refresh_ahead_in_a_name_s_place_is_told_as_that(
    capsys: pytest.CaptureFixture[str], checkout: Path, content: str | None
) -> None:
    """Not as a missing identities file, which is what would be wrong next."""
    folder = checkout / ".oauth-tokens"
    folder.mkdir(mode=0o700)
    if content is not None:
        (folder / "entra-identities.json").write_text(content)
    code, _, err = run(capsys, "generate", "--refresh-ahead", "banana", root=str(checkout))
    assert code == 2
    assert "--refresh-ahead=auto" in err
    assert not err.startswith("error: there is no identities file")


def test_the_words_that_people_try_first_mean_something(
    capsys: pytest.CaptureFixture[str], checkout: Path
) -> None:
    """`help`, `help COMMAND` and `version`, in a checkout too."""
    assert run(capsys, "help")[:2] == run(capsys, "--help")[:2]
    code, out, _ = run(capsys, "help", "status", root=str(checkout))
    assert (code, "generate_creds.sh status [OPTIONS]" in out) == (0, True)
    assert run(capsys, "version")[1] == f"{PROGRAM}, version {__version__}\n"


@pytest.mark.parametrize(
    ("stands_in", "title"),
    [
        ("checkout", "Files:"),
        ("/", "Files, by default in {checkout}:"),
        ("", "Files, by default in ~/.config/credentials-provider:"),
    ],
)
def test_help_says_where_the_default_files_are(
    capsys: pytest.CaptureFixture[str],
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    stands_in: str,
    title: str,
) -> None:
    """In the checkout, or in the user's own folder, never in the working directory."""
    monkeypatch.setenv("HOME", "/home/ann")
    for name in ("CREDENTIALS_PROVIDER_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    if stands_in == "/":
        monkeypatch.chdir("/")
    out = run(capsys, "status", "--help", root=str(checkout) if stands_in else "")[1]
    assert title.format(checkout=checkout) in out.splitlines()


@pytest.mark.parametrize("command", ["schedule cron --install", "watch", "identities check"])
def test_a_suggested_command_uses_the_same_files_and_provider(command: str, tmp_path: Path) -> None:
    """As they were typed; a timer gets behind `--` what it hands on."""
    typed = {
        "identities_file": "my identities.json",
        "login_base_url": "https://login.example.com",
        "ca_bundle": str(tmp_path / "ca.pem"),
    }
    with click.Context(group, info_name=PROGRAM) as ctx:
        ctx.meta[PARSED] = typed
        words = shlex.split(as_started(f"`{PROGRAM} {command}`", ctx).strip("`"))
    params = parse(words[1:]).params
    more = parse(["generate", *params.get("more", ())]).params
    assert {name: params.get(name) or more[name] for name in typed} == typed


def test_the_help_of_generate_fits_a_screen_and_has_the_rest_on_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody reads ninety lines."""
    short, long = (run(capsys, "generate", option)[1] for option in ("--help", "--help-all"))
    assert len(short.splitlines()) <= 55
    assert "--help-all" in short
    assert "--concurrency" not in short
    options = [opt for each in ALL[f"{PROGRAM} generate"].command.params for opt in each.opts]
    assert all(opt in long for opt in options if opt[:1] == "-")


def test_help_in_a_checkout_names_its_script_and_every_command(
    capsys: pytest.CaptureFixture[str], checkout: Path
) -> None:
    """What is shown can be typed: `generate_creds.sh --help` is `generate --help`."""
    code, out, _ = run(capsys, "generate", "--help", root=str(checkout))
    assert code == 0
    assert "Usage: ./generate_creds.sh generate" in out
    assert "./generate_creds.sh generate ci --json" in out
    assert PROGRAM not in out
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert "Commands:" not in run(capsys, "generate", "--help")[1]


def test_a_hint_names_the_program_as_it_can_be_typed_here(
    capsys: pytest.CaptureFixture[str], checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The missing identities file leads to the command that makes it, from any folder."""
    assert "`credentials-provider identities init`" in run(capsys, "generate")[2]
    assert "`./generate_creds.sh identities init`" in run(capsys, "status", root=str(checkout))[2]
    monkeypatch.chdir("/")
    hint = run(capsys, "status", root=str(checkout))[2]
    assert f"`{checkout}/generate_creds.sh identities init`" in hint


def test_a_command_in_a_message_takes_the_paths_along_that_it_accepts(
    capsys: pytest.CaptureFixture[str], checkout: Path
) -> None:
    """What is read can be typed, and finds what this run found."""
    other = checkout / "my tokens"
    other.mkdir(mode=0o700)
    path = checkout / "ids.json"
    path.write_text('[{"identity_name": "ci", "tenant_id": "contoso.com", "client_id": "x"}]')
    path.chmod(0o600)
    where = ("-i", str(path), "-o", str(other))
    out = run(capsys, "status", *where, root=str(checkout))[1]
    (shown,) = re.findall("`(.*?identities check.*?)`", out)
    words = shlex.split(shown)
    assert words[0] == "./generate_creds.sh"
    assert "--identities-file" in words
    parse(words[1:])


def test_a_file_that_cannot_be_used_is_no_mistake_of_the_program(
    capsys: pytest.CaptureFixture[str], checkout: Path
) -> None:
    """Whatever call to the system fails, it names the file."""
    (checkout / ".oauth-tokens").touch()
    code, _, err = run(capsys, "demo", root=str(checkout))
    assert code == 1
    assert str(checkout / ".oauth-tokens") in err
    assert "mistake" not in err


def test_how_errors_are_told_is_decided_by_options_alone(
    capsys: pytest.CaptureFixture[str], checkout: Path
) -> None:
    """Not by words of a hook's command line that look like them."""
    hook = "reload --log-format json --json"
    code, out, err = run(capsys, "generate", "--on-renew", hook, root=str(checkout))
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    out = run(capsys, "generate", "--log-format", "json", root=str(checkout))[2]
    assert json.loads(out)["event"] == "error"
    assert json.loads(run(capsys, "generate", "--json", root=str(checkout))[1])["exit_code"] == 2
