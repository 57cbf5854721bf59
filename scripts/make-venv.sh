#!/bin/sh
# Make the virtual environment DIR with the project and its development tools, pinned.
set -eu
dir=$1
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "brolga needs Python 3.11 or later; $python is $("$python" --version 2>&1)." >&2
    echo "Name another one: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
}
# Debian ships venv apart from python3.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-venv >/dev/null
    else
        echo "Python's venv module is missing: install it (Debian: apt-get install python3-venv)." >&2
        exit 1
    fi
fi
echo "Setting up $dir"
"$python" -m venv "$dir"
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements/dev.txt
# The build backend is pinned above as well, so nothing is fetched unpinned.
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
