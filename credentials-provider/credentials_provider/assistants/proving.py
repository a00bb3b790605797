"""Starts what was written into an assistant's file, as the assistant will, and says what it finds.

The environment is empty: what is only set in this shell is missing for the assistant as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from credentials_provider import __version__
from credentials_provider.assistants.bridge.messages import (
    NO_SUCH_METHOD,
    object_at,
    parse,
    redacted,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE = 30.0  # seconds for all that a server must answer
_GRACE = 3.0  # seconds for the program to end
_AT_ONCE = 4  # programs: each is a Python that starts
_VERSION, _MODERN = "2025-06-18", "2026-07-28"
_ERRORS_OF_2026 = frozenset({NO_SUCH_METHOD, *range(-32099, -32019)})


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of a start: the server's own name and its number of tools, or a problem."""

    server: str = ""
    tools: int = 0
    problem: str | None = None


class _ProblemError(Exception):
    pass


class _EndedError(_ProblemError):
    """The program ended before its answer."""


def prove_all(lines: Mapping[str, Sequence[str]], helper: str | None = None) -> dict[str, Proof]:
    """The command lines by name, started in turn, with what came of each.

    `helper` is the command of a shell that prints headers; it comes first.
    """
    problem = _helper_problem(helper) if helper is not None else None
    if problem is not None:
        return {name: Proof(problem=problem) for name in lines}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return dict(zip(lines, pool.map(_prove, lines.values()), strict=True))


def _helper_problem(command: str) -> str | None:
    """What is wrong with a helper; None where it prints headers."""
    try:
        done = subprocess.run(  # noqa: S602  as the assistant does
            command,
            shell=True,
            cwd=_folder(),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the helper cannot be run: {type(error).__name__}"
    if done.returncode or not isinstance(parse(done.stdout), dict):
        return _last_lines(done.stderr) or "the helper prints no headers"
    return None


def _prove(line: Sequence[str]) -> Proof:
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(  # noqa: S603  the line that was written
                list(line),
                cwd=_folder(),
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        except OSError as error:
            return Proof(problem=f"{line[0]} cannot be started: {error.strerror}")
        talk = _Conversation(process)
        try:
            return talk.prove()
        except _EndedError:
            errors.seek(0)
            said = _last_lines(errors.read())
            return Proof(problem=said or f"it ended with {process.returncode}")
        except _ProblemError as error:
            return Proof(problem=str(error))
        finally:
            talk.end()


class _Conversation:
    """Messages with a program on its standard streams."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._ends_at = time.monotonic() + PATIENCE
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.put(line)
        self._lines.put(None)

    def prove(self) -> Proof:
        """`initialize` and `tools/list`, in the protocol that the server speaks."""
        client = {"name": "credentials-provider", "version": __version__}
        hello = {"protocolVersion": _VERSION, "capabilities": {}, "clientInfo": client}
        answer = self._ask(1, "initialize", hello)
        params: dict[str, Any] = {}
        if _code(answer) in _ERRORS_OF_2026:  # it knows no `initialize` any more
            prefix = "io.modelcontextprotocol"
            params["_meta"] = {
                f"{prefix}/protocolVersion": _MODERN,
                f"{prefix}/clientInfo": client,
                f"{prefix}/clientCapabilities": {},
            }
        elif "error" in answer:
            raise _ProblemError(_message(answer))
        else:
            self._send({"method": "notifications/initialized"})
        listed = self._ask(2, "tools/list", params)
        if "error" in listed and _code(listed) != NO_SUCH_METHOD:
            raise _ProblemError(_message(listed))
        tools = object_at(listed, "result").get("tools")
        return Proof(_name(answer), len(tools) if isinstance(tools, list) else 0)

    def _ask(self, number: int, method: str, params: object) -> dict[str, Any]:
        self._send({"id": number, "method": method, "params": params})
        while True:
            message = self._next()
            if message.get("id") == number and "method" not in message:
                return message

    def _send(self, message: Mapping[str, object]) -> None:
        stdin = self._process.stdin
        with contextlib.suppress(OSError):  # why it ended is read from its other end
            if stdin is not None:
                stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
                stdin.flush()

    def _next(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(self._ends_at - time.monotonic(), 0.0))
        except queue.Empty:
            raise _ProblemError(f"no answer for {PATIENCE:g} s") from None
        if line is None:
            self._process.wait()
            raise _EndedError
        message = parse(line)
        if not isinstance(message, dict):
            raise _ProblemError("it prints what is not a message on its standard output")
        return message

    def end(self) -> None:
        """Hang up; a program that does not end is killed."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_GRACE)
        if self._process.stdout is not None:
            self._process.stdout.close()


def _environment() -> dict[str, str]:
    names = ("SYSTEMROOT", "PATH", "PATHEXT", "COMSPEC") if sys.platform == "win32" else ()
    return {name: os.environ[name] for name in names if name in os.environ}


def _folder() -> str:
    return os.path.abspath(os.sep)


def _code(answer: dict[str, Any]) -> object:
    """The code of an answer's error; None where it has none."""
    code = object_at(answer, "error").get("code")
    return code if isinstance(code, int) else None


def _message(answer: dict[str, Any]) -> str:
    text = object_at(answer, "error").get("message")
    return redacted(text if isinstance(text, str) else "an error without a message")[:1000]


def _name(answer: dict[str, Any]) -> str:
    server = object_at(answer, "result", "serverInfo")
    words = [server.get(key) for key in ("name", "version")]
    return redacted(" ".join(each for each in words if isinstance(each, str) and each))[:100]


def _last_lines(content: bytes) -> str:
    """What a program said at its end, in one line."""
    lines = [line.strip() for line in content.decode(errors="replace").splitlines()]
    text = " ".join(line for line in lines if line)[-600:]
    return redacted(text).removeprefix("error: ")
