#!/usr/bin/env bash
# Build an image with what this machine has: build.sh cpu|gpu|load NAME:TAG [more options of the builder].
# BUILDER: one of docker, podman, buildah; by default the first that works.
# PIP_CONF: a pip.conf for the build; no layer keeps it.
set -euo pipefail
cd "$(dirname "$0")/../.."
kind=${1:?usage: build.sh cpu|gpu|load NAME:TAG [OPTIONS]} tag=${2:?usage: build.sh cpu|gpu|load NAME:TAG [OPTIONS]}
shift 2
command=()
for builder in ${BUILDER:-docker podman buildah}; do
  # docker is often there without its daemon
  if "$builder" info >/dev/null 2>&1; then command=("$builder" build); break; fi
done
((${#command[@]})) || { echo "build.sh: needs docker, podman or buildah" >&2; exit 1; }
[[ -z ${PIP_CONF:-} ]] || command+=(--secret "id=pip,src=$PIP_CONF")
exec "${command[@]}" --file "deploy/images/$kind.Dockerfile" --tag "$tag" \
  --build-arg VERSION="$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
  --build-arg REVISION="$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
  --build-arg CREATED="$(git log -1 --format=%cI 2>/dev/null || echo 1970-01-01T00:00:00Z)" \
  "$@" .
