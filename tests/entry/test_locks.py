"""The locks against an index that this test makes: every pip since 22.0 and uv take the pins alone.

Of each package that is pinned the index holds a wheel with the real one's requirements and nothing
in it, and on request a newer release, which nothing may take.
"""

import base64
import contextlib
import functools
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker

from entry.conftest import PROJECT, Checkout

UV = os.path.join(os.path.dirname(sys.executable), "uv")
RUN = "requirements.lock"
LOCKS = {RUN: ".venv", "tests/requirements.lock": "tests/.venv"}
# Ubuntu 22.04's, Debian 12's, Python 3.11.7's own, and the newest; None is uv.
INSTALLERS = ["22.0.2", "23.0.1", "23.2.1", "", None]
_PIN = re.compile(
    r"^([a-z0-9.-]+)(?:\[[a-z0-9,.-]+\])?==([^\s;]+)(?: ; ([^\\\n]+?))?((?: \\\n    --hash=\S+)+)",
    re.MULTILINE,
)

# A Python whose virtual environments have the pip of the folder $PIP.
PYTHON_WITH_PIP = """#!/bin/sh
case "$1 $2 $3" in
    '-I -c '*)
        [ $# -gt 4 ] && exec "$PYTHON" "$@"
        echo "$0"
        ;;
    '-I -m venv')
        "$PYTHON" -I -m venv --without-pip "$5" && cp -R "$PIP"/. "$5"/lib/python*/site-packages/
        ;;
    *) exec "$PYTHON" "$@" ;;
esac
"""


@dataclass(frozen=True)
class Index:
    """A package index in a folder, and the locks with the hashes of its files."""

    folder: Path
    url: str
    locks: dict[str, str]
    pins: dict[str, dict[str, str]]  # lock to package to version, as far as this platform has them

    def add(self, file: str, content: bytes) -> None:
        name = re.split(r"-\d", file)[0].replace("_", "-")
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)
        links = "".join(f'<a href="{each}">{each}</a>\n' for each in sorted(os.listdir(folder)))
        (folder / "index.html").write_text(links)


def wheel(name: str, version: str) -> tuple[str, bytes]:
    """File name and content of a wheel with the installed package's requirements alone."""
    real = distribution(name).metadata
    lines = [
        f"{field}: {each}"
        for field in ("Requires-Dist", "Provides-Extra")
        for each in real.get_all(field) or ()
    ]
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        "METADATA": "\n".join(
            ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *lines]
        ),
        "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = []
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for file, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
            record.append(
                f"{stem}.dist-info/{file},sha256={digest.decode().rstrip('=')},{len(text)}"
            )
            archive.writestr(f"{stem}.dist-info/{file}", text)
        archive.writestr(
            f"{stem}.dist-info/RECORD", "\n".join([*record, f"{stem}.dist-info/RECORD,,"])
        )
    return f"{stem}-py3-none-any.whl", content.getvalue()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path, *, newer: bool) -> Iterator[Index]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    index = Index(folder, f"http://127.0.0.1:{server.server_port}/", {}, {})
    hashes: dict[tuple[str, str], str] = {}

    def pinned_here(lock: str, found: re.Match[str]) -> str:
        name, version = found[1], found[2]
        if found[3] and not Marker(found[3]).evaluate():
            return found[0]
        if (name, version) not in hashes:
            file, content = wheel(name, version)
            index.add(file, content)
            if newer:
                index.add(*wheel(name, f"{version}.post99"))
            hashes[name, version] = hashlib.sha256(content).hexdigest()
        index.pins.setdefault(lock, {})[name] = version
        return found[0].replace(found[4], f" \\\n    --hash=sha256:{hashes[name, version]}")

    for lock in LOCKS:
        text = Path(PROJECT, lock).read_text(encoding="utf-8")
        index.locks[lock] = _PIN.sub(functools.partial(pinned_here, lock), text)
    yield index
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    """With a newer release of everything."""
    with served(tmp_path_factory.mktemp("index"), newer=True) as index:
        yield index


def pip(version: str, folder: Path) -> str:
    """A folder with that release of pip; the newest for the empty string."""
    if version.startswith("2") and version < "23.1" and sys.version_info >= (3, 12):
        pytest.skip("this pip does not run on this Python")
    wanted = f"pip=={version}" if version else "pip"
    line = [UV, "pip", "install", "--quiet", "--target", str(folder), wanted]
    env = {**os.environ, "UV_NATIVE_TLS": "true"}
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode:
        pytest.skip("no package index within reach")
    return str(folder)


def prepare(
    checkout: Checkout, index: Index, installer: str | None, folder: Path
) -> dict[str, str]:
    """Puts the installer on PATH; returns the environment that leads it to the index."""
    for lock, text in index.locks.items():
        checkout.write(lock, text)
    if installer is None:
        os.symlink(UV, os.path.join(checkout.bin, "uv"))
        os.symlink(os.path.realpath(sys.executable), os.path.join(checkout.bin, "python3"))
        return {"UV_DEFAULT_INDEX": index.url, "UV_NO_CACHE": "1", "UV_NO_CONFIG": "1"}
    checkout.tool("python3", PYTHON_WITH_PIP)
    variables = {"PIP_INDEX_URL": index.url, "PIP_NO_CACHE_DIR": "1", "PIP_CONFIG_FILE": os.devnull}
    return {**variables, "PIP": pip(installer, folder)}


def set_up(checkout: Checkout, lock: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    script = checkout.path("credentials-provider/setup_venv.sh")
    line = ["/bin/sh", script, checkout.path(LOCKS[lock]), checkout.path(lock)]
    return subprocess.run(
        line,
        env=checkout.environment(**env),
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )


def installed(venv: str) -> dict[str, str]:
    (site,) = Path(venv, "lib").glob("python*/site-packages")
    stems = [each.name.removesuffix(".dist-info") for each in site.glob("*.dist-info")]
    return {
        name.replace("_", "-"): version
        for name, _, version in (stem.partition("-") for stem in stems)
    }


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("installer", INSTALLERS)
def test_nothing_but_the_pins_is_installed(
    checkout: Checkout, index: Index, installer: str | None, lock: str, tmp_path: Path
) -> None:
    """Whatever newer releases there are, and neither pip nor setuptools stays."""
    env = prepare(checkout, index, installer, tmp_path)
    done = set_up(checkout, lock, env)
    assert done.returncode == 0, done.stderr
    assert installed(checkout.path(LOCKS[lock])) == index.pins[lock]


@pytest.mark.parametrize("installer", ["", None])
def test_nothing_newer_is_needed(checkout: Checkout, installer: str | None, tmp_path: Path) -> None:
    """An index that stands still since the locks were made will do."""
    (tmp_path / "index").mkdir()
    with served(tmp_path / "index", newer=False) as index:
        done = set_up(checkout, RUN, prepare(checkout, index, installer, tmp_path / "pip"))
    assert done.returncode == 0, done.stderr
    assert installed(checkout.path(LOCKS[RUN])) == index.pins[RUN]


@pytest.mark.parametrize("installer", ["22.0.2", "", None])
def test_nothing_is_built(checkout: Checkout, installer: str | None, tmp_path: Path) -> None:
    """Where a pin has no wheel for this machine, its source's own code does not run.

    Not even if the lock has the hash of the source, as that of uv does.
    """
    (tmp_path / "index").mkdir()
    ran = tmp_path / "ran"
    with served(tmp_path / "index", newer=False) as index:
        version = index.pins[RUN]["click"]
        shutil.rmtree(index.folder / "click")
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz") as archive:
            for name, text in (
                ("PKG-INFO", f"Metadata-Version: 2.1\nName: click\nVersion: {version}\n"),
                ("setup.py", f"open({str(ran)!r}, 'w').close()\n"),
            ):
                entry = tarfile.TarInfo(f"click-{version}/{name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        index.add(f"click-{version}.tar.gz", content.getvalue())
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        index.locks[RUN] = index.locks[RUN].replace(
            f"\nclick=={version} ", f"\nclick=={version} \\\n    --hash=sha256:{digest} "
        )
        env = prepare(checkout, index, installer, tmp_path / "pip")
        done = set_up(checkout, RUN, env)
    assert done.returncode == 2
    assert "click" in done.stderr
    assert not ran.exists()
    assert not checkout.complete
