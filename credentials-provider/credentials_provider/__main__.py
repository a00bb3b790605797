"""The console script, and `python -m credentials_provider`."""

from __future__ import annotations

import gc
import os
import signal
import sys


def main(args: list[str] | None = None, root: str = "", *, script: bool = False) -> None:
    """Run the program and exit, with the arguments of `cli.main`."""
    # While modules are loaded there is nothing to clear up: a signal ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A search for garbage among the modules takes a tenth of a cold start. msal leaves cycles: the
    # last two numbers keep 97 MB resident with 10,000 identities, not 127.
    gc.set_threshold(10_000, 5, 2)
    from credentials_provider.cli import main as run  # only now

    try:
        run(args, root, script=script)
    except SystemExit as end:
        _leave_threads(end.code)
        raise


def _leave_threads(code: str | int | None) -> None:
    """End the process here if a daemon thread is left.

    Python's own end lets OpenSSL clear itself away; a thread that is at work in it would crash the
    process then (exit code 139). Other threads write files, and are waited for.
    """
    threading = sys.modules.get("threading")
    if threading is None or not any(each.daemon for each in threading.enumerate()):
        return
    import contextlib  # only now

    for each in threading.enumerate():
        if not each.daemon and each is not threading.main_thread():
            each.join()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
