"""The assistants, a row each: where its configuration is and what an entry looks like.

To add one, add a row to `CLIENTS`: its files, the keys that lead to its servers, and a shape for
each way in that it has. Sources: each client's documentation, and what was measured with the
client itself (docs/assistants.md).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Form = Literal["json", "jsonc", "toml", "yaml"]
Headers = dict[str, str]
Entry = dict[str, Any]

_VARIABLE = re.compile(r"\{(\w+):([^}]+)\}")


class ConfigFile(NamedTuple):
    """A file by platform.

    `~` and `%APPDATA%` are expanded. `{NAME:FOLDER}` is the folder that the variable NAME holds, on
    any platform, or else FOLDER.
    """

    linux: str
    macos: str = ""
    windows: str = ""

    def path(self, platform: str, environment: Mapping[str, str]) -> str:
        """The absolute path on a platform, `sys.platform`'s name for it."""
        template = {"darwin": self.macos, "win32": self.windows}.get(platform) or self.linux
        variable = _VARIABLE.match(self.linux)
        if variable and environment.get(variable[1]):
            template = self.linux
        path = _VARIABLE.sub(lambda found: environment.get(found[1]) or found[2], template)
        path = path.replace("%APPDATA%", environment.get("APPDATA", "%APPDATA%"))
        return os.path.abspath(os.path.expanduser(path))


def _plain_bridge(_: str, line: list[str]) -> Entry:
    return {"command": line[0], "args": line[1:]}


def _typed_bridge(_: str, line: list[str]) -> Entry:
    return {"type": "stdio", **_plain_bridge("", line)}


def _remote(kind: str) -> Callable[[str, Headers], Entry]:
    return lambda url, headers: {"type": kind, "url": url, "headers": headers}


def _untyped(url: str, headers: Headers) -> Entry:
    return {"url": url, "headers": headers}


def _registry_entry(url: str, headers: Headers) -> Entry:
    return {**_remote("streamable-http")(url, headers), "disabled": False, "alwaysAllow": []}


class Client(NamedTuple):
    """How one assistant is configured.

    `bridge` makes an entry from a name and a command line, `static` from a URL and headers,
    `helper` from a URL and a command for a shell that prints headers. None: it has no such way.
    `helper_since` names the program that tells its version, and the first one that runs the helper
    again after a 401.
    """

    title: str
    user: ConfigFile | None
    project: str | None
    bridge: Callable[[str, list[str]], Entry] | None = _plain_bridge
    static: Callable[[str, Headers], Entry] | None = _untyped
    form: Form = "json"
    root: tuple[str, ...] = ("mcpServers",)
    helper: Callable[[str, str], Entry] | None = None
    helper_since: tuple[str, str] = ("", "")


_GOOSE = {"enabled": True, "timeout": 300}  # seconds

CLIENTS = {
    "claude-code": Client(
        "Claude Code",
        ConfigFile("{CLAUDE_CONFIG_DIR:~}/.claude.json"),
        ".mcp.json",
        _typed_bridge,
        _remote("http"),
        helper=lambda url, command: {"type": "http", "url": url, "headersHelper": command},
        helper_since=("claude", "2.1.250"),
    ),
    "codex": Client(
        "Codex",
        ConfigFile("{CODEX_HOME:~/.codex}/config.toml"),
        ".codex/config.toml",
        static=lambda url, headers: {"url": url, "http_headers": headers},
        form="toml",
        root=("mcp_servers",),
        helper=lambda url, command: {"url": url, "http_headers_helper": command},
        helper_since=("codex", "0.150.0"),
    ),
    "claude-desktop": Client(
        "Claude Desktop",
        ConfigFile(
            "~/.config/Claude/claude_desktop_config.json",
            "~/Library/Application Support/Claude/claude_desktop_config.json",
            "%APPDATA%/Claude/claude_desktop_config.json",
        ),
        None,
        static=None,
    ),
    "vscode": Client(
        "VS Code",
        ConfigFile(
            "~/.config/Code/User/mcp.json",
            "~/Library/Application Support/Code/User/mcp.json",
            "%APPDATA%/Code/User/mcp.json",
        ),
        ".vscode/mcp.json",
        _typed_bridge,
        _remote("http"),
        "jsonc",
        ("servers",),
    ),
    "cursor": Client("Cursor", ConfigFile("~/.cursor/mcp.json"), ".cursor/mcp.json"),
    "windsurf": Client(
        "Windsurf",
        ConfigFile("~/.codeium/windsurf/mcp_config.json"),
        None,
        static=lambda url, headers: {"serverUrl": url, "headers": headers},
    ),
    "cline": Client(
        "Cline",
        ConfigFile("~/.cline/data/settings/cline_mcp_settings.json"),
        None,
        static=_remote("streamableHttp"),
    ),
    "roo": Client("Roo Code", None, ".roo/mcp.json", static=_remote("streamable-http")),
    "gemini": Client(
        "Gemini CLI",
        ConfigFile("~/.gemini/settings.json"),
        ".gemini/settings.json",
        static=_remote("http"),
        form="jsonc",
    ),
    "opencode": Client(
        "OpenCode",
        ConfigFile("{XDG_CONFIG_HOME:~/.config}/opencode/opencode.json"),
        "opencode.json",
        lambda _, line: {"type": "local", "command": line, "enabled": True},
        lambda url, headers: {"type": "remote", "url": url, "headers": headers, "oauth": False},
        "jsonc",
        ("mcp",),
    ),
    "zed": Client(
        "Zed",
        ConfigFile(
            "{XDG_CONFIG_HOME:~/.config}/zed/settings.json", windows="%APPDATA%/Zed/settings.json"
        ),
        ".zed/settings.json",
        lambda name, line: {"source": "custom", **_plain_bridge(name, line)},
        form="jsonc",
        root=("context_servers",),
    ),
    "goose": Client(
        "Goose",
        ConfigFile(
            "{XDG_CONFIG_HOME:~/.config}/goose/config.yaml",
            windows="%APPDATA%/Block/goose/config/config.yaml",
        ),
        None,
        lambda name, line: (
            {"name": name, "type": "stdio", "cmd": line[0], "args": line[1:]} | _GOOSE
        ),
        lambda url, headers: {"type": "streamable_http", "uri": url, "headers": headers} | _GOOSE,
        "yaml",
        ("extensions",),
    ),
    "kiro": Client("Kiro", ConfigFile("~/.kiro/settings/mcp.json"), ".kiro/settings/mcp.json"),
    "qwen": Client(
        "Qwen Code",
        ConfigFile("{QWEN_HOME:~/.qwen}/settings.json"),
        ".qwen/settings.json",
        static=lambda url, headers: {"httpUrl": url, "headers": headers},
        form="jsonc",
    ),
    "copilot-cli": Client(
        "GitHub Copilot CLI",
        ConfigFile("{COPILOT_HOME:~/.copilot}/mcp-config.json"),
        None,
        lambda name, line: {"type": "local", **_plain_bridge(name, line), "tools": ["*"]},
        lambda url, headers: {"type": "http", "url": url, "headers": headers, "tools": ["*"]},
    ),
    "amp": Client(
        "Amp",
        ConfigFile("~/.config/amp/settings.json"),
        ".amp/settings.json",
        form="jsonc",
        root=("amp.mcpServers",),
    ),
    # It reads the files of other assistants in this folder.
    "continue": Client(
        "Continue", None, ".continue/mcpServers/credentials-provider.json", static=None
    ),
    "junie": Client(
        "JetBrains Junie", ConfigFile("~/.junie/mcp/mcp.json"), ".junie/mcp/mcp.json", static=None
    ),
    "amazon-q": Client(
        "Amazon Q Developer", ConfigFile("~/.aws/amazonq/mcp.json"), ".amazonq/mcp.json"
    ),
    "librechat": Client(
        "LibreChat", None, "librechat.yaml", _typed_bridge, _remote("streamable-http"), "yaml"
    ),
    "inspector": Client(
        "MCP Inspector", None, "mcp-inspector.json", _typed_bridge, _remote("streamable-http")
    ),
    # The files that the registry's own programs read hold the token itself: nothing else fits.
    "registry": Client("MCP Gateway Registry, mcp.json", None, "mcp.json", None, _registry_entry),
    "registry-vscode": Client(
        "MCP Gateway Registry, vscode_mcp.json",
        None,
        "vscode_mcp.json",
        None,
        root=("mcp", "servers"),
    ),
}
IN_TOKEN_FOLDER = frozenset({"registry", "registry-vscode"})
