"""The assistants, a row each: where its configuration is and what an entry looks like.

To add one, add a row to `CLIENTS`: its files, the keys that lead to its servers, and a shape for
each way in that it has. Sources: each client's documentation, and what was measured with the
client itself (docs/assistants.md).
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Form = Literal["json", "jsonc", "toml", "yaml"]
Headers = dict[str, str]
Entry = dict[str, Any]


class ConfigFile(NamedTuple):
    """A file by platform; `~` and `%NAME%` are expanded, a relative one is the project's.

    Where the client lets a variable name another folder: the variable, and the path in it.
    """

    linux: str
    macos: str = ""
    windows: str = ""
    variable: tuple[str, str] | None = None

    def path(self, platform: str, environment: Mapping[str, str]) -> str:
        """The absolute path on a platform, `sys.platform`'s name for it."""
        if self.variable is not None and (folder := environment.get(self.variable[0])):
            return os.path.abspath(os.path.expanduser(os.path.join(folder, self.variable[1])))
        by_platform = {"darwin": self.macos, "win32": self.windows}
        template = by_platform.get(platform) or self.linux
        for name in ("APPDATA", "USERPROFILE"):
            template = template.replace(f"%{name}%", environment.get(name, f"%{name}%"))
        return os.path.abspath(os.path.expanduser(template))


class Client(NamedTuple):
    """How one assistant is configured.

    `bridge` makes an entry from a name and a command line, `helper` from a URL and a command for a
    shell that prints headers, `static` from a URL and headers. None: the client has no such way.
    `helper_since` names the program that tells its version, and the first one that runs the helper
    again after a 401.
    """

    title: str
    form: Form
    root: tuple[str, ...]
    user: ConfigFile | None
    project: ConfigFile | None
    bridge: Callable[[str, list[str]], Entry] | None
    static: Callable[[str, Headers], Entry] | None
    helper: Callable[[str, str], Entry] | None = None
    helper_since: tuple[str, str] = ("", "")

    def place(self, scope: str | None) -> tuple[ConfigFile | None, str]:
        """The file of a scope, and which scope that is where none was named."""
        if scope is None:
            scope = "user" if self.user else "project"
        return (self.user if scope == "user" else self.project), scope


def _plain_bridge(_: str, line: list[str]) -> Entry:
    return {"command": line[0], "args": line[1:]}


def _typed_bridge(_: str, line: list[str]) -> Entry:
    return {"type": "stdio", "command": line[0], "args": line[1:]}


def _remote(kind: str) -> Callable[[str, Headers], Entry]:
    return lambda url, headers: {"type": kind, "url": url, "headers": headers}


def _untyped(url: str, headers: Headers) -> Entry:
    return {"url": url, "headers": headers}


def _registry_entry(url: str, headers: Headers) -> Entry:
    remote = {"type": "streamable-http", "url": url, "headers": headers}
    return {**remote, "disabled": False, "alwaysAllow": []}


_SERVERS = ("mcpServers",)

CLIENTS = {
    "claude-code": Client(
        "Claude Code",
        "json",
        _SERVERS,
        ConfigFile("~/.claude.json", variable=("CLAUDE_CONFIG_DIR", ".claude.json")),
        ConfigFile(".mcp.json"),
        _typed_bridge,
        _remote("http"),
        lambda url, command: {"type": "http", "url": url, "headersHelper": command},
        ("claude", "2.1.250"),
    ),
    "codex": Client(
        "Codex",
        "toml",
        ("mcp_servers",),
        ConfigFile("~/.codex/config.toml", variable=("CODEX_HOME", "config.toml")),
        ConfigFile(".codex/config.toml"),
        _plain_bridge,
        lambda url, headers: {"url": url, "http_headers": headers},
        lambda url, command: {"url": url, "http_headers_helper": command},
        ("codex", "0.150.0"),
    ),
    "claude-desktop": Client(
        "Claude Desktop",
        "json",
        _SERVERS,
        ConfigFile(
            "~/.config/Claude/claude_desktop_config.json",
            "~/Library/Application Support/Claude/claude_desktop_config.json",
            "%APPDATA%/Claude/claude_desktop_config.json",
        ),
        None,
        _plain_bridge,
        None,
    ),
    "vscode": Client(
        "VS Code",
        "jsonc",
        ("servers",),
        ConfigFile(
            "~/.config/Code/User/mcp.json",
            "~/Library/Application Support/Code/User/mcp.json",
            "%APPDATA%/Code/User/mcp.json",
        ),
        ConfigFile(".vscode/mcp.json"),
        _typed_bridge,
        _remote("http"),
    ),
    "cursor": Client(
        "Cursor",
        "json",
        _SERVERS,
        ConfigFile("~/.cursor/mcp.json"),
        ConfigFile(".cursor/mcp.json"),
        _plain_bridge,
        _untyped,
    ),
    "windsurf": Client(
        "Windsurf",
        "json",
        _SERVERS,
        ConfigFile("~/.codeium/windsurf/mcp_config.json"),
        None,
        _plain_bridge,
        lambda url, headers: {"serverUrl": url, "headers": headers},
    ),
    "cline": Client(
        "Cline",
        "json",
        _SERVERS,
        ConfigFile("~/.cline/data/settings/cline_mcp_settings.json"),
        None,
        _plain_bridge,
        _remote("streamableHttp"),
    ),
    "roo": Client(
        "Roo Code",
        "json",
        _SERVERS,
        None,
        ConfigFile(".roo/mcp.json"),
        _plain_bridge,
        _remote("streamable-http"),
    ),
    "gemini": Client(
        "Gemini CLI",
        "jsonc",
        _SERVERS,
        ConfigFile("~/.gemini/settings.json"),
        ConfigFile(".gemini/settings.json"),
        _plain_bridge,
        _remote("http"),
    ),
    "opencode": Client(
        "OpenCode",
        "jsonc",
        ("mcp",),
        ConfigFile(
            "~/.config/opencode/opencode.json",
            variable=("XDG_CONFIG_HOME", "opencode/opencode.json"),
        ),
        ConfigFile("opencode.json"),
        lambda _, line: {"type": "local", "command": line, "enabled": True},
        lambda url, headers: {"type": "remote", "url": url, "headers": headers, "oauth": False},
    ),
    "zed": Client(
        "Zed",
        "jsonc",
        ("context_servers",),
        ConfigFile(
            "~/.config/zed/settings.json",
            "",
            "%APPDATA%/Zed/settings.json",
            ("XDG_CONFIG_HOME", "zed/settings.json"),
        ),
        ConfigFile(".zed/settings.json"),
        lambda _, line: {"source": "custom", "command": line[0], "args": line[1:]},
        _untyped,
    ),
    "goose": Client(
        "Goose",
        "yaml",
        ("extensions",),
        ConfigFile(
            "~/.config/goose/config.yaml",
            "",
            "%APPDATA%/Block/goose/config/config.yaml",
            ("XDG_CONFIG_HOME", "goose/config.yaml"),
        ),
        None,
        lambda name, line: {
            "name": name,
            "type": "stdio",
            "cmd": line[0],
            "args": line[1:],
            "enabled": True,
            "timeout": 300,
        },
        lambda url, headers: {
            "type": "streamable_http",
            "uri": url,
            "headers": headers,
            "enabled": True,
            "timeout": 300,
        },
    ),
    "kiro": Client(
        "Kiro",
        "json",
        _SERVERS,
        ConfigFile("~/.kiro/settings/mcp.json"),
        ConfigFile(".kiro/settings/mcp.json"),
        _plain_bridge,
        _untyped,
    ),
    "qwen": Client(
        "Qwen Code",
        "jsonc",
        _SERVERS,
        ConfigFile("~/.qwen/settings.json", variable=("QWEN_HOME", "settings.json")),
        ConfigFile(".qwen/settings.json"),
        _plain_bridge,
        lambda url, headers: {"httpUrl": url, "headers": headers},
    ),
    "copilot-cli": Client(
        "GitHub Copilot CLI",
        "json",
        _SERVERS,
        ConfigFile("~/.copilot/mcp-config.json", variable=("COPILOT_HOME", "mcp-config.json")),
        None,
        lambda _, line: {"type": "local", "command": line[0], "args": line[1:], "tools": ["*"]},
        lambda url, headers: {"type": "http", "url": url, "headers": headers, "tools": ["*"]},
    ),
    "amp": Client(
        "Amp",
        "jsonc",
        ("amp.mcpServers",),
        ConfigFile("~/.config/amp/settings.json"),
        ConfigFile(".amp/settings.json"),
        _plain_bridge,
        _untyped,
    ),
    # It reads the files of other assistants in this folder.
    "continue": Client(
        "Continue",
        "json",
        _SERVERS,
        None,
        ConfigFile(".continue/mcpServers/credentials-provider.json"),
        _plain_bridge,
        None,
    ),
    "junie": Client(
        "JetBrains Junie",
        "json",
        _SERVERS,
        ConfigFile("~/.junie/mcp/mcp.json"),
        ConfigFile(".junie/mcp/mcp.json"),
        _plain_bridge,
        None,
    ),
    "amazon-q": Client(
        "Amazon Q Developer",
        "json",
        _SERVERS,
        ConfigFile("~/.aws/amazonq/mcp.json"),
        ConfigFile(".amazonq/mcp.json"),
        _plain_bridge,
        _untyped,
    ),
    "librechat": Client(
        "LibreChat",
        "yaml",
        _SERVERS,
        None,
        ConfigFile("librechat.yaml"),
        _typed_bridge,
        _remote("streamable-http"),
    ),
    "inspector": Client(
        "MCP Inspector",
        "json",
        _SERVERS,
        None,
        ConfigFile("mcp-inspector.json"),
        _typed_bridge,
        _remote("streamable-http"),
    ),
    # The files that the registry's own programs read hold the token itself: nothing else fits.
    "registry": Client(
        "MCP Gateway Registry, mcp.json",
        "json",
        _SERVERS,
        None,
        ConfigFile("mcp.json"),
        None,
        _registry_entry,
    ),
    "registry-vscode": Client(
        "MCP Gateway Registry, vscode_mcp.json",
        "json",
        ("mcp", "servers"),
        None,
        ConfigFile("vscode_mcp.json"),
        None,
        _untyped,
    ),
}
IN_TOKEN_FOLDER = frozenset({"registry", "registry-vscode"})
PLATFORM = sys.platform
