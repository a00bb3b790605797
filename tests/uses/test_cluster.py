"""Tokens as Kubernetes Secrets, written through the cluster's API, for which a double stands.

No real API server ran here.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
import trustme

from cluster_api import serving
from credentials_provider.errors import StorageBusyError
from credentials_provider.identities.sinks import Sink
from credentials_provider.run.cluster import Cluster
from support import apps, assert_no_secret, closed_port, wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cluster_api import Api
    from credentials_provider.emulator import App
    from support import Command, Project, Ran

REQUEST_TIMEOUT = 10  # seconds, of one request where the run has time
ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"
# As the kubelet does it: the service account's files where every client looks for them.
IN_A_POD = (
    f"mount -t tmpfs tmpfs /run && mkdir -p {os.path.dirname(ACCOUNT)} && "
    f'ln -s "$0" {ACCOUNT} && exec "$@"'
)


def may_unshare() -> bool:
    """Whether a process may have a /run of its own."""
    line = ["unshare", "--mount", "/bin/sh", "-c", IN_A_POD, "/nowhere", "true"]
    try:
        return subprocess.run(line, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


POD = pytest.mark.skipif(not may_unshare(), reason="needs root and a mount namespace")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Api]:
    with serving(tmp_path / "account") as server:
        yield server


def in_pod(run: Command, api: Api, *words: str, **env: str) -> Ran:
    """The real command, with the service account's files where a pod has them."""
    line = ["unshare", "--mount", "/bin/sh", "-c", IN_A_POD, str(api.account), *run.line(*words)]
    return wait(run.start_line(line, env={**api.environment, **env}))


def give(project: Project, *wanted: dict[str, str]) -> None:
    entries = project.entries()
    project.write([{**entries[0], "sinks": list(wanted)}, *entries[1:]])


def plain(project: Project, run: Command, *words: str) -> Ran:
    """A command that takes no options about the provider."""
    return run(*words, bare=True, env={"ENTRA_LOGIN_BASE_URL": project.idp.base_url})


SECRET = {"kubernetes_secret": "ci-token"}


@POD
def test_a_renewal_makes_the_secret_and_the_next_one_changes_it(
    app: App, project: Project, run: Command, cluster: Api
) -> None:
    """By one request of that name alone; with nothing due it is only looked at."""
    give(project, SECRET)
    assert in_pod(run, cluster, "generate").code == 0
    first = project.token(app.name)["access_token"]
    assert cluster.held() == first
    assert in_pod(run, cluster, "generate", "--refresh-ahead").code == 0
    assert in_pod(run, cluster, "generate").code == 0
    assert cluster.held() == project.token(app.name)["access_token"] != first
    asked = [method for method, *_ in cluster.asked]
    assert asked == ["GET", "PATCH", "GET", "GET", "PATCH"]
    assert {path.rpartition("/")[2] for _, path, _ in cluster.asked} == {"ci-token"}


@POD
def test_what_was_deleted_or_changed_is_written_again_without_a_mint(
    app: App, project: Project, run: Command, cluster: Api
) -> None:
    """And others' keys stay."""
    give(project, SECRET)
    assert in_pod(run, cluster, "generate").code == 0
    token = project.token(app.name)["access_token"]
    for wrong in ({}, {"token": "old", "other": "theirs"}):
        cluster.secrets.clear()
        if wrong:
            cluster.put(**wrong)
        assert in_pod(run, cluster, "generate", "--refresh-ahead").code == 0
        assert cluster.held() == token
    assert cluster.held(key="other") == "theirs"
    assert len(project.idp.token_requests) == 1


@POD
def test_two_identities_share_a_secret(project: Project, run: Command, cluster: Api) -> None:
    """Each with a key; what one applies takes nothing from the other."""
    made = apps(2)
    project.add_all(made)
    project.write(
        [
            {**each, "sinks": [{**SECRET, "key": f"k{number}", "format": "header"}]}
            for number, each in enumerate(project.entries())
        ]
    )
    for _ in range(2):
        assert in_pod(run, cluster, "generate").code == 0
        for number, app in enumerate(made):
            token = project.token(app.name)["access_token"]
            assert cluster.held(key=f"k{number}") == f"Authorization: Bearer {token}\n"


@POD
@pytest.mark.parametrize(
    "refusal",
    [
        (401, 78, "serviceAccountName"),
        (403, 78, "get, patch and create"),
        (404, 78, "namespace"),
        (409, 75, "next run"),
        (422, 78, "kubectl delete secret"),
        (429, 75, "next run"),
        (503, 75, "next run"),
        (418, 78, "418"),
    ],
)
def test_a_refusal_is_that_identity_s_failure(
    app: App, project: Project, run: Command, cluster: Api, refusal: tuple[int, int, str]
) -> None:
    """With cause and cure; the token file and the other identity are as they should be."""
    status, code, told = refusal
    other = apps(2)[1]
    project.add(other)
    give(project, SECRET)
    cluster.status = status
    ran = in_pod(run, cluster, "generate", "--json")
    assert ran.code == (75 if code == 75 else 1)
    assert ran.results[other.name]["outcome"] == "renewed"
    again = in_pod(run, cluster, "generate", "--refresh-ahead", "--json")
    assert again.code == code
    error = again.results[app.name]["error"]
    assert (error["kind"], error["transient"]) == ("storage", code == 75)
    assert "kubernetes_secret ci-token (key token)" in error["message"]
    assert told in error["message"] + error["remedy"]
    assert cluster.token not in ran.stdout + ran.stderr
    assert_no_secret(ran.stderr + again.stderr + again.stdout, [app])
    cluster.status = 0
    assert in_pod(run, cluster, "generate", "--refresh-ahead").code == 0
    assert cluster.held() == project.token(app.name)["access_token"]
    assert len(project.idp.token_requests) == 2


@POD
def test_the_token_of_the_service_account_is_read_anew(
    app: App, project: Project, run: Command, cluster: Api
) -> None:
    """The cluster renews it; an old one is refused."""
    give(project, SECRET)
    cluster.token = "service-account-2"
    assert in_pod(run, cluster, "generate").code == 1
    (cluster.account / "token").write_text(cluster.token)
    assert in_pod(run, cluster, "generate", "--refresh-ahead").code == 0
    assert cluster.held() == project.token(app.name)["access_token"]


@POD
def test_no_proxy_leads_to_the_api(app: App, project: Project, run: Command, cluster: Api) -> None:
    """Whatever the variables say; the login host is another matter."""
    give(project, SECRET)
    proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{closed_port()}"}
    assert in_pod(run, cluster, "generate").code == 0
    cluster.secrets.clear()
    assert in_pod(run, cluster, "generate", "--refresh-ahead", **proxy).code == 0
    assert cluster.held() == project.token(app.name)["access_token"]


@POD
def test_an_api_that_is_silent_or_another_costs_no_token(
    app: App, project: Project, run: Command, cluster: Api
) -> None:
    """Silent: later. Another's certificate: nothing is sent."""
    give(project, SECRET)
    silent = {"KUBERNETES_SERVICE_PORT": str(closed_port())}
    ran = in_pod(run, cluster, "generate", **silent)
    assert (ran.code, "does not answer (refused)" in ran.stderr) == (75, True), ran.stderr
    trustme.CA().cert_pem.write_to_path(str(cluster.account / "ca.crt"))
    ran = in_pod(run, cluster, "generate", "--refresh-ahead")
    assert (ran.code, "not one of the cluster's authority" in ran.stderr) == (78, True)
    assert cluster.asked == []
    assert project.token(app.name)["access_token"]


@POD
def test_an_api_that_hangs_holds_no_run_beyond_its_deadline(
    app: App, project: Project, run: Command, cluster: Api
) -> None:
    """But for a second, which a deadline that others have used up leaves to the sinks."""
    assert run("generate").code == 0
    give(project, SECRET)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = {"KUBERNETES_SERVICE_PORT": str(silent.getsockname()[1])}
        words = ("generate", "--refresh-ahead", "--deadline", "100ms", "--json")
        ran = in_pod(run, cluster, *words, **port)
    assert (ran.code, "does not answer (timeout)" in ran.stdout) == (75, True), ran.stdout
    began, ended = (
        datetime.fromisoformat(ran.json[each]) for each in ("started_at", "finished_at")
    )
    assert (ended - began).total_seconds() < REQUEST_TIMEOUT
    assert in_pod(run, cluster, *words).code == 0
    assert cluster.held() == project.token(app.name)["access_token"]


def test_nothing_is_asked_after_the_deadline(cluster: Api) -> None:
    """The next run does it; the API is not to blame."""
    sink = Sink("", "raw", None, None, None, "", "", "ci-token", "token")
    late = Cluster(cluster.environment, str(cluster.account), ends_at=time.monotonic())
    with pytest.raises(StorageBusyError, match="deadline") as error:
        late.write(sink, {"access_token": "x"})
    assert "--deadline" in str(error.value.hint)
    assert cluster.asked == []


def test_outside_of_a_cluster_it_says_so(app: App, project: Project, run: Command) -> None:
    """And names the way in."""
    give(project, SECRET)
    ran = run("generate", "--json")
    error = ran.results[app.name]["error"]
    assert (ran.code, "not run in a cluster" in error["message"]) == (1, True)
    assert "schedule kubernetes" in error["remedy"]
    status = plain(project, run, "status", app.name)
    assert "kubernetes_secret ci-token (key token) (raw) is in the cluster" in status.stdout


@POD
def test_doctor_looks_at_the_secret(app: App, project: Project, run: Command, cluster: Api) -> None:
    """Held, not held, not to be seen."""
    give(project, SECRET)
    assert in_pod(run, cluster, "generate").code == 0

    def seen() -> tuple[str, str]:
        """Verdict and finding."""
        checks = in_pod(run, cluster, "doctor", "--json").json["checks"]
        (check,) = [each for each in checks if each["name"] == "sinks"]
        assert check["identity_names"] == [app.name]
        return check["verdict"], check["seen"]

    assert seen()[0] == "ok"
    cluster.put(token="old")
    assert seen()[0] == "warning"
    cluster.allowed.clear()
    verdict, found = seen()
    assert (verdict, "(HTTP 403)" in found) == ("failure", True)


def test_an_api_that_answers_nonsense_holds_nothing(cluster: Api) -> None:
    """An array, data that is none, or no JSON."""
    sink = Sink("", "raw", None, None, None, "", "", "ci-token", "token")
    for nonsense in ([1], {"data": [1]}, {"data": None}):
        cluster.secrets["ci-token"] = nonsense  # type: ignore[assignment]
        seen = Cluster(cluster.environment, str(cluster.account))
        assert seen.state(sink, {"access_token": "x"}) == "missing"
    for cluster.raw in (b"<html>", b"\xff", b"[" * 100_000):
        seen = Cluster(cluster.environment, str(cluster.account))
        assert seen.state(sink, {"access_token": "x"}) == "missing"


@pytest.mark.parametrize(
    ("sink", "told"),
    [
        ({}, "exactly one of"),
        ({**SECRET, "path": "x"}, "exactly one of"),
        ({**SECRET, "mode": "0600"}, "mode does not go with"),
        ({"path": "x", "key": "y"}, "key does not go with"),
        ({"kubernetes_secret": "A_B"}, "name of a Secret"),
        ({"kubernetes_secret": "../x"}, "name of a Secret"),
        ({**SECRET, "key": "a/b"}, "must be of letters"),
    ],
)
def test_a_sink_that_is_no_secret_is_a_mistake(
    app: App, project: Project, run: Command, sink: dict[str, str], told: str
) -> None:
    """Told by the check of the file."""
    give(project, sink)
    ran = plain(project, run, "identities", "check")
    assert (ran.code, told in ran.stderr + ran.stdout, app.name in ran.stderr) == (2, True, True)


def test_commands_add_and_remove_it(app: App, project: Project, run: Command) -> None:
    """Nothing of the cluster is asked."""
    names = ["--kubernetes-secret", "ci-token"]
    assert (
        plain(project, run, "identities", "sink", "add", app.name, *names, "--key", "t").code == 0
    )
    assert project.entries()[0]["sinks"] == [{**SECRET, "format": "raw", "key": "t"}]
    removed = plain(project, run, "identities", "sink", "remove", app.name, *names)
    assert (removed.code, "kubectl delete secret ci-token" in removed.stdout) == (0, True)
    assert "sinks" not in project.entries()[0]
    for words in ([], ["out", *names]):
        assert plain(project, run, "identities", "sink", "add", app.name, *words).code == 2
