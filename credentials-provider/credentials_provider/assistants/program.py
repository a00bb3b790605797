"""The command line that an assistant starts: absolute, and complete without an environment."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import NamedTuple

# Claude Code gives a helper ten seconds; whoever waits for another run's renewal waits as well.
HELPER_DEADLINE = "7s"


class Launch(NamedTuple):
    """What to start for an identity's token; `start` and `options` are of `run.launching`."""

    start: list[str]
    identity: str
    header: str
    options: list[str]

    def helper(self) -> str:
        """The command for a shell that prints the headers with a valid token."""
        words = [*self.start, "token", self.identity, "--format", "headers-json"]
        words += ["--deadline", HELPER_DEADLINE, *self._header(), *self.options]
        return shlex.join(words) if os.name == "posix" else subprocess.list2cmdline(words)

    def bridge(self, url: str) -> list[str]:
        """The command that speaks MCP on its standard streams for the server at `url`."""
        words = [*self.start, "mcp-bridge", "--identity", self.identity]
        return [*words, *self._header(), *self.options, url]

    def _header(self) -> list[str]:
        return ["--header-name", self.header] if self.header != "Authorization" else []
