#!/bin/sh
# Fills the hot cache before a server starts.
set -eu

usage() {
  cat <<'HELP'
Usage: warm-cache.sh

Fills the hot cache of the configured database, so that the next start is warm. Fails if a process that runs has the
cache: then it is warm, or soon will be.

The program is $KNOWHOW [knowhow]; its settings come from its file and environment, as always.
HELP
}

if [ "${1:-}" = --help ]; then usage; exit; fi
if [ $# -gt 0 ]; then usage >&2; exit 2; fi

exec "${KNOWHOW:-knowhow}" cache warm
