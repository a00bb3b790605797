"""deploy/: what the program makes, and what it takes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from command_lines import parse
from credentials_provider.policy import TIMER_INTERVAL
from credentials_provider.schedule import NAME, kubernetes
from operations.pods import Pod, may_run
from support import CHECKOUT, PATIENCE, apps, until

if TYPE_CHECKING:
    from support import Project

USER = 1000  # compose.yaml's default
DEPLOY = Path(CHECKOUT, "deploy")


def load(name: str) -> Any:
    return YAML(typ="safe").load((DEPLOY / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", ["cronjob", "deployment", "sidecar"])
def test_the_base_is_what_the_program_prints(kind: kubernetes.Kind) -> None:
    """Else: `UPDATE_BASE=1 tests/run.sh -n 0 tests/operations/test_deploy.py` writes it anew."""
    of_secrets = kind == "deployment"
    form = kubernetes.Form(
        kind,
        f"{NAME}:latest",
        every=TIMER_INTERVAL // 60,
        shards=1,
        name=NAME,
        namespace="agents" if of_secrets else None,
    )
    needs = kubernetes.Needs(secrets=("ci-token",) if of_secrets else ())
    file = DEPLOY / f"kubernetes/{kind}.yaml"
    printed = kubernetes.manifests(form, needs)
    if os.environ.get("UPDATE_BASE"):
        file.write_text(printed, encoding="utf-8")
    assert file.read_text(encoding="utf-8") == printed


def test_the_base_names_files_and_the_image_that_there_are() -> None:
    kustomization = load("kubernetes/kustomization.yaml")
    for name in kustomization["resources"]:
        text = (DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")
        for image in kustomization["images"]:
            assert f"image: {image['name']}:" in text


def test_the_services_of_compose_run_what_the_program_takes() -> None:
    """Without rights, on a read-only file system, and healthy as `status` says."""
    services = load("compose.yaml")["services"]
    service = services["credentials-provider"]
    parse(service["command"])
    _, program, *words = service["healthcheck"]["test"]
    assert program == "credentials-provider"
    parse(words)
    assert (DEPLOY / service["build"] / "Containerfile").is_file()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert services["agent"]["volumes"] == ["tokens:/tokens:ro"]


@pytest.mark.skipif(not may_run(), reason="needs root, setpriv and mount namespaces")
def test_the_service_of_compose_gives_its_neighbours_their_tokens(
    project: Project, tmp_path: Path
) -> None:
    """Run as compose would: its user, a read-only root, the volume in memory; no engine did."""
    service = load("compose.yaml")["services"]["credentials-provider"]
    place, reach = service["volumes"][0].split(":")[1], {"name": "ca", "mountPath": "/ca"}
    (app,) = apps(1)
    sink = {"path": "/tokens/ci.token", "format": "raw", "mode": "0640"}
    project.add(app, sinks=[sink])
    for path in (project.output, project.identities_file):
        os.chown(path, USER, USER)
    mounts = [{"name": "config", "mountPath": place, "readOnly": True}, reach]
    mounts.append({"name": "tokens", "mountPath": "/tokens"})
    container = {
        "securityContext": {"readOnlyRootFilesystem": service["read_only"]},
        "volumeMounts": mounts,
    }
    spec = {
        "securityContext": {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER},
        "containers": [container],
        "volumes": [
            {"name": "config", "hostPath": {"path": project.output}},
            {"name": "ca", "configMap": {"name": "ca"}},
            {"name": "tokens", "emptyDir": {}},
        ],
    }
    authorities = {"ca": {"ca.crt": Path(project.idp.ca_file).read_bytes()}}
    cluster = {
        **service["environment"],
        "ENTRA_LOGIN_BASE_URL": project.idp.base_url,
        "REQUESTS_CA_BUNDLE": "/ca/ca.crt",
    }
    pod = Pod(tmp_path / "pod", spec, {}, authorities, environment=cluster)
    volume = pod.volumes["tokens"]
    os.chown(volume, USER, USER)
    volume.chmod(0o2750)
    watch = pod.start(["credentials-provider", *service["command"]])
    try:
        until(lambda: pod.ends_well(service["healthcheck"]["test"][1:]))
    finally:
        watch.terminate()
        _, err = watch.communicate(timeout=PATIENCE)
    assert "Warning" not in err, err
    found = (volume / "ci.token").stat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o640, USER)
    written = json.loads((volume / "oauth" / f"{app.name}.json").read_text())
    assert (volume / "ci.token").read_text() == written["access_token"]
