#!/bin/sh
# Make a virtual environment and install a lock file into it. Called by the Makefile:  setup.sh VENV LOCK
# PYTHON names the interpreter to use; without it the newest suitable one on the PATH is taken.
set -eu

venv=$1
lock=$2
need='import sys; sys.exit(sys.version_info < (3, 11))'

say() { printf 'makerdeck: %s\n' "$*" >&2; }

# A shim may be on the PATH with nothing behind it, so each candidate has to answer.
find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3 python3.14 python}; do
        if "$candidate" -c "$need" >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
    done
}

if ! "$venv/bin/python" -c "$need" >/dev/null 2>&1; then
    python=$(find_python)
    if [ -z "$python" ]; then
        if [ -n "${PYTHON:-}" ]; then
            say "PYTHON=$PYTHON is not Python 3.11 or newer"
        else
            say "no Python 3.11 or newer on the PATH; install one, or name it: make PYTHON=/path/to/python3.12 ..."
        fi
        exit 1
    fi
    say "making $venv with $("$python" -V)"
    rm -rf "$venv"
    if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
        rm -rf "$venv"
        say "$python cannot make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"
        exit 1
    fi
fi

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    "$venv/bin/python" -m ensurepip --default-pip >/dev/null
fi

say "installing $lock (only when it changed)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
