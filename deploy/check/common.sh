# Read by the checks that run a cluster. `check` is the name under which one speaks.
# shellcheck shell=bash

check=$(basename "$0" .sh)

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

until_true() { # SECONDS WHAT COMMAND...
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    [ "$SECONDS" -lt "$end" ] || { echo "$check: $what did not happen in time" >&2; exit 1; }
    sleep 0.3
  done
}

# Instructions 1 to N, one a line.
instructions() { # N
  local number
  for number in $(seq "$1"); do
    printf '{"id":"row-%s","prompt":"Write about harbour %s.","length":2000}\n' "$number" "$number"
  done
}

# Documents of a run in these states; `operator` is how the check calls longhand as an operator.
count() { # RUN STATE...
  local run=$1
  shift
  operator status "$run" --json | python3 -c '
import json, sys
run = json.loads(sys.stdin.readline())
counts = run.get("counts", run)
print(sum(counts.get(state, 0) for state in sys.argv[1:]))' "$@"
}

# Every document came through once, none failed.
whole() { # CORPUS DOCUMENTS
  python3 - "$check" "$1" "$2" <<'PY'
import glob, json, sys
check, corpus, documents = sys.argv[1], sys.argv[2], int(sys.argv[3])
ids = [json.loads(line)["id"] for path in glob.glob(f"{corpus}/data/*.jsonl") for line in open(path)]
rejected, failed = (sum(1 for _ in open(f"{corpus}/{name}.jsonl")) for name in ("rejected", "failed"))
assert len(ids) == len(set(ids)), "an id stands twice in the corpus"
assert failed == 0 and len(ids) + rejected == documents, (len(ids), rejected, failed)
print(f"{check}: {len(ids)} accepted, {rejected} rejected, {failed} failed of {documents}; none twice")
PY
}
