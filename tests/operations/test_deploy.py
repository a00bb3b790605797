"""deploy/: what the program makes, and what it takes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from command_lines import parse
from credentials_provider.policy import TIMER_INTERVAL
from credentials_provider.schedule import NAME, kubernetes
from support import CHECKOUT

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
    service = load("compose.yaml")["services"]["credentials-provider"]
    parse(service["command"])
    _, program, *words = service["healthcheck"]["test"]
    assert program == "credentials-provider"
    parse(words)
    assert (DEPLOY / service["build"] / "Containerfile").is_file()
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    data = re.search(
        r"CREDENTIALS_PROVIDER_HOME=(\S+)", Path(CHECKOUT, "Containerfile").read_text()
    )
    assert data
    assert service["volumes"][0].partition(":")[2] == f"{data[1]}/.oauth-tokens"
