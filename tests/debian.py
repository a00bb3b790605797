"""A Debian of its own in a folder, made by debootstrap, and commands that run in it.

system = copy_of(debian, tmp_path / "system")     # `debian` is the session's fixture
run(system, "python3 --version", user=12345)
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from support import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PACKAGES = ("ca-certificates", "dbus", "libpam-systemd", "python3-venv", "systemd", "systemd-sysv")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def make(root: Path, release: str = "bookworm") -> Path:
    """A Debian with Python and systemd, this machine's names and certificates."""
    tools = ("debootstrap", "unshare", "chroot", "mount")
    if os.geteuid() != 0 or not all(map(shutil.which, tools)):
        pytest.skip(f"needs root and {', '.join(tools)}")
    line = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", release]
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


# Process 1 of its own namespaces. The root is pivoted, not chrooted: else the kernel refuses the
# user namespaces that a user's manager needs for a sandbox.
_BOOT = """
set -e
echo $$ >"$2/cgroup.procs"
exec unshare --pid --mount --uts --ipc --cgroup --fork --kill-child /bin/sh -ec '
    mount --make-rprivate /
    mount --bind "$1" "$1"
    cd "$1"
    mkdir -p old
    mount -t proc proc proc
    mount -t tmpfs tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    mount -t tmpfs -o mode=755 tmpfs dev
    for name in null zero full random urandom tty; do
        : >"dev/$name"
        mount --bind "/dev/$name" "dev/$name"
    done
    : >dev/console
    mkdir dev/pts dev/shm
    ln -s pts/ptmx dev/ptmx # PrivateDevices=yes looks for it
    mount -t devpts devpts dev/pts
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    mount -t sysfs -o ro sysfs sys
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    pivot_root . old
    umount -l /old
    exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd \
        --unit=multi-user.target </dev/null >/dev/null 2>&1
' boot "$1"
"""


class Machine:
    """A running systemd of its own."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def run(self, *line: str, user: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
        if user:
            given |= {"XDG_RUNTIME_DIR": f"/run/user/{user}", "HOME": "/home/user"}
        environment = [f"{name}={value}" for name, value in {**given, **variables}.items()]
        who = (
            [] if not user else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        )
        return subprocess.run(
            [
                "nsenter",
                "-t",
                str(self._pid),
                "-a",
                "/usr/bin/env",
                "-i",
                *environment,
                *who,
                *line,
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )


@contextlib.contextmanager
def boot(root: Path) -> Iterator[Machine]:
    """Starts systemd in that system; ends all of it at the end."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        found = [line.split()[4] for line in file if " - cgroup2 " in line]
    if not found:
        pytest.skip("needs a cgroup2 file system")
    group = os.path.join(found[0], f"test-{os.getpid()}")
    os.mkdir(group)
    process = subprocess.Popen(
        ["/bin/sh", "-c", _BOOT, "boot", str(root), group], stderr=subprocess.PIPE, text=True
    )
    try:
        machine = _booted(process)
        yield machine
    finally:
        process.kill()
        process.communicate()
        for folder, _, _ in os.walk(group, topdown=False):
            deadline = time.monotonic() + 10
            while os.path.isdir(folder) and time.monotonic() < deadline:
                with contextlib.suppress(OSError):  # its processes are about to end
                    os.rmdir(folder)
                time.sleep(0.05)


def _booted(process: subprocess.Popen[str]) -> Machine:
    children = f"/proc/{process.pid}/task/{process.pid}/children"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, IndexError), open(children, encoding="utf-8") as file:
            machine = Machine(int(file.read().split()[0]))
            state = machine.run("systemctl", "is-system-running").stdout.strip()
            if state in {"running", "degraded"}:
                return machine
        time.sleep(0.2)
    process.kill()
    pytest.skip(f"systemd does not start here: {process.communicate()[1][-200:]}")
