#!/usr/bin/env bash
# Installs MLX with what serves embeddings (mlx-embeddings, mlx-vlm) for the tests of knowhow-memory-embed into a virtual environment
# under target/tools and prints its Python interpreter. Does nothing if it is there. Without python3 and pip it says SKIP and
# succeeds, as the tests do without MLX, unless KNOWHOW_REQUIRE_EMBEDDERS=1.
set -euo pipefail
cd "$(dirname "$0")/.."

place="${CARGO_TARGET_DIR:-target}/tools/mlx"
packages=("mlx[cpu]==0.32.4" "mlx-embeddings==0.1.0" "mlx-vlm==0.7.10")

# That this very list was installed to the end.
is_installed() { [[ "$(cat "$place/installed" 2> /dev/null)" == "${packages[*]}" ]] && "$place/bin/python" -c "import mlx.core" 2> /dev/null; }

if ! is_installed; then
  rm -rf "$place"
  if ! python3 -m venv "$place" > /dev/null 2>&1; then
    echo "SKIP: python3 with venv and pip is not installed, and MLX comes as PyPI packages" >&2
    [[ "${KNOWHOW_REQUIRE_EMBEDDERS:-}" != 1 ]]
    exit
  fi
  "$place/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" >&2
  echo "${packages[*]}" > "$place/installed"
fi
if ! is_installed; then
  echo "install-mlx.sh: $place/bin/python cannot import mlx.core" >&2
  exit 1
fi
echo "$(realpath "$place")/bin/python"
