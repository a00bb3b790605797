"""Shell completion: commands, options and the names of identities, asked for as a shell does."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from credentials_provider.cli import COMMANDS, main
from support import PACKAGES, environment

if TYPE_CHECKING:
    from pathlib import Path

    from unit.making import Project

NAMES = ["ci", "billing-agent"]


@pytest.fixture
def folder(project: Project) -> Path:
    """A project whose identities nobody has validated; one has a name that is none."""
    project.content(json.dumps([{"identity_name": name} for name in (*NAMES, "$(rm -rf x)")]))
    return project.root


def offers(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    *words: str,
    root: str = "",
) -> list[str]:
    """What bash is offered for the last of these words."""
    monkeypatch.setenv("_CREDENTIALS_PROVIDER_COMPLETE", "bash")
    monkeypatch.setenv("COMP_WORDS", "\n".join(["program", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit) as end:
        main([], root=root)
    assert end.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return [line.partition(",")[2] for line in out.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["st"], ["status"]),
        (["generate", ""], NAMES),
        (["status", "b"], ["billing-agent"]),
        (["token", ""], NAMES),
        (["exec", "c"], ["ci"]),
        (["inspect", ""], NAMES),
        (["doctor", ""], NAMES),
        (["identities", "remove", "ci", ""], NAMES),
        (["mcp-config", "cursor", "--identity", "b"], ["billing-agent"]),
        (["mcp-bridge", "--identity", ""], NAMES),
        (["token", "ci", "--format", "head"], ["header", "headers-json"]),
        (["identities", "re"], ["remove"]),
        (["generate", "-i", "nowhere.json", ""], []),
        (["generate", "--env-file", "nowhere", ""], []),
    ],
)
def test_what_is_offered(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    expected: list[str],
) -> None:
    """Names come from the file that the line names; one that cannot be read offers none."""
    monkeypatch.chdir(folder)
    assert offers(capsys, monkeypatch, *words) == expected


def test_the_script_of_a_checkout_offers_what_it_understands(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, and what `generate` takes."""
    root = str(folder)
    assert offers(capsys, monkeypatch, "", root=root) == [*COMMANDS, *NAMES]
    assert offers(capsys, monkeypatch, "--refresh-a", root=root) == ["--refresh-ahead"]
    assert offers(capsys, monkeypatch, "ci", "b", root=root) == ["billing-agent"]
    assert offers(capsys, monkeypatch, "token", "b", root=root) == ["billing-agent"]


ASK = {
    # Readline's own variables; an interactive shell would need a terminal.
    "bash": """
        eval "$({program} completion bash)"
        complete -p {name} >/dev/null || exit
        COMP_WORDS=({name} token '') COMP_CWORD=2
        {function}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """,
    # What the completion system would be told.
    "zsh": """
        compdef() {{ }}
        compadd() {{ print -rl -- $plain }}
        eval "$({program} completion zsh)"
        words=({name} token '') CURRENT=3
        {function}
    """,
    "fish": """
        {program} completion fish | source
        complete --do-complete '{name} token '
    """,
}


@pytest.mark.parametrize("shell", ASK)
@pytest.mark.parametrize("checkout", [False, True])
def test_a_shell_gets_the_names(folder: Path, shell: str, checkout: bool) -> None:
    """From what `completion` prints: the console script's name, or the checkout's, anywhere."""
    path = shutil.which(shell)
    if not path:
        pytest.skip(f"{shell} is not here")
    name = "generate_creds.sh" if checkout else "credentials-provider"
    bin_folder = folder / "with ' space"
    bin_folder.mkdir()
    if checkout:
        code = (
            "import sys; from credentials_provider.cli import main; "
            f"main(sys.argv[1:] or ['generate'], root={str(bin_folder)!r})"
        )
        (folder / ".oauth-tokens").rename(bin_folder / ".oauth-tokens")
    else:
        code = "from credentials_provider.cli import main; main()"
    program = bin_folder / name
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c {shlex.quote(code)} "$@"\n')
    program.chmod(0o755)
    text = ASK[shell].format(
        program=f'"{program}"', name=name, function=f"_{name.replace('-', '_').replace('.', '_')}"
    )
    search = {"PATH": os.pathsep.join([str(bin_folder), os.environ["PATH"]])}
    done = subprocess.run(
        [path, *{"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell], "-c", text],
        cwd=folder,
        env=environment(str(folder), {**search, "PYTHONPATH": PACKAGES}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        text=True,
    )
    assert sorted(done.stdout.split()) == sorted(NAMES), done.stderr


def test_an_unknown_shell_gets_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a code that says so."""
    monkeypatch.setenv("_CREDENTIALS_PROVIDER_COMPLETE", "tcsh")
    with pytest.raises(SystemExit) as end:
        main([])
    assert end.value.code == 2
    assert capsys.readouterr().out == ""
