"""Any command of the program, as a process in a project's folder."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from support import Command


@dataclass(frozen=True)
class Program(Command):
    """`run("status", "--json")` runs that command, `run("--json")` runs `generate`."""

    def line(self, *args: str, bare: bool = False) -> list[str]:
        command, rest = (args[0], args[1:]) if args and args[0][:1] != "-" else ("generate", args)
        idp = self.project.idp
        reach = () if bare else ("--login-base-url", idp.base_url, "--ca-bundle", idp.ca_file)
        return [sys.executable, "-m", "credentials_provider", command, *reach, *rest]
