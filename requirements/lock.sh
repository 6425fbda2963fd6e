#!/usr/bin/env bash
# Resolve *.in into *.txt with hashes, for every supported Python. Needs uv: its path is the argument.
set -euo pipefail
cd "$(dirname "$0")"
uv=${1:?usage: lock.sh PATH_TO_UV}
[[ $uv == /* ]] || uv=../$uv
without=()
for package in torch torchvision torchaudio torchcodec triton; do without+=(--no-emit-package "$package"); done
compile=("$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --override overrides.txt "${without[@]}")
"${compile[@]}" serve.in -o serve.txt
"${compile[@]}" -c serve.txt dev.in -o dev.txt
"${compile[@]}" -c dev.txt load.in -o load.txt
"${compile[@]}" litellm.in -o litellm.txt
"${compile[@]}" checkov.in -o checkov.txt
"${compile[@]}" audit.in -o audit.txt
# Older clients, each beside the current one's dependencies: only itself is installed, in a folder of its own.
for major in 1 2; do "${compile[@]}" --no-deps openai-$major.in -o openai-$major.txt; done
# Frameworks, each set with all that it needs, in a folder of its own. Only what has wheels.
for set in frameworks llama-index; do
  "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
    --only-binary :all: $set.in -o $set.txt
done
