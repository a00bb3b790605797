# mypy: disable-error-code="untyped-decorator"
"""An MCP server on the official SDK, 1.x or 2.x, that demands the emulator's token.

Run as a program: `python mcp_server.py SETTINGS`, a JSON object with port, base_url, tenant,
ca_file, audience, header and journal, and `sse`: whether it speaks the older HTTP+SSE. Each
request's judgement is a line of the journal: status, method, client. `POST /refuse?count=N` makes
it answer the next N messages with 401, `POST /revoke` makes it refuse every token that it has
accepted so far.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
import sys
import time
from typing import Any
from urllib.request import urlopen

import jwt
import uvicorn

try:
    sdk: Any = importlib.import_module("mcp.server.mcpserver")  # 2.x
except ImportError:
    sdk = importlib.import_module("mcp.server.fastmcp")  # 1.x

Context: Any = sdk.Context
SETTINGS = json.loads(sys.argv[1]) if __name__ == "__main__" else {}

app = vars(sdk).get("MCPServer", vars(sdk).get("FastMCP"))("bench")


@app.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@app.tool()
async def count(to: int, ctx: Context) -> str:
    """Counts, and tells how far it is."""
    for number in range(to):
        await ctx.report_progress(number + 1, to)
        await ctx.info(f"at {number + 1}")
    return f"counted to {to}"


@app.tool()
async def sleep(seconds: float) -> str:
    """Sleeps, unless it is cancelled."""
    journal("sleeping")
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        journal("cancelled")
        raise
    return "slept"


@app.tool()
async def change(ctx: Context) -> str:
    """Says by itself that its tools have changed."""
    await ctx.session.send_tool_list_changed()
    return "changed"


@app.tool()
async def roots(ctx: Context) -> str:
    """Asks for the client's roots."""
    found = await ctx.session.list_roots()
    return str(found.roots[0].uri)


@app.tool()
async def sample(ctx: Context) -> str:
    """Asks the client's model."""
    from mcp import types

    message = types.SamplingMessage(role="user", content=types.TextContent(type="text", text="hi"))
    made = await ctx.session.create_message([message], max_tokens=5)
    return str(made.content.text)


@app.tool()
async def elicit(ctx: Context) -> str:
    """Asks the user."""
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}}
    name = "elicit_form" if hasattr(ctx.session, "elicit_form") else "elicit"
    made = await getattr(ctx.session, name)("Which colour?", schema)
    return str(made.content["colour"])


@app.resource("note://{name}")
def note(name: str) -> str:
    """A note."""
    return f"note of {name}"


@app.resource("fixed://text")
def fixed() -> str:
    """Always the same."""
    return "fixed"


@app.prompt()
def greet(name: str) -> str:
    """A greeting."""
    return f"Greet {name}"


@app.completion()
async def complete(ref: Any, argument: Any, context: Any) -> Any:
    """Completes a prompt's argument."""
    from mcp import types

    del ref, context
    return types.Completion(values=[f"{argument.value}lice"])


def journal(*words: object) -> None:
    with open(SETTINGS["journal"], "a", encoding="utf-8") as file:
        file.write(" ".join(str(word) for word in words) + "\n")


class Gate:
    """Lets in who brings a token of the emulator for this audience, alive, in the one header."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.refuse = 0
        self.accepted: set[str] = set()
        self.revoked: set[str] = set()
        base, tenant = SETTINGS["base_url"], SETTINGS["tenant"]
        self.issuer = f"{base}/{tenant}/v2.0"
        context = ssl.create_default_context(cafile=SETTINGS["ca_file"])
        with urlopen(f"{base}/{tenant}/discovery/v2.0/keys", context=context) as answer:
            self.keys = {key.key_id: key for key in jwt.PyJWKSet(json.load(answer)["keys"]).keys}

    def judge(self, headers: dict[str, str]) -> str | None:
        """Whose token it is; None refuses."""
        kind, _, token = headers.get(SETTINGS["header"].lower(), "").partition(" ")
        try:
            key = self.keys[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(
                token, key, algorithms=["RS256"], audience=SETTINGS["audience"], issuer=self.issuer
            )
        except (jwt.PyJWTError, KeyError) as error:
            journal("refused", type(error).__name__)
            return None
        if token in self.revoked:
            return None
        self.accepted.add(token)
        return str(claims["azp"]) if kind == "Bearer" and claims["exp"] > time.time() else None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.inner(scope, receive, send)
            return
        if scope["path"] == "/refuse":
            self.refuse = int(scope["query_string"].partition(b"=")[2])
            await answer(send, 200)
            return
        if scope["path"] == "/revoke":
            self.revoked |= self.accepted
            await answer(send, 200)
            return
        client = self.judge({k.decode().lower(): v.decode() for k, v in scope["headers"]})
        if self.refuse > 0 and scope["method"] == "POST":
            self.refuse -= 1
            client = None
        journal(200 if client else 401, scope["method"], client)
        if client is None:
            await answer(send, 401)
        else:
            await self.inner(scope, receive, send)


async def answer(send: Any, status: int) -> None:
    headers = [(b"content-type", b"text/plain"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"no"})


if __name__ == "__main__":
    uvicorn.run(
        Gate(app.sse_app() if SETTINGS.get("sse") else app.streamable_http_app()),
        host="127.0.0.1",
        port=SETTINGS["port"],
        log_level="critical",
        timeout_graceful_shutdown=1,
        ssl_certfile=SETTINGS.get("certificate"),
        ssl_keyfile=SETTINGS.get("certificate"),
    )
