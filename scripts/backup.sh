#!/bin/sh
# Backs the database up into a folder, and removes the oldest backups there.
set -eu

usage() {
  cat <<'HELP'
Usage: backup.sh FOLDER [KEEP]

Backs the database that is configured up into FOLDER, as knowhow-TIME.backup, while others use it. Then all but the
KEEP newest of these backups are removed [7]; none if the backup could not be made.

The program is $KNOWHOW [knowhow]; its settings come from its file and environment, as always.
HELP
}

if [ "${1:-}" = --help ]; then usage; exit; fi
if [ $# -lt 1 ] || [ $# -gt 2 ]; then usage >&2; exit 2; fi
folder=$1
keep=${2:-7}
case $keep in '' | 0 | *[!0-9]*) usage >&2; exit 2 ;; esac

mkdir -p "$folder"
# Two in the same second must not meet.
stamp=$(date -u +%Y%m%dT%H%M%SZ)
number=0
while [ -e "$folder/knowhow-$stamp-$number.backup" ]; do number=$((number + 1)); done
"${KNOWHOW:-knowhow}" backup "$folder/knowhow-$stamp-$number.backup"

# The names sort by time; a pattern of the shell is sorted.
set -- "$folder"/knowhow-*.backup
while [ $# -gt "$keep" ]; do
  rm -- "$1"
  shift
done
