"""The assistants: where the configuration of each is, and what an entry in it looks like.

To add one, add a row to `clients.json` (docs/assistants.md). Sources: each client's documentation,
and what was measured with the client itself.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Form = Literal["json", "jsonc", "toml", "yaml"]
Entry = dict[str, Any]
Delivery = Literal["bridge", "helper", "static"]
"""How the token gets to a server; the first that a client supports is its default."""

_VARIABLE = re.compile(r"\{(\w+):([^}]+)\}")


class Client(NamedTuple):
    """How one assistant is configured.

    `bridge`, `static` and `helper` are entries whose values are filled in; None: it has no such
    way. `user` is its file in the user's own folder, by platform where they differ. In it `~` and
    `%APPDATA%` are expanded; `{NAME:FOLDER}` is the folder that the variable NAME holds, on any
    platform, or else FOLDER. `helper_since` names the program that tells its version, and the first
    one that runs the helper again after a 401.
    """

    title: str
    user: str | dict[str, str] | None = None
    project: str | None = None
    form: Form = "json"
    root: Sequence[str] = ("mcpServers",)  # the keys that lead to the servers
    bridge: Entry | None = {"command": "$command", "args": "$args"}  # noqa: RUF012  never changed
    static: Entry | None = {"url": "$url", "headers": "$headers"}  # noqa: RUF012
    helper: Entry | None = None
    helper_since: Sequence[str] = ("", "")

    def user_file(self, platform: str, environment: Mapping[str, str]) -> str | None:
        """The absolute path on a platform, `sys.platform`'s name for it; None: it has none."""
        if self.user is None:
            return None
        files = {"linux": self.user} if isinstance(self.user, str) else self.user
        template = files.get(platform, files["linux"])
        variable = _VARIABLE.match(files["linux"])
        if variable and environment.get(variable[1]):
            template = files["linux"]
        path = _VARIABLE.sub(lambda found: environment.get(found[1]) or found[2], template)
        path = path.replace("%APPDATA%", environment.get("APPDATA", "%APPDATA%"))
        return os.path.abspath(os.path.expanduser(path))

    def entry(self, delivery: Delivery, values: Mapping[str, object]) -> Entry:
        """The entry of a delivery; `values` by the names that stand in it, as `$url`."""
        found: Entry = _filled(getattr(self, delivery), values)
        return found


def _filled(template: Any, values: Mapping[str, object]) -> Any:
    if isinstance(template, dict):
        return {key: _filled(value, values) for key, value in template.items()}
    return values.get(template, template) if isinstance(template, str) else template


def _read() -> dict[str, Client]:
    path = os.path.join(os.path.dirname(__file__), "clients.json")
    with open(path, encoding="utf-8") as file:
        return {name: Client(**row) for name, row in json.load(file).items()}


CLIENTS = _read()
# What the registry's own programs read holds the token itself: nothing else fits.
IN_TOKEN_FOLDER = frozenset({"registry", "registry-vscode"})
