#!/bin/sh
# What an installation from the sources needs of a machine, said all at once: `make` runs it before it installs.
#   sh config/needs.sh [PYTHON]
python=${1:-python3}
missing=

lacks() {
  printf 'missing: %s\n' "$1" >&2
  missing=yes
}

if ! command -v "$python" > /dev/null 2>&1; then
  lacks "Python 3.11 or newer ($python is no command here); name another one with: make PYTHON=python3.12"
elif ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  lacks "Python 3.11 or newer; $python is $("$python" -V 2>&1), name another one with: make PYTHON=python3.12"
else
  "$python" -c 'import ensurepip, venv' 2> /dev/null ||
    lacks "Python's venv module (Debian and Ubuntu: apt-get install python3-venv)"
  "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
    lacks "Python's headers (Debian and Ubuntu: apt-get install python3-dev; Fedora: python3-devel)"
fi
command -v "${CC:-cc}" > /dev/null 2>&1 || command -v gcc > /dev/null 2>&1 || command -v clang > /dev/null 2>&1 ||
  lacks "a C compiler (Debian and Ubuntu: apt-get install gcc libc6-dev; Fedora: gcc)"
[ -w . ] || lacks "the right to write in $(pwd)"
# The environment takes about 750 MB.
free=$(df -Pk . | awk 'NR == 2 {print $4}')
[ "${free:-0}" -gt 900000 ] || lacks "room in $(pwd): $((free / 1024)) MB are free, about 900 are needed"

[ -z "$missing" ]
