#!/bin/sh
# Says how the memory is doing, for a monitor.
set -eu

usage() {
  cat <<'HELP'
Usage: health-check.sh

Prints how the configured memory is doing, as JSON. Exit code: 0 if it is well, 1 if something is degraded or cannot be
reached, 3 if the configuration is wrong.

The program is $KNOWHOW [knowhow]; its settings come from its file and environment, as always.
HELP
}

if [ "${1:-}" = --help ]; then usage; exit; fi
if [ $# -gt 0 ]; then usage >&2; exit 2; fi

exec "${KNOWHOW:-knowhow}" health --json
