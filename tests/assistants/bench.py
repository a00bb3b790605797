"""An MCP server that demands tokens, and sessions with it through the bridge."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.request import Request, urlopen

from mcp import ClientSession, StdioServerParameters, stdio_client

from support import API, closed_port, environment, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from credentials_provider.emulator import App
    from support import Project

HERE = os.path.dirname(os.path.abspath(__file__))


class Bench:
    """The server as a process that can be killed and started again on its port."""

    def __init__(
        self,
        project: Project,
        app: App,
        *,
        header: str = "Authorization",
        certificate: str | None = None,
        python: str = sys.executable,
        sse: bool = False,
    ) -> None:
        self.project = project
        self.app = app
        self.header = header
        self.certificate = certificate
        self.python = python
        self.sse = sse
        self.port = closed_port()
        self.journal = os.path.join(project.folder, f"journal-{self.port}")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        path = "sse" if self.sse else "mcp"
        return f"{'https' if self.certificate else 'http'}://localhost:{self.port}/{path}"

    def start(self) -> None:
        settings = {
            "port": self.port,
            "base_url": self.project.idp.base_url,
            "tenant": self.app.tenant_id,
            "ca_file": self.project.idp.ca_file,
            "audience": [API, f"api://{API}"],
            "header": self.header,
            "journal": self.journal,
            "certificate": self.certificate,
            "sse": self.sse,
        }
        self._process = subprocess.Popen(
            [self.python, os.path.join(HERE, "mcp_server.py"), json.dumps(settings)],
            env=environment(self.project.folder, {"PYTHONWARNINGS": "ignore"}),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until(self._listens)

    def _listens(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "the MCP server did not start"
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        return False

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def refuse(self, count: int) -> None:
        """Lets the next messages be answered with 401, whatever they bring."""
        self._say(f"refuse?count={count}")

    def revoke(self) -> None:
        """Lets every token that was accepted so far be refused."""
        self._say("revoke")

    def _say(self, what: str) -> None:
        url = f"{self.url.rpartition('/')[0]}/{what}"
        context = ssl.create_default_context(cafile=self.certificate) if self.certificate else None
        urlopen(Request(url, method="POST"), context=context).close()

    @property
    def judgements(self) -> list[str]:
        """Each request's status, method and client."""
        try:
            with open(self.journal, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def line(self, *args: str, identity: str | None = None) -> list[str]:
        """The bridge's command line."""
        idp = self.project.idp
        return [
            *(sys.executable, "-m", "credentials_provider", "mcp-bridge"),
            *("--identity", identity or self.app.name, "--header-name", self.header),
            *("--login-base-url", idp.base_url),
            *([] if "--ca-bundle" in args else ["--ca-bundle", idp.ca_file]),
            *args,
            self.url,
        ]

    def parameters(self, *args: str, identity: str | None = None) -> StdioServerParameters:
        command, *rest = self.line(*args, identity=identity)
        return StdioServerParameters(
            command=command,
            args=rest,
            env=environment(self.project.folder, {"PYTHONWARNINGS": "ignore"}),
            cwd=self.project.folder,
        )

    @contextlib.asynccontextmanager
    async def session(
        self, *args: str, identity: str | None = None, log: str | None = None, **callbacks: Any
    ) -> AsyncIterator[ClientSession]:
        """The official SDK's client through the bridge, initialised."""
        with open(log or os.devnull, "w", encoding="utf-8") as errors:  # noqa: ASYNC230  local
            async with (
                stdio_client(self.parameters(*args, identity=identity), errlog=errors) as streams,
                ClientSession(*streams, **callbacks) as session,
            ):
                await session.initialize()
                yield session


def text(result: Any) -> str:
    """What a tool answered."""
    (content,) = result.content
    return str(content.text)
