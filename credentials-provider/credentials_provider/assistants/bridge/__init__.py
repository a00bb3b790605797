"""A stdio MCP server in front of a remote one, with a valid token on every request.

A pump: messages pass as they are, and are read only as far as the transport's rules need. Each call
has a thread, which sends it and reads its answer. Trouble becomes an MCP error that the assistant
shows to its user.

    pump             the client's lines: requests, notifications, cancellations
    http_transport   how a message gets to the server, and what its answer means
    sse_transport    the same for servers of the transport of 2024
    calls            who waits for what; each call is answered once
    session          the session of 2025, made anew where it is lost, and its own stream
    headers          what the protocol of 2026 derives from a body, and what its tools want there
    remote           one request: token, refusal, retries; trouble: what is said where that fails
    answers, messages    framing
"""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from credentials_provider.assistants.bridge.pump import Output, Pump
from credentials_provider.assistants.bridge.remote import Remote
from credentials_provider.assistants.bridge.tokens import Tokens
from credentials_provider.assistants.bridge.trouble import ClientLog
from credentials_provider.run.access import audit_for
from credentials_provider.transport.streaming import Channel

if TYPE_CHECKING:
    from credentials_provider.model import Observer, RunOptions


def run(
    options: RunOptions,
    identity: str,
    url: str,
    *,
    header: str,
    min_ttl: float,
    observer: Observer | None = None,
) -> None:
    """Pass messages between standard input and output and the server at `url` until input ends."""
    audit = audit_for(options.settings, "mcp-bridge")
    tokens = Tokens(options, identity, min_ttl, observer or ClientLog(), audit=audit)
    ending = threading.Event()
    channel = Channel(url, options.settings.ca_bundle)
    remote = Remote(url, header, tokens, channel, ending.wait)
    pump = Pump(remote, Output(sys.stdout.fileno()))
    try:
        pump.run(iter(sys.stdin.buffer.readline, b""))
    finally:
        ending.set()
        pump.close()
        channel.close()
