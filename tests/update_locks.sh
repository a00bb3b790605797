#!/bin/sh
# Writes the three locks anew from pyproject.toml, with uv: every platform, every Python from 3.10,
# wheels alone, every file's hash. Keeps the versions that still fit; with --upgrade, or
# --upgrade-package NAME, takes the newest.
#
#   requirements.lock        what a checkout runs: the program and all of its extras
#   requirements-build.lock  what makes a wheel; its versions stand in pyproject.toml
#   tests/requirements.lock  the first one's, and what the tests need
#
# Extras stay in the pins: pip before 23.3 takes `coverage==1` and `coverage[toml]>=1` for two
# requirements, looks for the newest release of the second, and refuses that for want of a hash.
set -eu

cd -P -- "$(dirname -- "$0")/.."
tests/run.sh --setup
compile() {
    tests/.venv/bin/uv pip compile --universal --python-version 3.10 --generate-hashes \
        --only-binary :all: --emit-build-options --no-strip-extras \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet "$@"
}
compile pyproject.toml --all-extras -o requirements.lock "$@"
compile pyproject.toml --all-extras --group test -c requirements.lock \
    -o tests/requirements.lock "$@"
sed -n '/^requires = \[/,/^]/s/^ *"\(.*\)",$/\1/p' pyproject.toml |
    compile - -o requirements-build.lock
