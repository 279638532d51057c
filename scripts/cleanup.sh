#!/bin/sh
# Tidies up, for a timer: nobody is asked.
set -eu

usage() {
  cat <<'HELP'
Usage: cleanup.sh [--dry-run]

Deletes expired notes and the episodes that the configured retention does not keep, closes open episodes that nobody
works on any more, and gives free space back to the disk. With --dry-run it only tells what it would do.

The program is $KNOWHOW [knowhow]; its settings come from its file and environment, as always.
HELP
}

if [ "${1:-}" = --help ]; then usage; exit; fi
if [ $# -gt 1 ] || [ "${1:---dry-run}" != --dry-run ]; then usage >&2; exit 2; fi

exec "${KNOWHOW:-knowhow}" cleanup "${1:---yes}"
