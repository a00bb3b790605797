"""The console script, and `python -m credentials_provider`."""

from __future__ import annotations

import signal


def main() -> None:
    """Run the program and exit."""
    # While modules are loaded there is nothing to clear up: a signal ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from credentials_provider.cli import main as run  # only now

    run()


if __name__ == "__main__":
    main()
