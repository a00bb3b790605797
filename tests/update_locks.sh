#!/bin/sh
# Writes requirements.lock and tests/requirements.lock anew from pyproject.toml, with uv: every
# platform, every Python from 3.10, every file's hash. Keeps the versions that still fit; with
# --upgrade, or --upgrade-package NAME, takes the newest.
set -eu

cd -P -- "$(dirname -- "$0")/.."
compile() {
    uv pip compile pyproject.toml --universal --python-version 3.10 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet "$@"
}
compile -o requirements.lock "$@"
compile --group test -c requirements.lock -o tests/requirements.lock "$@"
