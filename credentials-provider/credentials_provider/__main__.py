"""The console script, and `python -m credentials_provider`."""

from __future__ import annotations

import gc
import signal


def main(args: list[str] | None = None, root: str = "", *, script: bool = False) -> None:
    """Run the program and exit, with the arguments of `cli.main`."""
    # While modules are loaded there is nothing to clear up: a signal ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A search for garbage among the modules takes a tenth of a cold start. msal leaves cycles: the
    # last two numbers keep 97 MB resident with 10,000 identities, not 127.
    gc.set_threshold(10_000, 5, 2)
    from credentials_provider.cli import main as run  # only now

    run(args, root, script=script)


if __name__ == "__main__":
    main()
