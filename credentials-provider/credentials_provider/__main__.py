"""The console script, and `python -m credentials_provider`."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
from typing import NoReturn


def main(args: list[str] | None = None, root: str = "", *, script: bool = False) -> NoReturn:
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
        _end(end.code)


def _end(code: str | int | None) -> NoReturn:
    """End the process at once; nothing waits for Python's own end.

    That takes every module apart, which takes milliseconds. It also lets OpenSSL clear itself away,
    and a daemon thread that is at work in it would crash the process (exit code 139). Other threads
    write files, and are waited for.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # too late: all is done
        signal.signal(number, lambda *_: None)
    if threading := sys.modules.get("threading"):
        for each in threading.enumerate():
            if not each.daemon and each is not threading.main_thread():
                with contextlib.suppress(RuntimeError):  # not begun: it has written nothing
                    each.join()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else code is not None)


if __name__ == "__main__":
    main()
