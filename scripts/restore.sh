#!/bin/sh
# Makes the database anew from a backup.
set -eu

usage() {
  cat <<'HELP'
Usage: restore.sh BACKUP [--yes]

Checks BACKUP and makes the database that is configured anew from it. What was there is moved aside, not deleted; that is
asked for, unless --yes is given. Stop everything that uses the database first. At the end it is looked at by
`knowhow doctor`.

The program is $KNOWHOW [knowhow]; its settings come from its file and environment, as always.
HELP
}

if [ "${1:-}" = --help ]; then usage; exit; fi
if [ $# -lt 1 ] || [ $# -gt 2 ] || [ "${2:---yes}" != --yes ]; then usage >&2; exit 2; fi

knowhow=${KNOWHOW:-knowhow}
"$knowhow" restore "$@"
"$knowhow" doctor
