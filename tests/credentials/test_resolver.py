"""Every kind of credential mints a token, and fails by its source's name when that gives none."""

from __future__ import annotations

import json
import os
import ssl
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from credentials.making import (
    DAY,
    PASSWORD,
    certificate,
    ec_key,
    federated_token,
    key_pem,
    pem,
    pfx,
    rsa_key,
    trust,
)
from support import Listener, Project, apps, assert_no_secret, entry, renew

if TYPE_CHECKING:
    from credentials_provider.emulator import App, Emulator
    from credentials_provider.minting import Failure
    from support import Command

HERE = "the folder of the identities file"


def put(project: Project, name: str, content: str | bytes, mode: int = 0o600) -> str:
    """A file beside the identities file."""
    path = os.path.join(project.output, name)
    with open(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
    os.chmod(path, mode)
    return path


def only(app: App, **credential: object) -> dict[str, Any]:
    """An entry with this credential and no other."""
    return entry(app, client_secret=None, **credential)


def claims(project: Project, name: str) -> dict[str, Any]:
    """What the token on disk says."""
    found: dict[str, Any] = jwt.decode(
        project.token(name)["access_token"], options={"verify_signature": False}
    )
    return found


def failure(project: Project, **options: Any) -> Failure:
    """The one identity's failure; nothing was asked of the provider."""
    before = len(project.idp.token_requests)
    report = renew(project, **options)
    (result,) = report.results
    assert report.exit_code == 1
    assert result.failure is not None
    assert len(project.idp.token_requests) == before
    return result.failure


# Client secrets


def test_a_variable_of_the_process_gives_the_secret(
    project: Project, app: App, run: Command
) -> None:
    """And it wins over `.env`."""
    project.write([only(app, client_secret_env="CI_SECRET")])
    project.private(".env", "CI_SECRET=wrong\n")
    ran = run(env={"CI_SECRET": app.secrets[0]})
    assert ran.code == 0, ran.stderr
    assert claims(project, app.name)["azp"] == app.client_id
    assert_no_secret(ran.stdout + ran.stderr, [app])


def test_a_variable_of_dotenv_gives_the_secret(project: Project, idp: Emulator) -> None:
    """Where the process has none."""
    (app,) = apps(1)
    app = replace(app, secrets=("v5u8Q~plain.secret-value",))
    idp.add_app(app)
    project.write([only(app, client_secret_env="CI_SECRET")])
    project.private(".env", f"CI_SECRET={app.secrets[0]}\n")
    report = renew(project)
    assert report.exit_code == 0
    assert report.results[0].credential == "client_secret_env"


@pytest.mark.parametrize(
    "content",
    ["{}", "{}\n", "{}\r\n", "\ufeff{}\n", "  {}  \nsecond line\n"],
    ids=["bare", "newline", "CRLF", "BOM", "second line"],
)
def test_the_first_line_of_a_file_is_the_secret(project: Project, app: App, content: str) -> None:
    """Whatever an editor or `echo` put around it."""
    put(project, "secret", content.format(app.secrets[0]))
    project.write([only(app, client_secret_file="secret")])
    assert renew(project).exit_code == 0


def test_a_relative_path_belongs_to_the_identities_file(
    project: Project, app: App, run: Command, tmp_path: Any
) -> None:
    """Wherever the program was started."""
    put(project, "secret", app.secrets[0])
    project.write([only(app, client_secret_file="secret")])
    ran = run("-i", project.identities_file, "-o", project.output, cwd=str(tmp_path))
    assert ran.code == 0, ran.stderr


@pytest.mark.parametrize(
    "place", ["$CREDENTIALS_DIRECTORY/secret", "${CREDENTIALS_DIRECTORY}/secret", "~/secret"]
)
def test_home_and_variables_in_a_path_expand(
    project: Project, app: App, run: Command, place: str
) -> None:
    """As systemd and Kubernetes need it."""
    project.private("secret", app.secrets[0])
    project.write([only(app, client_secret_file=place)])
    ran = run(env={"CREDENTIALS_DIRECTORY": project.folder})
    assert ran.code == 0, ran.stderr


def test_a_secret_id_in_a_file_is_told(project: Project, app: App) -> None:
    """It is what people copy by mistake."""
    put(project, "secret", "11111111-2222-4333-8444-555555555555")
    project.write([only(app, client_secret_file="secret")])
    listener = Listener()
    assert renew(project, listener).exit_code == 1
    assert any("Secret ID" in warning for warning in listener.warnings)


# Sources that give nothing


class Wrong(NamedTuple):
    credential: dict[str, object]
    says: str
    content: str | bytes | None = None  # of the file "file"


WRONG = {
    "variable absent": Wrong({"client_secret_env": "NO_SUCH"}, "NO_SUCH"),
    "variable empty": Wrong({"client_secret_env": "EMPTY"}, "EMPTY"),
    "variable with a sample": Wrong({"client_secret_env": "SAMPLE"}, "SAMPLE"),
    "file absent": Wrong({"client_secret_file": "file"}, "No such file"),
    "file empty": Wrong({"client_secret_file": "file"}, "is empty", ""),
    "first line empty": Wrong({"client_secret_file": "file"}, "is empty", "\nsecret\n"),
    "file of bytes": Wrong({"client_secret_file": "file"}, "UTF-8", b"\xff\xfe\x00s"),
    "file too large": Wrong({"client_secret_file": "file"}, "too large", b"x" * 70_000),
    "a folder": Wrong({"client_secret_file": "."}, "director"),
    "a device": Wrong({"client_secret_file": "/dev/null"}, "not a regular file"),
    "path variable absent": Wrong({"client_secret_file": "$NO_SUCH/x"}, "NO_SUCH is not set"),
    "certificate absent": Wrong({"certificate_file": "file"}, "No such file"),
    "certificate empty": Wrong({"certificate_file": "file"}, "neither PEM nor a PFX", ""),
    "certificate of bytes": Wrong({"certificate_file": "file"}, "neither PEM nor", b"\x30\x80xx"),
    "certificate alone": Wrong({"certificate_file": "file"}, "no private key", pem(certificate())),
    "key alone": Wrong({"certificate_file": "file"}, "no certificate", key_pem()),
    "key of another": Wrong(
        {"certificate_file": "file"}, "do not match", key_pem(rsa_key(1)) + pem(certificate())
    ),
    "key damaged": Wrong(
        {"certificate_file": "file"},
        "cannot be read",
        "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n" + pem(certificate()),
    ),
    "elliptic key": Wrong(
        {"certificate_file": "file"}, "RSA", key_pem(ec_key()) + pem(certificate(ec_key()))
    ),
    "certificate expired": Wrong(
        {"certificate_file": "file"},
        "expired on",
        key_pem() + pem(certificate(begin=-2 * DAY, end=-DAY)),
    ),
    "certificate of tomorrow": Wrong(
        {"certificate_file": "file"},
        "not valid before",
        key_pem() + pem(certificate(begin=DAY)),
    ),
    "no password": Wrong(
        {"certificate_file": "file"},
        "no password",
        key_pem(password=PASSWORD) + pem(certificate()),
    ),
    "wrong password": Wrong(
        {"certificate_file": "file", "certificate_password_env": "SAMPLE"},
        "wrong password",
        key_pem(password=PASSWORD) + pem(certificate()),
    ),
    "password absent": Wrong(
        {"certificate_file": "file", "certificate_password_env": "NO_SUCH"},
        "NO_SUCH",
        key_pem(password=PASSWORD) + pem(certificate()),
    ),
    "password file absent": Wrong(
        {"certificate_file": "file", "certificate_password_file": "none"},
        "none",
        key_pem(password=PASSWORD) + pem(certificate()),
    ),
    "wrong password of a PFX": Wrong(
        {"certificate_file": "file", "certificate_password_env": "SAMPLE"},
        "PFX",
        pfx(certificate(), PASSWORD),
    ),
    "federated absent": Wrong({"federated_token_file": "file"}, "No such file"),
    "federated empty": Wrong({"federated_token_file": "file"}, "is empty", ""),
    "federated garbage": Wrong({"federated_token_file": "file"}, "JSON Web Token", "a.b.c"),
    "federated expired": Wrong(
        {"federated_token_file": "file"}, "expired on", federated_token(exp=1_700_000_000)
    ),
    "federated variable absent": Wrong(
        {"federated_token_file": "$AZURE_FEDERATED_TOKEN_FILE"}, "AZURE_FEDERATED_TOKEN_FILE"
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_source_that_gives_nothing_fails_its_identity_alone(
    project: Project, idp: Emulator, wrong: Wrong
) -> None:
    """By `secret_unavailable`, with field and source named and its content never; nothing sent."""
    app, other = apps(2)
    idp.add_app(app)
    idp.add_app(other)
    if wrong.content is not None:
        put(project, "file", wrong.content)
    project.private(".env", "SAMPLE=your-client-secret\nEMPTY=\n")
    project.write([only(app, **wrong.credential), entry(other)])

    report = renew(project)
    bad, good = report.results
    assert (bad.kind, good.kind) == ("failed", "renewed")
    assert bad.failure is not None
    assert bad.failure.kind == "secret_unavailable"
    assert wrong.says in bad.failure.message
    assert bad.failure.remedy
    assert any(field in bad.failure.message for field in (*wrong.credential, "PFX"))
    assert [request.client_id for request in idp.token_requests] == [other.client_id]
    told = json.dumps(asdict(bad.failure))
    if isinstance(wrong.content, str) and len(wrong.content) > 20:
        assert wrong.content[:40] not in told
        assert "BEGIN" not in told
    assert_no_secret(told, [app])


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_told(project: Project, app: App) -> None:
    """By the system's own word."""
    put(project, "file", app.secrets[0], 0o000)
    project.write([only(app, client_secret_file="file")])
    assert "Permission denied" in failure(project).message


def test_a_pipe_does_not_hold_the_run_up(project: Project, app: App) -> None:
    """Nobody writes into it."""
    os.mkfifo(os.path.join(project.output, "pipe"))
    project.write([only(app, client_secret_file="pipe")])
    assert "not a regular file" in failure(project).message


def test_a_token_that_serves_is_kept_when_its_secret_is_gone(project: Project, app: App) -> None:
    """A missing source is no reason to lose it."""
    path = put(project, "secret", app.secrets[0])
    project.write([only(app, client_secret_file="secret")])
    renew(project)
    project.age(app.name, left=600)
    os.unlink(path)
    before = project.files()
    report = renew(project, refresh_ahead=True)
    assert (report.exit_code, report.results[0].kind) == (78, "kept")
    assert project.files() == before


def test_only_what_is_due_is_resolved(project: Project, app: App) -> None:
    """A source that is missing is nobody's business while the token is fresh."""
    path = put(project, "secret", app.secrets[0])
    project.write([only(app, client_secret_file="secret")])
    renew(project)
    os.unlink(path)
    assert renew(project, refresh_ahead=True).exit_code == 0


def test_another_kind_of_credential_does_not_renew(project: Project, app: App) -> None:
    """The definition of an identity is the same whatever proves it."""
    project.write([entry(app)])
    renew(project)
    for credential in (
        {"client_secret_env": "NO_SUCH"},
        {"client_secret_file": "none"},
        {"client_secret_keyvault": "https://v.vault.azure.net/secrets/s"},
        {"certificate_file": "none", "certificate_password_env": "NO_SUCH"},
        {"federated_token_file": "none"},
        {"managed_identity": True},
        {"client_secret_env": "NO_SUCH", "client_secret_previous_file": "none"},
        {"client_secret_env": "NO_SUCH", "client_secret_expires_on": "2031-01-31"},
    ):
        project.write([only(app, **credential)])
        report = renew(project, refresh_ahead=True)
        assert [each.kind for each in report.results] == ["fresh"], credential


# Certificates

# One whose key is of a kind that nobody knows: the last byte of rsaEncryption is another.
RSA = bytes.fromhex("06092a864886f70d010101")
ODD = ssl.DER_cert_to_PEM_cert(
    certificate(rsa_key(1)).public_bytes(Encoding.DER).replace(RSA, RSA[:-1] + b"\x63")
)
CERTIFICATES = {
    "PEM": (key_pem() + pem(certificate()), None),
    "PEM, certificate first": (pem(certificate()) + key_pem(), None),
    "PEM with a chain": (pem(certificate(rsa_key(1))) + pem(certificate()) + key_pem(), None),
    "PEM with a chain of another kind": (ODD + pem(certificate()) + key_pem(), None),
    "encrypted PEM": (pem(certificate()) + key_pem(password=PASSWORD), PASSWORD),
    "PEM and a needless password": (key_pem() + pem(certificate()), PASSWORD),
    "PFX": (pfx(certificate()), None),
    "encrypted PFX": (pfx(certificate(), PASSWORD), PASSWORD),
}


@pytest.mark.parametrize(("content", "password"), CERTIFICATES.values(), ids=CERTIFICATES)
def test_a_certificate_mints_a_token(
    project: Project, idp: Emulator, content: str | bytes, password: str | None
) -> None:
    """By an assertion that the provider verifies with the registered certificate."""
    (app,) = apps(1)
    registered = (pem(certificate(rsa_key(2))), *_certificates_of(content, password))
    idp.add_app(replace(app, secrets=(), certificates=registered))
    put(project, "cert", content)
    credential = {"certificate_file": "cert"}
    if password:
        put(project, "password", password + "\n")
        credential["certificate_password_file"] = "password"
    project.write([only(app, **credential)])
    report = renew(project)
    assert report.exit_code == 0, report.results[0].failure
    assert claims(project, app.name)["azpacr"] == "2"


def _certificates_of(content: str | bytes, password: str | None) -> tuple[str, ...]:
    from cryptography.hazmat.primitives.serialization import pkcs12

    if isinstance(content, bytes):
        found = pkcs12.load_key_and_certificates(content, password.encode() if password else None)[
            1
        ]
        assert found
        return (pem(found),)
    parts = content.split("-----BEGIN CERTIFICATE-----")[1:]
    ends = (part.partition("-----END CERTIFICATE-----")[0] for part in parts)
    return tuple(f"-----BEGIN CERTIFICATE-----{end}-----END CERTIFICATE-----\n" for end in ends)


def test_a_certificate_that_is_not_registered_is_refused(project: Project, idp: Emulator) -> None:
    """And the cure speaks of certificates."""
    (app,) = apps(1)
    idp.add_app(replace(app, certificates=(pem(certificate(rsa_key(1))),)))
    put(project, "cert", key_pem() + pem(certificate()))
    project.write([only(app, certificate_file="cert")])
    refused = renew(project).results[0].failure
    assert refused is not None
    assert (refused.kind, refused.aadsts) == ("rejected", 700027)
    assert "certificate" in refused.remedy


@pytest.mark.parametrize(("days", "warns"), [(29, True), (31, False)])
def test_a_certificate_warns_thirty_days_ahead(
    project: Project, idp: Emulator, days: int, warns: bool
) -> None:
    """With its file and its last day."""
    (app,) = apps(1)
    found = certificate(end=timedelta(days=days))
    idp.add_app(replace(app, certificates=(pem(found),)))
    path = put(project, "cert", key_pem() + pem(found))
    project.write([only(app, certificate_file="cert")])
    listener = Listener()
    assert renew(project, listener).exit_code == 0
    day = found.not_valid_after_utc.date().isoformat()
    told = [text for text in listener.warnings if path in text and day in text]
    assert bool(told) is warns


@pytest.mark.parametrize(("days", "warns"), [(-1, True), (29, True), (31, False)])
def test_the_end_of_a_secret_that_the_entry_tells_warns(
    project: Project, app: App, days: int, warns: bool
) -> None:
    """By the identity's name."""
    from datetime import datetime, timezone

    end = (datetime.now(timezone.utc) + timedelta(days=days)).date().isoformat()
    project.write([entry(app, client_secret_expires_on=end)])
    listener = Listener()
    assert renew(project, listener).exit_code == 0
    told = [text for text in listener.warnings if app.name in text and end in text]
    assert bool(told) is warns


def test_a_certificate_and_its_key_may_stand_in_two_files(project: Project, idp: Emulator) -> None:
    """As cert-manager writes them; a key in the certificate's own file does not count then."""
    (app,) = apps(1)
    found = certificate()
    idp.add_app(replace(app, secrets=(), certificates=(pem(found),)))
    put(project, "tls.crt", key_pem(rsa_key(5)) + pem(found))
    put(project, "tls.key", key_pem())
    project.write([only(app, certificate_file="tls.crt", certificate_key_file="tls.key")])
    report = renew(project)
    assert report.exit_code == 0, report.results[0].failure


@pytest.mark.parametrize("holds_key", [False, True])
def test_a_certificate_without_its_key_may_be_read_by_everybody(
    project: Project, idp: Emulator, *, holds_key: bool
) -> None:
    """cert-manager writes it so; a key in it is a secret all the same."""
    (app,) = apps(1)
    found = certificate()
    idp.add_app(replace(app, secrets=(), certificates=(pem(found),)))
    path = put(project, "tls.crt", (key_pem() if holds_key else "") + pem(found))
    os.chmod(path, 0o644)
    put(project, "tls.key", key_pem())
    project.write([only(app, certificate_file="tls.crt", certificate_key_file="tls.key")])
    listener = Listener()
    assert renew(project, listener).exit_code == 0
    assert any("can be read by every user" in each for each in listener.warnings) is holds_key


@pytest.mark.parametrize(
    ("crt", "key", "says"),
    [
        (pem(certificate()), "", "no private key in PEM"),
        (pem(certificate()), pem(certificate()), "holds no private key"),
        (pem(certificate()), key_pem(rsa_key(3)), "another key"),
        (pfx(certificate()), key_pem(), "not PEM"),
        (pem(certificate()), None, "cannot be read"),
    ],
)
def test_two_files_that_do_not_belong_together_are_told(
    project: Project, app: App, crt: str | bytes, key: str | None, says: str
) -> None:
    """Both are named; nobody is asked."""
    path = put(project, "tls.crt", crt)
    theirs = (
        os.path.join(project.output, "tls.key") if key is None else put(project, "tls.key", key)
    )
    project.write([only(app, certificate_file="tls.crt", certificate_key_file="tls.key")])
    told = failure(project)
    assert says in told.message
    assert path in told.message or theirs in told.message


def test_each_identity_needs_the_password_of_its_own(project: Project, idp: Emulator) -> None:
    """One that opened the key for another identity opens it for nobody else."""
    right, wrong = apps(2)
    found = certificate()
    for app in (right, wrong):
        idp.add_app(replace(app, secrets=(), certificates=(pem(found),)))
    put(project, "cert", key_pem(password=PASSWORD) + pem(found))
    put(project, "right", PASSWORD)
    put(project, "wrong", "another password")
    project.write(
        [
            only(right, certificate_file="cert", certificate_password_file="right"),
            only(wrong, certificate_file="cert", certificate_password_file="wrong"),
        ]
    )
    results = {each.identity_name: each for each in renew(project).results}
    assert results[right.name].failure is None
    refused = results[wrong.name].failure
    assert refused is not None
    assert "wrong password" in refused.message


# Federated tokens


def test_a_federated_token_mints_a_token(project: Project, idp: Emulator, run: Command) -> None:
    """From the file that the platform's own variable names."""
    (app,) = apps(1)
    idp.add_app(replace(app, secrets=(), federated=(trust(),)))
    path = project.private("federated", federated_token() + "\n")
    project.write([only(app, federated_token_file="$AZURE_FEDERATED_TOKEN_FILE")])
    ran = run(env={"AZURE_FEDERATED_TOKEN_FILE": path})
    assert ran.code == 0, ran.stderr
    assert claims(project, app.name)["azpacr"] == "2"


def test_a_federated_token_is_read_anew_each_time(project: Project, idp: Emulator) -> None:
    """The platform has put another one there since."""
    (app,) = apps(1)
    idp.add_app(replace(app, secrets=(), federated=(trust(),)))
    project.write([only(app, federated_token_file="federated")])
    put(project, "federated", federated_token(exp=1_700_000_000))
    assert renew(project).exit_code == 1
    put(project, "federated", federated_token())
    assert renew(project).exit_code == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"iss": "https://other.example.com"}, 700211),
        ({"sub": "system:serviceaccount:agents:other"}, 700213),
        ({"sub": "system:serviceaccount:Agents:CI"}, 7002138),
        ({"aud": "api://other"}, 700212),
        ({"nbf": 4_000_000_000, "exp": 4_000_003_600}, 700024),
        ({"key": rsa_key(1)}, 50012),
    ],
)
def test_a_federated_token_that_does_not_match_is_refused_by_its_cause(
    project: Project, idp: Emulator, change: dict[str, Any], code: int
) -> None:
    """Issuer, subject, audience, time, signature."""
    (app,) = apps(1)
    idp.add_app(replace(app, federated=(trust(),)))
    put(project, "federated", federated_token(**change))
    project.write([only(app, federated_token_file="federated")])
    refused = renew(project).results[0].failure
    assert refused is not None
    assert (refused.kind, refused.aadsts) == ("rejected", code)


def test_a_pods_identity_comes_before_its_nodes(project: Project, idp: Emulator) -> None:
    """Where a cluster gives pods tokens, `managed_identity` is that: the node has another."""
    (app,) = apps(1)
    idp.add_app(replace(app, secrets=(), federated=(trust(),)))
    path = put(project, "token", federated_token())
    lines = [
        f"AZURE_FEDERATED_TOKEN_FILE={path}",
        f"AZURE_CLIENT_ID={app.client_id}",
        f"AZURE_TENANT_ID={app.tenant_id}",
    ]
    project.private(".env", "\n".join(lines))
    project.write([only(app, managed_identity=True)])
    report = renew(project)
    assert report.exit_code == 0, report.results[0].failure
    assert report.results[0].credential == "managed_identity"


# Files that others can read


@pytest.fixture
def in_files(project: Project, idp: Emulator) -> dict[str, str]:
    """Two identities a kind of credential that stands in files; the files' paths by field."""
    own = certificate()
    given = {
        "client_secret_file": apps(1)[0].secrets[0],
        "certificate_file": key_pem(password=PASSWORD) + pem(own),
        "certificate_password_file": PASSWORD,
        "federated_token_file": federated_token(),
    }
    paths = {field: put(project, field, content) for field, content in given.items()}
    secret, cert, federated = apps(3)
    idp.add_app(secret)
    idp.add_app(replace(cert, secrets=(), certificates=(pem(own),)))
    idp.add_app(replace(federated, secrets=(), federated=(trust(),)))
    fields = {
        secret: ("client_secret_file",),
        cert: ("certificate_file", "certificate_password_file"),
        federated: ("federated_token_file",),
    }
    entries = [
        only(app, identity_name=f"{app.name}-{number}", **{field: field for field in its})
        for app, its in fields.items()
        for number in range(2)
    ]
    project.write(entries)
    return paths


IN_FILES = (
    *("client_secret_file", "certificate_file", "certificate_password_file"),
    "federated_token_file",
)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("field", IN_FILES)
def test_a_file_that_all_can_read_is_told_or_refused(
    project: Project, in_files: dict[str, str], field: str
) -> None:
    """Once a run, by its path and cure; --strict-permissions fails who needs it, and nobody else.

    What its group may read is as systemd and Kubernetes hand it out. Who is not due looks at none.
    """
    path = in_files[field]
    for mode, is_open in ((0o640, False), (0o604, True)):
        os.chmod(path, mode)
        listener = Listener()

        assert renew(project, listener).exit_code == 0

        told = [each for each in listener.warnings if path in each and "every user" in each]
        assert len(told) == is_open
        assert not is_open or f"chmod 600 {path}" in told[0]
        asked = len(project.idp.token_requests)

        report = renew(project, strict_permissions=True)

        refused = [each.failure for each in report.results if each.failure is not None]
        assert len(refused) == (2 if is_open else 0)
        for failure in refused:
            assert failure.kind == "secret_unavailable"
            assert f"{path} ({field}) can be read by every user" in failure.message
            assert f"chmod 600 {path}" in failure.remedy
        assert len(project.idp.token_requests) - asked == 6 - len(refused)
        assert renew(project, strict_permissions=True, refresh_ahead=True).exit_code == 0
