#!/usr/bin/env bash
# What the chart renders in its secure mode, started as Kubernetes would: with tokens and TLS, secrets that root owns and the
# pod's group may read, user 10001 without any right, and a root folder that cannot be written. Needs root.
#
#   secure-chart.sh LONGHAND-BINARY
set -euo pipefail
longhand=$(realpath "$1")
deploy=$(realpath "$(dirname "$0")/..")
# shellcheck source=SCRIPTDIR/common.sh
. "$deploy/check/common.sh"
command -v bwrap >/dev/null || { echo 'secure-chart: bwrap is missing: run `make deploy-deps`' >&2; exit 1; }
if [ "$(id -u)" != 0 ]; then
  echo 'secure-chart: NOT CHECKED: needs root, to start processes as another user'
  exit 0
fi
work=$(mktemp -d /tmp/longhand-secure.XXXXXX)
pids=()
finish() {
  code=$?
  [ "$code" = 0 ] || for file in "$work"/*.log; do echo "--- $file"; tail -n 20 "$file"; done >&2
  for pid in "${pids[@]}"; do { kill -9 "$pid" && wait "$pid"; } 2>/dev/null || true; done
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
chmod 755 "$work"

# The secrets, as a user makes them.
secrets=$work/secrets
mkdir -p "$secrets"/{tokens,worker-token,tls,worker-tls}
worker=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n') operator=$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')
printf 'worker %s\noperator %s\n' "$worker" "$operator" >"$secrets/tokens/tokens"
printf %s "$worker" >"$secrets/worker-token/worker"
printf %s "$operator" >"$work/operator"
chmod 600 "$work/operator"
for part in tls worker-tls; do
  "$deploy/tls/make-certificates.sh" "$work/made" "$part" 127.0.0.1 localhost
  cp "$work/made/$part.pem" "$secrets/$part/tls.crt"
  cp "$work/made/$part.key" "$secrets/$part/tls.key"
  cp "$work/made/ca.pem" "$secrets/$part/ca.crt"
done

# start PART LOG VARIABLE...: the rendered container, with these variables besides.
start() {
  local part=$1 log=$2 lines words=() mounts=() line secret folder mode items file
  shift 2
  mapfile -t lines < <(cd "$deploy/check" && python3 rendered.py "$part")
  eval "words=(${lines[0]})"
  for line in "${lines[@]:2}"; do
    IFS=: read -r secret folder mode items <<<"$line"
    file=$work/mounted/$part/$secret
    mkdir -p "$file"
    if [ -n "$items" ]; then cp "$secrets/$secret/${items%%=*}" "$file/${items#*=}"; else cp "$secrets/$secret"/* "$file"; fi
    chown -R root:10001 "$file"
    chmod "$mode" "$file"/*
    chmod 2755 "$file"
    mounts+=(--ro-bind "$file" "$folder")
  done
  # shellcheck disable=SC2086
  env "${words[@]}" "$@" bwrap --ro-bind / / --dev /dev --proc /proc --tmpfs /tmp --tmpfs /etc --perms 0755 --dir /etc/longhand --ro-bind /etc/passwd /etc/passwd --ro-bind /etc/group /etc/group "${mounts[@]}" \
    --tmpfs /usr/local --perms 0755 --dir /usr/local/bin --ro-bind "$longhand" /usr/local/bin/longhand --bind "$work/state" /tmp/state --chdir / \
    --cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID --cap-add CAP_SETPCAP --die-with-parent \
    setpriv --reuid=10001 --regid=10001 --clear-groups --bounding-set=-all --no-new-privs /bin/sh -c '
      if touch /here 2>/dev/null; then echo "the root folder can be written"; exit 99; fi
      exec /usr/local/bin/longhand "$@"' sh ${lines[1]} >"$log" 2>&1 &
  pids+=($!)
}

mkdir -p "$work/state"
chown 10001:10001 "$work/state"
grpc=$(free_port) http=$(free_port) numbers=$(free_port)
start coordinator "$work/coordinator.log" LONGHAND_STORE=sqlite:/tmp/state/longhand.sqlite "LONGHAND_LISTEN=0.0.0.0:$grpc" \
  "LONGHAND_HTTP=0.0.0.0:$http"
ready() { "$longhand" health --http "https://127.0.0.1:$1" --tls-ca "$work/made/ca.pem" >/dev/null 2>&1; }
until_true 30 'the start of the coordinator' ready "$http"
start worker "$work/worker.log" "LONGHAND_COORDINATOR=https://127.0.0.1:$grpc" LONGHAND_ENGINE=mock \
  "LONGHAND_WORKER_HTTP=0.0.0.0:$numbers"
until_true 30 'the start of the worker' ready "$numbers"
operator() { "$longhand" "$@" --coordinator "https://127.0.0.1:$grpc" --token-file "$work/operator" --tls-ca "$work/made/ca.pem"; }
instructions 2 >"$work/in.jsonl"
operator submit "$work/in.jsonl" --run-id two >/dev/null
timeout 60 "$longhand" watch two --coordinator "https://127.0.0.1:$grpc" --token-file "$work/operator" \
  --tls-ca "$work/made/ca.pem" >"$work/watch.log" 2>&1
[ "$(count two accepted)" = 2 ]
echo 'secure-chart: the rendered pods wrote two documents with tokens and TLS, as user 10001 under a read-only root folder'
