#!/bin/sh
# Starts the dsm program of the package for this platform, which a package manager puts beside this one or above it.
folder=$(dirname "$(readlink -f "$0")")
while :; do
  program=$folder/node_modules/@dsm/linux-x64/bin/dsm
  if [ -x "$program" ]; then exec "$program" "$@"; fi
  if [ "$folder" = / ]; then break; fi
  folder=$(dirname "$folder")
done
echo "dsm: the package @dsm/linux-x64 is not installed; install dsm without leaving out optional dependencies" >&2
exit 1
