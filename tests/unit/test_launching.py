"""What a command line for others to start takes along, and what it names as left behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from credentials_provider.identities.reading import read_entries
from credentials_provider.run.launching import launch_warnings, options_of, variables_not_passed
from credentials_provider.settings import Flags, load_settings
from unit.making import sample_fields

if TYPE_CHECKING:
    from unit.making import Project


def test_paths_and_hosts_go_along_as_options(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From wherever they came: flag, environment or `.env`; every path absolute."""
    project.identities("ci")
    bundle = project.root / "ca.pem"
    bundle.touch()
    (project.root / ".env").write_text("ENTRA_LOGIN_BASE_URL=https://login.microsoftonline.us\n")
    monkeypatch.chdir(project.root)
    settings = load_settings(
        Flags(), {"REQUESTS_CA_BUNDLE": "ca.pem", "CREDENTIALS_PROVIDER_HOME": "."}, ""
    )
    line = options_of(settings)
    assert dict(zip(line[::2], line[1::2], strict=True)) == {
        "--identities-file": str(project.root / ".oauth-tokens" / "entra-identities.json"),
        "--output-dir": str(project.root / ".oauth-tokens"),
        "--env-file": str(project.root / ".env"),
        "--login-base-url": "https://login.microsoftonline.us",
        "--ca-bundle": str(bundle),
    }


@pytest.mark.parametrize(
    ("fields", "process", "left"),
    [
        ({}, {"HTTPS_PROXY": "http://proxy:3128"}, ("HTTPS_PROXY",)),
        ({}, {"SSL_CERT_DIR": "/etc/certs"}, ("SSL_CERT_DIR",)),
        ({}, {"SSL_CERT_DIR": "/etc/certs", "SSL_CERT_FILE": __file__}, ()),
        ({"client_secret": None, "client_secret_env": "S"}, {"S": "x", "OTHER": "y"}, ("S",)),
        ({"client_secret": None, "client_secret_env": "S"}, {"S": "as in .env"}, ()),
        ({"client_secret": None, "client_secret_file": "$D/s"}, {"D": "/run"}, ("D",)),
        ({"client_secret": None, "client_secret_file": "$HOME/s"}, {"HOME": "/root"}, ()),
        (
            {"client_secret": None, "managed_identity": True},
            {"IDENTITY_HEADER": "x", "AZURE_CLIENT_SECRET": ""},
            ("IDENTITY_HEADER",),
        ),
        ({"tenant_id": None}, {"ENTRA_TENANT_ID": "contoso.com"}, ("ENTRA_TENANT_ID",)),
        ({}, {"ENTRA_TENANT_ID": "contoso.com", "ENTRA_CLIENT_SECRET": "x"}, ()),
    ],
)
def test_what_no_option_can_say_is_named(
    project: Project, fields: dict[str, object], process: dict[str, str], left: tuple[str, ...]
) -> None:
    """What these identities need and this process alone has; nothing else."""
    project.identities({n: v for n, v in {**sample_fields(), **fields}.items() if v is not None})
    (project.root / ".env").write_text("S='as in .env'\n")
    settings = load_settings(Flags(), process, str(project.root))
    assert variables_not_passed(settings, read_entries(settings).entries) == left


def test_an_identity_of_the_environment_is_left_behind(project: Project) -> None:
    """All three of its variables, its secret among them; and no file is named that is not there."""
    names = ("ENTRA_CLIENT_ID", "ENTRA_CLIENT_SECRET", "ENTRA_TENANT_ID")
    settings = load_settings(Flags(), dict.fromkeys(names, "value"), str(project.root))
    assert variables_not_passed(settings, read_entries(settings).entries) == names
    assert "--identities-file" not in options_of(settings)


def test_an_identities_file_that_is_yet_to_come_is_named(project: Project) -> None:
    """What says where it will be (a variable, the folder) is not there for the other process."""
    settings = load_settings(Flags(), {"CREDENTIALS_PROVIDER_HOME": str(project.root)}, "")
    assert settings.identities_file in options_of(settings)


@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
def test_a_program_in_the_cache_of_uv_is_warned_of(project: Project) -> None:
    """`uv cache prune` takes it away."""
    settings = load_settings(Flags(), {}, str(project.root))

    def warned(path: str) -> bool:
        return any("uv's cache" in each for each in launch_warnings([path], settings, []))

    assert warned("/srv/me/.cache/uv/archive-v0/abc/bin/credentials-provider")
    assert warned("/srv/.cache/uv/environments-v2/x/bin/credentials-provider")
    assert not warned("/srv/me/.local/share/uv/tools/credentials-provider/bin/c")
