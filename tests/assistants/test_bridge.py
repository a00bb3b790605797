"""`mcp-bridge`: the official SDK's client and server with the bridge between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import anyio
import mcp
import pytest
import trustme
from mcp import types

from assistants.bench import Bench, text
from assistants.piping import Line, LittleServer, Reply, meta
from credentials_provider.assistants.bridge.tokens import Tokens
from credentials_provider.emulator import App, Fault
from credentials_provider.model import Observer, RunOptions
from credentials_provider.transport.streaming import Channel, Stream
from support import Command, Project, apps, assert_no_secret, environment, until, wait

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def during(work: Callable[[], Awaitable[None]], patience: float = 60) -> None:
    """Runs it to its end, in time."""

    async def timed() -> None:
        with anyio.fail_after(patience):
            await work()

    anyio.run(timed)


async def eventually(condition: Callable[[], object]) -> None:
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110  what other processes do
            await anyio.sleep(0.01)


def innermost(error: BaseException) -> str:
    """What is in groups of one, in groups of one."""
    while inner := getattr(error, "exceptions", ()):
        error = inner[0]
    return str(error)


def test_everything_passes_in_both_directions(bench: Bench) -> None:
    """Tools, resources, prompts, completions, progress, logs, changes; roots, models and users."""
    seen: list[str] = []
    progress: list[float] = []

    async def note(message: Any) -> None:
        seen.append(type(getattr(message, "root", message)).__name__)

    async def on_progress(done: Any, total: Any, message: Any) -> None:
        del total, message
        progress.append(done)

    async def on_sample(context: Any, params: Any) -> Any:
        del context
        content = types.TextContent(type="text", text=f"{params.messages[0].content.text} you")
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    async def on_elicit(context: Any, params: Any) -> Any:
        del context
        assert params.message == "Which colour?"
        return types.ElicitResult(action="accept", content={"colour": "grün"})

    async def on_roots(context: Any) -> Any:
        del context
        return types.ListRootsResult(roots=[types.Root(uri="file:///work")])  # type: ignore[arg-type]

    async def work() -> None:
        async with bench.session(
            message_handler=note,
            sampling_callback=on_sample,
            elicitation_callback=on_elicit,
            list_roots_callback=on_roots,
        ) as session:
            assert "add" in {tool.name for tool in (await session.list_tools()).tools}
            assert text(await session.call_tool("add", {"a": 2, "b": 3})) == "5"
            report: Any = on_progress
            counted = await session.call_tool("count", {"to": 3}, progress_callback=report)
            assert (text(counted), progress) == ("counted to 3", [1, 2, 3])
            assert seen.count("LoggingMessageNotification") == 3
            assert text(await session.call_tool("change", {})) == "changed"
            await eventually(lambda: "ToolListChangedNotification" in seen)
            assert text(await session.call_tool("sample", {})) == "hi you"
            assert text(await session.call_tool("elicit", {})) == "grün"
            assert text(await session.call_tool("roots", {})) == "file:///work"
            assert len((await session.list_resources()).resources) == 1
            read: Any = await session.read_resource("note://ann")  # type: ignore[arg-type, call-overload, unused-ignore]
            assert read.contents[0].text == "note of ann"
            prompt = await session.get_prompt("greet", {"name": "Ann"})
            assert "Greet Ann" in str(prompt.messages[0].content)
            reference = types.PromptReference(type="ref/prompt", name="greet")
            completed = await session.complete(reference, {"name": "name", "value": "A"})
            assert completed.completion.values == ["Alice"]

    during(work)
    assert {line.split()[0] for line in bench.judgements} == {"200"}


def test_a_cancelled_call_is_cancelled_at_the_server(bench: Bench) -> None:
    """A cancellation reaches the remote tool, and the session goes on."""

    async def work() -> None:
        async with bench.session() as session:
            with anyio.move_on_after(1):
                await session.call_tool("sleep", {"seconds": 50})
            await session.send_notification(
                types.CancelledNotification(
                    method="notifications/cancelled",
                    params=types.CancelledNotificationParams(request_id=1),
                )
            )
            await eventually(lambda: "cancelled" in bench.judgements)
            assert text(await session.call_tool("add", {"a": 1, "b": 1})) == "2"

    during(work)


@pytest.mark.skipif(not hasattr(mcp, "Client"), reason="the SDK 1.x does not speak it")
def test_the_protocol_without_sessions_passes_too(bench: Bench) -> None:
    """From 2026 on there is no handshake; each message states its version."""

    async def work() -> None:
        async with mcp.Client(bench.parameters()) as client:
            assert str(client.session.protocol_version) >= "2026"
            for number in range(5):
                assert text(await client.call_tool("add", {"a": number, "b": 1})) == str(number + 1)

    during(work)


def test_a_thousand_calls_over_many_rotations_without_one_failure(
    bench: Bench, project: Project
) -> None:
    """An hour's session in a few lives of a token: every call succeeds, each with a living token.

    The static way, with the token that a configuration would hold, fails as soon as it dies.
    """
    project.idp.inject(Fault("short_life", expires_in=3), times=None)
    began = time.monotonic()
    static: list[str] = []

    async def work() -> None:
        async with bench.session() as session:
            static.append(project.token(bench.app.name)["access_token"])
            calls = 0
            while calls < 1000 or time.monotonic() - began < 10:
                answer = await session.call_tool("add", {"a": calls, "b": 1})
                assert text(answer) == str(calls + 1)
                calls += 1

    during(work, 100)
    refused = [line for line in bench.judgements if not line.startswith("200")]
    assert refused == []
    assert len(bench.judgements) > 1000
    assert len(project.idp.token_requests) >= 3

    request = urllib.request.Request(bench.url, b"{}", {"Authorization": f"Bearer {static[0]}"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    caught.value.close()
    assert caught.value.code == 401


def test_a_401_is_answered_with_a_new_token_once(bench: Bench, project: Project) -> None:
    """The call succeeds on a newly minted token; nobody sees the refusal."""

    async def work() -> None:
        async with bench.session() as session:
            await session.list_tools()  # after this the handshake is over at the server, too
            bench.refuse(1)
            assert text(await session.call_tool("add", {"a": 1, "b": 1})) == "2"

    during(work)
    assert len(project.idp.token_requests) == 2


def test_a_401_that_stays_is_told_with_its_cure(bench: Bench, project: Project) -> None:
    """The assistant's user reads what to do; the session goes on once it is done."""

    async def work() -> None:
        async with bench.session() as session:
            await session.list_tools()  # after this the handshake is over at the server, too
            before = len(project.idp.token_requests)
            bench.refuse(2)
            with pytest.raises(Exception, match=r"refuses a new token .*--header-name"):
                await session.call_tool("add", {"a": 1, "b": 1})
            assert len(project.idp.token_requests) == before + 1
            assert text(await session.call_tool("add", {"a": 1, "b": 1})) == "2"

    during(work)


def test_another_process_s_renewal_is_taken_before_one_s_own(
    bench: Bench, project: Project, run: Command
) -> None:
    """After a 401 a token that somebody has just minted is tried, not another minted."""

    async def work() -> None:
        async with bench.session() as session:
            await anyio.to_thread.run_sync(lambda: run("token", bench.app.name, "--force"))
            assert text(await session.call_tool("add", {"a": 1, "b": 1})) == "2"

    during(work)
    assert len(project.idp.token_requests) == 2


def test_a_restart_of_the_server_goes_unnoticed(bench: Bench, tmp_path: Path) -> None:
    """Calls and notifications go on in a new session, also where the server is away for a while."""
    seen: list[str] = []

    async def note(message: Any) -> None:
        seen.append(type(getattr(message, "root", message)).__name__)

    async def work() -> None:
        async with bench.session(message_handler=note, log=str(tmp_path / "log")) as session:
            await session.call_tool("add", {"a": 1, "b": 1})
            bench.kill()
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.to_thread.run_sync, bench.start)
                assert text(await session.call_tool("add", {"a": 1, "b": 2})) == "3"
            count = len([line for line in bench.judgements if line.startswith("200 GET")])
            await eventually(
                lambda: (
                    len([line for line in bench.judgements if line.startswith("200 GET")]) > count
                    or count > 1
                )
            )
            with anyio.fail_after(30):
                while "ToolListChangedNotification" not in seen:
                    await session.call_tool("change", {})
                    await anyio.sleep(0.1)

    during(work)
    assert "a new one took its place" in (tmp_path / "log").read_text()


def test_a_connection_that_breaks_under_a_call_is_told(bench: Bench) -> None:
    """A call that may have been done is not repeated: the user decides."""

    async def work() -> None:
        async with bench.session() as session, anyio.create_task_group() as group:

            async def kill() -> None:
                await eventually(lambda: "sleeping" in bench.judgements)
                bench.kill()
                bench.start()

            group.start_soon(kill)
            with pytest.raises(Exception, match="check before you try again"):
                await session.call_tool("sleep", {"seconds": 60})
            assert text(await session.call_tool("add", {"a": 1, "b": 1})) == "2"

    during(work)


def test_what_the_provider_refuses_is_told_with_its_cure(
    bench: Bench, project: Project, tmp_path: Path
) -> None:
    """Where no token is to be had, the very first answer says why and what to do."""
    project.idp.inject(Fault("aadsts", code=7000222), times=None)

    async def work() -> None:
        with pytest.raises(BaseException) as caught:  # noqa: PT011  a group of one
            async with bench.session(log=str(tmp_path / "log")):
                pass
        said = innermost(caught.value)
        assert "the client secret has expired (invalid_client, AADSTS7000222); Trace ID " in said
        assert ". Create a new client secret" in said

    during(work)
    assert_no_secret((tmp_path / "log").read_text(), [bench.app])
    assert bench.judgements == []


def test_several_identities_are_never_mixed_up(project: Project) -> None:
    """Two bridges to one server, each with its own header's token: the gateway's, too."""
    pair = apps(2)
    project.add_all(pair)
    bench = Bench(project, pair[0], header="X-Authorization")
    bench.start()
    try:

        async def use(name: str) -> None:
            async with bench.session(identity=name) as session:
                for number in range(10):
                    await session.call_tool("add", {"a": number, "b": 1})

        async def work() -> None:
            async with anyio.create_task_group() as group:
                for app in pair:
                    group.start_soon(use, app.name)

        during(work)
    finally:
        bench.kill()
    seen = [line.split()[2] for line in bench.judgements]
    assert set(seen) == {app.client_id for app in pair}
    assert all(seen.count(app.client_id) >= 12 for app in pair)


def test_nothing_but_mcp_is_on_standard_output(bench: Bench) -> None:
    """Each line is JSON-RPC, whatever comes in; the end of input is the end of the program."""
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "raw", "version": "1"},
    }
    lines = [
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}),
        "this is no message",
        json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json.dumps({"jsonrpc": "2.0", "id": "zwei", "method": "tools/list"}),
        json.dumps({"jsonrpc": "2.0", "id": 3, "method": "no/such", "params": {"x": None}}),
    ]
    ran = subprocess.run(
        bench.line(),
        input="\n".join(lines) + "\n",
        env=environment(bench.project.folder),
        cwd=bench.project.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    answers = {message["id"]: message for message in map(json.loads, ran.stdout.splitlines())}
    assert ran.returncode == 0
    assert set(answers) == {1, None, "zwei", 3}
    assert answers[None]["error"]["code"] == -32700
    assert "tools" in answers["zwei"]["result"]
    assert "error" in answers[3]
    assert_no_secret(ran.stdout + ran.stderr, [bench.app])


def test_tls_is_checked(project: Project, app: App, tmp_path: Path) -> None:
    """An authority of the bundle is trusted, any other server is not spoken to."""
    authority = trustme.CA()
    certificate, bundle = tmp_path / "server.pem", tmp_path / "both.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with open(project.idp.ca_file, "rb") as file:
        bundle.write_bytes(file.read() + authority.cert_pem.bytes())
    bench = Bench(project, app, certificate=str(certificate))
    bench.start()
    try:

        async def good() -> None:
            async with bench.session("--ca-bundle", str(bundle)) as session:
                assert text(await session.call_tool("add", {"a": 1, "b": 1})) == "2"

        async def bad() -> None:
            with pytest.raises(BaseException) as caught:  # noqa: PT011  a group of one
                async with bench.session():
                    pass
            assert "does not trust. Name its authority with --ca-bundle" in innermost(caught.value)

        during(good)
        judged = len(bench.judgements)
        during(bad)
        assert len(bench.judgements) == judged
    finally:
        bench.kill()


@pytest.mark.parametrize("url", ["http://gateway.example/mcp", "ftp://h/mcp", "h"])
def test_no_token_goes_over_an_open_line(run: Command, url: str) -> None:
    """Only https, and this machine."""
    ran = run("mcp-bridge", "--identity", "x", url)
    assert (ran.code, ran.stdout) == (2, "")


# Inside, where a process would have to wait for long


def tokens(project: Project, name: str, monotonic: Callable[[], float]) -> Tokens:
    """What the bridge takes its tokens from, by a clock of the test's."""
    return Tokens(RunOptions(project.settings()), name, 300, Observer(), monotonic=monotonic)


def test_a_server_that_refuses_every_token_causes_one_renewal_in_five_minutes(
    project: Project, app: App
) -> None:
    """However often it is asked: the provider throttles who asks for too many."""
    now = 1000.0
    server = LittleServer(lambda _: Reply(401))
    line = Line(server.url, tokens(project, app.name, lambda: now))
    for number in range(5):
        assert "(401)" in line.ask("tools/list", number)["error"]["message"]
    assert len(project.idp.token_requests) == 2
    assert len(server.asked) == 6
    now += 301
    line.ask("tools/list", 9)
    assert len(project.idp.token_requests) == 3
    line.close()
    server.close()


def test_a_token_that_another_process_renewed_is_taken_at_once(
    project: Project, app: App, run: Command
) -> None:
    """The file is looked at before each request."""
    found = tokens(project, app.name, lambda: 1000.0)
    first = found.get()
    assert found.get() == first
    run("token", app.name, "--force")
    assert found.get() == project.token(app.name)["access_token"] != first


def test_connections_from_before_a_sleep_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that slept makes new connections: the old ones may lead nowhere."""
    ports: list[int] = []
    server = LittleServer(lambda asked: Reply(body=asked.body))
    channel = Channel(server.url, None)
    server.on_connect = ports.append

    def ask() -> None:
        stream = channel.open("POST", server.url, {}, b"{}", connect_timeout=5)
        assert isinstance(stream, Stream)
        assert stream.read() == b"{}"

    ask()
    ask()
    assert len(ports) == 1
    awake = time.time
    monkeypatch.setattr(time, "time", lambda: awake() + 60)  # it went on without the machine
    ask()
    assert len(ports) == 2
    channel.close()
    server.close()


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_at_once(bench: Bench, number: int, code: int) -> None:
    """Without another line from the client, also while a call is under way."""
    process = subprocess.Popen(
        bench.line(),
        env=environment(bench.project.folder),
        cwd=bench.project.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    call = {"name": "sleep", "arguments": {"seconds": 60}, "_meta": meta()}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()
    until(lambda: bench.judgements)
    began = time.monotonic()
    process.send_signal(number)
    assert process.wait(10) == code
    assert time.monotonic() - began < 1.5
    process.stdin.close()
    assert process.stdout is not None
    process.stdout.close()


def test_a_renewal_that_fails_is_not_tried_at_every_call(bench: Bench, project: Project) -> None:
    """With the provider down the old token is used, and calls stay quick."""

    async def work() -> None:
        async with bench.session("--deadline", "2s") as session:
            project.age(bench.app.name, left=200)
            project.idp.inject(Fault("unavailable"), times=None)
            before = time.monotonic()
            for number in range(20):
                assert text(await session.call_tool("add", {"a": number, "b": 0})) == str(number)
            assert time.monotonic() - before < 15

    during(work)


# Another major version of the SDK

OTHER = os.environ.get("TEST_OTHER_MCP_PYTHON", "")


@pytest.mark.clients
@pytest.mark.skipif(not OTHER, reason="TEST_OTHER_MCP_PYTHON names no Python with another mcp")
def test_a_server_on_another_major_version_of_the_sdk(project: Project, app: App) -> None:
    """Calls, a refusal, a restart, notifications."""
    bench = Bench(project, app, python=OTHER)
    bench.start()

    async def work() -> None:
        async with bench.session() as session:
            assert text(await session.call_tool("count", {"to": 3})) == "counted to 3"
            bench.refuse(1)
            assert text(await session.call_tool("add", {"a": 1, "b": 1})) == "2"
            bench.kill()
            bench.start()
            assert text(await session.call_tool("add", {"a": 1, "b": 2})) == "3"

    try:
        during(work)
    finally:
        bench.kill()


def test_a_real_server_of_the_older_transport_is_reached(project: Project, app: App) -> None:
    """The SDK's own, with progress and requests of the server's."""
    bench = Bench(project, app, sse=True)
    bench.start()

    async def on_roots(context: Any) -> Any:
        del context
        return types.ListRootsResult(roots=[types.Root(uri="file:///work")])  # type: ignore[arg-type]

    async def work() -> None:
        async with bench.session(list_roots_callback=on_roots) as session:
            assert text(await session.call_tool("count", {"to": 3})) == "counted to 3"
            assert text(await session.call_tool("roots", {})) == "file:///work"

    try:
        during(work)
    finally:
        bench.kill()
    assert {line.split()[0] for line in bench.judgements} == {"200"}


def test_a_resolver_that_never_answers_is_told_in_time() -> None:
    """Nothing else bounds it."""
    channel = Channel("https://mcp.invalid/mcp", None)
    answer = threading.Event()
    assert not channel.can_look_up(0.05, lambda *_: answer.wait(30))
    assert channel.can_look_up(5, lambda *_: [])
    answer.set()


def test_the_end_of_input_ends_it_quickly(bench: Bench) -> None:
    """A client that hangs up leaves no process behind."""
    process = subprocess.Popen(
        bench.line(),
        env=environment(bench.project.folder),
        cwd=bench.project.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait(process).code == 0
    until(lambda: process.poll() is not None)


def test_a_hundred_calls_at_once_in_a_rotation_cause_one_renewal(
    bench: Bench, project: Project
) -> None:
    """All of them are answered."""
    answers: list[str] = []

    async def work() -> None:
        async with bench.session() as session:
            await session.call_tool("add", {"a": 0, "b": 0})
            project.age(bench.app.name, left=60)  # due for every one of them
            before = len(project.idp.token_requests)

            async def call(number: int) -> None:
                answers.append(text(await session.call_tool("add", {"a": number, "b": 0})))

            async with anyio.create_task_group() as group:
                for number in range(100):
                    group.start_soon(call, number)
            assert len(project.idp.token_requests) == before + 1

    during(work)
    assert sorted(map(int, answers)) == list(range(100))
