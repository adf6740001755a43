#!/bin/sh
# Install nasnet without TensorFlow, and compile its built-in model for this machine's processor.
# usage: NASNET_CACHE_DIR=CACHE docker/install.sh FOLDER
# FOLDER becomes a virtual environment. Needs uv.
set -eu
source=$(cd "$(dirname "$0")/.." && pwd)
uv venv --quiet "$1"
uv pip install --quiet --compile-bytecode --python "$1" \
  --excludes "$source/without-tensorflow.txt" "$source"
# Labels, vectors and both at once are compiled each for itself.
made=$(mktemp -d)
for command in "classify -o $made/1.jsonl" "embed -o $made/2.npy" \
  "classify -o $made/3.csv --embed $made/3.npy"; do
  "$1/bin/nasnet" $command --quiet --model builtin "$source/examples/photos/cat.jpg"
done
rm -r "$made"
# Whoever runs the container may use the cache; one that others can write to is not used.
chmod -R a+rX,go-w "$NASNET_CACHE_DIR"
