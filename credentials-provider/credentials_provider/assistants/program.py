"""The command line that an assistant starts: absolute, and complete without an environment."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

from credentials_provider.settings import CLOUDS

if TYPE_CHECKING:
    from credentials_provider.settings import Settings

# Claude Code gives a helper ten seconds; whoever waits for another run's renewal waits as well.
HELPER_DEADLINE = "7s"


def program(root: str) -> list[str]:
    """How this program is started from anywhere: the project's script, or as it was started."""
    script = os.path.abspath(os.path.join(root, "generate_creds.sh"))
    if root and os.name == "posix" and os.access(script, os.X_OK):
        return [script]
    started = os.path.abspath(sys.argv[0])
    if os.access(started, os.X_OK) and not started.endswith(".py"):
        return [started]
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    checkout = os.path.join(package, "__main__.py")
    if os.path.isfile(checkout):
        return [sys.executable, checkout]
    return [sys.executable, "-m", "credentials_provider"]


def reach(settings: Settings, root: str, env_file: str | None) -> list[str]:
    """The options by which another process finds the same identities, tokens and provider."""
    env_file = env_file or os.path.join(root, ".env")
    options = [
        ("--identities-file", os.path.abspath(settings.identities_file)),
        ("--output-dir", os.path.abspath(settings.output_dir)),
        ("--env-file", os.path.abspath(env_file) if os.path.isfile(env_file) else None),
        ("--ca-bundle", os.path.abspath(settings.ca_bundle) if settings.ca_bundle else None),
        (
            "--login-base-url",
            settings.login_base_url if settings.login_base_url != CLOUDS["public"] else None,
        ),
    ]
    return [word for name, value in options if value for word in (name, value)]


class Launch(NamedTuple):
    """What to start for an identity's token; `start` is `program`'s, `options` are `reach`'s."""

    start: list[str]
    identity: str
    header: str
    options: list[str]

    def helper(self) -> str:
        """The command for a shell that prints the headers with a token that lives."""
        words = [*self.start, "token", self.identity, "--format", "headers-json"]
        words += ["--deadline", HELPER_DEADLINE, *self._header(), *self.options]
        return shlex.join(words) if os.name == "posix" else subprocess.list2cmdline(words)

    def bridge(self, url: str) -> list[str]:
        """The command that speaks MCP on its standard streams for the server at `url`."""
        words = [*self.start, "mcp-bridge", "--identity", self.identity]
        return [*words, *self._header(), *self.options, url]

    def _header(self) -> list[str]:
        return ["--header-name", self.header] if self.header != "Authorization" else []
