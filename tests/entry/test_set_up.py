"""The set-up of .venv: once, whole, by one run at a time, with uv or with pip."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from entry.conftest import FAKE_PYTHON, FAKE_UV, PROJECT, Checkout

# As FAKE_UV, but stays in "pip install" until it is told to end.
SLOW_UV = FAKE_UV + '[ "$1" = venv ] || exec sleep 30\n'
BRIEF_UV = FAKE_UV + '[ "$1" = venv ] || sleep 0.5\n'
BROKEN_UV = '#!/bin/sh\necho "uv $*" >>"$CALLS"\necho "uv: no route" >&2\nexit 1\n'
DEAD = 2**22 + 1  # beyond every system's process numbers


def python_that(condition: str) -> str:
    """A stand-in for Python that finds its probe failing where the shell condition holds."""
    return FAKE_PYTHON.replace("'-I -c')", f"'-I -c')\n        {condition} && exit 1")


def await_(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def setup_command(checkout: Checkout, shell: str = "/bin/sh") -> list[str]:
    script = checkout.path("credentials-provider/setup_venv.sh")
    return [shell, script, checkout.venv, checkout.path("requirements.lock")]


def test_with_uv(checkout: Checkout) -> None:
    """With uv: one line on stderr, packages by their hashes, bytecode made, then the program."""
    checkout.tool("uv", FAKE_UV)
    checkout.tool("python3", FAKE_PYTHON)
    done = checkout.start("status")
    assert done.seen["args"] == ["status"]
    assert [call.split(" --")[0] for call in done.calls] == ["uv venv", "uv pip install"]
    assert "--require-hashes --compile-bytecode" in done.calls[1]
    assert done.stderr.count("\n") == 1
    assert checkout.complete
    assert not os.path.exists(checkout.busy)
    assert os.path.isdir(checkout.path("credentials-provider/credentials_provider/__pycache__"))
    again = checkout.start("status")
    assert (again.calls, again.stderr) == ([], "")


def test_with_pip(checkout: Checkout) -> None:
    """Without uv: Python's own venv and pip, packages by their hashes."""
    checkout.tool("python3", FAKE_PYTHON)
    done = checkout.start("status")
    assert done.seen["args"] == ["status"]
    assert [call.split(" --")[0] for call in done.calls] == [
        "python -m venv",
        "python -m pip install",
        "python -m pip uninstall",
        "python -m compileall -q " + checkout.path("credentials-provider"),
    ]
    assert "--require-hashes" in done.calls[1]
    assert done.calls[2].endswith(" pip setuptools")
    assert checkout.complete


def test_with_pip_after_uv(checkout: Checkout) -> None:
    """Where uv fails (it knows other indexes than pip), pip has its turn, without more words."""
    checkout.tool("uv", BROKEN_UV)
    checkout.tool("python3", FAKE_PYTHON)
    done = checkout.start("status")
    assert done.code == 0
    assert any(call.startswith("python -m pip") for call in done.calls)
    assert done.stderr.count("\n") == 1


def test_failure(checkout: Checkout) -> None:
    """A failed set-up exits with 2, shows the tools' last lines, and is tried again."""
    checkout.tool("uv", BROKEN_UV)
    checkout.tool(
        "python3",
        FAKE_PYTHON.replace("shift", '[ "$3" != pip ] || { echo no index; exit 1; }; shift'),
    )
    done = checkout.start("status")
    assert (done.code, done.stdout) == (2, "")
    assert "uv: no route" in done.stderr
    assert "no index" in done.stderr
    assert not checkout.complete
    assert not os.path.exists(checkout.busy)
    checkout.tool("uv", FAKE_UV)
    assert checkout.start("status").code == 0


@pytest.mark.parametrize(
    ("pythons", "expected"),
    [
        ({}, "no Python 3.10 or newer"),
        ({"python3": python_that("true")}, "no Python 3.10 or newer"),
        ({"python3": python_that('[ "$4" = ensurepip ]')}, "apt install python3-venv"),
    ],
    ids=["none", "old", "no ensurepip"],
)
def test_no_python(checkout: Checkout, pythons: dict[str, str], expected: str) -> None:
    """A machine without a usable Python is told what to install, in one line."""
    for name, script in pythons.items():
        checkout.tool(name, script)
    done = checkout.start()
    assert done.code == 2
    assert expected in done.stderr.splitlines()[-1]
    assert "uv" in done.stderr.splitlines()[-1]
    assert not os.path.exists(checkout.venv)


@pytest.mark.parametrize("lack", ["true", '[ "$4" = ensurepip ]'], ids=["old", "no ensurepip"])
def test_next_python(checkout: Checkout, lack: str) -> None:
    """Where python3 is too old, or without ensurepip, a versioned one is found."""
    checkout.tool("python3", python_that(lack))
    checkout.tool("python3.12", FAKE_PYTHON)
    assert checkout.start().code == 0


def test_uv_brings_python(checkout: Checkout) -> None:
    """Where no Python is new enough, uv is asked for one."""
    checkout.tool("uv", FAKE_UV)
    assert "--python >=3.10" in checkout.start().calls[0]


def test_versioned_python(checkout: Checkout) -> None:
    """.venv links to a versioned Python, which vanishes visibly when the system replaces it."""
    checkout.tool("uv", FAKE_UV)
    folder = os.path.dirname(checkout.bin)
    for name in ("python3", "python3.12"):
        checkout.write(os.path.join(folder, "usr", name), FAKE_PYTHON)
        os.chmod(os.path.join(folder, "usr", name), 0o755)
    checkout.tool(
        "python3",
        "#!/bin/sh\n"
        f'sed "s#^base = .*#base = \\"{folder}/usr/python3\\"#;s#sys.version_info#(3, 12)#" '
        f'>"{folder}/probe" <<END\n$3\nEND\nexec "$PYTHON" -I "{folder}/probe" "$4"\n',
    )
    assert f"--python {folder}/usr/python3.12 " in checkout.start().calls[0]


def test_pips_settings_reach_uv(checkout: Checkout) -> None:
    """An index that the user set for pip is uv's too; the user's own settings of uv win."""
    checkout.tool("uv", FAKE_UV.replace("$*", "$UV_DEFAULT_INDEX $SSL_CERT_FILE $UV_INDEX"))
    pip = {"PIP_INDEX_URL": "https://pip.test", "PIP_CERT": "/ca"}
    assert checkout.run(*setup_command(checkout), env=pip).calls[0] == "uv https://pip.test /ca "
    shutil.rmtree(checkout.venv)
    own = {**pip, "UV_DEFAULT_INDEX": "https://uv.test", "PIP_EXTRA_INDEX_URL": "https://x.test"}
    assert checkout.run(*setup_command(checkout), env=own).calls[0] == (
        "uv https://uv.test /ca https://x.test"
    )


@pytest.mark.parametrize("shell", ["dash", "bash", "zsh", "busybox"])
def test_shells(checkout: Checkout, shell: str) -> None:
    """Any POSIX shell sets up."""
    found = shutil.which(shell)
    if not found:
        pytest.skip("not here")
    checkout.tool("uv", FAKE_UV)
    command = setup_command(checkout, found)
    if shell == "busybox":
        command.insert(1, "sh")
    assert checkout.run(*command).code == 0
    assert checkout.complete
    assert not os.path.exists(checkout.busy)


@pytest.mark.parametrize(
    "damage",
    [
        "echo nothing==3 >requirements.lock",
        "rm .venv/requirements.lock",
        "ln -sfn /gone .venv/bin/python",
        "rm -r .venv/bin",
        "rm -r .venv && touch .venv",
        "rm -r .venv && ln -s gone .venv",
    ],
    ids=[
        "other lock",
        "someone else's",
        "Python gone",
        "half of it",
        "a file",
        "a link to nowhere",
    ],
)
def test_made_anew(checkout: Checkout, damage: str) -> None:
    """A .venv that is not this lock's, not ours, or without its Python is made anew."""
    checkout.tool("uv", FAKE_UV)
    checkout.set_up()
    assert checkout.run("/bin/sh", "-c", damage).code == 0
    done = checkout.start()
    assert (done.code, len(done.calls)) == (0, 2)
    assert checkout.complete


def test_lock_changes_meanwhile(checkout: Checkout) -> None:
    """What is installed is what the stamp says, even if the lock file changes during a set-up."""
    checkout.tool(
        "uv", FAKE_UV + f'[ "$1" = venv ] && echo x==2 >"{checkout.path("requirements.lock")}"; :\n'
    )
    assert checkout.start().code == 0
    assert checkout.read(".venv/requirements.lock") == "nothing==1\n"
    assert not checkout.complete


@pytest.mark.parametrize(
    "left_behind",
    [None, f"{DEAD} {os.uname().nodename}\n", ""],
    ids=["nothing", "a killed run's lock", "a lock without a name"],
)
def test_many_at_once(checkout: Checkout, left_behind: str | None) -> None:
    """Of many first runs one sets up, and all succeed, whatever a killed run left behind."""
    checkout.tool("uv", BRIEF_UV)
    if left_behind is not None:
        checkout.write(".venv.lock/holder", left_behind)
    runs = [checkout.popen([checkout.path("generate_creds.sh"), "status"]) for _ in range(8)]
    errors = [run.communicate(timeout=60)[1] for run in runs]
    assert [run.returncode for run in runs] == [0] * len(runs), errors
    assert len(checkout.calls()) == 2
    assert not os.path.exists(checkout.busy)


def test_restart(checkout: Checkout) -> None:
    """A lock that is an hour old is nobody's, whoever has the number of its process now."""
    checkout.tool("uv", FAKE_UV)
    holder = checkout.write(".venv.lock/holder", f"{os.getpid()} {os.uname().nodename}\n")
    for path in (holder, checkout.busy):
        os.utime(path, (time.time() - 3700,) * 2)
    assert checkout.start().code == 0


@pytest.mark.parametrize("host", [os.uname().nodename, "another"])
def test_patience_ends(checkout: Checkout, host: str) -> None:
    """A run that waits for too long says what to remove; another host's process counts as live."""
    checkout.tool("uv", FAKE_UV)
    script = checkout.read("credentials-provider/setup_venv.sh")
    checkout.write(
        "credentials-provider/setup_venv.sh", script.replace("wait_limit=600", "wait_limit=0")
    )
    pid = os.getpid() if host != "another" else DEAD
    checkout.write(".venv.lock/holder", f"{pid} {host}\n")
    done = checkout.start()
    assert (done.code, done.calls) == (2, [])
    assert str(pid) in done.stderr
    assert checkout.busy in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_interrupted(checkout: Checkout, number: signal.Signals, code: int) -> None:
    """A signal ends the tool and the set-up at once; the next run begins anew."""
    checkout.tool("uv", SLOW_UV)
    process = checkout.popen(setup_command(checkout))
    await_(lambda: len(checkout.calls()) == 2)
    process.send_signal(number)
    process.communicate(timeout=10)
    assert process.returncode == code
    assert not checkout.complete
    assert not os.path.exists(checkout.busy)
    checkout.tool("uv", FAKE_UV)
    assert checkout.start().code == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_helpers(checkout: Checkout, number: signal.Signals) -> None:
    """What the tools started ends with them (venv runs ensurepip, which runs pip)."""
    helper = checkout.path("helper")
    checkout.tool(
        "python3",
        FAKE_PYTHON.replace("shift", f"""sleep 30 & echo $! >"{helper}"; wait; shift"""),
    )
    process = checkout.popen([checkout.path("generate_creds.sh")], start_new_session=True)
    await_(lambda: os.path.exists(helper) and checkout.read(helper) != "")
    os.killpg(process.pid, number)
    process.communicate(timeout=10)
    pid = int(checkout.read(helper))
    await_(lambda: not is_running(pid))
    await_(lambda: not os.path.exists(checkout.busy))


def test_killed(checkout: Checkout) -> None:
    """After SIGKILL the next run begins anew, once the tool that went on alone has ended."""
    checkout.tool("uv", SLOW_UV)
    process = checkout.popen(setup_command(checkout))
    await_(lambda: len(checkout.calls()) == 2 and os.path.exists(checkout.path(".venv.lock/tool")))
    process.kill()
    process.wait()
    assert not checkout.complete
    checkout.tool("uv", FAKE_UV)
    following = checkout.popen([checkout.path("generate_creds.sh")])
    time.sleep(0.4)
    assert following.poll() is None
    assert len(checkout.calls()) == 2
    os.kill(int(checkout.read(".venv.lock/tool")), signal.SIGKILL)
    assert following.communicate(timeout=20)[1].count("waiting for process") == 1
    assert following.returncode == 0
    assert len(checkout.calls()) == 4
    process.communicate()


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o077])
def test_umask(checkout: Checkout, umask: int) -> None:
    """Group and others may write into nothing that a set-up leaves, whatever umask and tools do.

    uv links files from its cache with the permissions that they have there. Byte code that was
    planted in a folder that was open once is gone.
    """
    checkout.tool(
        "uv", FAKE_UV + 'umask 0; mkdir -p "$ROOT/.venv/lib"; : >"$ROOT/.venv/lib/x.py"\n'
    )
    planted = checkout.write("credentials-provider/credentials_provider/__pycache__/x.pyc", "")
    os.chmod(os.path.dirname(planted), 0o777)
    assert checkout.start(umask=umask, env={"ROOT": checkout.root}).code == 0
    assert os.path.exists(checkout.path(".venv/lib/x.py"))
    for folder, _, names in os.walk(checkout.root):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            assert os.path.islink(path) or not os.stat(path).st_mode & 0o022, path
    assert not os.path.exists(planted)
    assert os.path.isdir(os.path.dirname(planted))


def test_read_only_checkout(checkout: Checkout) -> None:
    """Where .venv neither is nor can be, one line says so."""
    checkout.tool("uv", FAKE_UV)
    done = checkout.start(**checkout.protect())
    assert (done.code, done.calls) == (2, [])
    assert done.stderr.count("\n") == 1
    assert "not set up" in done.stderr


@pytest.mark.timeout(400)  # it downloads what the lock pins
def test_for_real(checkout: Checkout) -> None:
    """The real lock file, tools and index: everything that the program imports is there."""
    shutil.copy(os.path.join(PROJECT, "requirements.lock"), checkout.root)
    done = subprocess.run(
        [checkout.path("generate_creds.sh"), "status"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    offline = ("Connection", "certificate", "Failed to fetch", "No matching distribution")
    if done.returncode == 2 and any(word in done.stderr for word in offline):
        pytest.skip("no package index within reach")
    assert done.returncode == 0, done.stderr
    names = "azure.identity, azure.keyvault.secrets, certifi, click, cryptography, dotenv"
    names += ", filelock, msal, pydantic, rich, tenacity, trustme, urllib3"
    subprocess.run([checkout.path(".venv/bin/python"), "-c", f"import {names}"], check=True)
