"""Every command line that the documents show is read by the program's parser, and run.

Those in blocks of shell and those in the text alike, in a project of their own whose provider is
the emulator. What is not run, and why, stands in `NOT_RUN` and `FOREIGN`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import pytest

from command_lines import calls, lines, parse
from credentials_provider.cli import COMMANDS, main
from credentials_provider.cli.helping import PROGRAM
from credentials_provider.emulator import Emulator, sample_apps
from support import API, CHECKOUT, PACKAGES, Project, entry, environment, renew

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGES = sorted(
    os.path.join(folder, name)
    for folder in ("", "docs")
    for name in os.listdir(os.path.join(CHECKOUT, folder))
    if name.endswith(".md")
)
DOCUMENTS = [page for page in PAGES if page == "README.md" or page.startswith("docs")]

# Words that a command line is only parsed with, and what they would need.
NOT_RUN = {
    "watch": "it stays; tests/operations/test_watch.py",
    "--no-store": "a CI job's credential; tests/documents/test_using.py",
    "serve": "it stays; tests/uses/test_endpoint.py",
    "emulator": "it stays; tests/e2e/test_demo_and_emulator.py",
    "mcp-bridge": "it stays; tests/assistants/test_bridge.py",
    "init": "it asks a person; tests/credentials/test_identities_command.py",
    "add": "it asks a person for the secret; the same",
    "secret": "it asks a person; tests/credentials/test_replacing.py",
    "rotate": "Microsoft Graph; tests/credentials/test_rotating.py",
    "--at-registry": "a registry; tests/credentials/test_creating.py",
    "--install": "a crontab or systemd of this machine; tests/operations/test_schedule.py",
    "--uninstall": "the same",
    "--registry-url": "a registry; tests/assistants/test_registry.py, test_doctor.py",
    "--check-secret-expiry": "Microsoft Graph; tests/credentials/test_inventory.py",
}

# First words of lines that are no call of ours.
FOREIGN = {
    "./tests/run.sh": "what runs this",
    "tests/run.sh": "what runs this",
    "tests/audit.sh": "the database of vulnerabilities",
    "benchmarks/run": "minutes",
    "./benchmarks/run": "minutes",
    "(umask": "openssl makes a certificate",
    "git": "the checkout",
    "cd": "the checkout",
    "pipx": "the package index",
    "pip": "the package index",
}

PLACEHOLDERS = {
    "NAME": "ci",
    "ID": API,
    "CLIENT_ID": API,
    "URL": "https://server.example.com/mcp",
    "FILE": "some-file",
    "IMAGE": "registry.example.com/tokens:1",
    "COMMAND": "true",
    "REGISTRY": ".",  # the project itself
}


_EVERYWHERE = re.MULTILINE | re.DOTALL


class Shown(NamedTuple):
    """A command line in a document."""

    document: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}: {self.text}"


def shown() -> Iterator[Shown]:
    for document in DOCUMENTS:
        with open(os.path.join(CHECKOUT, document), encoding="utf-8") as file:
            # Prose, then a block's language and its text, then prose again, and so on.
            prose, *rest = re.split(r"^ *```(\w*)\n(.*?)^ *```$", file.read(), flags=_EVERYWHERE)
        for language, block, after in zip(*[iter(rest)] * 3, strict=True):
            prose += after
            for line in lines(block):
                if language == "sh" or list(_calls(line)):
                    yield Shown(document, line)
        for code in re.findall(r"`([^`\n]+)`", prose):
            first, _, more = code.partition(" ")
            if first in COMMANDS and more:
                yield Shown(document, f"{PROGRAM} {code}")
            elif list(_calls(code)):
                yield Shown(document, code)


def _calls(text: str) -> Iterator[list[str]]:
    try:
        yield from calls(re.sub(r"\[(-[^]]*|[A-Z]+)\]", r"\1", text))
    except ValueError:  # an apostrophe: no shell's line
        return


def _filled(words: list[str]) -> list[str]:
    """With values in place of what a reader puts in."""
    return [
        re.sub(r"\b[A-Z_]{2,}\b", lambda found: PLACEHOLDERS.get(found[0], found[0]), word)
        for word in words
        if word != "$@"
    ]


ALL = list(dict.fromkeys(shown()))


def test_the_documents_are_full_of_commands() -> None:
    """Else what follows would hold without saying anything."""
    assert len(ALL) > 80
    assert {each.document for each in ALL} >= {"README.md", "docs/assistants.md"}


@pytest.mark.parametrize("document", PAGES)
def test_every_link_within_the_project_leads_somewhere(document: str) -> None:
    """To a file, and to a heading of it where it names one."""
    with open(os.path.join(CHECKOUT, document), encoding="utf-8") as file:
        links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", file.read())
    for target, heading in links:
        path = os.path.join(CHECKOUT, os.path.dirname(document), target) if target else document
        assert os.path.exists(path), target
        if heading:
            with open(path, encoding="utf-8") as file:
                titles = re.findall(r"^#+ (.*)$", file.read(), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in titles}
            assert heading in slugs, f"{target}#{heading}"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project with tokens for its identities, and an emulator that knows them."""
    folder = tmp_path_factory.mktemp("template")
    apps = [
        replace(app, name=name)
        for app, name in zip(sample_apps(2), ("ci", "my-ai-agent"), strict=True)
    ]
    with Emulator(apps, ca_file=folder / "ca.pem") as idp:
        project = Project(str(folder / "project"), idp)
        project.write([entry(app) for app in apps])
        project.write([entry(app) for app in apps], "my-identities.json")
        project.private(
            ".env",
            f"ENTRA_TENANT_ID={apps[0].tenant_id}\nENTRA_CLIENT_ID={API}\n",
        )
        answer = {"client_id": API, "client_secret": "s3cret", "groups": []}
        project.private("answer.json", json.dumps(answer))
        deploy = project.private("deploy.sh", '#!/bin/sh\ntest -n "$ACCESS_TOKEN$TOKEN"\n')
        for name in ("agent", "upload.py"):
            os.chmod(project.private(name, "#!/bin/sh\nexit 0\n"), 0o700)
        start = "import os, sys; from credentials_provider.cli import main; "
        start += "main(sys.argv[1:], root=os.getcwd())"
        reach = f"ENTRA_LOGIN_BASE_URL={idp.base_url} REQUESTS_CA_BUNDLE={idp.ca_file}"
        script = f"#!/bin/sh\n{reach} PYTHONPATH={PACKAGES} "
        script += f"exec {sys.executable} -c '{start}' \"$@\"\n"
        for path in (deploy, project.private("generate_creds.sh", script)):  # for hooks
            os.chmod(path, 0o700)
        os.mkdir(os.path.join(project.folder, "api"))
        assert renew(project).exit_code == 0
        project.private("host", f"{idp.base_url}\n{idp.ca_file}")
        yield folder / "project"


@pytest.mark.parametrize("each", ALL, ids=str)
def test_a_command_line_of_the_documents_works(
    each: Shown, template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parsed, and does what it says with exit code 0."""
    found = [_filled(words) for words in _calls(each.text)]
    if not found:
        assert each.text.split()[0] in FOREIGN
        return
    folder = tmp_path / "project"
    shutil.copytree(template, folder, symlinks=True)
    os.chmod(folder / ".oauth-tokens", 0o700)
    monkeypatch.chdir(folder)
    for name, value in environment(str(tmp_path)).items():
        monkeypatch.setenv(name, value)
    for name in [name for name in os.environ if name.startswith(("ENTRA_", "XDG_"))]:
        monkeypatch.delenv(name)
    host, bundle = (folder / "host").read_text(encoding="utf-8").splitlines()
    monkeypatch.setenv("ENTRA_LOGIN_BASE_URL", host)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
    for words in found:
        if "…" in words:  # in the text, where the rest does not matter
            assert words[0] in COMMANDS
            continue
        if words[:2] == ["identities", "import"]:  # a new name: the project has ci already
            words[2] = "new"
        if words[:1] == ["mcp-config"] and "--write" in words:  # nobody is at the server's address
            words.append("--no-check")
        if "--help" not in words:
            parse(words)
        if "--managed-identity" in words or not set(words) & NOT_RUN.keys():
            assert _run(words, str(folder)) == 0


def _run(words: list[str], root: str) -> int:
    if words[:1] == ["exec"]:  # this process would become the command
        line = [sys.executable, "-m", "credentials_provider", *words]
        return subprocess.run(
            line, env={**os.environ, "PYTHONPATH": PACKAGES}, check=False
        ).returncode
    with pytest.raises(SystemExit) as end:
        main(words, root=root)
    assert isinstance(end.value.code, int)
    return end.value.code
