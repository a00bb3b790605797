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

# Git Bash on Windows has the Python of a virtual environment elsewhere.
python=$root/.venv/bin/python
[ -x "$python" ] || python=$root/.venv/Scripts/python.exe

if ! { [ -x "$python" ] && cmp -s "$root/requirements.lock" "$root/.venv/requirements.lock"; }; then
    /bin/sh "$root/credentials-provider/setup_venv.sh" \
        "$root/.venv" "$root/requirements.lock" "$root/credentials-provider" || exit
    python=$root/.venv/bin/python
    [ -x "$python" ] || python=$root/.venv/Scripts/python.exe
fi

# Isolated (-I): neither PYTHONPATH nor the working directory decides what is imported.
exec "$python" -I "$root/credentials-provider/__main__.py" --script "$@"
