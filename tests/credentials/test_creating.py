"""From nothing to an identity with its token: one account, and its secret is never lost."""

from __future__ import annotations

import contextlib
import json
import os
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from assistants.bench import Bench
from assistants.piping import Asked, LittleServer, Reply
from credentials_provider.emulator import App, Emulator, Fault
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities import editing
from credentials_provider.lifecycle import creating
from credentials_provider.lifecycle.accounts import Accounts
from credentials_provider.lifecycle.proving import LifecycleError
from credentials_provider.model import Observer, RunOptions
from credentials_provider.run.access import get_token
from support import SCOPE, Project, apps, entry, renew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from credentials.commanding import Tell
    from support import Ran

GROUPS = ("agents", "readers")
pytestmark = [pytest.mark.usefixtures("no_backoff"), pytest.mark.timeout(60)]


@pytest.fixture
def idp(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    """An emulator that is a registry, too."""
    propagation = getattr(request, "param", 0.0)
    with Emulator(registry_groups=GROUPS, propagation=propagation) as emulator:
        yield emulator


@pytest.fixture
def admin(project: Project) -> App:
    """An administrator of the registry, with an identity."""
    (made,) = apps(1)
    made = replace(made, name="admin", roles=("registry-admins",))
    project.idp.add_app(made)
    project.write([entry(made)])
    return made


@dataclass(frozen=True)
class Create:
    """`identities create` and `remove --at-registry`, asked by the administrator."""

    tell: Tell
    admin: App

    url: str | None = None

    def __call__(self, *words: str, stdin: str = "") -> Ran:
        url = self.url or self.tell.project.idp.base_url
        return self.tell(*words, "--registry-url", url, "--as", "admin", stdin=stdin)

    def new(self, name: str, *words: str) -> Ran:
        own = ("--tenant-id", self.admin.tenant_id, "--scope", SCOPE)
        return self("create", name, "--groups", "agents", *own, *words)


@pytest.fixture
def create(tell: Tell, admin: App) -> Create:
    return Create(tell, admin)


def secrets(project: Project) -> set[str]:
    folder = os.path.join(project.output, ".secrets")
    return set(os.listdir(folder)) - {".gitignore"} if os.path.isdir(folder) else set()


def requests(idp: Emulator, method: str, part: str) -> list[str]:
    return [each.path for each in idp.requests if each.method == method and part in each.path]


slow = pytest.mark.parametrize("idp", [1.5], indirect=True)


@slow
def test_one_command_makes_an_account_and_its_first_token(project: Project, create: Create) -> None:
    """With patience for what Entra ID does not know yet; the secret is shown nowhere."""
    ran = create.new("ci", "--description", "nightly")
    assert ran.code == 0, ran.stderr
    assert "not accepted yet" in ran.stderr
    (_, made) = project.entries()
    assert made["client_secret_file"] == ".secrets/ci"
    with open(os.path.join(project.output, ".secrets", "ci"), encoding="utf-8") as file:
        secret = file.read().strip()
    assert secret not in ran.stdout + ran.stderr + json.dumps(project.entries())
    assert os.path.exists(project.path("ci"))
    assert secrets(project) == {"ci"}
    assert len(requests(project.idp, "POST", "users/m2m")) == 1


def test_a_group_that_the_registry_does_not_know_is_named(create: Create) -> None:
    """It leaves it out without a word."""
    ran = create.new("ci", "--groups", "agents,nobody")
    assert ran.code == 0, ran.stderr
    assert "does not know the groups nobody" in ran.stderr


def test_a_name_that_is_taken_is_refused_before_anything_is_made(
    project: Project, create: Create
) -> None:
    """Here, or at the registry."""
    assert create.new("ci").code == 0
    assert create.new("CI").code == 2
    assert create.tell("remove", "ci").code == 0
    ran = create.new("ci")
    assert ran.code == 2
    assert "the registry has an account ci already" in ran.stderr
    assert len(requests(project.idp, "POST", "users/m2m")) == 1


def test_an_entry_that_could_not_be_added_is_not_asked_for(
    project: Project, create: Create
) -> None:
    """The account would be an orphan."""
    own = ("--tenant-id", "common", "--scope", SCOPE)
    assert create("create", "ci", "--groups", "agents", *own).code == 2
    assert create("create", "../ci", "--groups", "agents", *own).code == 2
    assert requests(project.idp, "POST", "users/m2m") == []


def test_the_way_back_deletes_the_account_first(project: Project, create: Create) -> None:
    """Then the entry, its secret and its token."""
    assert create.new("ci").code == 0
    ran = create("remove", "ci", "--at-registry")
    assert ran.code == 0, ran.stderr
    assert "ci: account deleted" in ran.stdout
    assert [each["identity_name"] for each in project.entries()] == ["admin"]
    assert secrets(project) == set()
    assert not os.path.exists(project.path("ci"))
    assert create.new("ci").code == 0


def test_a_registry_that_refuses_removes_nothing_here(project: Project, create: Create) -> None:
    """The account would be forgotten."""
    assert create.new("ci").code == 0
    project.idp.add_app(replace(create.admin, roles=()))
    os.unlink(project.path("admin"))
    ran = create("remove", "ci", "--at-registry")
    assert ran.code == 1
    assert "takes an administrator" in ran.stderr
    assert [each["identity_name"] for each in project.entries()] == ["admin", "ci"]
    assert secrets(project) == {"ci"}


def test_an_application_that_is_there_is_registered(
    project: Project, create: Create, admin: App
) -> None:
    """Its secret comes from standard input; to register it again changes its groups."""
    (_, mine) = apps(2)
    project.idp.add_app(mine)
    for name in ("ci", "again"):
        own = ("--tenant-id", admin.tenant_id, "--scope", SCOPE, "--existing", mine.client_id)
        ran = create("create", name, "--groups", "agents", *own, stdin=f"{mine.secrets[0]}\n")
        assert ran.code == 0, ran.stderr
        assert mine.secrets[0] not in ran.stdout + ran.stderr
        assert os.path.exists(project.path(name))
    assert len(requests(project.idp, "PATCH", mine.client_id)) == 1


def test_who_asks_and_where_must_be_named(create: Create) -> None:
    """Else nothing happens."""
    own = ("--groups", "agents", "--tenant-id", "a.example", "--scope", SCOPE)
    assert create.tell("create", "ci", *own).code == 2
    assert create.tell("create", "ci", *own, "--registry-url", "https://x").code == 2
    ran = create.tell("create", "ci", *own, "--registry-url", "http://x.example", "--as", "admin")
    assert ran.code == 2
    assert "unencrypted" in ran.stderr


@pytest.mark.parametrize("form", ["alone", "token file"])
def test_the_administrators_token_can_come_from_a_file(
    project: Project, create: Create, form: str
) -> None:
    """Of this program or of the registry."""
    settings = project.settings()
    token = get_token(RunOptions(settings), "admin", 60, Observer()).token
    text = token if form == "alone" else json.dumps({"tokens": {"access_token": token}})
    path = project.private("admin-token", text)
    asked = ("--registry-url", project.idp.base_url, "--token-file", path)
    own = ("--tenant-id", create.admin.tenant_id, "--scope", SCOPE)
    ran = create.tell("create", "ci", "--groups", "agents", *asked, *own)
    assert ran.code == 0, ran.stderr
    assert token not in ran.stdout + ran.stderr
    project.private("admin-token", "{}")
    ran = create.tell("create", "other", "--groups", "agents", *asked, *own)
    assert ran.code == 2
    assert "has no token" in ran.stderr


def test_an_assistant_is_configured_after_the_first_token(project: Project, create: Create) -> None:
    """As by mcp-config; what that cannot do is its own message, and the identity is complete."""
    ran = create.new("ci", "--assistant", "claude-code")
    assert ran.code != 0
    assert "ci has its first token" in ran.stdout
    assert "servers" in ran.stderr
    assert "mistake of this program" not in ran.stderr
    assert os.path.exists(project.path("ci"))


class Gateway:
    """A registry and its gateway at one address: the emulator's IAM, and one MCP server."""

    def __init__(self, project: Project, server: Bench) -> None:
        self.tls = ssl.create_default_context(cafile=project.idp.ca_file)
        self.iam = project.idp.base_url
        self.server = server
        self.http = LittleServer(self.answer)
        self.url = self.http.url.rpartition("/")[0]

    def answer(self, asked: Asked) -> Reply:
        path = asked.path.partition("?")[0]
        if "/iam/" in path:
            return self.passed_on(asked, self.iam + asked.path)
        if path == "/api/servers":
            servers = [{"path": "/bench", "is_enabled": True}]
            return Reply(body={"servers": servers, "total_count": 1})
        if path != "/bench/mcp":
            return Reply(404)
        # The stream that a client may ask for beside its calls is optional.
        return Reply(405) if asked.method == "GET" else self.passed_on(asked, self.server.url)

    def passed_on(self, asked: Asked, url: str) -> Reply:
        headers = {k: v for k, v in asked.headers.items() if k not in {"host", "connection"}}
        body = asked.body if asked.method == "POST" else None
        request = Request(url, body, headers, method=asked.method)
        try:
            answer = urlopen(request, context=self.tls if url.startswith("https") else None)
        except HTTPError as error:
            answer = error
        with answer:
            kept = {"content-type", "mcp-session-id", "www-authenticate"}
            found = {k.lower(): v for k, v in answer.headers.items() if k.lower() in kept}
            return Reply(answer.status, answer.read(), found)


@pytest.fixture
def gateway(project: Project, admin: App) -> Iterator[Gateway]:
    server = Bench(project, admin, header="X-Authorization")
    server.start()
    made = Gateway(project, server)
    yield made
    made.http.close()
    server.kill()


@slow
@pytest.mark.parametrize("way_in", ["new", "existing"])
def test_one_command_goes_from_nothing_to_a_working_assistant(
    project: Project, create: Create, gateway: Gateway, way_in: str
) -> None:
    """Its configuration is written, started, and proven by a call with the new account's token."""
    words: tuple[str, ...] = ("--assistant", "claude-code")
    stdin = ""
    if way_in == "existing":
        (_, mine) = apps(2)
        project.idp.add_app(mine)
        words += ("--existing", mine.client_id)
        stdin = f"{mine.secrets[0]}\n"
    own = ("--tenant-id", create.admin.tenant_id, "--scope", SCOPE)
    through = replace(create, url=gateway.url)
    ran = through("create", "ci", "--groups", "agents", *own, *words, stdin=stdin)
    assert ran.code == 0, ran.stderr
    assert "ci has its first token" in ran.stdout
    assert "Works: bench: bench, " in ran.stdout
    with open(os.path.join(project.folder, ".claude.json"), encoding="utf-8") as file:
        (written,) = json.load(file)["mcpServers"].values()
    assert written["args"][-1] == f"{gateway.url}/bench/mcp"
    (_, made) = project.entries()
    assert f"200 POST {made['client_id']}" in gateway.server.judgements
    with open(os.path.join(project.output, ".secrets", "ci"), encoding="utf-8") as file:
        secret = file.read().strip()
    token = project.token("ci")["access_token"]
    for each in (secret, token):
        assert each not in ran.stdout + ran.stderr + json.dumps(written)


# Interrupted


@pytest.fixture
def make(project: Project, admin: App) -> Callable[[], tuple[str, ...]]:
    settings = project.settings()
    token = get_token(RunOptions(settings), "admin", 60, Observer()).token

    def make() -> tuple[str, ...]:
        accounts = Accounts(project.idp.base_url, token, project.idp.ca_file)
        fields = {"identity_name": "ci", "tenant_id": admin.tenant_id, "scope": SCOPE}
        try:
            groups = creating.create(
                settings, "ci", fields, accounts, ["agents"], progress=lambda _: None
            )
            creating.finish(settings, "ci")
            return groups
        finally:
            accounts.close()

    return make


class _KilledError(BaseException):
    pass


STEPS = [
    ("keep", 1, "before"),
    ("keep", 1, "after"),
    ("keep", 2, "after"),
    *(("keep", number, when) for number in (3, 4) for when in ("before", "after")),
    ("add", 1, "before"),
    ("add", 1, "after"),
    ("discard", 1, "before"),
    ("discard", 1, "after"),
]


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_run_that_ends_at_any_step_is_finished_by_the_next(
    project: Project,
    make: Callable[[], tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[str, int, str],
) -> None:
    """One account is made, and its secret is where the entry says."""
    function, number, when = step
    real = getattr(editing, function)
    calls = 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and when == "before":
            raise _KilledError
        result = real(*args, **kwargs)
        if calls == number:
            raise _KilledError
        return result

    monkeypatch.setattr(editing, function, broken)
    with pytest.raises(_KilledError):
        make()
    monkeypatch.undo()
    with contextlib.suppress(ConfigurationError):  # it was complete
        make()
    assert len(requests(project.idp, "POST", "users/m2m")) == 1
    assert secrets(project) == {"ci"}
    settings = project.settings()
    assert get_token(RunOptions(settings), "ci", 60, Observer()).token


@pytest.mark.parametrize("way_in", ["new", "existing"])
def test_a_command_that_got_no_token_is_finished_by_the_same_command(
    project: Project, create: Create, way_in: str
) -> None:
    """Entra ID did not know the application in time; nothing is made or asked for twice."""
    (_, mine) = apps(2)
    project.idp.add_app(mine)
    own = ("--tenant-id", mine.tenant_id, "--scope", SCOPE, "--wait", "0")
    words = ["create", "ci", "--groups", "agents", *own]
    words += ["--existing", mine.client_id] if way_in == "existing" else []
    assert renew(project).exit_code == 0
    project.idp.inject(Fault("aadsts", code=700016))
    stdin = f"{mine.secrets[0]}\n"
    ran = create(*words, stdin=stdin)
    assert ran.code == 1
    assert "not found in this tenant" in ran.stderr
    again = create(*words)
    assert again.code == 0, again.stderr
    assert "going on" in again.stderr
    assert "ci has its first token" in again.stdout
    assert secrets(project) == {"ci"}
    assert len(requests(project.idp, "POST", "users/m2m")) == (way_in == "new")
    if way_in == "new":
        assert create(*words).code == 2  # it is complete


def test_an_account_whose_entry_is_gone_is_not_made_again(
    project: Project, make: Callable[[], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its secret was in the entry's file alone."""
    monkeypatch.setattr(creating, "finish", lambda *_: None)
    make()
    editing.remove(project.settings(), ["ci"])
    with pytest.raises(ConfigurationError, match="has an account ci already"):
        make()


def test_an_answer_that_is_lost_is_found_out(
    project: Project,
    create: Create,
    make: Callable[[], tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next run says what the registry has, and how to go on; a second is not made."""
    real = Accounts.make

    def lost(self: Accounts, *args: Any) -> Any:
        real(self, *args)
        raise _KilledError

    monkeypatch.setattr(Accounts, "make", lost)
    with pytest.raises(_KilledError):
        make()
    monkeypatch.undo()
    with pytest.raises(LifecycleError, match="its secret is lost") as told:
        make()
    assert "remove ci --at-registry" in str(told.value.hint)
    assert create("remove", "ci", "--at-registry").code == 0
    make()
    assert len(requests(project.idp, "POST", "users/m2m")) == 2


def test_a_registry_that_does_not_answer_is_not_asked_twice(
    project: Project, make: Callable[[], tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether it made the account; a second call would make another."""
    monkeypatch.setattr(Accounts, "called", lambda *_: [])
    project.idp.inject(Fault("unavailable", endpoint="discovery"), times=None)
    with pytest.raises(LifecycleError, match="may have been made"):
        make()
    assert len(requests(project.idp, "POST", "users/m2m")) == 1
    monkeypatch.undo()
    project.idp.clear_faults()
    make()


ANSWERS = [
    (200, {"users": 5}, "is not a registry"),
    (200, [], "is not a registry"),
    (401, {"detail": "Token validation failed"}, r"administrator's token \(Token validation"),
    (403, {"detail": "\x1b[31mAdministrator"}, r"takes an administrator \(\\x1b\[31mAdm"),
    (404, {}, "has no such call"),
    (422, {"detail": [{"loc": ["body", "name"]}]}, "the name or the groups"),
    (418, {}, "HTTP 418"),
]


@pytest.mark.parametrize(("status", "body", "says"), ANSWERS)
def test_an_answer_that_is_none_is_explained(
    project: Project, make: Callable[[], tuple[str, ...]], status: int, body: Any, says: str
) -> None:
    """And nothing is asked for; what the registry says moves no terminal."""
    answer = Fault("status", status=status, body=json.dumps(body), endpoint="discovery")
    project.idp.inject(answer)
    with pytest.raises(LifecycleError, match=says):
        make()
    assert requests(project.idp, "POST", "users/m2m") == []
    assert secrets(project) == set()


@pytest.mark.parametrize("body", [{}, {"client_id": "x"}, {"client_id": "x", "client_secret": 5}])
def test_an_account_without_its_secret_is_looked_into(
    project: Project,
    make: Callable[[], tuple[str, ...]],
    monkeypatch: pytest.MonkeyPatch,
    body: dict[str, Any],
) -> None:
    """It may have been made: the next run looks before it asks."""
    monkeypatch.setattr(Accounts, "called", lambda *_: [])
    project.idp.inject(Fault("status", status=200, body=json.dumps(body), endpoint="discovery"))
    with pytest.raises(LifecycleError, match="may have been made"):
        make()
    assert secrets(project) == {"ci~account"}


@pytest.mark.parametrize("content", ["[]", "{}", "x", '{"account 1": 5}'])
def test_a_journal_that_nobody_can_read_is_an_error(
    project: Project, make: Callable[[], tuple[str, ...]], content: str
) -> None:
    """It may hold the only copy of a secret."""
    os.mkdir(os.path.join(project.output, ".secrets"), 0o700)
    path = project.private(os.path.join(project.output, ".secrets", "ci~account"), content)
    with pytest.raises(ConfigurationError, match="not what this program wrote"):
        make()
    assert os.path.exists(path)
