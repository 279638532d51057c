#!/bin/sh
# Brings the tables of the database up to date.
set -eu

usage() {
  cat <<'HELP'
Usage: migrate.sh [--dry-run]

Tries on a copy what bringing the tables of the configured database up to date would change, and then does it; with
--dry-run it only tries. The file as it was is kept beside it.

The program is $KNOWHOW [knowhow]; its settings come from its file and environment, as always.
HELP
}

if [ "${1:-}" = --help ]; then usage; exit; fi
if [ $# -gt 1 ] || [ "${1:---dry-run}" != --dry-run ]; then usage >&2; exit 2; fi

knowhow=${KNOWHOW:-knowhow}
"$knowhow" migrate --dry-run
if [ $# -eq 0 ]; then "$knowhow" migrate; fi
