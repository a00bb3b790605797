"""Manifests for Kubernetes: a CronJob, a CronJob of indexed Jobs for a fleet, a sidecar."""

from __future__ import annotations

import io
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from credentials_provider.schedule import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["cronjob", "fleet", "sidecar"]

_USER = 10001  # any but root
_IDENTITIES = "/identities"
_TOKENS = "/tokens"
_FILE = "entra-identities.json"
_SECRET = "entra-identities"  # noqa: S105  a Secret's name
_SHARED = f"{_TOKENS}/oauth"

# Exit 75: not renewed, but every token is still valid. A Job knows no "try later".
_UNLESS_LATER = '& trap "kill $!" TERM; wait $! || [ $? -eq 75 ]'

_SINK = f"""\
# A container of another user reads a sink of the identity, by the pod's fsGroup:
#   "sinks": [{{"path": "{_TOKENS}/NAME.token", "format": "raw", "mode": "0640"}}]
"""


@dataclass(frozen=True, slots=True)
class Needs:
    """What the identities need beside their file."""

    files: tuple[str, ...] = ()  # of credentials, relative to the identities file
    variables: tuple[str, ...] = ()  # names


def manifests(
    kind: Kind,
    *,
    image: str,
    every: int,
    shards: int,
    name: str,
    more: Sequence[str] = (),
    needs: Needs | None = None,
) -> str:
    """YAML for `kubectl apply -f -`; `more` are further arguments of `generate` or `watch`."""
    needs = needs or Needs()
    from ruamel.yaml import YAML  # only here

    documents = {
        "cronjob": lambda: _cronjob(image, every, name, more),
        "fleet": lambda: _fleet(image, every, shards, name, more),
        "sidecar": lambda: _sidecar(image, name, more),
    }[kind]()
    for document in documents:
        _supply(document, needs, name)
    stream = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 1 << 16
    yaml.representer.ignore_aliases = lambda _: True  # what stands twice is written twice
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump_all(documents, stream)
    return _head(needs, name) + (_SINK if kind == "sidecar" else "") + stream.getvalue()


def _head(needs: Needs, name: str) -> str:
    files = [
        shlex.quote(f"--from-file={_key(each)}=.oauth-tokens/{each}")
        for each in (_FILE, *needs.files)
    ]
    head = "# The identities are a Secret:\n"
    head += f"#   kubectl create secret generic {_SECRET} \\\n#     "
    head += " \\\n#     ".join(files) + "\n"
    if needs.variables:
        head += f"# Their variables are one, too, from a file with {', '.join(needs.variables)}:\n"
        head += f"#   kubectl create secret generic {name}-environment --from-env-file=FILE\n"
    return head


def _key(path: str) -> str:
    """A Secret's keys have no slash; the volume puts each back where its path says."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", path)


def _supply(document: dict[str, Any], needs: Needs, name: str) -> None:
    """Give the pod the files and variables that its identities name."""
    spec = document.get("spec", {})
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    pod = spec.get("template", {}).get("spec")
    if not pod:
        return
    for volume in pod["volumes"]:
        if "secret" in volume:
            items = [{"key": _key(path), "path": path} for path in (_FILE, *needs.files)]
            volume["secret"]["items"] = items
    if needs.variables:
        ours = (pod.get("initContainers") or pod["containers"])[0]
        ours["env"] = [
            {
                "name": each,
                "valueFrom": {"secretKeyRef": {"name": f"{name}-environment", "key": each}},
            }
            for each in needs.variables
        ]


def _cronjob(image: str, every: int, name: str, more: Sequence[str]) -> list[dict[str, Any]]:
    command = ["/bin/sh", "-c", f'"$0" "$@" {_UNLESS_LATER}']
    command += [NAME, "generate", "--refresh-ahead", *_paths(_SHARED), *more]
    job = {
        "activeDeadlineSeconds": 240,
        "backoffLimit": 0,
        "template": _pod(name, [_container(NAME, image, command)], _claimed(name)),
    }
    return [_claim(name, "ReadWriteOnce"), _scheduled(name, every, job)]


def _fleet(
    image: str, every: int, shards: int, name: str, more: Sequence[str]
) -> list[dict[str, Any]]:
    """A folder for each part: its lock is one for a folder."""
    words = shlex.join([NAME, "generate", "--refresh-ahead", *_paths(None), *more])
    script = (
        f'{words} --shard "$JOB_COMPLETION_INDEX/{shards}" '
        f'--output-dir "{_SHARED}-$JOB_COMPLETION_INDEX" {_UNLESS_LATER}'
    )
    job = {
        "activeDeadlineSeconds": 240,
        "backoffLimit": 0,
        "completionMode": "Indexed",
        "completions": shards,
        "parallelism": shards,
        "template": _pod(
            name, [_container(NAME, image, ["/bin/sh", "-c", script])], _claimed(name)
        ),
    }
    return [_claim(name, "ReadWriteMany"), _scheduled(name, every, job)]


def _sidecar(image: str, name: str, more: Sequence[str]) -> list[dict[str, Any]]:
    """The tokens are in memory, shared by the two: token files by one user, sinks by a group."""
    watch = _container(NAME, image, [NAME, "watch", *_paths(_SHARED), *more])
    status = [NAME, "status", "--any", *_paths(_SHARED)[:-2]]
    probe = {"exec": {"command": status}, "timeoutSeconds": 10}
    watch |= {
        "restartPolicy": "Always",  # what makes it a sidecar: it starts first and stays
        "startupProbe": {**probe, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**probe, "periodSeconds": 30},
    }
    app = {
        "name": "app",
        "image": "your-app:latest",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tokens", "mountPath": _TOKENS, "readOnly": True}],
    }
    volume = {"name": "tokens", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}
    template = _pod(name, [app], volume, restart=None)
    template["spec"]["initContainers"] = [watch]
    labels = {"app.kubernetes.io/name": name}
    template["metadata"] = {"labels": labels}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": dict(labels)},
                "template": template,
            },
        }
    ]


def _paths(output_dir: str | None) -> list[str]:
    folder = ["--output-dir", output_dir] if output_dir else []
    return ["--identities-file", f"{_IDENTITIES}/{_FILE}", *folder, "--log-format", "json"]


def _scheduled(name: str, every: int, job: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {
            "schedule": "* * * * *" if every == 1 else f"*/{every} * * * *",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 120,
            "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": {"spec": job},
        },
    }


def _claim(name: str, mode: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{name}-tokens"},
        "spec": {"accessModes": [mode], "resources": {"requests": {"storage": "64Mi"}}},
    }


def _claimed(name: str) -> dict[str, Any]:
    return {"name": "tokens", "persistentVolumeClaim": {"claimName": f"{name}-tokens"}}


def _container(name: str, image: str, command: list[str]) -> dict[str, Any]:
    return {
        "name": name,
        "image": image,
        "command": command,
        "resources": {
            "requests": {"cpu": "20m", "memory": "64Mi"},
            "limits": {"memory": "256Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": "identities", "mountPath": _IDENTITIES, "readOnly": True},
            {"name": "tokens", "mountPath": _TOKENS},
        ],
    }


def _pod(
    name: str,
    containers: list[dict[str, Any]],
    tokens: dict[str, Any],
    *,
    restart: str | None = "Never",
) -> dict[str, Any]:
    identities = {
        "name": "identities",
        "secret": {"secretName": _SECRET, "defaultMode": 0o440},
    }
    return {
        "metadata": {"labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "automountServiceAccountToken": False,
            **({"restartPolicy": restart} if restart else {}),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": _USER,
                "runAsGroup": _USER,
                "fsGroup": _USER,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": containers,
            "volumes": [identities, tokens],
        },
    }
