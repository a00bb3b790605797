"""Flags over environment over `.env` over defaults, and what none of them may say."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from click import get_app_dir
from hypothesis import example, given
from hypothesis import strategies as st

from credentials_provider.environment import Environment
from credentials_provider.errors import ConfigurationError
from credentials_provider.permissions import UntrustedOwnerError
from credentials_provider.settings import (
    CLOUDS,
    Flags,
    Settings,
    load_settings,
    login_host_problem,
    login_url_problem,
)
from unit.making import SECRET

if TYPE_CHECKING:
    from pathlib import Path

# field of Settings and Flags: (its variable, its default)
SOURCES = {
    "tenant_id": ("ENTRA_TENANT_ID", None),
    "client_id": ("ENTRA_CLIENT_ID", None),
    "client_secret": ("ENTRA_CLIENT_SECRET", None),
    "login_base_url": ("ENTRA_LOGIN_BASE_URL", CLOUDS["public"]),
}


def load(
    folder: Path, process: dict[str, str] | None = None, dotenv: str | bytes = "", **flags: str
) -> Settings:
    data = dotenv if isinstance(dotenv, bytes) else dotenv.encode()
    (folder / ".env").write_bytes(data)
    return load_settings(Flags(**flags), process or {}, str(folder))


@pytest.mark.parametrize("field", SOURCES)
def test_a_flag_beats_the_environment_beats_dotenv_beats_the_default(
    tmp_path: Path, field: str
) -> None:
    """One source after the other falls silent; an empty value is none."""
    variable, default = SOURCES[field]
    dotenv = f"{variable}={CLOUDS['china']}\n"
    process = {variable: "https://process"}

    def value(settings: Settings) -> object:
        return getattr(settings, field)

    assert value(load(tmp_path, process, dotenv, **{field: "https://flag"})) == "https://flag"
    assert value(load(tmp_path, process, dotenv, **{field: ""})) == "https://process"
    assert value(load(tmp_path, process, dotenv)) == "https://process"
    assert value(load(tmp_path, {variable: ""}, dotenv)) == CLOUDS["china"]
    assert value(load(tmp_path, {}, dotenv)) == CLOUDS["china"]
    assert value(load(tmp_path, {}, f"{variable}=\n")) == default
    assert value(load(tmp_path, {}, f"{variable}\n")) == default
    assert value(load(tmp_path)) == default


def test_default_paths_lie_below_the_base_and_given_ones_stand_as_they_are(tmp_path: Path) -> None:
    """A path that the user types is relative to the working directory."""
    settings = load(tmp_path)
    folder = tmp_path / ".oauth-tokens"
    assert settings.identities_file == str(folder / "entra-identities.json")
    assert settings.output_dir == str(folder)
    assert not settings.identities_file_given
    settings = load(tmp_path, identities_file="mine.json", output_dir="out")
    assert (settings.identities_file, settings.output_dir) == ("mine.json", "out")
    assert settings.identities_file_given


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_names_microsofts_host_and_a_login_url_beats_it(tmp_path: Path, cloud: str) -> None:
    """A flag beats the environment here, too."""
    process = {"ENTRA_LOGIN_BASE_URL": "https://process"}
    assert load(tmp_path, process, cloud=cloud).login_base_url == CLOUDS[cloud]
    assert load(tmp_path, cloud=cloud, login_base_url="https://h").login_base_url == "https://h"


@pytest.mark.parametrize("value", ["entra", "ENTRA", " Entra "])
def test_entra_is_the_provider_in_any_case(tmp_path: Path, value: str) -> None:
    """Wherever it is said."""
    load(tmp_path, {"AUTH_PROVIDER": value})
    load(tmp_path, {}, f'AUTH_PROVIDER="{value}"')
    load(tmp_path, {"AUTH_PROVIDER": "keycloak"}, auth_provider=value)


@pytest.mark.parametrize("value", ["keycloak", "cognito", "entra-id", "\x1b[31mx" * 50])
def test_another_provider_is_refused(tmp_path: Path, value: str) -> None:
    """With what was said, made harmless, and what to do."""
    for process, flags in (({"AUTH_PROVIDER": value}, {}), ({}, {"auth_provider": value})):
        with pytest.raises(ConfigurationError, match="AUTH_PROVIDER is") as error:
            load(tmp_path, process, **flags)
        assert error.value.message.isprintable()
        assert len(error.value.message) < 300
        assert error.value.hint
        assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("ENTRA_CLIENT_SECRET=plain", "plain"),
        ("export ENTRA_CLIENT_SECRET=exported", "exported"),
        ("ENTRA_CLIENT_SECRET = spaced  ", "spaced"),
        ("ENTRA_CLIENT_SECRET=two words", "two words"),
        ("ENTRA_CLIENT_SECRET='single # quoted'", "single # quoted"),
        ('ENTRA_CLIENT_SECRET="double \\"quoted\\""', 'double "quoted"'),
        ("ENTRA_CLIENT_SECRET=a#b", "a#b"),
        ("ENTRA_CLIENT_SECRET=a # a remark", "a"),
        ("ENTRA_CLIENT_SECRET=a~b.c-d_e", "a~b.c-d_e"),
        ("ENTRA_CLIENT_SECRET=x=y=z", "x=y=z"),
        ("ENTRA_CLIENT_SECRET=first\nENTRA_CLIENT_SECRET=last", "last"),
        ("ENTRA_CLIENT_SECRET=windows\r\n", "windows"),
        ("\ufeffENTRA_CLIENT_SECRET=marked", "marked"),
        ("# ENTRA_CLIENT_SECRET=off", None),
        ("entra_client_secret=case", None),
    ],
)
def test_dotenv_is_read_as_python_dotenv_reads_it(
    tmp_path: Path, line: str, value: str | None
) -> None:
    """Spaces, quotes, `#`, `export`, a byte-order mark; other programs' settings pass by."""
    settings = load(
        tmp_path, {}, f"{line}\nOTHER_PROGRAM='s value'\nSECRET_KEY=no business of ours"
    )
    assert settings.client_secret == value
    assert settings.warnings == ()


def test_dotenv_is_never_executed(tmp_path: Path) -> None:
    """A command in it is text."""
    marker = tmp_path / "executed"
    settings = load(tmp_path, {}, f"ENTRA_CLIENT_SECRET=$(touch {marker})`touch {marker}`\n")
    assert settings.client_secret == f"$(touch {marker})`touch {marker}`"
    assert not marker.exists()


def test_a_line_of_dotenv_that_cannot_be_understood_is_told_by_its_number(tmp_path: Path) -> None:
    """Not by its content, which may hold a secret; the others count."""
    text = f"ENTRA_TENANT_ID=t\n= {SECRET}\nA='{SECRET}\nENTRA_CLIENT_ID=c\n"
    settings = load(tmp_path, {}, text)
    (warning,) = settings.warnings
    assert "line 2, 3" in warning
    assert SECRET not in warning
    assert (settings.tenant_id, settings.client_id) == ("t", "c")


def test_an_env_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    """The default one need not."""
    assert load_settings(Flags(), {}, str(tmp_path)).warnings == ()
    with pytest.raises(ConfigurationError, match="there is no file"):
        load_settings(Flags(env_file=str(tmp_path / "none")), {}, str(tmp_path))


def test_an_env_file_that_was_named_takes_the_defaults_place(tmp_path: Path) -> None:
    """Both are not merged."""
    other = tmp_path / "other.env"
    other.write_text("ENTRA_CLIENT_ID=other\n")
    settings = load(tmp_path, {}, "ENTRA_TENANT_ID=default\n", env_file=str(other))
    assert (settings.tenant_id, settings.client_id) == (None, "other")


def test_an_env_file_that_is_not_text_is_refused_without_its_content(tmp_path: Path) -> None:
    """A file in another encoding is one cause."""
    with pytest.raises(ConfigurationError, match="it is not UTF-8 text") as error:
        load(tmp_path, {}, f"ENTRA_CLIENT_SECRET={SECRET}".encode("utf-16"))
    assert SECRET not in str(error.value)


def test_a_folder_named_dotenv_is_no_env_file(tmp_path: Path) -> None:
    """A virtual environment may be called so; named by the user it is a mistake."""
    (tmp_path / ".env").mkdir()
    assert load_settings(Flags(), {}, str(tmp_path)).tenant_id is None
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_settings(Flags(env_file=str(tmp_path / ".env")), {}, str(tmp_path))


GOOD_URLS = [
    *("https://login.microsoftonline.com", "https://h", "https://127.0.0.1:8443"),
    *("https://[::1]", "https://[::1]:8443", "https://h:1", "https://h:65535", "HTTPS://H.example"),
]
BAD_URLS = [
    *("", "h", "//h", "http://h", "ftp://h", "https:h", "https:/h", "https://", "https:///h"),
    *("https://h/tenant", "https://h?q", "https://h#f", "https://h/?q", "https://h;x"),
    *("https://u@h", "https://u:p@h", "https://@h", "https://h:0", "https://h:65536"),
    *("https://h:x", "https://h:", "https://h::443", "https://h:1:2", "https://h:٤٤٣"),
    *("https://[::1", "https://[::1]8443", "https://[]", "https://[h]", "https://::1"),
    *("https://h]", "https://h\\@evil", "https://h evil", "https://h\tx", "https://h\nx"),
    *(
        "https://%68",
        "https://hé",
        "https://h%00",
        "https://h\0",
        "xhttps://h",
        "https://https://h",
    ),
    *("https://.", "https://[:]", "https://h..example", "https://.h"),
]


@pytest.mark.parametrize("url", GOOD_URLS)
@pytest.mark.parametrize("around", ["{}", "{}/", " {} \n"])
def test_a_login_host_is_accepted(tmp_path: Path, url: str, around: str) -> None:
    """White space, capitals and the slash at its end go."""
    assert load(tmp_path, login_base_url=around.format(url)).login_base_url == url.lower()


@pytest.mark.parametrize("url", BAD_URLS)
def test_what_is_no_login_host_is_refused(tmp_path: Path, url: str) -> None:
    """A secret goes there: https, a host, perhaps a port, nothing else."""
    assert login_url_problem(url)
    if url:
        with pytest.raises(ConfigurationError, match="the login host must"):
            load(tmp_path, {"ENTRA_LOGIN_BASE_URL": url})


@given(
    st.text(max_size=40)
    | st.text("https:/@[]?#.h1-\\% ", max_size=30).map("https://{}".format)
    | st.from_regex(r"https://[a-z0-9.:\[\]/@-]{0,30}", fullmatch=True)
)
@example("https://[::1")
def test_a_login_host_that_is_accepted_is_one_for_every_reader_of_urls(url: str) -> None:
    """Https, a host, no path, no user, no query: in the eyes of Python's own parser."""
    if login_url_problem(url) is None:
        parts = urlsplit(url.strip().rstrip("/"))
        assert parts.scheme == "https"
        assert parts.hostname
        assert (parts.path, parts.query, parts.fragment) == ("", "", "")
        assert parts.username is None
        assert parts.password is None
        assert parts.port is None or 0 < parts.port < 65536
        assert urlsplit(f"{url.strip().rstrip('/')}/tenant").netloc == parts.netloc


def test_the_ca_bundle_is_taken_from_the_first_that_names_one(tmp_path: Path) -> None:
    """The flag, then the variables of requests, curl and OpenSSL; empty ones do not count."""
    names = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"]
    process = {}
    for name in names:
        (tmp_path / name).touch()
        process[name] = str(tmp_path / name)
    flag = tmp_path / "flag"
    flag.touch()
    assert load(tmp_path, process, ca_bundle=str(flag)).ca_bundle == str(flag)
    for name in names:
        assert load(tmp_path, process).ca_bundle == str(tmp_path / name)
        process[name] = ""
    assert load(tmp_path, process).ca_bundle is None


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_ca_bundle_that_is_not_there_is_told_with_who_named_it(tmp_path: Path, name: str) -> None:
    """To trust the system's instead would be a surprise."""
    with pytest.raises(ConfigurationError, match=f"{name}: there is no CA bundle"):
        load(tmp_path, {name: str(tmp_path / "none.pem")})
    with pytest.raises(ConfigurationError, match="--ca-bundle: there is no CA bundle"):
        load(tmp_path, {name: str(tmp_path)}, ca_bundle=str(tmp_path / "none.pem"))


def test_a_ca_bundle_that_may_not_be_read_is_not_called_missing(tmp_path: Path) -> None:
    """A service of another user looks for its permissions."""
    folder = tmp_path / "closed"
    folder.mkdir(0o000)
    if root := not os.geteuid():
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigurationError, match="--ca-bundle: you may not read"):
            load_settings(Flags(ca_bundle=str(folder / "ca.pem"), env_file="/dev/null"), {}, "")
    finally:
        if root:
            os.seteuid(0)


def test_a_value_that_hides_another_one_says_so_when_it_fails(tmp_path: Path) -> None:
    """Else one looks for the mistake in the `.env`, which is right."""
    name = "REQUESTS_CA_BUNDLE"
    (tmp_path / "ca.pem").touch()
    good = f"{name}={tmp_path}/ca.pem\n"
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, {name: "/nowhere.pem"}, good, env_file=str(tmp_path / ".env"))
    assert f"{name} comes before the one in {tmp_path}/.env" in error.value.message
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, {name: "/nowhere.pem"})
    assert "comes before" not in error.value.message


@pytest.mark.timeout(10)
@pytest.mark.parametrize("name", ["--ca-bundle", "SSL_CERT_FILE"])
def test_a_ca_bundle_that_is_a_pipe_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """OpenSSL would wait for who writes to it, beyond every deadline."""
    pipe = str(tmp_path / "pipe")
    os.mkfifo(pipe)
    process, flags = ({}, {"ca_bundle": pipe}) if name[0] == "-" else ({name: pipe}, {})
    with pytest.raises(ConfigurationError, match=f"^{name}: .*/pipe is not a regular file"):
        load(tmp_path, process, **flags)


def test_a_home_folder_in_the_ca_bundles_path_is_expanded(tmp_path: Path) -> None:
    """In a `.env` no shell does it."""
    (tmp_path / "named").write_text("SSL_CERT_FILE=~\n")
    settings = load(tmp_path, env_file=str(tmp_path / "named"))
    assert settings.ca_bundle == os.path.expanduser("~")


def test_nothing_that_holds_the_secret_shows_it(tmp_path: Path) -> None:
    """Neither flags, environment nor settings."""
    settings = load(tmp_path, {"ENTRA_CLIENT_SECRET": SECRET}, client_secret=SECRET)
    for value in (
        settings,
        settings.environment,
        Flags(client_secret=SECRET),
        Environment({"A": SECRET}, {"B": SECRET}),
    ):
        assert SECRET not in f"{value} {value!r}"
    assert settings.client_secret == SECRET


def test_an_installed_program_reads_nothing_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that somebody opens decides neither what is read nor where a secret goes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CREDENTIALS_PROVIDER_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / ".env").write_text("ENTRA_TENANT_ID=planted\nENTRA_LOGIN_BASE_URL=https://evil\n")
    settings = load_settings(Flags(), {}, "")
    own = os.path.join(get_app_dir("credentials-provider"), ".oauth-tokens")
    assert settings.output_dir == own
    assert settings.identities_file == os.path.join(own, "entra-identities.json")
    assert (settings.tenant_id, settings.login_base_url) == (None, CLOUDS["public"])


def test_the_own_folder_is_that_of_the_variable(tmp_path: Path) -> None:
    """With a `.env` of its own."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".env").write_text("ENTRA_TENANT_ID=mine\n")
    settings = load_settings(Flags(), {"CREDENTIALS_PROVIDER_HOME": str(home)}, "")
    assert settings.output_dir == str(home / ".oauth-tokens")
    assert settings.tenant_id == "mine"


def test_a_user_without_a_home_names_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """The working directory takes no home's place; what is named needs none."""
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    with pytest.raises(ConfigurationError, match="no home folder") as error:
        load_settings(Flags(), {}, "")
    assert "CREDENTIALS_PROVIDER_HOME" in str(error.value.hint)
    given = Flags(identities_file="i", output_dir="o")
    assert load_settings(given, {}, "").output_dir == "o"


@pytest.mark.parametrize(
    ("left", "options"),
    [
        ([".env"], "--env-file .env"),
        ([".oauth-tokens"], "-i .oauth-tokens/entra-identities.json -o .oauth-tokens"),
        (
            [".env", ".oauth-tokens"],
            "--env-file .env -i .oauth-tokens/entra-identities.json -o .oauth-tokens",
        ),
    ],
)
def test_where_a_default_of_version_1_lies_is_said_with_the_command_that_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: list[str], options: str
) -> None:
    """Until the own folder has identities; a checkout and who names the files hear nothing."""
    monkeypatch.chdir(tmp_path)
    home = tmp_path / "home"
    process = {"CREDENTIALS_PROVIDER_HOME": str(home)}
    assert load_settings(Flags(), process, "").warnings == ()
    (tmp_path / ".oauth-tokens").mkdir()
    if ".oauth-tokens" in left:
        (tmp_path / ".oauth-tokens" / "entra-identities.json").touch()
    if ".env" in left:
        (tmp_path / ".env").touch()
    settings = load_settings(Flags(), process, "")
    assert settings.warnings == (settings.moved,)
    assert f"credentials-provider generate {options}" in str(settings.moved)
    assert str(home) in str(settings.moved)
    assert load_settings(Flags(), {}, str(tmp_path)).moved is None
    given = Flags(identities_file="i", output_dir="o", env_file=os.devnull)
    assert load_settings(given, process, "").moved is None
    (home / ".oauth-tokens").mkdir(parents=True)
    (home / ".oauth-tokens" / "entra-identities.json").touch()
    assert load_settings(Flags(), process, "").moved is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ENTRA_LOGIN_BASE_URL", "https://evil"),
        ("ENTRA_LOGIN_HOSTS", "evil"),
        ("REQUESTS_CA_BUNDLE", "ca.pem"),
        ("CURL_CA_BUNDLE", "ca.pem"),
        ("SSL_CERT_FILE", "ca.pem"),
    ],
)
def test_where_secrets_go_comes_from_no_file_that_nobody_named(
    tmp_path: Path, variable: str, value: str
) -> None:
    """An error names the file and how to name it; the environment is over it, as always."""
    (tmp_path / "ca.pem").touch()
    value = str(tmp_path / value) if value == "ca.pem" else value
    line = f"{variable}={value}\n"
    with pytest.raises(ConfigurationError, match=f"{variable} is set in .*nobody named") as error:
        load(tmp_path, {}, line)
    assert f"--env-file {tmp_path / '.env'}" in str(error.value.hint)
    named = load(tmp_path, {}, line, env_file=str(tmp_path / ".env"))
    assert value in f"{named.login_base_url} {named.login_hosts} {named.ca_bundle}"
    assert load(tmp_path, {variable: value}, line) is not None


def test_a_host_of_microsofts_may_stand_in_any_dotenv(tmp_path: Path) -> None:
    """A national cloud is nobody else's."""
    for cloud in CLOUDS.values():
        assert load(tmp_path, {}, f"ENTRA_LOGIN_BASE_URL={cloud}/").login_base_url == cloud


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        (CLOUDS["usgov"], True),
        ("HTTPS://LOGIN.Microsoftonline.us:443/", True),
        ("https://mine", True),
        ("https://listed", True),
        ("https://listed:8443", False),
        ("https://other:8443", True),
        ("https://other", False),
        ("https://login.microsoftonline.com.evil", False),
        ("https://evil", False),
    ],
)
def test_an_identity_may_name_microsofts_hosts_the_configured_and_the_listed_ones(
    tmp_path: Path, url: str, *, allowed: bool
) -> None:
    """No identities file widens the list; the message says how its owner can."""
    process = {"ENTRA_LOGIN_HOSTS": "listed, OTHER:8443"}
    settings = load(tmp_path, process, login_base_url="https://mine")
    problem = login_host_problem(url, settings)
    assert (problem is None) is allowed
    if problem:
        assert f"ENTRA_LOGIN_HOSTS={url.removeprefix('https://')}" in problem


@pytest.mark.parametrize("listed", ["http://h", "h/path", "u@h", "a b c/d"])
def test_what_is_no_host_cannot_be_listed(tmp_path: Path, listed: str) -> None:
    """Else it would allow something that nobody meant, or nothing."""
    with pytest.raises(ConfigurationError, match="ENTRA_LOGIN_HOSTS: "):
        load(tmp_path, {"ENTRA_LOGIN_HOSTS": listed})


@pytest.mark.parametrize("listed", ["https://me:{}@host", "me:{}@host", "https://{}@host/a@b"])
def test_a_password_in_a_listed_host_is_not_shown(tmp_path: Path, listed: str) -> None:
    """The error names the host alone."""
    with pytest.raises(ConfigurationError, match="ENTRA_LOGIN_HOSTS: ") as error:
        load(tmp_path, {"ENTRA_LOGIN_HOSTS": listed.format(SECRET)})
    assert SECRET not in f"{error.value} {error.value.hint}"


@pytest.mark.timeout(10)
def test_a_dotenv_that_is_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    """Nobody writes to it, and nobody waits for that."""
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(ConfigurationError, match="is not a regular file"):
        load_settings(Flags(), {}, str(tmp_path))


def test_the_null_device_is_an_empty_dotenv(tmp_path: Path) -> None:
    """So that one can be left out."""
    settings = load(tmp_path, {}, "ENTRA_TENANT_ID=t\n", env_file=os.devnull)
    assert settings.tenant_id is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_dotenv_or_authority_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """By its name and its owner's."""
    for name, flags in ((".env", {}), ("ca.pem", {"ca_bundle": str(tmp_path / "ca.pem")})):
        (tmp_path / name).touch()
        os.chown(tmp_path / name, 12345, 12345)
        with pytest.raises(UntrustedOwnerError, match=f"{name} belongs to the user 12345"):
            load_settings(Flags(**flags), {}, str(tmp_path))
        (tmp_path / name).unlink()


def test_no_value_that_holds_a_secret_is_a_tuple(tmp_path: Path) -> None:
    """`json.dumps` prints what is in a tuple."""
    settings = load(tmp_path, client_secret=SECRET)
    for value in (settings, Flags(client_secret=SECRET)):
        with pytest.raises(TypeError):
            json.dumps(value)
        assert SECRET not in repr(value)


@pytest.mark.parametrize(
    ("line", "value", "note"),
    [
        ("ENTRA_CLIENT_SECRET=abc${NOPE}def", "abcdef", "${NOPE}"),
        ("ENTRA_CLIENT_SECRET='abc${NOPE}def'", "abcdef", "${NOPE}"),
        ("ENTRA_CLIENT_SECRET=abc${NOPE:-x}def", "abcxdef", "${NOPE}"),
        ("ENTRA_CLIENT_SECRET=abc #def", "abc", None),
        ('ENTRA_CLIENT_SECRET="ab\\nc"', "ab\nc", "single quotes"),
        ("ENTRA_CLIENT_SECRET=abc#def", "abc#def", None),
        ("ENTRA_CLIENT_SECRET=$NOPE", "$NOPE", None),
        ("ENTRA_CLIENT_SECRET=ab\\nc", "ab\\nc", None),
        ("ENTRA_CLIENT_SECRET='abc #def'", "abc #def", None),
        ('export ENTRA_CLIENT_SECRET="abc" # mine', "abc", None),
        ("ENTRA_CLIENT_SECRET=  abc  ", "abc", None),
        ("SOMEBODY_ELSES=abc${NOPE}def", None, None),
        ("ENTRA_CLIENT_SECRET=abc\nENTRA_CLIENT_SECRET", None, None),
        ("ENTRA_CLIENT_SECRET", None, None),
    ],
)
def test_a_value_that_is_read_otherwise_than_written_is_told(
    tmp_path: Path, line: str, value: str | None, note: str | None
) -> None:
    """With variable and line, where it is one of ours; its value is not shown."""
    settings = load(tmp_path, {}, f"# first\n\n{line}\nOTHER=1\n")
    assert settings.client_secret == value
    assert len(settings.warnings) == (note is not None)
    for warning in settings.warnings:
        assert "line 3: ENTRA_CLIENT_SECRET" in warning
        assert note in warning  # type: ignore[operator]  # there is one
        assert "def" not in warning


def test_the_process_own_value_needs_no_note(tmp_path: Path) -> None:
    """It wins, as it is."""
    (tmp_path / ".env").write_text("ENTRA_CLIENT_SECRET=abc${NOPE}\n")
    settings = load_settings(Flags(), {"ENTRA_CLIENT_SECRET": "x${Y}"}, str(tmp_path))
    assert (settings.client_secret, settings.warnings) == ("x${Y}", ())


@pytest.mark.parametrize(
    "field", ["identities_file", "output_dir", "env_file", "ca_bundle", "audit_file"]
)
@pytest.mark.parametrize("path", ["a\x1b[31mb", "a\nb", "a\x9b31mb", "a\x7f", "a\0b"])
def test_a_path_that_would_move_a_terminal_is_refused(
    tmp_path: Path, field: str, path: str
) -> None:
    """It would stand in messages, units and crontabs; letters of any script are welcome."""
    with pytest.raises(ConfigurationError, match="control character") as error:
        load_settings(Flags(**{field: path}), {}, str(tmp_path))
    assert str(error.value).isprintable()
    with pytest.raises(ConfigurationError, match="control character"):
        load_settings(Flags(), {"CREDENTIALS_PROVIDER_HOME": path}, "")
    for name in ("CREDENTIALS_PROVIDER_AUDIT_FILE", "SSL_CERT_FILE"):
        with pytest.raises(ConfigurationError, match="control character"):
            load_settings(Flags(), {name: path}, str(tmp_path))
    assert load_settings(Flags(output_dir="Ünï ço/d"), {}, str(tmp_path)).output_dir == "Ünï ço/d"
