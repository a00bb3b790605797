"""Starts the program from a checkout, to which its default paths then belong.

``python credentials-provider COMMAND``. Parses on Python 3.6, so that an old Python gets a sentence
instead of a syntax error.
"""

import os
import sys

FOLDER = os.path.dirname(os.path.realpath(__file__))
ROOT = os.path.dirname(FOLDER)


def give_up(problem: str) -> None:
    """Names the problem and its cure."""
    cure = os.path.join(ROOT, "generate_creds.sh")
    if sys.prefix == os.path.join(ROOT, ".venv"):
        problem += ", so " + sys.prefix + " is damaged"
        cure += " once you have removed it"
    sys.stderr.write("credentials-provider: " + problem + ": run " + cure + "\n")
    sys.exit(2)


def start() -> None:
    """Calls the program with this process's arguments."""
    if sys.version_info < (3, 10):  # noqa: UP036 - whom it is for does not come through pip
        give_up("needs Python 3.10 or newer, not {}.{}".format(*sys.version_info[:2]))
    if FOLDER not in sys.path:
        sys.path.insert(0, FOLDER)
    try:
        from credentials_provider.cli import main  # noqa: PLC0415

        main(sys.argv[1:], root=ROOT)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("credentials_provider"):
            raise
        give_up(f"the module {error.name} is missing")


if __name__ == "__main__":
    start()
