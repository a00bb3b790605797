"""`mcp-config`: an entry put into an assistant's file, and every other byte left as it was."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from credentials_provider import json_text
from credentials_provider.assistants.clients import CLIENTS, IN_TOKEN_FOLDER
from credentials_provider.assistants.configure import (
    BACKUP,
    NotWrittenError,
    apply_edit,
    check_name,
    check_url,
    delivery_of,
    plan_edit,
    undo_edit,
)
from credentials_provider.assistants.documents import (
    Change,
    FormattingError,
    UnparsableError,
    changed,
    entries_of,
)
from credentials_provider.errors import ConfigurationError
from support import Command, Project, Ran, apps, environment

if TYPE_CHECKING:
    from pathlib import Path

    from credentials_provider.emulator import App

URL = "https://gateway.example/search/mcp"
ENTRY = {"command": "/a folder/x", "args": ["--a", 'q"\\ü']}
OTHER = {"command": "/b", "args": []}
LIVE = sorted(set(CLIENTS) - IN_TOKEN_FOLDER)

# Files as people have them: comments, foreign servers, unknown keys, odd layout.
FILES = {
    "empty": ("json", ("mcpServers",), "{}\n"),
    "no end of line": ("json", ("mcpServers",), '{"mcpServers": {}}'),
    "foreign": (
        "json",
        ("mcpServers",),
        (
            '{\n    "theme" : "dark",\n    "mcpServers": {\n        "mine": {"command":"x",'
            '"args":[ ]}\n    },\n    "n": 1.50, "big": 12345678901234567890,'
            '\n    "u": "\\u00e9 \u00e9"\n}\n'
        ),
    ),
    "root last": ("json", ("mcpServers",), '{\n\t"a": [1,\n2],\n\t"mcpServers": {}\n}'),
    "one line": ("json", ("mcpServers",), '{"a": 1, "mcpServers": {"b": {"command": "c"}}}'),
    "windows": ("json", ("mcpServers",), '{\r\n  "mcpServers": {\r\n    "a": {}\r\n  }\r\n}\r\n'),
    "mark": ("json", ("mcpServers",), '\ufeff{\n  "mcpServers": {\n    "a": {}\n  }\n}\n'),
    "comments": (
        "jsonc",
        ("servers",),
        (
            '// mine\n{\n  // all\n  "inputs": [ /* none */ ],\n  "servers": {'
            '\n    "a": {"url": "http://x"}'
            ', // the "first" {\n    /* two */ "b": {}\n    // the end }\n  }, // tail\n}\n// bye'
        ),
    ),
    "trailing commas": ("jsonc", ("servers",), '{\n  "servers": {\n    "a": {},\n  },\n}\n'),
    "nothing there": ("jsonc", ("context_servers",), '// Zed\n{\n  // font\n  "size": 16\n}\n'),
    "deep": ("json", ("mcp", "servers"), '{\n  "mcp": {"servers": {"a": {"url": "x"}}}\n}\n'),
    "toml": (
        "toml",
        ("mcp_servers",),
        (
            "# mine\nmodel = \"x\"   # best\n\n[mcp_servers.a] # a\ncommand = 'x'  # y\n\n"
            '[mcp_servers.a.env]\nA = "1"\n\n[other]\nz = 1_000 # keep\n'
        ),
    ),
    "toml, none": ("toml", ("mcp_servers",), '# mine\nmodel = "x"\n\n[tui]\nx = true\n'),
    "toml, inline": ("toml", ("mcp_servers",), 'mcp_servers = {a = {command = "x"}} # all\n'),
    "yaml": (
        "yaml",
        ("extensions",),
        (
            "# mine\nextensions:\n  dev:\n    name: \"dev\"   # best\n    args:\n    - 'a'\n"
            "GOOSE_MODEL: x  # model\n"
        ),
    ),
    "comments alone": ("jsonc", ("servers",), "// mine\n/* nothing\n   yet */\n"),
    "null": ("json", ("mcpServers",), '{\n  "a": 1,\n  "mcpServers": null,\n  "b": 2\n}\n'),
    "null, deep": ("jsonc", ("a", "b"), '{"a": null /* later */}'),
    "toml, comments alone": ("toml", ("mcp_servers",), "# mine\n"),
    "toml, windows": ("toml", ("mcp_servers",), '# mine\r\nmodel = "x"\r\n\r\n[tui]\r\nx = 1\r\n'),
    "yaml, comments alone": ("yaml", ("extensions",), "# mine\n# yours\n"),
    "yaml, null": ("yaml", ("extensions",), "# mine\nextensions:\nA: x  # model\n"),
    "yaml, windows": ("yaml", ("extensions",), "# mine\r\nextensions:\r\n  a:\r\n    b: 1 # c\r\n"),
    "yaml, indented": (
        "yaml",
        ("extensions",),
        "extensions:\n    dev:\n        args:\n          - a # 1\n          - b\n",
    ),
}


def put(name: str, entry: dict[str, Any] | None, text: str | None = None) -> str:
    form, root, before = FILES[name]
    return changed(before if text is None else text, form, Change(root, {"gw": entry}))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILES)
def test_an_entry_is_put_in_and_nothing_else_changes(name: str) -> None:
    """The old text is there byte for byte, but for one comma where the format asks for it."""
    before = FILES[name][2]
    after = put(name, ENTRY)
    assert entries_of(after, FILES[name][0], FILES[name][1])["gw"] == ENTRY  # type: ignore[arg-type]
    lines = iter(after.splitlines())
    for line in before.splitlines():
        if (
            "{}" in line
            or "null" in line
            or before.count("\n") < 2
            or "inline" in name
            or "deep" in name
        ):
            continue  # the entry goes into this line
        assert any(
            line in {new, new.replace("},", "}", 1), new.replace("16,", "16")} for new in lines
        )


@pytest.mark.parametrize("name", FILES)
def test_putting_it_in_again_changes_nothing(name: str) -> None:
    """A second run leaves the very same bytes."""
    once = put(name, ENTRY)
    assert put(name, ENTRY, once) == once


@pytest.mark.parametrize("name", FILES)
def test_another_entry_replaces_ours_alone(name: str) -> None:
    """A changed entry is as if it had been the first."""
    assert put(name, OTHER, put(name, ENTRY)) == put(name, OTHER)


@pytest.mark.parametrize("name", FILES)
def test_removing_undoes(name: str) -> None:
    """What is put in and taken out leaves the file as it was, an empty table of servers apart."""
    form, root, before = FILES[name]
    back = put(name, None, put(name, ENTRY))
    if (root[0] in before and "null" not in name) or form == "toml":
        assert back == before
    else:
        assert entries_of(back, form, root) == {}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FILES)
def test_removing_what_is_not_there_changes_nothing(name: str) -> None:
    """`--remove` of a name that the file does not have leaves it alone."""
    assert put(name, None) == FILES[name][2]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("json", '{"mcpServers": {'),
        ("json", '{"mcpServers": {}} // no comments here'),
        ("json", '{"mcpServers": []}'),
        ("json", "[]"),
        ("json", "null"),
        ("jsonc", '{"a": 1 "b": 2}'),
        ("jsonc", '{"a": tru}'),
        ("jsonc", "{'a': 1}"),
        ("jsonc", '{"a": 1} x'),
        ("jsonc", '{"a": /* open'),
        ("jsonc", "[" * 5000),
        ("toml", "a = \n"),
        ("toml", 'mcpServers = "x"\n'),
        ("yaml", "a: [\n"),
        ("yaml", "- a\n"),
        ("yaml", f"a: {'[' * 5000}{']' * 5000}\n"),
    ],
)
def test_a_broken_file_is_refused(form: str, text: str) -> None:
    """What its client could not read is never changed."""
    with pytest.raises(UnparsableError):
        changed(text, form, Change(("mcpServers",), {"gw": ENTRY}))  # type: ignore[arg-type]


def test_yaml_that_would_lose_its_layout_is_not_changed() -> None:
    """Where the library cannot keep what people wrote, nothing is written."""
    with pytest.raises(FormattingError):
        changed("a:   {b:    1}\n", "yaml", Change(("extensions",), {"gw": ENTRY}))


@pytest.mark.parametrize(
    ("form", "root", "text"),
    [
        ("toml", "mcp_servers", "[mcp_servers.gw]\na = 1\n\n# mine\n[profiles.x]\nb = 2\n"),
        ("yaml", "s", "s:\n  gw:\n    a: 1\n\n  # mine\n  other:\n    b: 2\n"),
    ],
)
def test_a_comment_after_the_entry_is_not_removed_with_it(form: str, root: str, text: str) -> None:
    """The libraries count it as part of the entry; its owner does not."""
    with pytest.raises(FormattingError, match="comment"):
        changed(text, form, Change((root,), {"gw": None}))  # type: ignore[arg-type]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(
    st.dictionaries(st.text(max_size=4), JSON, max_size=4),
    st.text(max_size=3),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_any_json_is_changed_as_json_would(
    document: dict[str, Any], name: str, indent: Any, ascii_only: bool
) -> None:
    """Put and remove on any document give what the same on its content gives."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    after = json_text.put(text, (name,), ENTRY)
    assert json.loads(after) == {**document, name: ENTRY}
    gone = {key: value for key, value in document.items() if key != name}
    assert json.loads(json_text.remove(after, (name,))) == gone
    if name not in document and document:
        assert json_text.remove(after, (name,)) == text


# The command


def config(run: Command, client: str, *args: str, **env: str) -> Ran:
    """For a server that nobody has, so nothing that is written is started."""
    check = ["--no-check"] if "--write" in args else []
    return run("mcp-config", client, "--server", f"gw={URL}", *args, *check, env=env)


def written(project: Project, client: str) -> str:
    path = os.path.join(project.folder, f"{client}.conf")
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def content(client: str, text: str) -> Any:
    form = CLIENTS[client].form
    if form == "toml":
        return tomlkit.parse(text).unwrap()
    return YAML(typ="safe").load(text) if form == "yaml" else json.loads(text)


@pytest.mark.parametrize("client", LIVE)
def test_each_client_starts_us_with_nothing_of_a_token_in_its_file(
    app: App, project: Project, run: Command, client: str
) -> None:
    """The default of every client is a command; running that command works without an environment.

    It has everything: absolute paths, the provider, its authority.
    """
    ran = config(run, client)
    assert ran.code == 0
    assert app.secrets[0] not in ran.stdout
    assert "eyJ" not in ran.stdout
    (entry,) = found_entries(client, ran.stdout)
    line = command_of(entry)
    assert os.path.isabs(line[0])
    assert "mcp-bridge" in line
    assert ("--login-base-url", project.idp.base_url) in itertools.pairwise(line)
    assert project.idp.token_requests == []


@pytest.mark.parametrize("client", ["claude-code", "codex"])
def test_a_helper_is_there_for_who_asks_for_it(
    app: App, project: Project, run: Command, client: str
) -> None:
    """It prints headers without an environment; a program of unknown version is a warning."""
    ran = config(run, client, "--helper", PATH="/nowhere")
    assert "does not tell its version" in ran.stderr
    line = command_of(found_entries(client, ran.stdout)[0])
    done = subprocess.run(line, cwd="/", env={}, capture_output=True, text=True, check=True)
    token = project.token(app.name)["access_token"]
    assert json.loads(done.stdout) == {"Authorization": f"Bearer {token}"}


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell script")
@pytest.mark.parametrize(
    ("client", "version", "told"),
    [
        ("claude-code", "2.1.250 (Claude Code)", ""),
        ("claude-code", "2.1.246 (Claude Code)", "is 2.1.246. Before 2.1.250"),
        ("codex", "codex-cli 0.169.0", ""),
        ("codex", "codex-cli 0.149.9", "is 0.149.9. Before 0.150.0"),
    ],
)
def test_a_program_that_never_runs_its_helper_again_is_told(
    project: Project, run: Command, client: str, version: str, told: str
) -> None:
    """By its own word."""
    (app,) = apps(1)
    project.add(app)
    program = CLIENTS[client].helper_since[0]
    path = os.path.join(project.folder, program)
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\necho '{version}'\n")
    os.chmod(path, 0o755)
    ran = config(run, client, "--helper", PATH=f"{project.folder}:/usr/bin:/bin")
    assert ran.code == 0
    assert (told in ran.stderr) if told else ("Warning" not in ran.stderr)


def found_entries(client: str, text: str) -> list[Any]:
    found = content(client, text)
    for key in CLIENTS[client].root:
        found = found[key]
    return list(found.values())


def command_of(entry: Any) -> list[str]:
    if helper := entry.get("headersHelper") or entry.get("http_headers_helper"):
        return shlex.split(helper)
    if isinstance(entry["command"] if "command" in entry else entry["cmd"], list):
        return list(entry["command"])
    return [entry.get("command") or entry["cmd"], *entry["args"]]


@pytest.mark.parametrize("client", sorted(n for n, c in CLIENTS.items() if c.static))
def test_static_writes_the_token_and_says_when_it_expires(
    app: App, project: Project, run: Command, client: str
) -> None:
    """`--static` has the very token, and a warning with the hour."""
    ran = config(run, client, "--static")
    token = project.token(app.name)["access_token"]
    assert ran.code == 0
    assert ran.stdout.count(token) == 1
    assert "this token expires at" in ran.stderr
    assert token not in ran.stderr


def test_the_registry_s_files_have_its_own_forms(app: App, project: Project, run: Command) -> None:
    """Its programs read `X-Authorization` under these very keys."""
    mcp = config(run, "registry").json
    bearer = f"Bearer {project.token(app.name)['access_token']}"
    assert mcp == {
        "mcpServers": {
            "gw": {
                "type": "streamable-http",
                "url": URL,
                "headers": {"X-Authorization": bearer},
                "disabled": False,
                "alwaysAllow": [],
            }
        }
    }
    vscode = config(run, "registry-vscode").json
    assert vscode == {
        "mcp": {"servers": {"gw": {"url": URL, "headers": {"X-Authorization": bearer}}}}
    }


def test_the_registry_s_own_files_lie_with_the_tokens(
    app: App, project: Project, run: Command
) -> None:
    """`.oauth-tokens/mcp.json` is where the registry looks; a second run follows a renewal."""
    assert config(run, "registry", "--write").code == 0
    first = project.token(app.name)["access_token"]
    with open(os.path.join(project.output, "mcp.json"), encoding="utf-8") as file:
        assert first in file.read()
    run("generate", "--force")
    assert config(run, "registry", "--write").code == 0
    with open(os.path.join(project.output, "mcp.json"), encoding="utf-8") as file:
        after = file.read()
    assert project.token(app.name)["access_token"] in after
    assert first not in after


@pytest.mark.parametrize("client", ["claude-code", "codex", "vscode", "goose"])
def test_write_keeps_a_backup_and_is_private_and_idempotent(
    app: App, project: Project, run: Command, client: str
) -> None:
    """`--write` twice is `--write` once; what was there is in the backup; nobody else may read."""
    del app
    before = {"codex": '# mine\nmodel = "x"\n', "goose": "A: 1 # mine\n"}.get(client, '{"a": 1}')
    path = os.path.join(project.folder, f"{client}.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(before)
    os.chmod(path, 0o644)
    assert config(run, client, "--write", "--file", path).code == 0
    once = written(project, client)
    assert once != before
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path + BACKUP, encoding="utf-8") as file:
        assert file.read() == before
    stamp = os.stat(path).st_mtime_ns
    again = config(run, client, "--write", "--file", path)
    assert (again.code, written(project, client)) == (0, once)
    assert os.stat(path).st_mtime_ns == stamp
    assert "nothing to change" in again.stderr
    removed = run("mcp-config", client, "--server", "gw", "--remove", "--file", path)
    assert removed.code == 0
    assert "gw" not in written(project, client)


def test_user_and_project_files_are_where_the_client_looks(
    app: App, project: Project, run: Command
) -> None:
    """Scopes choose between the home folder and the working directory."""
    del app
    assert config(run, "claude-code", "--write").code == 0
    assert config(run, "claude-code", "--write", "--scope", "project").code == 0
    for name in (".claude.json", ".mcp.json"):
        with open(os.path.join(project.folder, name), encoding="utf-8") as file:
            assert URL in file.read()
    assert config(run, "windsurf", "--write", "--scope", "project").code == 2


def test_a_link_stays_a_link(app: App, project: Project, run: Command) -> None:
    """Who keeps dot files elsewhere still does after a write; a stricter mode stays as well."""
    del app
    target = os.path.join(project.folder, "dotfiles.json")
    link = os.path.join(project.folder, "link.json")
    with open(target, "w", encoding="utf-8") as file:
        file.write("{}\n")
    os.chmod(target, 0o400)
    os.symlink(target, link)
    assert config(run, "cursor", "--write", "--file", link).code == 0
    assert os.path.islink(link)
    assert stat.S_IMODE(os.stat(target).st_mode) == 0o400
    with open(target, encoding="utf-8") as file:
        assert URL in file.read()


def test_diff_shows_and_writes_nothing(app: App, project: Project, run: Command) -> None:
    """`--diff` is a unified diff without the token, and the file stays absent."""
    path = os.path.join(project.folder, "x.json")
    ran = config(run, "cursor", "--static", "--diff", "--file", path)
    assert ran.code == 0
    assert f'+      "url": "{URL}"' in ran.stdout
    assert project.token(app.name)["access_token"] not in ran.stdout
    assert not os.path.exists(path)


def test_a_broken_file_stays_as_it_is(app: App, project: Project, run: Command) -> None:
    """Exit 2, the place of the mistake, and the same bytes."""
    del app
    path = project.private("broken.json", '{"mcpServers": {\n  "a": }')
    ran = config(run, "cursor", "--write", "--file", path)
    assert ran.code == 2
    assert "line 2, column 8" in ran.stderr
    with open(path, encoding="utf-8") as file:
        assert file.read() == '{"mcpServers": {\n  "a": }'


def test_what_cannot_be_kept_is_printed_instead(app: App, project: Project, run: Command) -> None:
    """A layout that would be lost: the entry on stdout, exit 1, the file as it was."""
    del app
    path = project.private("goose.yaml", "a:   {b:    1}\n")
    ran = config(run, "goose", "--write", "--file", path)
    assert ran.code == 1
    assert "gw:" in ran.stdout
    assert "was left as it is" in ran.stderr
    with open(path, encoding="utf-8") as file:
        assert file.read() == "a:   {b:    1}\n"


@pytest.mark.parametrize(
    "theirs",
    [
        {"command": "their-own"},
        {"url": "https://other.example/mcp", "headers": {"Authorization": "Bearer ghp_x"}},
    ],
)
def test_somebody_else_s_server_of_that_name_is_not_taken(
    app: App, project: Project, run: Command, theirs: dict[str, Any]
) -> None:
    """Neither replaced nor removed."""
    del app
    text = json.dumps({"mcpServers": {"gw": theirs}})
    path = project.private("theirs.json", text)
    assert config(run, "cursor", "--write", "--file", path).code == 2
    assert run("mcp-config", "cursor", "--server", "gw", "--remove", "--file", path).code == 2
    with open(path, encoding="utf-8") as file:
        assert file.read() == text


def test_a_written_token_gives_way_to_the_bridge(app: App, project: Project, run: Command) -> None:
    """An entry for the same server is replaced, whatever was used before."""
    del app
    path = os.path.join(project.folder, "cursor.conf")
    for way in (("--static",), ("--no-check",)):
        assert config(run, "cursor", "--write", "--file", path, *way).code == 0
    text = written(project, "cursor")
    assert ("mcp-bridge" in text, "Bearer" in text) == (True, False)


def test_diff_and_write_do_both(app: App, project: Project, run: Command) -> None:
    """For taking out as for putting in."""
    del app
    path = os.path.join(project.folder, "both.json")
    words = ("--file", path, "--diff", "--write", "--no-check")
    for more, sign in (((), "+"), (("--remove",), "-")):
        ran = config(run, "cursor", *words, *more)
        assert f'{sign}    "gw"' in ran.stdout
        assert "Written: " in ran.stdout


def test_a_large_file_is_changed(app: App, project: Project, run: Command) -> None:
    """Claude Code keeps its history in the same file."""
    del app
    path = project.private("large.json", json.dumps({"history": "x" * (3 << 20)}))
    ran = config(run, "claude-code", "--write", "--no-check", "--file", path)
    assert ran.code == 0, ran.stderr
    with open(path, encoding="utf-8") as file:
        assert "gw" in json.load(file)["mcpServers"]


def test_undoing_leaves_what_another_program_wrote_meanwhile(tmp_path: Path) -> None:
    """An assistant that runs writes its file as well."""
    path = str(tmp_path / "c.json")
    edit = plan_edit(path, CLIENTS["cursor"], {"gw": ENTRY})
    backup = apply_edit(edit)
    with open(path, "w", encoding="utf-8") as file:
        file.write(edit.after.replace("{", '{"new": 1,', 1))
    with pytest.raises(NotWrittenError, match="another program"):
        undo_edit(edit, backup)
    with open(path, encoding="utf-8") as file:
        assert json.load(file)["new"] == 1


def test_paths_with_spaces_and_quotes_survive_the_shell(project: Project, run: Command) -> None:
    """The helper is a shell's command line; what is odd in it is quoted."""
    (app,) = apps(1)
    project.add(app)
    odd = os.path.join(project.folder, 'it\'s a "folder" $HOME')
    os.makedirs(odd, mode=0o700)
    ran = config(run, "claude-code", "--helper", "--output-dir", odd)
    command = ran.json["mcpServers"]["gw"]["headersHelper"]
    shell = subprocess.run(
        ["/bin/sh", "-c", command], cwd="/", env={}, capture_output=True, text=True, check=True
    )
    assert json.loads(shell.stdout)["Authorization"].startswith("Bearer ey")
    assert os.listdir(odd)


@pytest.mark.parametrize(
    "args",
    [
        ("--server", "gw"),
        ("--server", "g w=https://h/mcp"),
        ("--server", "gw=http://gateway.example/mcp"),
        ("--server", "gw=https://user:pw@gateway.example/mcp"),
        ("--server", "gw=ftp://gateway.example/mcp"),
        ("--server", "a=https://h/1", "--server", "a=https://h/2"),
        ("--identity", "nobody", "--server", "a=https://h/1"),
        ("--header-name", "X: y", "--server", "a=https://h/1"),
        (),
    ],
)
def test_wrong_input_is_usage(app: App, run: Command, args: tuple[str, ...]) -> None:
    """Exit 2, nothing on stdout."""
    del app
    ran = run("mcp-config", "cursor", *args)
    assert (ran.code, ran.stdout) == (2, "")


@pytest.mark.parametrize(
    "url", ["https://h/mcp", "http://localhost:1/mcp", "http://127.0.0.1/m", "http://[::1]:8/m"]
)
def test_urls_that_a_token_may_go_to(url: str) -> None:
    """Https anywhere, http on this machine."""
    assert check_url(url) == url


@pytest.mark.parametrize("name", ["", "a b", "a.b", "ü", "x" * 65, "../x"])
def test_names_that_some_client_would_not_take(name: str) -> None:
    """Names are refused here rather than by the client later."""
    with pytest.raises(ConfigurationError):
        check_name(name)


def test_the_never_stale_way_is_the_default() -> None:
    """No client gets a static entry unless it is asked for, or knows nothing else."""
    for name, client in CLIENTS.items():
        assert (delivery_of(client, None) == "static") == (name in IN_TOKEN_FOLDER)
    with pytest.raises(ConfigurationError):
        delivery_of(CLIENTS["claude-desktop"], "static")


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell script")
def test_through_the_project_s_script_the_command_is_that_script(
    project: Project, run: Command
) -> None:
    """Started through a checkout, an assistant starts the checkout's script."""
    from credentials_provider.run.launching import program

    del run
    script = os.path.join(project.folder, "generate_creds.sh")
    with open(script, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\n")
    os.chmod(script, 0o755)
    assert program(project.folder) == [script]
    assert environment(project.folder)["PYTHONPATH"]
    assert program("")[0] != script
    assert sys.executable


@pytest.mark.parametrize(
    ("client", "variable", "path"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", ".claude.json"),
        ("codex", "CODEX_HOME", "config.toml"),
        ("opencode", "XDG_CONFIG_HOME", "opencode/opencode.json"),
        ("goose", "XDG_CONFIG_HOME", "goose/config.yaml"),
        ("zed", "XDG_CONFIG_HOME", "zed/settings.json"),
        ("qwen", "QWEN_HOME", "settings.json"),
        ("copilot-cli", "COPILOT_HOME", "mcp-config.json"),
    ],
)
def test_a_client_s_own_variable_names_the_place(
    project: Project, run: Command, client: str, variable: str, path: str
) -> None:
    """What was written is where the client looks, and it is named."""
    (app,) = apps(1)
    project.add(app)
    place = os.path.join(project.folder, "elsewhere", path)
    ran = config(run, client, "--write", **{variable: os.path.join(project.folder, "elsewhere")})
    assert ran.code == 0
    assert f"Written: {place}." in ran.stdout
    assert os.path.exists(place)


def test_the_first_backup_stays_and_none_holds_a_token(
    app: App, project: Project, run: Command
) -> None:
    """It is what its owner had before we came."""
    path = project.private("c.json", '{"mine": 1}')
    assert config(run, "cursor", "--write", "--file", path).code == 0
    assert config(run, "cursor", "--static", "--write", "--file", path).code == 0
    run("generate", "--force")
    assert config(run, "cursor", "--static", "--write", "--file", path).code == 0
    with open(path + BACKUP, encoding="utf-8") as file:
        assert file.read() == '{"mine": 1}'
    os.unlink(path + BACKUP)
    run("generate", "--force")
    again = config(run, "cursor", "--static", "--write", "--file", path)
    assert again.code == 0
    assert not os.path.exists(path + BACKUP)
    assert project.token(app.name)["access_token"] not in again.stdout + again.stderr


def test_without_an_identity_it_says_how_to_make_one(project: Project, run: Command) -> None:
    """An empty file is no riddle."""
    project.write([])
    ran = config(run, "cursor")
    assert ran.code == 2
    assert "there is no identity yet" in ran.stderr
    assert "identities init" in ran.stderr


def test_what_this_shell_alone_has_is_named(project: Project, run: Command) -> None:
    """The assistant does not have it; the entry is written all the same."""
    (app,) = apps(1)
    project.add(app, client_secret=None, client_secret_env="MY_SECRET")
    ran = config(run, "cursor", MY_SECRET=app.secrets[0], HTTPS_PROXY="http://proxy.example:3128")
    assert ran.code == 0
    assert "warning: HTTPS_PROXY, MY_SECRET are set in this shell alone" in ran.stderr
    assert app.secrets[0] not in ran.stdout + ran.stderr
