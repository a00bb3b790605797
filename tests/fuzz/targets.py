"""What must hold of every input, however hostile: one function an input, from bytes.

A target raises only when the program breaks a promise: an exception that is none of its own, an
undocumented exit code, a secret or a control character in what it prints. hypothesis drives them
in tests/faults/test_hostile.py, atheris by `python -m fuzz`.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import tempfile
from typing import TYPE_CHECKING, Any

from credentials_provider import cli
from credentials_provider.credentials.resolver import Credential
from credentials_provider.entra.client_credentials import mint
from credentials_provider.errors import ConfigurationError
from credentials_provider.identities.identity import Identity
from credentials_provider.identities.reading import make_entry
from credentials_provider.minting import Failure, Minted
from credentials_provider.policy import LONGEST_DURATION, parse_duration, parse_lead, refresh_time
from credentials_provider.settings import Flags, load_settings
from credentials_provider.tokens.claims import decode_claims, epoch_claim
from credentials_provider.tokens.plan import make_plan
from credentials_provider.tokens.store import token_document
from credentials_provider.transport import connections, retrying
from credentials_provider.transport.connections import Answer
from credentials_provider.transport.retrying import Reply
from unit.making import read_record

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "pl4nted~S3cret/+=&%value"
TENANT = "6f1d3c52-8c0e-4a7b-9d15-2b7c6a40e9f3"
CLIENT = "6d1f0c2b-3e4a-4b5c-8d6e-7f8091a2b3c4"
FIELDS: dict[str, Any] = {
    "identity_name": "ci",
    "tenant_id": TENANT,
    "client_id": CLIENT,
    "client_secret": SECRET,
    "scope": "api://a1b2c3d4-e5f6-4789-8abc-def012345678/.default",
}
IDENTITY = Identity.of(FIELDS)
CREDENTIAL = Credential("client_secret", SECRET)
NOW = 1_800_000_000
_FOLDER = tempfile.mkdtemp(prefix="fuzz-")


def _write(name: str, content: bytes) -> str:
    path = os.path.join(_FOLDER, f"{os.getpid()}-{name}")
    with open(path, "wb") as file:
        file.write(content)
    return path


def _command(*args: str) -> tuple[int, str, str]:
    """The command line in this process: exit code, stdout, stderr."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli._run(list(args), _FOLDER)
    return code, out.getvalue(), err.getvalue()


def _fit_to_show(text: str) -> None:
    assert SECRET not in text
    assert "Traceback" not in text
    assert "unexpected" not in text, text
    for character in text:
        assert character.isprintable() or character == "\n", ascii(character)


def _checked(ran: tuple[int, str, str], codes: set[int]) -> None:
    code, out, err = ran
    assert code in codes, ran
    for text in (out, err):
        _fit_to_show(text)


def identities_file(data: bytes) -> None:
    """Any bytes as an identities file end with a known exit code, and one document under --json.

    Whatever looks at entries before they are validated says of them what can be said.
    """
    path = _write("identities.json", data)
    # A secret in an open .env is looked for in entries that nobody has validated yet.
    open_env = _write("open.env", b"ENTRA_CLIENT_SECRET=of-the-environment\n")
    os.chmod(open_env, 0o644)
    reach = ("-i", path, "--env-file", open_env)
    plan = ("generate", "--dry-run", "-o", _FOLDER, *reach)
    ran = [
        _command(*plan),
        _command(*plan, "--json"),
        _command("identities", "list", *reach),
        _command("inspect", "ci", "-o", _folder_with_token(), *reach),
        _command("status", "-o", _FOLDER, *reach),
    ]
    for number, (code, out, err) in enumerate(ran):
        # An entry with a mistake, or a token that is missing.
        assert code in ({0, 2} if number in {2, 3} else {0, 1, 2, 78})
        _fit_to_show(_without_names(data, out + err))
    document = json.loads(ran[1][1])
    assert (document["version"], document["exit_code"]) == (1, ran[1][0])


def _folder_with_token() -> str:
    """An output folder with a token of the identity `ci`."""
    folder = os.path.join(_FOLDER, f"{os.getpid()}-tokens")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    with open(os.path.join(folder, "ci.json"), "w", encoding="utf-8") as file:
        json.dump({"access_token": "e30.e30.e30"}, file)
    return folder


def _without_names(data: bytes, text: str) -> str:
    """A name is told: who calls an identity by its secret has told it first."""
    try:
        entries = json.loads(data)
    except (ValueError, RecursionError):
        return text
    named = isinstance(entries, list) and any(
        isinstance(each, dict) and SECRET in str(each.get("identity_name")) for each in entries
    )
    return text.replace(SECRET, "") if named else text


def dotenv(data: bytes) -> None:
    """Any bytes as a .env are settings or a configuration error."""
    flags = Flags(env_file=_write("env", data))
    with contextlib.suppress(ConfigurationError):
        try:
            found = load_settings(flags, {}, _FOLDER)
        except ConfigurationError as error:
            told = f"{error.message}\n{error.hint}"
            # A provider's name is told; who puts a secret there has told it first.
            _fit_to_show(told.replace(SECRET, "") if "AUTH_PROVIDER" in told else told)
            raise
        for warning in found.warnings:
            _fit_to_show(warning)
        assert found.login_base_url.startswith("https://")


def token_file(data: bytes) -> None:
    """Any bytes as a token file make a plan; what is called fresh has not expired."""
    record = read_record(_write("token.json", data))
    entry = make_entry(1, FIELDS, load_settings(Flags(), {}, _FOLDER))
    (item,) = make_plan([entry], {entry.name: record}, NOW)
    if item.reason is None or item.has_valid_token:
        assert item.record is not None
        assert item.record.expires_on > NOW
    _checked(_command_on_token(), {0})


def _command_on_token() -> tuple[int, str, str]:
    folder = os.path.join(_FOLDER, f"{os.getpid()}-out")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    os.replace(os.path.join(_FOLDER, f"{os.getpid()}-token.json"), os.path.join(folder, "ci.json"))
    path = _write("good.json", json.dumps([FIELDS]).encode())
    os.chmod(path, 0o600)
    return _command("generate", "--dry-run", "--refresh-ahead", "-i", path, "-o", folder)


class _Canned:
    """A transport whose every answer is this one."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def send(self, *_: object, **__: object) -> Reply:
        return Reply(self._answer, 1)


def token_response(data: bytes) -> None:
    """Any answer is a token fit for disk or a failure that tells nothing of it."""
    status = (200, 200, 200, 400, 401, 403, 302, 404)[data[0] % 8] if data else 200
    answer = Answer(status, {"content-type": "application/json"}, data[1:], float(NOW), 0.0)
    made = mint(IDENTITY, CREDENTIAL, "https://localhost", _Canned(answer))  # type: ignore[arg-type]
    if isinstance(made, Minted):
        assert status == 200
        assert made.access_token.isascii()
        assert made.access_token.isprintable()
        assert " " not in made.access_token
        assert 0 < made.expires_in < LONGEST_DURATION + 1
        refresh_at = refresh_time(
            made.issued_at, made.expires_in, identity_name="ci", refresh_in=made.refresh_in
        )
        assert made.issued_at <= refresh_at <= made.issued_at + made.expires_in
        entry = make_entry(1, FIELDS, load_settings(Flags(), {}, _FOLDER))
        json.dumps(token_document(entry, made, refresh_at), allow_nan=False)
    else:
        assert isinstance(made, Failure)
        _fit_to_show(f"{made.message} {made.remedy} {made.error} {made.trace_id}")
        _fit_to_show(str(made.correlation_id))


def jwt(data: bytes) -> None:
    """Any text is claims or none."""
    claims = decode_claims(data.decode("utf-8", "surrogateescape"))
    if claims is not None:
        for name in ("exp", "iat", "nbf"):
            value = epoch_claim(claims, name)
            assert value is None or value >= 0


def duration(data: bytes) -> None:
    """Any text is a bounded number of seconds or a ValueError of one short line."""
    text = data.decode("utf-8", "surrogateescape")
    for parse in (parse_duration, _lead):
        told, seconds = _told(parse, text)
        assert 0 <= seconds <= LONGEST_DURATION
        assert len(told) < 400
        assert "\n" not in told


def _lead(text: str) -> float:
    lead = parse_lead(text)
    return lead.seconds if lead else 0.0


def _told(parse: Callable[[str], float], text: str) -> tuple[str, float]:
    try:
        return "", parse(text)
    except ValueError as error:
        return str(error), 0.0


def retry_after(data: bytes) -> None:
    """Any header is a finite wait or none; a Date is a skew or none."""
    text = data.decode("latin-1")
    value, _, date = text.partition("\n")
    answer = Answer(429, {"retry-after": value, "date": date}, b"", float(NOW), None)
    seconds = retrying._retry_after(answer, float(NOW))
    assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
    moment = connections.http_date(value)
    assert moment is None or math.isfinite(moment)


def login_url(data: bytes) -> None:
    """Any text is refused as a login host, or leads to nobody but that host over https."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        base = load_settings(Flags(login_base_url=text), {}, _FOLDER).login_base_url
    except ConfigurationError as error:
        _fit_to_show(f"{error.message}\n{error.hint}")
        return
    if text:
        from urllib3.util import parse_url

        parts = parse_url(f"{base}/tenant/oauth2/v2.0/token")
        assert parts.scheme == "https"
        assert parts.auth is None
        assert (parts.host or "").strip("[]").lower() in text.lower()
        assert (parts.path, parts.query, parts.fragment) == (
            "/tenant/oauth2/v2.0/token",
            None,
            None,
        )


def arguments(data: bytes) -> None:
    """Any words after `generate --dry-run` end with a documented code and no traceback."""
    words = data.decode("utf-8", "replace").replace("\0", "").split("\n")
    path = _write("good.json", json.dumps([FIELDS]).encode())
    os.chmod(path, 0o600)
    _, out, err = ran = _command("generate", "--dry-run", "-i", path, "-o", _FOLDER, *words)
    assert ran[0] in {0, 2}, ran
    assert "Traceback" not in out + err
    assert "unexpected" not in err or "unexpected" in data.decode("utf-8", "replace"), ran
    assert SECRET not in out + err or SECRET.encode() in data


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        identities_file,
        dotenv,
        token_file,
        token_response,
        jwt,
        duration,
        retry_after,
        login_url,
        arguments,
    )
}
