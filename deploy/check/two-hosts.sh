#!/usr/bin/env bash
# Two hosts with mutual TLS and tokens, as network namespaces of this machine: the worker's host is cut off for longer than
# a lease and healed, and nothing is lost.
#
#   two-hosts.sh LONGHAND-BINARY
set -euo pipefail
longhand=$(realpath "$1")
deploy=$(realpath "$(dirname "$0")/..")
# shellcheck source=SCRIPTDIR/common.sh
. "$deploy/check/common.sh"
[ "$(id -u)" = 0 ] || { echo 'two-hosts: needs root: it makes network namespaces' >&2; exit 1; }
command -v ip >/dev/null || { echo 'two-hosts: ip is missing: run `make deploy-deps`' >&2; exit 1; }

work=$(mktemp -d /tmp/longhand-hosts.XXXXXX)
head=longhand-head-$$ other=longhand-other-$$
finish() {
  code=$?
  [ "$code" = 0 ] || for file in "$work"/*.log; do echo "--- $file"; tail -n 20 "$file"; done >&2
  for host in "$head" "$other"; do
    ip netns pids "$host" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
    ip netns delete "$host" 2>/dev/null || true
  done
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT

for host in "$head" "$other"; do
  ip netns add "$host"
  ip -n "$host" link set lo up
done
ip link add "lh-a$$" netns "$head" type veth peer name "lh-b$$" netns "$other"
ip -n "$head" address add 10.77.0.1/24 dev "lh-a$$"
ip -n "$other" address add 10.77.0.2/24 dev "lh-b$$"
ip -n "$head" link set "lh-a$$" up
ip -n "$other" link set "lh-b$$" up

"$deploy/tls/make-certificates.sh" "$work/tls" head 10.77.0.1
"$deploy/tls/make-certificates.sh" "$work/tls" workstation 10.77.0.2
umask 077
printf 'worker w-secret-0123456789\noperator o-secret-0123456789\n' >"$work/tokens"
echo w-secret-0123456789 >"$work/worker"
echo o-secret-0123456789 >"$work/operator"

ip netns exec "$head" "$longhand" coordinator --store "sqlite:$work/store.sqlite" --listen 10.77.0.1:7070 --http off \
  --lease-seconds 3 --token-file "$work/tokens" --tls-cert "$work/tls/head.pem" --tls-key "$work/tls/head.key" \
  --tls-client-ca "$work/tls/ca.pem" >"$work/coordinator.log" 2>&1 &
disown
operator() {
  ip netns exec "$head" "$longhand" "$@" --coordinator https://10.77.0.1:7070 --token-file "$work/operator" \
    --tls-ca "$work/tls/ca.pem" --tls-cert "$work/tls/head.pem" --tls-key "$work/tls/head.key"
}
answers() { operator status >/dev/null 2>&1; }
until_true 30 'the coordinator' answers
instructions 16 >"$work/instructions.jsonl"
operator submit "$work/instructions.jsonl" --run-id hosts >/dev/null

worker() { # NAME ARGS...
  local name=$1
  shift
  ip netns exec "$other" "$longhand" worker --coordinator https://10.77.0.1:7070 --engine mock \
    --mock-tokens-per-second 400 --max-sequences 4 --tls-ca "$work/tls/ca.pem" "$@" >"$work/$name.log" 2>&1
}
# A certificate is asked for as well as a token.
if worker stranger --token-file "$work/worker" --give-up-seconds 3; then
  echo 'two-hosts: a worker without a certificate was let in' >&2; exit 1
fi
worker worker --token-file "$work/worker" --tls-cert "$work/tls/workstation.pem" --tls-key "$work/tls/workstation.key" \
  --exit-idle 5 &
pid=$!

begun() { [ "$(count hosts leased)" -ge 1 ]; }
until_true 60 'the first lease' begun
ip -n "$other" link set "lh-b$$" down
echo 'two-hosts: the worker is cut off'
taken() { [ "$(count hosts leased)" = 0 ]; }
until_true 60 'the end of the leases' taken
ip -n "$other" link set "lh-b$$" up
echo 'two-hosts: healed'
all_ended() { [ "$(count hosts accepted rejected failed cancelled)" = 16 ]; }
until_true 180 'the end of all documents' all_ended
wait "$pid"
operator export hosts -o "$work/corpus" >/dev/null
whole "$work/corpus" 16
