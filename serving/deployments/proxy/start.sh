#!/bin/sh
# What Ray Serve runs as HAProxy (command.py puts it where Ray looks, with @HERE@ and @HAPROXY@ filled in): it mends the
# configuration that Ray has written, makes sure that each place was found, and becomes HAProxy.
set -eu

: "${CLINSERVE_PROXY_CONNECTIONS:=1024}"
[ "$CLINSERVE_PROXY_CONNECTIONS" != 0 ] || CLINSERVE_PROXY_CONNECTIONS=2147483647
if [ -z "${CLINSERVE_PROXY_PROOF:-}" ]; then # of the cluster's token, the same on all its machines: as proof.py does it
  token=${RAY_AUTH_TOKEN:-$(cat "${RAY_AUTH_TOKEN_PATH:-$HOME/.ray/auth_token}" 2>/dev/null || true)}
  [ -z "$token" ] || CLINSERVE_PROXY_PROOF=$(printf 'clinserve-proxy:%s' "$token" | sha256sum | cut -c1-64)
fi
CLINSERVE_PROXY_MOST=8192 # connections of all together: two and a half files each
files=$(ulimit -H -n)
if [ "$files" != unlimited ] && [ $(((files - 500) * 2 / 5)) -lt $CLINSERVE_PROXY_MOST ]; then
  CLINSERVE_PROXY_MOST=$(((files - 500) * 2 / 5))
fi
export CLINSERVE_PROXY_CONNECTIONS CLINSERVE_PROXY_PROOF CLINSERVE_PROXY_MOST

mend() {
  if grep -q 'put here by clinserve' "$1"; then return; fi # once is enough
  sed -i -E -f '@HERE@/mended.sed' "$1"
  grep -q '^frontend http_frontend' "$1" || return 0
  for place in 'proto h1' 'set-header x-clinserve-proxy' 'option forwardfor' 'mode 600 level admin'; do
    grep -q -- "$place" "$1" || { echo "clinserve: no place for '$place' in the HAProxy configuration of this Ray" >&2; exit 1; }
  done
}

for word in "$@"; do
  case "$word" in *.cfg) mend "$word" ;; esac
done
# -dS: Ray's configuration splices requests, and a spliced request makes HAProxy 2.8 overlook half of the clients that
# leave while they wait for a whole answer: the model would go on for nobody (measured: 4 of 8; with -dS 0 of 8).
exec @HAPROXY@ -dS "$@"
