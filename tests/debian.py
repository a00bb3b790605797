"""A Debian of its own in a folder, made by debootstrap, and commands that run in it.

system = copy_of(debian, tmp_path / "system")     # `debian` is the session's fixture
run(system, "python3 --version", user=12345)
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from support import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PACKAGES = ("ca-certificates", "dbus", "python3-venv", "systemd")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def make(root: Path) -> Path:
    """Debian 12 with Python and systemd, this machine's names and certificates."""
    tools = ("debootstrap", "unshare", "chroot", "mount")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        pytest.skip(f"needs root and {', '.join(tools)}")
    line = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "bookworm"]
    made = subprocess.run(
        [*line, str(root)], capture_output=True, text=True, check=False, timeout=900
    )
    if made.returncode:
        pytest.skip(f"debootstrap: {made.stdout.splitlines()[-1:]}")
    root.chmod(0o755)  # it is the root folder of everybody in it
    for file in ("/etc/resolv.conf", "/etc/hosts", CERTIFICATES):
        shutil.copy(file, f"{root}{file}")
    return root


def copy_of(debian: Path, root: Path) -> Path:
    subprocess.run(["cp", "-a", "--reflink=auto", str(debian), str(root)], check=True)
    return root


def check_out(folder: Path, owner: int) -> None:
    """The committed and added files of this checkout, as a clone would have them."""
    line = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(line, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    for name in names.rstrip("\0").split("\0"):
        os.makedirs(os.path.dirname(folder / name), exist_ok=True)
        shutil.copy(os.path.join(CHECKOUT, name), folder / name)
    subprocess.run(["chown", "-R", f"{owner}:{owner}", str(folder)], check=True)


def run(
    root: Path,
    command: str | Sequence[str],
    *,
    user: int = 0,
    variables: dict[str, str] | None = None,
    read_only: bool = False,
    writable: Sequence[str] = (),
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """In that system, with a bare environment; a string is the shell's, under umask 000.

    Read-only means its whole file system, but for the folders that are named.
    """
    words = ["/bin/sh", "-c", f"umask 000; {command}"] if isinstance(command, str) else command
    given = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", **(variables or {})}
    environment = [f"{name}={value}" for name, value in given.items()]
    inside = ["chroot", f"--userspec={user}:{user}", str(root), "/usr/bin/env", "-i"]
    mounts = [f"mount --rbind /{name} {root}/{name}" for name in ("proc", "dev")]
    if read_only:
        binds = [f"mount --bind {root}{each} {root}{each}" for each in ("", *writable)]
        mounts = [*binds, f"mount -o remount,bind,ro {root}", *mounts]
    script = " && ".join([*mounts, f"exec {shlex.join([*inside, *environment, *words])}"])
    return subprocess.run(
        ["unshare", "--mount", "/bin/sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=options.pop("timeout", 900),
        **options,
    )
