"""The README's set-up in a Debian that has Python and nothing else, as a user without rights.

Slow, debootstrap makes the system: `tests/run.sh -n 0 -m slow tests/entry/test_bare_system.py`.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.emulator import Emulator
from debian import CERTIFICATES, check_out, copy_of, run
from support import apps, entry

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
USER = 23456
HOME = "/home/user"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


class McpServer(BaseHTTPRequestHandler):
    """Answers `initialize` for whoever has a token."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        allowed = self.headers.get("Authorization", "").startswith("Bearer ey")
        body = json.dumps({"jsonrpc": "2.0", "id": asked.get("id"), "result": {"seen": "yes"}})
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def system(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the checkout in a user's home."""
    root = copy_of(debian, tmp_path_factory.mktemp("bare") / "system")
    (root / HOME[1:]).mkdir()
    os.chown(root / HOME[1:], USER, USER)
    check_out(root / HOME[1:] / "checkout", USER)
    return root


def as_user(system: Path, command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    variables = {"HOME": HOME, "PIP_CERT": CERTIFICATES, "NO_PROXY": "localhost,127.0.0.1"}
    line = f"cd {HOME}/checkout; {command}"
    return run(system, line, user=USER, variables=variables, **options)


def test_the_readme_s_commands(system: Path) -> None:
    """The demo and the tests run, and what they leave is closed to others under any umask."""
    demo = as_user(system, "./generate_creds.sh --demo")
    assert demo.returncode == 0, demo.stderr
    some = "tests/entry/test_shims.py tests/unit/test_batch.py tests/e2e/test_minting.py"
    tests = as_user(system, f"./tests/run.sh -n 2 -q {some}")
    assert tests.returncode == 0, tests.stdout[-4000:] + tests.stderr
    checkout = system / HOME[1:] / "checkout"
    for folder, _, files in os.walk(checkout):
        for path in (folder, *(os.path.join(folder, file) for file in files)):
            if not os.path.islink(path):
                assert not os.stat(path).st_mode & (stat.S_IWGRP | stat.S_IWOTH), path
    packages = next((checkout / ".venv/lib").glob("python*/site-packages"))
    assert not {"pip", "setuptools"} & {each.name for each in packages.iterdir()}


def test_the_bridge_answers(system: Path) -> None:
    """What mcp-config writes works after the same set-up: nothing is missing for it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), McpServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/mcp"
    (app,) = apps(1)
    folder = system / HOME[1:] / "identities"
    folder.mkdir()
    (folder / "entra-identities.json").write_text(json.dumps([entry(app)]))
    with Emulator([app], ca_file=str(folder / "ca.pem")) as idp:
        subprocess.run(["chown", "-R", str(USER), str(folder)], check=True)
        os.chmod(folder / "entra-identities.json", 0o600)
        options = f"-i {HOME}/identities/entra-identities.json -o {HOME}/identities/tokens"
        options += f" --login-base-url {idp.base_url} --ca-bundle {HOME}/identities/ca.pem"
        done = as_user(
            system,
            f"./generate_creds.sh mcp-bridge --identity {app.name} {options} {url}",
            input=json.dumps(INITIALIZE) + "\n",
        )
    server.shutdown()
    server.server_close()
    assert '"seen":"yes"' in done.stdout.replace(" ", ""), done.stderr
