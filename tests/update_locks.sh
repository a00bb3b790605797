#!/bin/sh
# Writes requirements.lock and tests/requirements.lock anew from pyproject.toml, with uv: every
# platform, every Python from 3.10, wheels alone, every wheel's hash. Keeps the versions that still
# fit; with --upgrade, or --upgrade-package NAME, takes the newest.
#
# Extras stay in the pins: pip before 23.3 takes `coverage==1` and `coverage[toml]>=1` for two
# requirements, looks for the newest release of the second, and refuses that for want of a hash.
set -eu

cd -P -- "$(dirname -- "$0")/.."
compile() {
    uv pip compile pyproject.toml --universal --python-version 3.10 --generate-hashes \
        --only-binary :all: --emit-build-options --no-strip-extras \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet "$@"
}
compile -o requirements.lock "$@"
compile --group test -c requirements.lock -o tests/requirements.lock "$@"
