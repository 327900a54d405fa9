#!/bin/sh
# The five commands, one after another, in a scratch folder.
# Usage: docs/demo.sh [FOLDER]; `sil` must be on the PATH.
set -eu
folder=${1:-demo}
mkdir -p "$folder"
cd "$folder"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$@"; "$@"; }

began=$(date +%s)
run sil prepare-data
run sil train
run sil evaluate
run sil index-gallery
query=$(ls data/*/images/query/*.jpg | tail -n 1)
run sil query "$query"

here=$(pwd)
printf '\nAll five commands took %s s.\n' "$(($(date +%s) - began))"
printf 'Look at the pictures and tables:\n'
printf '  %s\n' \
    "$here/data/samples.jpg       people as each camera network sees them" \
    "$here/matches.jpg            the query and its matches" \
    "$(ls -d "$here"/runs/* | tail -n 1)/metrics.jsonl   the training, epoch by epoch" \
    "$(ls "$here"/runs/*/evaluation/*/results.json | tail -n 1)   the scores"
