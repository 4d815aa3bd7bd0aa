#!/usr/bin/env bash
# A rolling update: workers of one build with a coordinator of another, both ways round, over one store that lives on.
#
#   rolling.sh OLD-BINARY NEW-BINARY
set -euo pipefail
old=$(realpath "$1") new=$(realpath "$2")
# shellcheck source=SCRIPTDIR/common.sh
. "$(dirname "$0")/common.sh"
work=$(mktemp -d /tmp/longhand-rolling.XXXXXX)
finish() {
  code=$?
  [ "$code" = 0 ] || for file in "$work"/*.log; do echo "--- $file"; tail -n 20 "$file"; done >&2
  jobs -p | xargs -r kill -9 2>/dev/null || true
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
port=$(free_port)
url=http://127.0.0.1:$port

part() { # RUN COORDINATOR WORKER
  local name=$1
  "$2" coordinator --store "sqlite:$work/store.sqlite" --listen "127.0.0.1:$port" --http off --insecure >"$work/$name-coordinator.log" 2>&1 &
  local coordinator=$!
  for _ in $(seq 100); do "$2" status --coordinator "$url" >/dev/null 2>&1 && break; sleep 0.1; done
  instructions 3 >"$work/in.jsonl"
  "$2" submit "$work/in.jsonl" --run-id "$name" --coordinator "$url" >/dev/null
  "$3" worker --coordinator "$url" --engine mock >"$work/$name-worker.log" 2>&1 &
  local worker=$!
  timeout 60 "$2" watch "$name" --coordinator "$url" >"$work/$name-watch.log" 2>&1
  kill -TERM "$worker"; wait "$worker"
  "$2" export "$name" -o "$work/$name" --coordinator "$url" >/dev/null
  kill -TERM "$coordinator"; wait "$coordinator"
  whole "$work/$name" 3
}
part old-coordinator "$old" "$new"
part old-workers "$new" "$old"
echo "rolling: old coordinator with new workers, then new coordinator with old workers on the same store: 6 of 6 documents"
