#!/bin/bash
# Makes a picture of the dashboard while the test double writes. Called by `make pictures` with the program and the file.
set -euo pipefail

longhand=$1 picture=$2
port=17080
folder=$(mktemp --directory)
trap 'kill "$run" 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

topics=(tides harbours glass copper orchards violins deserts winters lighthouses bridges tea paper)
lengths=(300 500 800 1000 1500 2000 3000 5000)
for ((row = 0; row < 120; row++)); do
  topic=${topics[row % ${#topics[@]}]} length=${lengths[row % ${#lengths[@]}]}
  echo "{\"id\": \"$topic-$row\", \"prompt\": \"Write a $length-word essay on the history of $topic, for issue $row of a newspaper.\"}"
done >"$folder/essays.jsonl"

"$longhand" run "$folder/essays.jsonl" -o "$folder/essays" --engine mock --mock-tokens-per-second 2500 \
  --http "127.0.0.1:$port" --insecure --quiet &
run=$!

# Until a third of the documents has ended, so that every panel has something to show.
until [ "$(curl --silent --fail "http://127.0.0.1:$port/api/runs/essays" | grep --only-matching '"accepted":[0-9]*' | head -n 1 | cut -d: -f2)" -ge 40 ] 2>/dev/null; do
  kill -0 "$run"
  sleep 1
done
"${CHROMIUM:-chromium}" --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1240,860 --timeout=4000 \
  --screenshot="$(realpath "$picture")" "http://127.0.0.1:$port/runs/essays"
