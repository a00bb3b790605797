"""Makes docs/demo.svg, the README's picture of a terminal, from a real run; run it as a script."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from credentials_provider.cli.emulator import write_identities
from credentials_provider.emulator import Emulator, sample_apps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROJECT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PICTURE = os.path.join(PROJECT, "docs", "demo.svg")
COLUMNS = 100
LIFE = (4500, 5000)  # seconds: an hour and so many minutes that no column is narrower by chance


def terminal(folder: str, words: Sequence[str], reach: Mapping[str, str]) -> str:
    """What the program shows on a terminal, colours and all."""
    line = [sys.executable, "-m", "credentials_provider", *words]
    package = os.path.join(PROJECT, "credentials-provider")
    env = {"PATH": os.environ["PATH"], "HOME": folder, "TERM": "xterm-256color", "TZ": "UTC"}
    env |= {"PYTHONUTF8": "1", "CREDENTIALS_PROVIDER_HOME": ".", **reach}
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    with subprocess.Popen(
        line,
        cwd=folder,
        env={**env, "PYTHONPATH": package},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # Linux says so where macOS sends nothing
                part = b""
            if not part:
                break
            shown += part
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def shown() -> str:
    """Four identities, one of them with a secret of yesterday, and how their tokens are."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Emulator(
            apps := sample_apps(4),
            ca_file=os.path.join(folder, "ca.pem"),
            token_lifetime=LIFE,
        ) as idp,
    ):
        tokens = os.path.join(folder, ".oauth-tokens")
        os.mkdir(tokens, 0o700)
        stale = {apps[-1].name: "a-secret-of-yesterday"}
        write_identities(os.path.join(tokens, "entra-identities.json"), apps, **stale)
        reach = {"ENTRA_LOGIN_BASE_URL": idp.base_url, "REQUESTS_CA_BUNDLE": str(idp.ca_file)}
        parts = []
        for command in ("generate", "status"):
            lines = terminal(folder, [command], reach).partition("\n\n")[0].splitlines()
            # The progress bar is gone by the end.
            kept = [line for line in lines if re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", line).strip()]
            parts += ["", f"\x1b[32m$\x1b[0m credentials-provider {command}"]
            parts += [line for line in kept if "Minting tokens" not in line]
        return "\n".join(parts[1:])


def picture() -> str:
    """The SVG."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text.from_ansi(shown()))
        svg = console.export_svg(title="credentials-provider", unique_id="demo")
    # The reader's own font will do; no line begins with blanks that a viewer may take away.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace")
    return svg.replace("<svg ", '<svg xml:space="preserve" ', 1)


if __name__ == "__main__":
    svg = picture()
    with open(PICTURE, "w", encoding="utf-8") as file:
        file.write(svg)
