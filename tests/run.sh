#!/bin/sh
# Runs the tests, from any directory, in tests/.venv, which the first run makes from
# tests/requirements.lock. Arguments go to pytest, with paths relative to the project:
#
#   tests/run.sh                        everything
#   tests/run.sh tests/unit -k renewal  some
#   tests/run.sh -n 0 --pdb             in one process
#   tests/run.sh -n 0 -m slow           what needs minutes, root, cron or debootstrap
#   tests/run.sh --setup                none: sets up only
set -u

here=$0
case $here in */*) ;; *) here=./$here ;; esac
here=$(CDPATH='' cd -P -- "${here%/*}/" && pwd -P) || exit 2

/bin/sh "$here/../credentials-provider/setup_venv.sh" \
    "$here/.venv" "$here/requirements.lock" || exit
[ "${1-}" != --setup ] || exit 0

# What a shell may hold and a test must not see: where Python, TLS and tokens come from.
unset PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONWARNINGS VIRTUAL_ENV \
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE \
    HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy \
    ENTRA_TENANT_ID ENTRA_CLIENT_ID ENTRA_CLIENT_SECRET ENTRA_LOGIN_BASE_URL \
    NO_COLOR FORCE_COLOR

umask go-w # a umask of 000 must not let others write into the byte code that runs here
cd "$here/.." || exit 2
exec "$here/.venv/bin/python" -m pytest -n auto --maxprocesses 8 "$@"
