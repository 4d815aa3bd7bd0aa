#!/usr/bin/env bash
# What the images and the units start runs as a user of no rights, with a root folder that cannot be written.
#
#   non-root.sh LONGHAND-BINARY
set -euo pipefail
longhand=$(realpath "$1")
deploy=$(realpath "$(dirname "$0")/..")
# shellcheck source=SCRIPTDIR/common.sh
. "$deploy/check/common.sh"
command -v bwrap >/dev/null || { echo 'non-root: bwrap is missing: run `make deploy-deps`' >&2; exit 1; }
work=$(mktemp -d /tmp/longhand-nonroot.XXXXXX)
finish() {
  code=$?
  [ "$code" = 0 ] || for file in "$work"/*.log; do echo "--- $file"; tail -n 20 "$file"; done >&2
  pkill -9 -f "$work" 2>/dev/null || true
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT

# Words that an entry point starts: of a unit its ExecStart, of an image ENTRYPOINT and CMD.
unit() { sed -n 's/^ExecStart=//p' "$deploy/systemd/$1"; }
image() {
  python3 - "$deploy/docker/Dockerfile" "$1" <<'PY'
import json, re, sys
text, target = open(sys.argv[1]).read(), sys.argv[2]
stage = re.split(r"^FROM .* AS ", text, flags=re.M)
stage = next(part for part in stage if part.startswith(target + "\n"))
assert re.search(r"^USER 10001:10001$", stage, re.M), "the image runs as root"
words = [word for key in ("ENTRYPOINT", "CMD") for word in json.loads(re.findall(rf"^{key} (\[.*\])$", stage, re.M)[-1])]
print(" ".join(words))
PY
}

state=$work/state
mkdir -p "$state"
chown -R 10001:10001 "$state"
chmod 755 "$work"
start() { # LOG ENVIRONMENT... -- COMMAND...
  local log=$1 environment=()
  shift
  while [ "$1" != -- ]; do environment+=(--setenv "${1%%=*}" "${1#*=}"); shift; done
  shift
  # The program under test stands where units and images have it.
  bwrap --unshare-user --uid 10001 --gid 10001 --unshare-pid --die-with-parent --ro-bind / / --dev /dev --proc /proc \
    --tmpfs /tmp --tmpfs /usr/local --ro-bind "$longhand" /usr/local/bin/longhand --tmpfs /var/lib --bind "$state" /var/lib/longhand --chdir /var/lib/longhand \
    --cap-drop ALL "${environment[@]}" /bin/sh -c '
      if touch /here 2>/dev/null; then echo "the root folder can be written"; exit 99; fi
      [ "$(id -u)" = 10001 ] || { echo "runs as $(id -u)"; exit 99; }
      export PATH=/usr/local/bin:$PATH; exec "$@"' sh "$@" >"$log" 2>&1 &
}

for way in 'unit longhand-coordinator.service|unit longhand-worker@.service' 'image coordinator|image worker'; do
  IFS='|' read -r first second <<<"$way"
  grpc=$(free_port) http=$(free_port) numbers=$(free_port)
  rm -rf "$state"; mkdir "$state"; chmod 777 "$state"
  # shellcheck disable=SC2046,SC2086
  start "$work/coordinator.log" LONGHAND_STORE=sqlite:/var/lib/longhand/longhand.sqlite LONGHAND_LISTEN=127.0.0.1:$grpc \
    LONGHAND_HTTP=127.0.0.1:$http LONGHAND_INSECURE=true -- $($first)
  coordinator=$!
  for _ in $(seq 100); do "$longhand" health --http "http://127.0.0.1:$http" >/dev/null 2>&1 && break; sleep 0.2; done
  "$longhand" health --http "http://127.0.0.1:$http" >/dev/null
  # shellcheck disable=SC2046,SC2086
  start "$work/worker.log" LONGHAND_COORDINATOR=http://127.0.0.1:$grpc LONGHAND_ENGINE=mock LONGHAND_EXIT_IDLE=2 \
    LONGHAND_WORKER_HTTP=127.0.0.1:$numbers -- $($second)
  worker=$!
  for _ in $(seq 100); do "$longhand" health --http "http://127.0.0.1:$numbers" >/dev/null 2>&1 && break; sleep 0.2; done
  "$longhand" health --http "http://127.0.0.1:$numbers" >/dev/null
  printf '{"id":"one","prompt":"Write about a harbour.","length":2000}\n' >"$work/in.jsonl"
  "$longhand" submit "$work/in.jsonl" --run-id one --coordinator "http://127.0.0.1:$grpc" >/dev/null
  timeout 60 "$longhand" watch one --coordinator "http://127.0.0.1:$grpc" >"$work/watch.log" 2>&1
  wait "$worker"
  pkill -TERM -P "$coordinator" longhand || pkill -TERM -P "$(pgrep -P "$coordinator" | head -n 1)" longhand
  wait "$coordinator"
  echo "non-root: ${first% *} entry points wrote a document as user 10001 under a read-only root folder"
done
