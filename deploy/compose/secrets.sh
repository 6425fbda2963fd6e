#!/usr/bin/env bash
# Make the secrets that compose.yaml mounts, once. What is there stays: a database keeps the password that it was made with.
set -euo pipefail
cd "$(dirname "$0")"
# The folder is closed to others; the files are not, since the containers' users are others than you.
mkdir -p secrets && chmod 700 secrets
for name in database_password redis_password; do
  [[ -s secrets/$name ]] || head -c 32 /dev/urandom | sha256sum | cut -c1-64 | tr -d '\n' >"secrets/$name"
  chmod 644 "secrets/$name"
done
