#!/bin/sh
# Access tokens for the identities of .oauth-tokens/entra-identities.json. The entry for people,
# cron and systemd: works from any directory, through symbolic links and with a bare environment.
#
#   generate_creds.sh [OPTIONS] [NAME...]   same as: credentials-provider generate ...
#   generate_creds.sh COMMAND ...           same as: credentials-provider COMMAND ...
#   generate_creds.sh --demo                same as: credentials-provider demo
#
# The first run makes .venv from requirements.lock. Every later one only compares that file with
# the copy in .venv, and starts the program.
set -u

self=$0
case $self in */*) ;; *) self=./$self ;; esac
while [ -L "$self" ]; do
    target=$(readlink "$self") || exit 2
    case $target in /*) self=$target ;; *) self=${self%/*}/$target ;; esac
done
root=$(CDPATH='' cd -P -- "${self%/*}/" && pwd -P) || exit 2

if ! { [ -x "$root/.venv/bin/python" ] &&
    cmp -s "$root/requirements.lock" "$root/.venv/requirements.lock"; }; then
    /bin/sh "$root/credentials-provider/setup_venv.sh" \
        "$root/.venv" "$root/requirements.lock" || exit
    # Spares the runs that may not write here the compiling; a checkout that is read-only already
    # goes without.
    "$root/.venv/bin/python" -m compileall -q \
        "$root/credentials-provider/credentials_provider" >/dev/null 2>&1
fi

case ${1-} in
    generate | status | inspect | token | exec | identities | doctor | watch | schedule | \
        mcp-config | mcp-bridge | emulator | demo | completion | help | version | --version) ;;
    --demo) shift && set -- demo "$@" ;;
    -h) shift && set -- generate --help "$@" ;;
    *) set -- generate "$@" ;;
esac
exec "$root/.venv/bin/python" "$root/credentials-provider/__main__.py" "$@"
