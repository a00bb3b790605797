#!/bin/sh
# Usage: setup_venv.sh VENV LOCK [SOURCE] (absolute paths)
#
# Makes VENV a virtual environment with what the hashed requirements file LOCK names and nothing
# else, not even pip, and compiles the folder SOURCE. A copy of LOCK within VENV, put there last,
# says that it is complete: without it, or with another one, VENV is made anew. With uv where there
# is one, else (or if that fails) with Python's venv and pip, both with the user's own index
# settings. Any number of runs at once: one does it, the others wait.
# Exit status: 0; 2 with one line that says why, and the tools' last lines; 129, 130, 143.
set -u
umask go-w # a umask of 000 must not let others write into what runs here

venv=$1
lock=$2
source=${3-}
stamp=$venv/requirements.lock
busy=$venv.lock # the folder that the run that sets up holds
wait_limit=600

# They would point Python and pip at other places than VENV.
unset PYTHONHOME PYTHONPATH PIP_TARGET PIP_PREFIX PIP_ROOT UV_VENV_SEED

say() { printf 'credentials-provider: %s\n' "$1" >&2; }
fail() {
    say "$1"
    exit 2
}

# Where its Python is; Git Bash on Windows has it elsewhere.
find_venv_python() {
    venv_python=$venv/bin/python
    [ -x "$venv_python" ] || venv_python=$venv/Scripts/python.exe
    [ -x "$venv_python" ]
}

is_set_up() { find_venv_python && cmp -s "$lock" "$stamp"; }

# --- One at a time ---------------------------------------------------------------------------

# Whether the run that noted "PID HOST" is gone, and the tool that it ran as well. "Operation not
# permitted" would be another user's live process. After a restart the numbers may be strangers':
# an hour without a line in its logs tells, too.
is_gone() {
    [ -n "$(find "$busy" -mmin -60 2>&1)" ] || return 0
    [ "${1#* }" = "$(uname -n)" ] || return 1
    for process in "${1%% *}" "$(cat "$busy/tool" 2>/dev/null)"; do
        [ -n "$process" ] || continue
        error=$(LC_ALL=C && export LC_ALL && kill -0 "$process" 2>&1)
        case $error in *[Nn]"o such process"*) ;; *) return 1 ;; esac
    done
}

# Takes over what a killed run left behind. Many may try: one mkdir succeeds, and it only counts if
# the dead holder is still the one noted.
take_over() {
    mkdir "$busy/after-${1%% *}" 2>/dev/null && [ "$(cat "$busy/holder" 2>/dev/null)" = "$1" ]
}

hold() {
    started=$(date +%s)
    denied=0
    nameless=0
    told=
    until error=$(mkdir "$busy" 2>&1); do
        ! is_set_up || exit 0
        holder=$(cat "$busy/holder" 2>/dev/null)
        if [ -n "$holder" ]; then
            if is_gone "$holder" && take_over "$holder"; then break; fi
            [ -n "$told" ] || say "waiting for process ${holder%% *}, which sets up $venv"
            told=1
            denied=0
            nameless=0
        elif [ -d "$busy" ]; then # a second of this: killed before it could note its name
            denied=0
            nameless=$((nameless + 1))
            if [ "$nameless" -gt 5 ] && take_over ''; then break; fi
        else # three in a row are not another run's release
            denied=$((denied + 1))
            [ "$denied" -lt 3 ] || fail "$venv is not set up, and cannot be: $error"
        fi
        [ $(($(date +%s) - started)) -lt "$wait_limit" ] ||
            fail "another set-up holds $busy; if none is running, remove that folder"
        sleep 0.2 2>/dev/null || sleep 1
    done
    printf '%s %s\n' "$$" "$(uname -n)" >"$busy/holder"
}

# --- Tools, which can be interrupted ---------------------------------------------------------

child=
# shellcheck disable=SC2317,SC2329 # the traps call it
stop() {
    if [ -n "$child" ]; then
        kill -TERM "-$child" 2>/dev/null || kill -TERM "$child" 2>/dev/null
        wait "$child" 2>/dev/null
    fi
    exit "$1"
}

# The tools start helpers: those must end with them, not write on while the next run begins.
own_group='
import os, sys
os.setpgid(0, 0)
os.execvp(sys.argv[1], sys.argv[1:])
'

# run LOG COMMAND...: in the background, because a shell runs its traps between commands and amid a
# wait, but not amid a command.
run() {
    log=$busy/$1.log
    shift
    case $python in /*) set -- "$python" -I -c "$own_group" "$@" ;; esac
    "$@" </dev/null >>"$log" 2>&1 &
    child=$!
    echo "$child" >"$busy/tool"
    wait "$child"
    set -- $?
    child=
    return "$1"
}

# Prints the versioned name of a Python that is new enough: a virtual environment that links to
# plain python3 loses its packages silently when the system moves on to the next Python.
probe='
import importlib, os, sys
if sys.version_info < (3, 10):
    sys.exit(1)
importlib.import_module(sys.argv[1])
base = sys._base_executable
versioned = os.path.join(os.path.dirname(base), "python%d.%d" % sys.version_info[:2])
print(versioned if os.access(versioned, os.X_OK) else base)
'

# find_python MODULE: sets python to one that has the module.
find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        python=$("$name" -I -c "$probe" "$1" 2>/dev/null) && return
    done
    return 1
}

with_uv() {
    # uv does not read pip's variables: a user who set them meant them.
    [ -z "${PIP_INDEX_URL-}" ] ||
        export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX-${UV_INDEX_URL-$PIP_INDEX_URL}}"
    [ -z "${PIP_EXTRA_INDEX_URL-}" ] ||
        export UV_INDEX="${UV_INDEX-${UV_EXTRA_INDEX_URL-$PIP_EXTRA_INDEX_URL}}"
    [ -z "${PIP_CERT-}" ] || export SSL_CERT_FILE="${SSL_CERT_FILE-$PIP_CERT}"
    export UV_VENV_CLEAR=1 # as --clear, which older releases do not know
    find_python sys || python='>=3.10' # uv knows where to get one
    run uv uv venv --no-project --python "$python" "$venv" && find_venv_python &&
        run uv uv pip install --python "$venv_python" --require-hashes --compile-bytecode \
            -r "$busy/requirements.lock"
}

with_pip() {
    if ! find_python ensurepip; then
        reason='no Python 3.10 or newer found: install one, or uv, which brings its own'
        ! find_python sys ||
            reason="$python has no ensurepip: apt install python3-venv, or install uv"
        return 1
    fi
    run pip "$python" -I -m venv --clear "$venv" && find_venv_python &&
        run pip "$venv_python" -I -m pip install --no-input --disable-pip-version-check \
            --no-user --require-hashes -r "$busy/requirements.lock" &&
        run pip "$venv_python" -I -m pip uninstall --yes --disable-pip-version-check pip setuptools
}

# uv links files from its cache, with the permissions that they have there.
close() { chmod -R go-w "$venv"; }

# Spares the runs that may not write here the compiling. What others put there goes first.
compile() {
    [ -n "$source" ] || return 0
    find "$source" -name __pycache__ -prune -exec rm -rf {} +
    run compile "$venv_python" -I -m compileall -q "$source" || true # a checkout on a read-only disk
}

# ---------------------------------------------------------------------------------------------

trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM

! is_set_up || exit 0
hold
trap 'rm -rf "$busy"' EXIT
! is_set_up || exit 0 # the run that was waited for did it

say "setting up $venv (once, takes a few seconds)"
cd "${lock%/*}" || exit 2 # for uv, which reads the settings of the folder's project
reason="setting up $venv failed: this once, a package index must be reachable (HTTPS_PROXY, PIP_INDEX_URL)"
cp "$lock" "$busy/requirements.lock" && # as it is now: it may change meanwhile
    rm -f "$stamp" &&
    { [ -d "$venv" ] || rm -f "$venv"; } && # a file, or a link to nowhere
    { { command -v uv >/dev/null && with_uv; } || with_pip; } &&
    close && compile &&
    mv "$busy/requirements.lock" "$stamp" && exit 0

say "$reason"
for tool in uv pip; do
    if [ -s "$busy/$tool.log" ]; then
        printf '  %s said last:\n' "$tool" >&2
        tail -n 6 "$busy/$tool.log" | sed 's/^/    /' >&2
    fi
done
exit 2
