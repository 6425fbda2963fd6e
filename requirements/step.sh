#!/usr/bin/env bash
# Run a command, saying what it is, that it still runs, and how long it took.
set -euo pipefail
echo "$1"
bash -euo pipefail -c "$2" &
command=$!
trap 'kill $command 2>/dev/null' INT TERM
next=15
while kill -0 $command 2>/dev/null; do
  sleep 0.5
  if ((SECONDS >= next)); then
    echo "      $SECONDS s so far"
    next=$((next + 15))
  fi
done
wait $command
echo "      done, $SECONDS s"
