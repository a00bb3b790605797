"""Containerfile's steps in a Debian that debootstrap made: what the image holds, and how it runs.

No container engine and no registry of images can be had here. So what stays untried is the base
image that the file names and an engine's own reading of the file. Slow:
`tests/run.sh -n 0 -m slow tests/entry/test_container.py`.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from credentials_provider import __version__
from credentials_provider.emulator import Emulator
from debian import CERTIFICATES, check_out, copy_of, run
from support import CHECKOUT, apps, entry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
SECRETS = (".env", ".oauth-tokens/ci.json", ".secrets/ci", "credentials-provider/.env.local")


@dataclass
class Stage:
    """What a stage of the file has come to."""

    root: Path
    folder: str = "/"
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=dict)
    words: dict[str, list[str]] = field(default_factory=dict)

    def run(self, command: str | list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        variables = {"PIP_CERT": CERTIFICATES, **self.environment}
        if isinstance(command, str):
            command = ["/bin/sh", "-c", f"umask 022; cd {self.folder} && {command}"]
        return run(
            self.root, command, user=int(self.user.split(":")[0]), variables=variables, **options
        )


def instructions() -> list[tuple[str, str]]:
    text = Path(CHECKOUT, "Containerfile").read_text(encoding="utf-8")
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2]) for line in text.splitlines() if line]


def context(folder: Path) -> Path:
    """A checkout in use, less what .dockerignore leaves out: the last pattern that fits decides."""
    check_out(folder, 0)
    for name in SECRETS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("secret")
    lines = (folder / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for path in sorted(folder.rglob("*"), reverse=True):
        name = str(path.relative_to(folder))
        above = [name, *map(str, Path(name).parents)]
        left_out = False
        for pattern in patterns:
            # As far as this file goes: `*` of one level, `**/` of any, a folder with its files.
            plain = pattern.removeprefix("!")
            parts = re.escape(plain).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
            parts = parts.replace(r"\[", "[").replace(r"\]", "]")
            if any(re.fullmatch(parts, each) for each in above if each != "."):
                left_out = not pattern.startswith("!")
        if left_out and not path.is_dir():
            path.unlink()
    return folder


def build(debian: Path, folder: Path) -> Stage:
    """Follows the file; the base image is the Debian."""
    source = context(folder / "context")
    stages: dict[str, Stage] = {}
    stage = Stage(debian)
    for word, rest in instructions():
        if word == "FROM":
            name = rest.partition(" AS ")[2] or "last"
            stage = stages[name] = Stage(copy_of(debian, folder / name))
        elif word == "WORKDIR":
            stage.folder = rest
            (stage.root / rest[1:]).mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            copy(rest.split(), stage, stages, source)
        elif word == "RUN":
            done = stage.run(rest)
            assert done.returncode == 0, (rest, done.stdout, done.stderr)
        elif word == "ENV":
            name, _, value = rest.partition("=")
            stage.environment[name] = value
        elif word == "USER":
            stage.user = rest
        elif word in {"ENTRYPOINT", "CMD"}:
            stage.words[word] = json.loads(rest)
        elif word == "HEALTHCHECK":
            stage.words[word] = json.loads(rest.partition(" CMD ")[2])
        else:
            assert word in {"ARG", "VOLUME"}, word
    return stage


def copy(words: list[str], stage: Stage, stages: dict[str, Stage], source: Path) -> None:
    options = dict(each[2:].split("=") for each in words if each.startswith("--"))
    *names, target = [each for each in words if not each.startswith("--")]
    root = stages[options["from"]].root if "from" in options else source
    for name in names:
        to = stage.root / os.path.join(stage.folder, target)[1:]
        if target.endswith("/"):
            to /= os.path.basename(name)
        to.parent.mkdir(parents=True, exist_ok=True)
        assert glob.glob(f"{root}/{name}"), name
        subprocess.run(["cp", "-a", f"{root}/{name.lstrip('/')}", str(to)], check=True)
        subprocess.run(["chown", "-R", options.get("chown", "0:0"), str(to)], check=True)


@pytest.fixture(scope="module")
def image(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(debian, tmp_path_factory.mktemp("image"))


def test_the_image_runs_read_only_and_without_rights(image: Stage) -> None:
    """A token is minted into the volume, health follows it; nothing else can be written."""
    assert image.user == "65532:65532"
    (app,) = apps(1)
    data = image.root / "data/.oauth-tokens"
    data.mkdir(mode=0o700)
    (data / "entra-identities.json").write_text(json.dumps([entry(app)]))
    program = image.words["ENTRYPOINT"]
    assert image.run([*program, "--version"]).stdout.split()[-1] == __version__
    with Emulator([app], ca_file=str(data / "ca.pem")) as idp:
        subprocess.run(["chown", "-R", image.user, str(data)], check=True)
        os.chmod(data / "entra-identities.json", 0o600)
        image.environment.update(
            ENTRA_LOGIN_BASE_URL=idp.base_url,
            REQUESTS_CA_BUNDLE="/data/.oauth-tokens/ca.pem",
            NO_PROXY="localhost",
        )
        volume = ["/data", "/tmp"]
        unhealthy = image.run(image.words["HEALTHCHECK"], read_only=True, writable=volume)
        assert unhealthy.returncode == 1, unhealthy.stderr
        made = image.run([*program, "generate"], read_only=True, writable=volume)
        assert made.returncode == 0, made.stderr
        healthy = image.run(image.words["HEALTHCHECK"], read_only=True, writable=volume)
        assert healthy.returncode == 0, healthy.stderr
    refused = image.run("echo x >/opt/credentials-provider/x", read_only=True, writable=volume)
    assert refused.returncode


def test_the_image_has_the_program_and_no_tools_to_build_with(image: Stage) -> None:
    """Nor anything of the checkout's tokens and settings, nor what others could write."""
    program = image.root / "opt/credentials-provider"
    packages = next(program.glob("lib/python*/site-packages"))
    names = {each.name for each in packages.iterdir()}
    assert "credentials_provider" in names
    assert not names & {"pip", "setuptools", "hatchling"}
    assert not (image.root / "source").exists()
    assert not (image.root / "build").exists()
    for folder, _, files in os.walk(program):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            if not os.path.islink(path):
                status = os.stat(path)
                assert (status.st_uid, status.st_mode & 0o022) == (0, 0), path


def test_the_context_has_no_secret(tmp_path: Path) -> None:
    """Only what the file copies is sent to whoever builds the image."""
    folder = context(tmp_path / "context")
    left = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}
    assert not left & {*SECRETS, ".git"}
    assert "credentials-provider/credentials_provider/cli/__init__.py" in left
    shown = {each.partition("/")[0] for each in left}
    locks = {"requirements.lock", "requirements-build.lock"}
    assert shown == {"credentials-provider", "pyproject.toml", "README.md", *locks}
