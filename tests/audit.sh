#!/bin/sh
# Compares the pinned packages with the database of known vulnerabilities, by pip-audit, which it
# installs for itself; fails if one is known, or if one of them could not be looked up. Needs the
# network, so it is no part of .ci/run.
#
#   tests/audit.sh                   both locks
#   tests/audit.sh requirements.lock what the program needs
set -eu

cd -P -- "$(dirname -- "$0")/.."
[ $# -gt 0 ] || set -- requirements.lock tests/requirements.lock
for lock; do
    shift
    set -- "$@" -r "$lock"
done
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check pip-audit
"$folder/bin/python" -m pip_audit --strict --require-hashes --disable-pip "$@"
