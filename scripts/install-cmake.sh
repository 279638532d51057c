#!/usr/bin/env bash
# Prints the folder of a cmake of version 3.20 or newer, which the feature `encryption` of knowhow-memory-storage-turso needs to be built.
# Installs the PyPI package of that name under target/tools if none is on the PATH, and nothing if it is there. Needs python3 and pip.
set -euo pipefail
cd "$(dirname "$0")/.."

place="${CARGO_TARGET_DIR:-target}/tools/cmake"
oldest="3.20"

# Whether this program is a cmake that is new enough.
is_new_enough() {
  local found
  found=$("$1" --version 2> /dev/null | sed -n '1s/^cmake version //p') || return 1
  [[ -n "$found" && "$(printf '%s\n' "$oldest" "$found" | sort --version-sort | head -n 1)" == "$oldest" ]]
}

if is_new_enough cmake; then
  dirname "$(command -v cmake)"
  exit 0
fi
if ! is_new_enough "$place/bin/cmake"; then
  rm -rf "$place"
  python3 -m venv "$place" >&2
  "$place/bin/python" -m pip install --quiet --disable-pip-version-check "cmake>=$oldest,<5" >&2
fi
if ! is_new_enough "$place/bin/cmake"; then
  echo "install-cmake.sh: $place/bin/cmake is not of version $oldest or newer" >&2
  exit 1
fi
realpath "$place/bin"
