"""A program with MCP's SDK, 1.x or 2.x, or fastmcp, whose token a `Credential` brings.

`python mcp_client.py sdk|fastmcp URL SETTINGS`, the settings as JSON. It calls a tool, lets the
server refuse the next message, calls again, and prints the two answers.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any
from urllib.request import Request, urlopen

from credentials_provider import Credential


async def sdk(url: str, credential: Credential) -> list[str]:
    from mcp import ClientSession

    streamable: Any = importlib.import_module("mcp.client.streamable_http")
    if hasattr(streamable, "streamable_http_client"):
        http: Any = sys.modules.get("httpx2") or importlib.import_module("httpx")
        opened = streamable.streamable_http_client(
            url, http_client=http.AsyncClient(auth=credential)
        )
    else:
        opened = streamable.streamablehttp_client(url, auth=credential)
    async with opened as (source, sink, *_), ClientSession(source, sink) as session:
        await session.initialize()
        return [(await call(session, url, number)).content[0].text for number in (1, 2)]


async def fastmcp(url: str, credential: Credential) -> list[str]:
    library: Any = importlib.import_module("fastmcp")
    async with library.Client(url, auth=credential) as client:
        return [(await call(client, url, number)).content[0].text for number in (1, 2)]


async def call(client: Any, url: str, number: int) -> Any:
    if number == 2:
        refuse = Request(f"{url.removesuffix('/mcp')}/refuse?count=1", method="POST")
        urlopen(refuse).close()  # noqa: ASYNC210  nothing else is to run meanwhile
    return await client.call_tool("add", {"a": number, "b": 1})


if __name__ == "__main__":
    made = Credential(**json.loads(sys.argv[3]))
    answers = asyncio.run({"sdk": sdk, "fastmcp": fastmcp}[sys.argv[1]](sys.argv[2], made))
    print(json.dumps(answers))  # noqa: T201  its output
