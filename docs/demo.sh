#!/bin/sh
# The five commands, one after another, in a scratch folder.
# Usage: docs/demo.sh [FOLDER]; `sil` must be on the PATH. A folder that is not empty is left alone: FOLDER-2 is used.
set -eu
wanted=${1:-demo}
folder=$wanted
number=2
while [ -n "$(ls -A "$folder" 2>/dev/null)" ]; do
    folder=$wanted-$number
    number=$((number + 1))
done
mkdir -p "$folder"
cd "$folder"

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$@"; "$@"; }

began=$(date +%s)
run sil prepare-data
run sil train
run sil evaluate
run sil index-gallery
target=$(sed -n 's/^target = "\(.*\)"/\1/p' data/protocol.toml)
query=$(ls "data/$target"/images/query/*.jpg | sed -n 7p)
run sil query "$query"

here=$(pwd)
printf '\nAll five commands took %s s.\n' "$(($(date +%s) - began))"
printf 'Look at the pictures and tables:\n'
printf '  %s\n' \
    "$here/data/samples.jpg       people as each camera network sees them" \
    "$here/matches.jpg            the query and its matches" \
    "$(ls -d "$here"/runs/* | tail -n 1)/metrics.jsonl   the training, epoch by epoch" \
    "$(ls "$here"/runs/*/evaluation/*/results.json | tail -n 1)   the scores"
