#!/usr/bin/env bash
# corpus.sh MODEL INSTRUCTIONS OUTPUT: a whole corpus through a coordinator, its queue and one worker, as a fleet writes it.
set -euo pipefail

model=$1 input=$2 output=$3
rm -rf "$output"
mkdir -p "$output"
store="sqlite://$output/store.sqlite"
address=127.0.0.1:7970
./longhand coordinator --store "$store" --listen "$address" --http off >"$output/coordinator.log" 2>&1 &
coordinator=$!
worker=
trap 'kill $coordinator $worker 2>/dev/null || true; wait' EXIT
for _ in $(seq 100); do
  ./longhand status --coordinator "http://$address" >/dev/null 2>&1 && break
  sleep 0.1
done
begun=$(date +%s)
./longhand submit "$input" --coordinator "http://$address" --run-id gpu --recipe recipes/demo.toml
./longhand worker --coordinator "http://$address" --model "$model" --max-sequences "${SEQUENCES:-512}" \
  >"$output/worker.log" 2>&1 &
worker=$!
# Documents that failed are counted in stats.json; they do not make the others worth nothing. Neither does an end before
# all were written.
code=0
timeout "${CORPUS_SECONDS:-1800}" ./longhand watch gpu --coordinator "http://$address" || code=$?
seconds=$(($(date +%s) - begun))
case $code in
0 | 3) finished=true ;;
124) finished=false ;;
*) exit "$code" ;;
esac
./longhand export gpu --coordinator "http://$address" --output "$output/corpus"
cp "$output/corpus/stats.json" "$output/stats.json"
echo "{\"seconds\": $seconds, \"finished\": $finished}" >"$output/time.json"
