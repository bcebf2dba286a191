#!/bin/sh
# Runs the Bun that `npm install` brought. Its install script, which npm may or may not run, moves the binary from the
# platform's package to the package `bun`: take it from where it is.
modules=$(dirname "$0")/../node_modules
bun=$modules/@oven/bun-linux-x64/bin/bun
[ -x "$bun" ] || bun=$modules/bun/bin/bun.exe
[ -x "$bun" ] || { echo "dsm: Bun is not installed; run npm install" >&2; exit 1; }
exec "$bun" "$@"
