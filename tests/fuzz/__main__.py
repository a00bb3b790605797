"""A fuzzing session by coverage, where the package atheris is installed (Linux, macOS).

    PYTHONPATH=credentials-provider:tests python -m fuzz TARGET [libFuzzer's options]

What it finds goes, as small as possible, into REGRESSIONS of tests/faults/test_hostile.py.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["credentials_provider"]):
    from fuzz.targets import TARGETS


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m fuzz {'|'.join(TARGETS)} [libFuzzer's options]")
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
