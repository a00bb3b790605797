"""What the documents show and list is what the program has."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from credentials_provider.cli.emulator import FAULT
from credentials_provider.cli.logs import JsonLog
from credentials_provider.emulator import FAULT_KINDS
from credentials_provider.minting import Failure
from credentials_provider.model import Outcome
from credentials_provider.permissions import TRUST_VARIABLE
from credentials_provider.settings import HOME_VARIABLE, Flags, load_settings
from support import CHECKOUT, PACKAGES
from unit.test_architecture import ROOMS
from update_picture import picture

if TYPE_CHECKING:
    import pytest


def text_of(document: str) -> str:
    with open(os.path.join(CHECKOUT, document), encoding="utf-8") as file:
        return file.read()


def test_the_log_line_has_the_programs_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """As a renewal that failed is told."""
    (line,) = re.findall(r'^\{"time".*$', text_of("docs/operations.md"), re.MULTILINE)
    failure = Failure("rejected", "m", "r", error="invalid_client", aadsts=1, trace_id="t")
    JsonLog().finish(
        Outcome("ci", "failed", "f", attempts=1, reason="refresh", failure=failure, duration=0.2)
    )
    assert list(json.loads(line)) == list(json.loads(capsys.readouterr().err))


def test_every_fault_is_listed_and_every_one_that_is_listed_works() -> None:
    """With the parameters that it is shown with."""
    (table,) = re.findall(
        r"^\| faults .*?\n\n", text_of("docs/emulator.md") + "\n", re.MULTILINE | re.DOTALL
    )
    listed = re.findall(r"`([a-z_]+)(:[^`]*)?`", table)
    assert {name for name, _ in listed} == set(FAULT_KINDS)
    for name, parameters in listed:
        FAULT.convert(f"{name}{parameters}".replace("…", "x"), None, None)


def test_the_picture_is_what_a_terminal_shows() -> None:
    """Word by word, times and ids aside. Else: python tests/update_picture.py."""
    committed = text_of("docs/demo.svg")
    assert "http" not in re.sub(r"<!--.*?-->|xmlns=\S+", "", committed, flags=re.DOTALL)
    assert _words(committed) == _words(picture())


def _words(svg: str) -> list[str]:
    """The lines of a terminal's picture, in an order that no random life changes."""
    rows: dict[float, str] = {}
    for y, text in re.findall(r'<text class="demo-r\d+" x="[\d.]+" y="([\d.]+)"[^>]*>([^<]*)', svg):
        rows[float(y)] = rows.get(float(y), "") + text.replace("&#160;", " ")
    lines = [re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "ID", row) for row in rows.values()]
    lines = [re.sub(r"(\d{4}-\d\d-\d\d )?\d\d:\d\d UTC", "TIME", line) for line in lines]
    lines = [re.sub(r"(\d+ h )?\d+ min", "LEFT", line) for line in lines]
    return sorted(" ".join(line.split()) for line in lines)


def test_the_emulators_python_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """And leads to a machine and a vault that answer."""
    blocks = re.findall(r"```python\n(.*?)```", text_of("docs/emulator.md"), re.DOTALL)
    job = ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN")
    for name in ("AZURE_POD_IDENTITY_AUTHORITY_HOST", "ENTRA_KEYVAULT_HOSTS", *job):
        monkeypatch.setenv(name, "")
    exec("".join(blocks), {})
    assert os.environ["ACTIONS_ID_TOKEN_REQUEST_URL"].startswith("https://localhost:")
    assert os.environ["ENTRA_KEYVAULT_HOSTS"].startswith("localhost:")
    assert os.environ["AZURE_POD_IDENTITY_AUTHORITY_HOST"].startswith("http://127.0.0.1:")


def test_the_architecture_names_every_room() -> None:
    """In the order in which they may import one another."""
    table = text_of("docs/architecture.md").partition("| room |")[2].partition("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    listed = [name for cell in cells for name in re.findall(r"`(\w+)/?`", cell)]
    assert listed == [*(room for room in ROOMS if room != "__main__"), "emulator"]


def test_the_sample_settings_work_as_they_are_and_filled_in(tmp_path: Path) -> None:
    """What stands behind a # is a sample of the right form; nothing in them needs a mend."""
    sample = text_of(".env.example")
    (tmp_path / "ca.pem").touch()
    filled = re.sub(r"^#([A-Z_]+=)", r"\1", sample, flags=re.MULTILINE)
    filled = re.sub(
        r"^(REQUESTS_CA_BUNDLE)=$", rf"\1={tmp_path}/ca.pem", filled, flags=re.MULTILINE
    )
    for text, tenant in ((sample, None), (filled, "12345678-1234-1234-1234-123456789012")):
        (tmp_path / ".env").write_text(text)
        settings = load_settings(Flags(env_file=str(tmp_path / ".env")), {}, str(tmp_path))
        assert (settings.tenant_id, settings.warnings) == (tenant, ())
        assert settings.login_base_url == "https://login.microsoftonline.com"


def test_the_sample_settings_have_every_variable_of_the_readme_and_the_program() -> None:
    """Those of this program: proxies are the system's."""
    named = set(re.findall(r"`((?:ENTRA|AUTH|REQUESTS)_[A-Z_]+)`", text_of("README.md")))
    assert len(named) == 10
    for path in Path(PACKAGES, "credentials_provider").rglob("*.py"):
        named |= set(re.findall(r'"((?:ENTRA|CREDENTIALS_PROVIDER)_[A-Z_]+)"', path.read_text()))
    named -= {HOME_VARIABLE, TRUST_VARIABLE}  # of the process alone
    assert named == set(re.findall(r"^#?([A-Z_]+)=", text_of(".env.example"), re.MULTILINE))
