"""A pod of the manifests as a process: what the kubelet sets up for it, without a cluster.

The user, group and environment of the manifest, a root file system that is read-only, and its
volumes: files of root's through `..data`, for the pod's group, as Kubernetes projects them.

    pod = Pod(folder, spec, {"entra-identities": {...}}, {"NAME-ca": {...}}, account=FOLDER)
    pod.start(container["command"]).wait()
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support import CHECKOUT, PACKAGES, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# As the image has it.
IMAGE = {
    "PATH": "/program:/usr/bin:/bin",
    "CREDENTIALS_PROVIDER_HOME": "/data",
    "PYTHONDONTWRITEBYTECODE": "1",
}
ROOT = """
set -e
root=$1; shift
mount -t tmpfs -o mode=0755 tmpfs "$root"
cd "$root"
for each in /*; do
  case $each in
    /data|/identities|/tokens|/ca|/config|/tmp|/run|/program|/root|/home) continue ;;
  esac
  if [ -L "$each" ]; then cp -P "$each" ".$each"
  elif [ -d "$each" ]; then mkdir ".$each"; mount --rbind "$each" ".$each"; fi
done
mkdir data tmp run program
chown 65532:65532 data; chmod 0700 data
"""


def may_run() -> bool:
    """Whether this process may set up a root of its own."""
    line = ["unshare", "--mount", "/bin/sh", "-c", "mount -t tmpfs tmpfs /mnt && setpriv true"]
    try:
        return subprocess.run(line, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@dataclass
class Pod:
    """One pod; its volumes keep what is written into them."""

    folder: Path  # to work in
    spec: Mapping[str, Any]
    secrets: Mapping[str, Mapping[str, bytes]]  # as the manifest's head makes them
    config_maps: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    account: Path | None = None  # the service account's folder
    environment: Mapping[str, str] = field(default_factory=dict)  # what the cluster sets

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.group = self.spec["securityContext"]["fsGroup"]
        self.volumes = {each["name"]: self._volume(each) for each in self.spec["volumes"]}

    @property
    def ours(self) -> dict[str, Any]:
        """The container of this program."""
        found: dict[str, Any] = (self.spec.get("initContainers") or self.spec["containers"])[0]
        return found

    def _volume(self, volume: Mapping[str, Any]) -> Path:
        path: Path = self.folder / volume["name"]
        if "projected" in volume:
            assert self.account is not None
            return self.account
        if "hostPath" in volume:
            return Path(volume["hostPath"]["path"])
        path.mkdir()
        os.chown(path, 0, self.group)
        path.chmod(0o2777)
        if "secret" in volume:
            secret = volume["secret"]
            found = self.secrets[secret["secretName"]]
            items = {each["path"]: found[each["key"]] for each in secret["items"]}
            self._project(path, items, secret["defaultMode"])
        elif "configMap" in volume:
            self._project(path, self.config_maps[volume["configMap"]["name"]], 0o644)
        return path

    def _project(self, path: Path, items: Mapping[str, bytes], mode: int) -> None:
        path.chmod(0o3777)
        there = path / "..2026_11_28"
        for name, content in items.items():
            file = there / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            os.chown(file, 0, self.group)
            file.chmod(mode)
        (path / "..data").symlink_to(there.name)
        for top in {name.partition("/")[0] for name in items}:
            (path / top).symlink_to(f"..data/{top}")

    def variables(self) -> dict[str, str]:
        """Those of our container."""
        found = dict(IMAGE)
        for each in self.ours.get("env", []):
            if "value" in each:
                found[each["name"]] = each["value"]
            else:
                key = each["valueFrom"]["secretKeyRef"]
                found[each["name"]] = self.secrets[key["name"]][key["key"]].decode()
        return {**found, **self.environment}

    def ends_well(self, command: Sequence[str]) -> bool:
        """Whether a probe succeeds."""
        probe = self.start(command)
        probe.communicate(timeout=PATIENCE)
        return probe.returncode == 0

    def start(self, command: Sequence[str], **more: str) -> subprocess.Popen[str]:
        """A command of our container, in a namespace of its own."""
        context = self.spec["securityContext"]
        hardened = self.ours["securityContext"]
        assert hardened["readOnlyRootFilesystem"] is True
        root = self.folder / "root"
        root.mkdir(exist_ok=True)
        words = shlex.join([sys.executable, "-m", "credentials_provider"])
        program = f'#!/bin/sh\nPYTHONPATH={shlex.quote(PACKAGES)} exec {words} "$@"\n'
        script = ROOT + f"printf %s {shlex.quote(program)} >program/credentials-provider\n"
        script += "chmod 0755 program/credentials-provider\n"
        for path in dict.fromkeys((sys.base_prefix, sys.prefix, CHECKOUT)):
            script += f"mkdir -p .{shlex.quote(path)}\nmount --bind {shlex.quote(path)} "
            script += f".{shlex.quote(path)}\n"
        for mount in self.ours["volumeMounts"]:
            place = shlex.quote("." + mount["mountPath"].replace("/var/run", "/run"))
            source = shlex.quote(str(self.volumes[mount["name"]]))
            script += f"mkdir -p {place}\nmount --bind {source} {place}\n"
            if mount.get("readOnly"):
                script += f"mount -o remount,ro,bind {place}\n"
        script += 'mount -o remount,ro "$root"\nexec chroot "$root" "$@"\n'
        privileges = ["--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]
        user = [f"--reuid={context['runAsUser']}", f"--regid={context['runAsGroup']}"]
        variables = {**self.variables(), **more}
        return subprocess.Popen(
            [
                *("unshare", "--mount", "/bin/sh", "-c", script, "sh", str(root)),
                *("/usr/bin/setpriv", *user, f"--groups={context['fsGroup']}", *privileges),
                *("/usr/bin/env", "-i", *(f"{name}={each}" for name, each in variables.items())),
                *command,
            ],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
