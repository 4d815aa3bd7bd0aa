#!/usr/bin/env bash
# Everything that only a machine with a GPU can tell: run it in the folder that `make gpu` packs (or in one call:
# `target/gpu/run.sh RESULTS`). It needs the driver, CUDA 12 or 13, and Python with torch and transformers; no network.
# Phases may be named (RESULTS sanitizer selftest tests transformers bench corpus profile), and BUDGET=SECONDS is the time
# that all of them may take: what it cuts short, and what fails, is told at the end. The table is printed last whatever
# happened, of all that RESULTS holds, so phases may also come one call after the other.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
results=${1:-$here/results}
shift || true
phases=("$@")
# What tells most comes first.
[ ${#phases[@]} -gt 0 ] || phases=(selftest tests bench profile transformers sanitizer corpus)
budget=${BUDGET:-7200}
mkdir -p "$results"
results=$(cd "$results" && pwd)
cd "$here" || exit 2

# What travels may have been compressed and cut.
for program in longhand devices; do
  [ -x "$program" ] || { gzip --decompress --keep --force "$program.gz" && chmod +x "$program"; } || exit 2
done
model=$here/SmolLM2-135M-Instruct.Q4_1.gguf
[ -f "$model" ] || { cat "$model".part-* >"$model.joining" && mv "$model.joining" "$model"; }
if ! sha256sum --check --quiet model.sha256; then
  echo "$model is damaged or not all here: phases that need it fail; copy its parts again" >&2
  rm -f "$model"
fi

# PyTorch's wheels bring the CUDA libraries that a machine may lack otherwise. Those newer than the driver are of no use.
wheels=$(python3 -c 'import importlib.util, glob, os
spec = importlib.util.find_spec("nvidia")
roots = list(spec.submodule_search_locations) if spec else []
print("\n".join(sorted({d for r in roots for d in glob.glob(os.path.join(r, "**", "lib"), recursive=True)})))' 2>/dev/null)
driver=$(nvidia-smi 2>/dev/null | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p')
while read -r folder; do
  if [ ! -e "$folder/libnvrtc.so.13" ] && [ ! -e "$folder/libcublasLt.so.13" ] || [ "${driver:-13}" -ge 13 ]; then
    LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
  fi
done < <(printf '%s\n' /usr/local/cuda/lib64 /usr/local/cuda-12*/lib64 "$wheels")
export LD_LIBRARY_PATH
export LONGHAND_DEVICE=cuda

failed=()
# Seconds of the budget that are left.
left() { echo $((budget - SECONDS)); }

# phase SECONDS NAME COMMAND...: its output goes to RESULTS/NAME.log; a failure is kept, and the next phase begins.
phase() {
  local most=$1 name=$2 begun=$SECONDS code
  shift 2
  [ "$most" -lt "$(left)" ] || most=$(left)
  if [ "$most" -lt 10 ]; then
    echo "== $name: left out, as the time is up"
    failed+=("$name (left out)")
    return 1
  fi
  echo "== $name: $*"
  timeout --kill-after 10 "$most" "$@" >"$results/$name.log" 2>&1
  code=$?
  if [ $code -eq 0 ]; then
    echo "   ok, $((SECONDS - begun)) s"
    return
  fi
  [ $code -ne 124 ] || code="124, its time being over,"
  echo "   FAILED with $code after $((SECONDS - begun)) s; the end of its log:"
  tail -n 15 "$results/$name.log"
  failed+=("$name")
  return 1
}

# bench NAME SHAPE... -- OPTIONS: one process, and one JSON line a shape, for the table.
bench() {
  local name=$1 shapes=()
  shift
  while [ "$1" != -- ]; do
    shapes+=(--shape "$1")
    shift
  done
  shift
  phase 420 "bench-$name" ./longhand bench engine --json "${shapes[@]}" "$@"
  grep '^{' "$results/bench-$name.log" 2>/dev/null
}

{ date --utc +%FT%TZ; nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; ./longhand --version; } \
  >"$results/machine.txt" 2>&1

selftest() {
  phase 300 selftest ./longhand selftest --model "$model"
  phase 300 selftest-deterministic ./longhand selftest --deterministic --model "$model"
}

sanitizer() {
  local tool
  for tool in memcheck racecheck; do
    phase 400 "sanitizer-$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 ./longhand selftest --quick
  done
}

# The one suite of numeric tests, on the GPU as on the processor: logits of transformers for every family, chunks, company,
# the small model's greedy texts.
tests() {
  phase 400 tests env CARGO_MANIFEST_DIR="$here/worker" LONGHAND_TEST_MODEL="$model" LONGHAND_TEST_CUDA=1 \
    ./devices --test-threads 1 --nocapture
}

# Bigger random models of both shapes, whose logits transformers computes in float32 here.
transformers() {
  local like
  for like in llama qwen; do
    phase 200 "transformers-$like" python3 reference.py "$like" "worker/tests/fixtures/tiny" "$results/$like" \
      && phase 200 "logits-$like" ./longhand selftest --model "$results/$like" --logits "$results/$like/logits.safetensors" \
        --quick
    rm -f "$results/$like/model.safetensors"
  done
}

benches() {
  local llama=(--model-config shapes/llama-3.1-8b.json --load-format dummy)
  bench llama-8b 1x1024+128 32x1024+128 64x1024+128 8x4096+1 100x4096+128 -- "${llama[@]}"
  bench smollm2 1x2048+128 32x2048+128 256x2048+128 512x2048+128 -- --model "$model"
  bench llama-8b-fp8 1x1024+128 64x1024+128 8x4096+1 -- "${llama[@]}" --weight-dtype fp8
  bench llama-8b-fp8kv 64x1024+128 100x4096+128 -- "${llama[@]}" --kv-cache-dtype fp8
  bench llama-8b-deterministic 64x1024+128 8x4096+1 -- "${llama[@]}" --deterministic
  bench llama-8b-eager 1x1024+128 64x1024+128 -- "${llama[@]}" --eager
  bench qwen3-0.6b 256x2048+128 -- --model-config shapes/qwen3-0.6b.json --load-format dummy
  bench qwen3-8b 64x2048+128 -- --model-config shapes/qwen3-8b.json --load-format dummy
}

corpus() {
  phase 60 instructions \
    python3 instructions.py instructions.jsonl instructions.zh.jsonl 6000 "$results/instructions.jsonl" || return
  # A minute is left for what became of a corpus that was not finished.
  local seconds=$(($(left) - 60))
  [ $seconds -lt 1800 ] || seconds=1800
  [ $seconds -gt 10 ] || seconds=10
  CORPUS_SECONDS=$seconds phase 1900 corpus ./corpus.sh "$model" "$results/instructions.jsonl" "$results/corpus"
}

profile() {
  local llama=(--model-config shapes/llama-3.1-8b.json --load-format dummy)
  phase 200 profile ./longhand bench engine "${llama[@]}" --shape 64x1024+128 --profile
  if command -v nsys >/dev/null; then
    phase 200 nsys nsys profile --force-overwrite true --stats true --output "$results/nsys" \
      ./longhand bench engine "${llama[@]}" --shape 64x1024+32
  fi
}

for wanted in "${phases[@]}"; do
  case $wanted in
  selftest | sanitizer | tests | transformers | corpus | profile) "$wanted" ;;
  bench) benches ;;
  *)
    echo "there is no phase $wanted" >&2
    failed+=("$wanted (no such phase)")
    ;;
  esac
done

python3 table.py "$results"
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
