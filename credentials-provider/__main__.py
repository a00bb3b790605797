"""Starts the program from a checkout, to which its default paths then belong.

``python credentials-provider COMMAND``; ``--script`` first says that generate_creds.sh starts it,
whose command may be left out. Parses on Python 3.6, so that an old Python gets a sentence
instead of a syntax error.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(FOLDER)
OTHERS_MAY_NOT_WRITE = 0o022
ENOUGH = 1 << 22  # bytes for all byte code of this program


def give_up(problem: str) -> None:
    """Names the problem and its cure."""
    cure = os.path.join(ROOT, "generate_creds.sh")
    if sys.prefix == os.path.join(ROOT, ".venv"):
        problem += ", so " + sys.prefix + " is damaged"
        cure += " once you have removed it"
    sys.stderr.write("credentials-provider: " + problem + ": run " + cure + "\n")
    sys.exit(2)


def is_full() -> bool:
    """Whether the checkout's disk may have no room for byte code."""
    try:
        disk = os.statvfs(FOLDER)
    except (AttributeError, OSError):  # Windows
        return False
    return disk.f_bavail * disk.f_frsize < ENOUGH


def start() -> None:
    """Calls the program with this process's arguments."""
    if sys.version_info < (3, 10):  # noqa: UP036 - whom it is for does not come through pip
        give_up("needs Python 3.10 or newer, not {}.{}".format(*sys.version_info[:2]))
    umask = os.umask(OTHERS_MAY_NOT_WRITE)
    os.umask(umask)
    # Others could add byte code to that of this run. On a full disk Python before 3.14 leaves some
    # that is cut off, and no later run could start (https://github.com/python/cpython/issues/126606).
    if ~umask & OTHERS_MAY_NOT_WRITE or is_full():
        sys.dont_write_bytecode = True
    script = sys.argv[1:2] == ["--script"]
    if FOLDER not in sys.path:
        sys.path.insert(0, FOLDER)
    try:
        from credentials_provider.__main__ import main

        main(sys.argv[1 + script :], ROOT, script=script)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("credentials_provider"):
            raise
        give_up(f"the module {error.name} is missing")


if __name__ == "__main__":
    start()
