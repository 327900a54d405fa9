#!/bin/sh
# Install a wheel and nothing else into an empty environment, and run the five commands there on little data.
# Usage: tests/try_wheel.sh PYTHON WHEEL. A Python that is not on this machine is said to be missing, and passes.
set -eu
python=$1
wheel=$(realpath "$2")
demo=$(realpath "$(dirname "$0")/../docs/demo.sh")
"$python" -c '' 2>/dev/null || { echo "$python: not on this machine, not tried"; exit 0; }

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"$python" -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check "$wheel"
export PATH="$folder/venv/bin:$PATH" PYTHONPATH= OMP_NUM_THREADS=1
export SIL_DATA__SYNTHETIC__DOMAINS=3 SIL_DATA__SYNTHETIC__TRAIN_IDENTITIES=8 SIL_DATA__SYNTHETIC__TEST_IDENTITIES=8
export SIL_TRAIN__EPOCHS=2 SIL_TRAIN__ITERATIONS=4 SIL_TRAIN__MILESTONES='[1]' SIL_TRAIN__IDENTITIES=4
"$demo" demo >demo.log 2>&1 || { cat demo.log; echo "$python: FAILED"; exit 1; }
echo "$python: $(sil --version) from $(basename "$wheel"): $(grep 'All five' demo.log)"
