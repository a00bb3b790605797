"""`doctor` finds what is wrong, whatever it is, says what to do, and goes on."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from credentials_provider.diagnostics import doctor, guide
from credentials_provider.emulator import Emulator, Fault
from credentials_provider.settings import Flags
from credentials_provider.tokens.store import LOCK_NAME, TokenStore
from support import (
    API,
    BEHIND_PROXY,
    PATIENCE,
    Project,
    apps,
    assert_no_secret,
    closed_port,
    connect_proxy,
    entry,
    environment,
    full_disk,
    in_background,
    until,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credentials_provider.diagnostics.doctor.checks import Check
    from operations.running import Program

HEALTHY = {
    "python",
    "packages",
    ".env",
    "AUTH_PROVIDER",
    "identities",
    "files",
    "credentials",
    "proxy",
    "dns",
    "tls",
    "connection",
    "clock",
    "token",
    "claims",
    "rotation",
    "last run",
}


def examine(project: Project, **changes: Any) -> list[Check]:
    """Every check of a project, within the test."""
    flags = {
        "identities_file": project.identities_file,
        "output_dir": project.output,
        "login_base_url": project.idp.base_url,
        "ca_bundle": project.idp.ca_file,
        **changes.pop("flags", {}),
    }
    options = doctor.DoctorOptions(project.folder, Flags(**flags), changes.pop("process", {}))
    return list(doctor.examine(options._replace(**changes), time.time()))


def bad(checks: list[Check], name: str) -> list[Check]:
    return [check for check in checks if check.name == name and check.verdict != "ok"]


@pytest.fixture
def healthy(project: Project) -> Project:
    """A project that has nothing wrong with it, but no timer."""
    app = replace(apps(1)[0], groups=("g1",))
    project.idp.add_app(app)
    project.write([entry(app, client_secret_expires_on="2099-12-31")])
    return project


@pytest.mark.usefixtures("healthy")
def test_a_healthy_project_passes_every_check(run: Program) -> None:
    run()
    ran = run("doctor", "--json", env={"ENTRA_CLIENT_ID": API})
    checks = {each["name"]: each for each in ran.json["checks"]}
    assert ran.code == 0
    assert checks.keys() >= HEALTHY
    assert {name for name, each in checks.items() if each["verdict"] != "ok"} <= {"timer"}
    assert_no_secret(ran.stdout + ran.stderr, apps(1))


def test_what_it_asks_for_is_not_written(healthy: Project, run: Program) -> None:
    assert run("doctor").code == 0
    assert os.listdir(healthy.output) == ["entra-identities.json"]


@pytest.mark.parametrize(
    ("code", "link"),
    [
        (7000215, guide.EXPIRED_SECRET),
        (7000222, guide.EXPIRED_SECRET),
        (65001, guide.CANNOT_CONSENT),
        (700016, guide.IDS),
        (500011, guide.EXPOSE_API),
    ],
)
def test_a_refusal_that_the_guide_speaks_of_leads_to_that_place(
    healthy: Project, code: int, link: str
) -> None:
    healthy.idp.inject(Fault("aadsts", code=code), None)
    assert [check.link for check in bad(examine(healthy), "token")] == [link]


# The guide's Troubleshooting, as far as it concerns machine identities


@pytest.mark.parametrize(
    ("count", "words", "link"),
    [(0, "neither groups nor roles", guide.NO_GROUPS), (201, "more than 200", guide.OVERAGE)],
)
def test_groups_that_are_not_in_the_token_are_the_registrys_to_know(
    project: Project, count: int, words: str, link: str
) -> None:
    """It may know the client's groups itself: a warning, no failure."""
    project.add(replace(apps(1)[0], groups=tuple(f"g{n}" for n in range(count))))
    (found,) = bad(examine(project), "claims")
    assert found.verdict == "warning"
    assert words in found.seen
    assert found.link == link


def test_an_issuer_that_the_registry_refuses_is_found(healthy: Project) -> None:
    other = "0b6a1a5e-37a5-4a0e-9d0f-64a2ad3b8f21"
    (found,) = bad(examine(healthy, process={"ENTRA_TENANT_ID": other}), "claims")
    assert found.seen.startswith("issuer: ")
    assert other in found.seen
    assert found.link == guide.ISSUER


def test_groups_that_no_scope_is_mapped_to_are_found(healthy: Project) -> None:
    scopes = healthy.private("scopes.yml", "group_mappings:\n  other:\n  - admin\n")
    (found,) = bad(examine(healthy, scopes_file=scopes), "claims")
    assert "g1" in found.seen
    assert found.link == guide.NO_ACCESS
    mapped = healthy.private("scopes.yml", "group_mappings:\n  g1:\n  - admin\n")
    assert bad(examine(healthy, scopes_file=mapped), "claims") == []


def test_another_audience_than_the_gateway_is_found(healthy: Project) -> None:
    other = "11111111-2222-4333-8444-555555555555"
    (found,) = bad(examine(healthy, process={"ENTRA_CLIENT_ID": other}), "claims")
    assert "Audience doesn't match" in found.seen
    assert f"api://{other}/.default" in found.cure


# What is wrong with this machine


@pytest.mark.parametrize(
    ("flags", "process", "words"),
    [
        ({}, {"AUTH_PROVIDER": "keycloak"}, "keycloak"),
        ({"ca_bundle": "/nowhere/ca.pem"}, {}, "/nowhere/ca.pem"),
        ({"login_base_url": "http://localhost"}, {}, "https://"),
        ({"login_base_url": None}, {"ENTRA_LOGIN_BASE_URL": "localhost:8443"}, "https://"),
        ({"env_file": "/nowhere/.env"}, {}, "/nowhere/.env"),
    ],
)
def test_settings_that_cannot_be_used_end_it_before_anything_is_sent(
    healthy: Project,
    flags: dict[str, Any],
    process: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in such as the public cloud would get a secret that is meant for another host."""
    with connect_proxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
        checks = examine(healthy, flags=flags, process=process)
        assert proxy.asked == []
    assert healthy.idp.requests == []
    assert words in bad(checks, "settings")[0].seen
    assert {each.name for each in checks} == {"python", "packages", "settings"}


def test_an_untrusted_authority_is_found_and_the_option_named(
    healthy: Project, tmp_path: Any
) -> None:
    with Emulator(ca_file=tmp_path / "other.pem"):
        checks = examine(healthy, flags={"ca_bundle": str(tmp_path / "other.pem")})
    (found,) = bad(checks, "tls")
    assert "--ca-bundle" in found.cure
    assert bad(checks, "token")


def test_a_host_that_nobody_knows_or_that_refuses_is_found(healthy: Project) -> None:
    checks = examine(healthy, flags={"login_base_url": "https://nobody.invalid"})
    assert "nobody.invalid" in bad(checks, "dns")[0].seen
    assert bad(checks, "connection") == []  # it needs the address
    url = f"https://localhost:{closed_port()}"
    assert "refused" in bad(examine(healthy, flags={"login_base_url": url}), "connection")[0].seen


def test_a_captive_portal_is_found(healthy: Project) -> None:
    healthy.idp.inject(Fault("html", endpoint="any"), None)
    assert "captive portal" in bad(examine(healthy), "connection")[0].seen


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_is_off_is_found(healthy: Project, seconds: float) -> None:
    healthy.idp.inject(Fault("skew", endpoint="any", seconds=seconds), None)
    (found,) = bad(examine(healthy), "clock")
    assert "NTP" in found.cure


def test_a_proxy_is_named_without_its_login(healthy: Project, run: Program) -> None:
    with connect_proxy(leads_to=healthy.idp.port) as proxy:
        env = {"HTTPS_PROXY": f"http://me:pass@{proxy.address}"}
        ran = run("doctor", "--json", "--login-base-url", BEHIND_PROXY, env=env)
    checks = {each["name"]: each for each in ran.json["checks"]}
    assert proxy.address in checks["proxy"]["seen"]
    assert "pass" not in ran.stdout.replace("passed", "")
    assert checks["token"]["verdict"] == "ok"


def test_files_that_others_can_look_into_are_found(healthy: Project, run: Program) -> None:
    run()
    healthy.private(".env", "AUTH_PROVIDER=entra\n")
    for path in (healthy.output, healthy.identities_file, healthy.path("ci-agent"), ".env"):
        os.chmod(os.path.join(healthy.folder, path), 0o755)
    checks = examine(healthy)
    cures = [each.cure for each in (*bad(checks, "files"), *bad(checks, ".env"))]
    assert sorted(cure.split()[1] for cure in cures) == ["600", "600", "700"]
    both = f"chmod 600 {healthy.identities_file} {healthy.path('ci-agent')}"
    assert both in cures


@pytest.mark.parametrize(
    "content", ["{", "[1]", '[{"identity_name": "ci-agent"}]', '[{"identity_name": "a/b"}]']
)
def test_a_broken_identities_file_is_found_and_the_rest_goes_on(
    healthy: Project, content: str
) -> None:
    healthy.write(content)
    checks = examine(healthy)
    assert bad(checks, "identities")
    assert {"tls", "connection", "timer"} <= {each.name for each in checks}


def test_one_wrong_entry_does_not_keep_the_others_from_being_checked(healthy: Project) -> None:
    healthy.add(apps(2)[1], scope="api://your-app-client-id/.default")
    checks = examine(healthy)
    assert [each.identity_names for each in bad(checks, "identities")] == [("billing-agent",)]
    assert "1 of 1 identity got one" in {each.seen for each in checks}


def test_a_token_overdue_or_failed_in_the_last_run_is_found(healthy: Project, run: Program) -> None:
    run()
    healthy.age("ci-agent", left=120)
    assert "no run has tried" in bad(examine(healthy), "last run")[0].seen
    healthy.idp.inject(Fault("aadsts", code=7000222))
    run("--refresh-ahead")
    (found,) = bad(examine(healthy), "last run")
    assert (found.verdict, found.identity_names) == ("warning", ("ci-agent",))
    assert "expired" in found.seen


# One cause once, and an end in time


def test_one_cause_is_reported_once_with_everybody_whom_it_concerns(
    healthy: Project, run: Program
) -> None:
    """Whatever the number of identities, a screen tells it."""
    many = apps(12)[1:]
    healthy.add_all(many)
    healthy.idp.inject(Fault("aadsts", code=7000222), None)
    run()
    checks = examine(healthy)
    (refused,) = bad(checks, "token")
    assert len(refused.identity_names) == 12
    assert refused.trace_id
    assert [len(each.identity_names) for each in bad(checks, "last run")] == [12]
    ran = run("doctor")
    assert f"ci-agent, {many[0].name}, {many[1].name} and 9 more: " in ran.stdout
    assert ran.stdout.count("client secret has expired") == 2  # now, and in the last run


def test_what_hangs_on_a_login_host_that_does_not_answer_is_skipped(healthy: Project) -> None:
    """It would be the same failure again for each identity."""
    healthy.add_all(apps(5)[1:])
    url = f"https://localhost:{closed_port()}"
    checks = examine(healthy, flags={"login_base_url": url})
    assert [each.name for each in checks if each.verdict == "failure"] == ["connection"]
    (skipped,) = bad(checks, "token")
    assert (skipped.verdict, "5 identities" in skipped.seen) == ("skipped", True)


def test_what_never_answers_holds_up_neither_the_deadline_nor_a_signal(
    healthy: Project, run: Program
) -> None:
    """A login host that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"https://127.0.0.1:{silent.getsockname()[1]}"
        flags = Flags(
            identities_file=healthy.identities_file, output_dir=healthy.output, login_base_url=host
        )
        *_, last = doctor.examine(
            doctor.DoctorOptions(healthy.folder, flags, {}), time.time(), deadline=1.0
        )
        assert last.verdict == "failure"
        process = run.start("doctor", "--login-base-url", host)
        assert process.stdout is not None
        while "AUTH_PROVIDER" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert wait(process).code == 143


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_an_identities_file_that_is_a_pipe_is_found_at_once(healthy: Project) -> None:
    """Nobody writes to it, and nobody waits for that."""
    os.unlink(healthy.identities_file)
    os.mkfifo(healthy.identities_file)
    (found,) = bad(examine(healthy), "identities")
    assert "is not a regular file" in found.seen


def test_files_that_no_run_could_write_are_found(healthy: Project) -> None:
    """What no run would use as its folder; a lock that somebody holds, but not who waits for it."""
    path = healthy.private("file", "")
    link, nowhere = (os.path.join(healthy.folder, name) for name in ("link", "nowhere"))
    os.symlink(healthy.output, link)
    os.symlink("nothing", nowhere)
    for place, what in ((path, "not a folder"), (link, "a symbolic link"), (nowhere, "a symbolic")):
        (found,) = bad(examine(healthy, flags={"output_dir": place}), "files")
        assert f"the output folder {place} is {what}" in found.seen
        assert "--output-dir" in found.cure
    if os.path.exists("/proc/locks"):
        waits = "import fcntl, sys; fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX)"
        place = os.path.join(healthy.output, LOCK_NAME)
        with TokenStore(healthy.output).lock(1.0):
            waiter = subprocess.Popen([sys.executable, "-c", waits, place])
            until(lambda: f" {waiter.pid} " in Path("/proc/locks").read_text())
            (found,) = bad(examine(healthy), "files")
        assert waiter.wait(PATIENCE) == 0
        assert f"process {os.getpid()} holds the lock" in found.seen


def test_a_full_disk_is_found_and_the_next_run_after_it_renews(
    healthy: Project, run: Program
) -> None:
    """The run says why, the old tokens stay whole, and doctor names the disk."""
    folder = os.path.join(healthy.folder, "full")
    os.mkdir(folder, 0o700)
    where = ("-i", healthy.identities_file, "-o", folder)
    with full_disk(folder) as ballast:
        failed = run(*where, "--refresh-ahead")
        assert failed.code == 1
        assert "No space left on device" in failed.stderr
        told = run("doctor", *where)
        assert told.code == 1
        assert f"the disk of {folder} is full" in told.stdout + told.stderr
        os.unlink(ballast)
        assert run(*where, "--refresh-ahead").code == 0
        assert "is full" not in run("doctor", *where).stdout


def test_an_open_identities_file_is_found_before_the_first_run(healthy: Project) -> None:
    """It holds secrets whether or not there is an output folder."""
    path = healthy.write(healthy.entries(), "elsewhere.json")
    os.chmod(path, 0o644)
    flags = {"identities_file": path, "output_dir": os.path.join(healthy.folder, "nowhere")}
    (found,) = bad(examine(healthy, flags=flags), "files")
    assert found.cure == f"chmod 600 {path}"


def test_a_device_in_the_place_of_the_settings_is_left_alone(healthy: Project) -> None:
    """`--env-file /dev/null` is how somebody says "none"; `chmod 600` would break the machine."""
    assert not bad(examine(healthy, flags={"env_file": "/dev/null"}), ".env")


def test_a_hook_that_failed_is_found(healthy: Project, run: Program) -> None:
    """It stays pending, and nobody else would say so."""
    run("--on-renew", "exit 3")
    (found,) = bad(examine(healthy), "hook")
    assert "--on-renew failed" in found.seen


# The registry


@contextlib.contextmanager
def registry(status: int, body: bytes) -> Iterator[tuple[str, list[str]]]:
    """A registry on loopback that answers everything alike; what it was shown."""
    shown: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            shown.append(f"{self.path} {self.headers['X-Authorization']}")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with in_background(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        yield f"http://127.0.0.1:{server.server_port}/", shown


@pytest.mark.parametrize(
    ("status", "body", "verdict", "words"),
    [
        (200, b'{"servers": [{}, {}]}', "ok", "sees 2 servers"),
        (200, b'{"servers": [{}, {}], "total_count": 629}', "ok", "sees 629 servers"),
        (200, b'{"servers": [], "total_count": 0}', "warning", "sees no server"),
        (503, b'{"error": "gateway_proxy_disabled"}', "failure", "not a registry's answer"),
        (401, b"{}", "failure", "refused"),
        (403, b"{}", "failure", "grant nothing"),
        (502, b'{"detail": "IAM provider error"}', "failure", "Microsoft Graph refuses"),
        (403, b"'403 Forbidden' for url 'https://graph.microsoft.com/v1.0'", "failure", "Graph"),
        (302, b"", "failure", "not a registry's answer"),
        (200, b"<html>", "failure", "not a registry's answer"),
    ],
)
def test_the_registry_is_shown_the_token_and_its_answer_is_told(
    healthy: Project, status: int, body: bytes, verdict: str, words: str
) -> None:
    with registry(status, body) as (url, shown):
        checks = examine(healthy, registry_url=url)
    (found,) = [each for each in checks if each.name == "registry"]
    assert (found.verdict, words in found.seen) == (verdict, True)
    assert len(shown) == 1
    about_graph = verdict == "warning" or "Graph" in found.seen
    assert (guide.GRAPH_FORBIDDEN in found.cure + found.link) is about_graph
    assert shown[0].startswith("/api/servers?limit=2000&include_tools=false Bearer ey")


def test_no_token_goes_to_a_registry_without_tls(healthy: Project) -> None:
    for url in ("http://registry.invalid", r"http://registry.invalid\@localhost", "https://a:pw@b"):
        (found,) = bad(examine(healthy, registry_url=url), "registry")
        assert "encrypted" in found.seen or "not an address" in found.seen
        assert "pw" not in found.seen


# The command


def test_failures_are_exit_1_and_said_with_cure_and_link(healthy: Project, run: Program) -> None:
    healthy.idp.inject(Fault("aadsts", code=7000222), None)
    ran = run("doctor", "ci-agent")
    assert ran.code == 1
    assert "failure  token" in ran.stdout
    assert guide.EXPIRED_SECRET in ran.stdout
    assert "1 failure" in ran.stdout
    assert "identities secret ci-agent" in ran.stdout
    document = run("doctor", "--json").json
    assert (document["exit_code"], document["summary"]["failure"]) == (1, 1)
    assert [each for each in document["checks"] if "secret NAME" in each["cure"]] == []


@pytest.mark.usefixtures("healthy")
def test_an_unknown_name_is_told_and_the_rest_goes_on(run: Program) -> None:
    ran = run("doctor", "nobody")
    assert ran.code == 2
    assert "no identity of this name" in ran.stdout
    assert "tls" in ran.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_curl_request_works_and_keeps_the_secret_out_of_sight(
    healthy: Project, run: Program
) -> None:
    ran = run("doctor", "ci-agent", "--curl")
    assert_no_secret(ran.stdout, apps(1))
    secret = apps(1)[0].secrets[0]
    # What curl was started with is what every user of the machine can see.
    there, shim = shutil.which("curl"), os.path.join(healthy.folder, "curl")
    healthy.private(shim, f'#!/bin/sh\nprintf "%s\\n" "$@" >arguments\nexec {there} "$@"\n')
    os.chmod(shim, 0o700)
    path = f"{healthy.folder}:{os.environ['PATH']}"
    asked = subprocess.run(
        ["/bin/sh", "-c", ran.stdout],
        cwd=healthy.folder,
        env=environment(healthy.folder, {"CLIENT_SECRET": secret, "PATH": path}),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert json.loads(asked.stdout)["token_type"] == "Bearer"
    with open(os.path.join(healthy.folder, "arguments"), encoding="utf-8") as file:
        arguments = file.read()
    assert "grant_type=client_credentials" in arguments
    assert_no_secret(arguments, apps(1))


def test_curl_without_a_name_is_a_usage_error(healthy: Project, run: Program) -> None:
    assert healthy.entries()
    assert run("doctor", "--curl").code == 2


def test_a_credential_that_cannot_be_had_is_found_by_its_source(healthy: Project) -> None:
    one, two = apps(3)[1:]
    healthy.add(one, client_secret=None, client_secret_env="NOT_SET_HERE")
    healthy.add(two, client_secret=None, client_secret_file="nowhere.secret")
    found = {each.identity_names[0]: each.seen for each in bad(examine(healthy), "credentials")}
    assert found.keys() == {one.name, two.name}
    assert "NOT_SET_HERE" in found[one.name]
    assert "nowhere.secret" in found[two.name]


def test_curl_has_nothing_to_show_for_an_identity_without_a_secret(
    healthy: Project, run: Program
) -> None:
    app = apps(2)[1]
    healthy.add(app, client_secret=None, managed_identity="system")
    assert run("doctor", app.name, "--curl").code == 2


def crontab(folder: str, *lines: str) -> dict[str, str]:
    """A PATH whose crontab has these lines."""
    path = os.path.join(folder, "crontab")
    Path(path).write_text("#!/bin/sh\ncat <<'EOF'\n" + "\n".join(lines) + "\nEOF\n")
    os.chmod(path, 0o755)
    return {"PATH": f"{folder}:/usr/bin:/bin"}


def test_the_end_of_each_secret_is_told_and_what_rotates_it(project: Project) -> None:
    """A rotation is no renewal; without one the cure is the command."""
    (known, unknown) = apps(2)
    for app in (known, unknown):
        project.idp.add_app(app)
    project.write([entry(known, client_secret_expires_on="2099-12-31"), entry(unknown)])
    by_hand = {each.identity_names: each for each in examine(project) if each.name == "rotation"}
    assert {each.verdict for each in by_hand.values()} == {"ok", "skipped"}
    first = by_hand[(known.name,)]
    assert "its client secret expires on 2099-12-31" in first.seen
    assert first.cure == "Rotate it by hand: `credentials-provider identities rotate NAME`"
    assert "--check-secret-expiry" in by_hand[(unknown.name,)].cure
    job = "1 2 * * * credentials-provider identities rotate --all"
    checks = examine(project, process=crontab(project.folder, job))
    (renewal,) = [each for each in checks if each.name == "timer"]
    assert "no timer of this user renews" in renewal.seen
    for each in checks:
        if each.name == "rotation":
            assert "; a line in the crontab rotates it" in each.seen
