"""`completion`: what a shell reads to complete commands, options and the names of identities.

The shell asks the program itself, by `COMPLETION_VARIABLE`, and reads click's answers. Where there
is nothing to offer, files are.
"""

from __future__ import annotations

import os
import shlex

import click
from click.shell_completion import get_completion_class

from credentials_provider.cli import COMMANDS, COMPLETION_VARIABLE
from credentials_provider.cli.helping import PROGRAM, SCRIPT, Command
from credentials_provider.errors import EXIT_OK, EXIT_USAGE

# Bash 3.2, which macOS has, knows neither compopt nor -o nosort.
_BASH = """\
%(function)s() {
    local IFS=$'\\n' kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        [ "$kind" != plain ] || COMPREPLY+=("$value")
    done <<<"$(
        COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
            %(variable)s=bash %(program)s 2>/dev/null
    )"
}
complete -o default -F %(function)s %(name)s
"""

_ZSH = """\
#compdef %(name)s
%(function)s() {
    local -a answer plain described
    local kind value help
    answer=("${(@f)$(
        COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
            %(variable)s=zsh %(program)s 2>/dev/null
    )}")
    for kind value help in $answer; do
        [[ $kind == plain ]] || continue
        if [[ $help == _ ]]; then plain+=("$value"); else described+=("$value:$help"); fi
    done
    (( $#plain + $#described )) || { _files; return }
    (( ! $#described )) || _describe -V command described
    (( ! $#plain )) || compadd -V names -a plain
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(function)s "$@"
else
    compdef %(function)s %(name)s
fi
"""

_FISH = """\
function %(function)s
    set -l answer (
        COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) \\
            %(variable)s=fish %(program)s 2>/dev/null
    )
    for line in $answer
        string replace -r '^plain,' '' -- $line
    end
    test -n "$answer"; or __fish_complete_path (commandline -t)
end
complete --no-files --command %(name)s --arguments '(%(function)s)'
"""

_SHELLS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


class CompletionCommand(Command):
    """Its examples are lines for a shell's start-up file, where a relative path leads nowhere."""

    def program(self, ctx: click.Context) -> str:
        return shlex.quote(_script(ctx.obj)) if _script(ctx.obj) else super().program(ctx)


def _script(root: str | None) -> str:
    """The absolute path of the checkout's script; empty where there is none."""
    path = os.path.abspath(os.path.join(root or "", SCRIPT))
    return path if root and os.path.exists(path) else ""


@click.command(
    "completion",
    cls=CompletionCommand,
    examples="""
    # bash: add this line to ~/.bashrc
    eval "$(credentials-provider completion bash)"
    # zsh: add this line to ~/.zshrc, after compinit
    eval "$(credentials-provider completion zsh)"
    # fish: run this once
    credentials-provider completion fish \\
        > ~/.config/fish/conf.d/credentials-provider.fish
    """,
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_obj
def command(root: str, /, shell: str) -> int:
    """Print a script that lets your shell complete commands, options and identities' names."""
    script = _script(root)
    name = SCRIPT if script else PROGRAM
    values = {
        "variable": COMPLETION_VARIABLE,
        "name": name,
        "program": shlex.quote(script) if script else PROGRAM,
        "function": f"_{name.replace('-', '_').replace('.', '_')}",
    }
    click.echo(_SHELLS[shell] % values, nl=False)
    return 0


def answer(group: click.Group, root: str) -> int:
    """Print what could stand where the cursor is, for the shell that the variable names."""
    kind = get_completion_class(os.environ[COMPLETION_VARIABLE])
    if kind is None:
        return EXIT_USAGE
    shell = kind(group, {"obj": root}, PROGRAM, COMPLETION_VARIABLE)
    words, incomplete = shell.get_completion_args()
    lines = [words]
    if root and (not words or words[0] not in COMMANDS):
        # The checkout's script means `generate` without a command; a first word may be either.
        lines = [*([[]] if not words else []), ["generate", *words]]
    offers = [each for line in lines for each in shell.get_completions(line, incomplete)]
    click.echo("\n".join(shell.format_completion(each) for each in offers))
    return EXIT_OK
