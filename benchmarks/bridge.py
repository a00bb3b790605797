"""What the MCP bridge costs, side by side with mcp-remote (npm) and with no bridge at all.

    benchmarks/run --bridge [--mcp-remote PROGRAM] [--rounds N]

The server is a small one of the standard library, so that what is measured is the way to it.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from credentials_provider.emulator import Emulator
from fleet import Place, fleet
from measuring import Command, console_script, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CALLS = 300  # of one round
LARGE = 20_000_000  # bytes of an answer
_VERSION = "2025-06-18"
_SERVER = "--server"


@dataclass(frozen=True, slots=True)
class Round:
    """One start. Seconds; bytes."""

    first_list: float  # from the start of the program to the answer of the first tools/list
    call: float  # the median of a small call
    large: float  # one large answer
    resident: int


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "id" not in message:
            self._answer(202, b"")
            return
        name = message.get("params", {}).get("name")
        found: dict[str, Any] = {"tools": [], "content": [{"type": "text", "text": "3"}]}
        if message["method"] == "initialize":
            found = {"protocolVersion": _VERSION, "capabilities": {"tools": {}}}
            found["serverInfo"] = {"name": "bench", "version": "1"}
        elif name == "large":
            found["content"][0]["text"] = "x" * LARGE
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": found}
        self._answer(200, json.dumps(answer).encode())

    def do_GET(self) -> None:
        self._answer(405, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def serve() -> None:
    """The server, in a process of its own; its address is the first line that it prints."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}/mcp", flush=True)
        server.serve_forever()


def _messages() -> tuple[dict[str, Any], dict[str, Any]]:
    client = {"name": "bench", "version": "1"}
    hello = {"protocolVersion": _VERSION, "capabilities": {}, "clientInfo": client}
    return hello, {"name": "add", "arguments": {"a": 1, "b": 2}}


def _talk(ask: Callable[[str, dict[str, Any]], None], began: float) -> tuple[float, float, float]:
    hello, call = _messages()
    ask("initialize", hello)
    ask("tools/list", {})
    first = time.perf_counter() - began
    calls = [_timed(lambda: ask("tools/call", call)) for _ in range(CALLS)]
    large = _timed(lambda: ask("tools/call", {"name": "large"}))
    return first, statistics.median(calls), large


def _timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def through(line: Sequence[str], folder: str) -> Round:
    """One round through a program that speaks MCP on its standard streams."""
    began = time.perf_counter()
    with Command(line, folder).start(
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=1 << 20
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        numbers = iter(range(1_000_000))

        def ask(method: str, params: dict[str, Any]) -> None:
            assert process.stdin is not None
            assert process.stdout is not None
            number = next(numbers)
            message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            while f'"id":{number}' not in _head(answer := process.stdout.readline()):
                if not answer:
                    raise SystemExit(f"{line[0]} ended with {process.wait()}")

        first, call, large = _talk(ask, began)
        # With what a large answer has left behind.
        round_ = Round(first, call, large, _resident(process.pid))
        process.stdin.close()
    return round_


def _head(answer: bytes) -> str:
    """Both ends of a line, without white space: its id is at one of them."""
    ends = answer if len(answer) < 1000 else answer[:200] + answer[-200:]
    return ends.decode().replace(" ", "")


def directly(url: str) -> Round:
    """One round without a bridge, on one connection."""
    began = time.perf_counter()
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    kinds = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}

    def ask(method: str, params: dict[str, Any]) -> None:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        connection.request("POST", parts.path, json.dumps(message), kinds)
        connection.getresponse().read()

    first, call, large = _talk(ask, began)
    connection.close()
    return Round(first, call, large, 0)


def _resident(pid: int) -> int:
    """The memory of a process, in bytes; of a program that node starts, node's own."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for row in file:
            if row.startswith("VmRSS:"):
                return int(row.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def _server() -> Iterator[str]:
    line = [sys.executable, os.path.abspath(__file__), _SERVER]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def measure(rounds: int, mcp_remote: str | None) -> dict[str, list[Round]]:
    """Rounds of each, in turn."""
    found: dict[str, list[Round]] = {"bridge": [], "direct": []}
    with tempfile.TemporaryDirectory() as folder, _server() as url:
        apps = fleet(1)
        with Emulator(apps, ca_file=os.path.join(folder, "ca.pem")) as idp:
            place = Place(os.path.join(folder, "project"))
            place.make(apps)
            reach = ["--login-base-url", idp.base_url, "--ca-bundle", str(idp.ca_file)]
            reach += ["-i", place.identities_file, "-o", place.tokens]
            program = console_script(folder)
            subprocess.run(
                [*program, "generate", "--quiet", *reach], env=environment(folder), check=True
            )
            with open(os.path.join(place.tokens, f"{apps[0].name}.json"), encoding="utf-8") as file:
                token = json.load(file)["access_token"]
            bridge = [*program, "mcp-bridge", "--identity", apps[0].name, *reach, url]
            header = f"Authorization: Bearer {token}"
            for number in range(rounds + 1):
                made = {"bridge": through(bridge, folder), "direct": directly(url)}
                if mcp_remote is not None:
                    line = [mcp_remote, url, "--allow-http", "--header", header]
                    made["mcp-remote"] = through(line, folder)
                if number:  # the first round fills the caches
                    for name, each in made.items():
                        found.setdefault(name, []).append(each)
    return found


def show(found: dict[str, list[Round]]) -> None:
    """The table of docs/performance.md."""
    columns = [name for name in ("bridge", "mcp-remote", "direct") if name in found]
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    rows: list[tuple[str, Callable[[Round], float], str, float]] = [
        ("start to the first `tools/list`", lambda r: r.first_list, "{:.0f} ms", 1e3),
        ("a small call", lambda r: r.call, "{:.1f} ms", 1e3),
        (f"an answer of {LARGE // 1_000_000} MB", lambda r: r.large, "{:.0f} ms", 1e3),
        ("resident after it", lambda r: r.resident, "{:.0f} MB", 1e-6),
    ]
    for title, of, form, unit in rows:
        values = [statistics.median(map(of, found[name])) * unit for name in columns]
        shown = [form.format(value) if value else "" for value in values]
        print(f"| {title} | {' | '.join(shown)} |")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mcp-remote", default=shutil.which("mcp-remote"), metavar="PROGRAM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(_SERVER, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.server:
        serve()
        return
    if options.mcp_remote is None:
        print("mcp-remote is not on PATH: npm install mcp-remote", file=sys.stderr)
    show(measure(options.rounds, options.mcp_remote))


if __name__ == "__main__":
    # No thread of ours may be at work while a program is started and measured.
    assert threading.active_count() == 1
    main()
