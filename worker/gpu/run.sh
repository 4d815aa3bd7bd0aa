#!/usr/bin/env bash
# Everything that only a machine with a GPU can tell: run it in the folder that `make gpu` packs (or in one call:
# `target/gpu/run.sh RESULTS`). It needs the driver, CUDA 12 or 13, and Python with torch and transformers; no network.
# Phases may be named (RESULTS sanitizer selftest tests transformers bench corpus profile); what fails is told at the end,
# and the table is printed last whatever happened.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
results=${1:-$here/results}
shift || true
phases=("$@")
[ ${#phases[@]} -gt 0 ] || phases=(selftest sanitizer tests transformers bench corpus profile)
mkdir -p "$results"
results=$(cd "$results" && pwd)
cd "$here" || exit 2

# What travels may have been compressed and cut.
for program in longhand devices; do
  [ -x "$program" ] || { gzip --decompress --keep --force "$program.gz" && chmod +x "$program"; } || exit 2
done
model=$here/SmolLM2-135M-Instruct.Q4_1.gguf
[ -f "$model" ] || { cat "$model".part-* >"$model.joining" && mv "$model.joining" "$model"; } || exit 2
sha256sum --check --quiet model.sha256 || { echo 'the model is damaged: pack it again' >&2; exit 2; }

# PyTorch's wheels bring the CUDA libraries that a machine may lack otherwise.
wheels=$(python3 -c 'import importlib.util, glob, os
spec = importlib.util.find_spec("nvidia")
roots = list(spec.submodule_search_locations) if spec else []
print(":".join(sorted({d for r in roots for d in glob.glob(os.path.join(r, "**", "lib"), recursive=True)})))' 2>/dev/null)
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/cuda/lib64${wheels:+:$wheels}"
export LONGHAND_DEVICE=cuda

failed=()
# phase NAME COMMAND...: its output goes to RESULTS/NAME.log; a failure is kept, and the next phase begins.
phase() {
  local name=$1 begun=$SECONDS
  shift
  echo "== $name: $*"
  if "$@" >"$results/$name.log" 2>&1; then
    echo "   ok, $((SECONDS - begun)) s"
  else
    echo "   FAILED with $? after $((SECONDS - begun)) s; the end of its log:"
    tail -n 15 "$results/$name.log"
    failed+=("$name")
  fi
}

wanted() {
  local phase
  for phase in "${phases[@]}"; do [ "$phase" = "$1" ] && return; done
  return 1
}

# bench NAME SHAPE... [-- OPTIONS]: one JSON line a shape, beside the shape, for the table.
bench() {
  local name=$1 shapes=() shape
  shift
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    shapes+=("$1")
    shift
  done
  shift
  for shape in "${shapes[@]}"; do
    phase "bench-$name-$shape" ./longhand bench engine --json --shape "$shape" "$@"
  done
}

{ date --utc +%FT%TZ; nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader; ./longhand --version; } \
  >"$results/machine.txt" 2>&1

if wanted selftest; then
  phase selftest ./longhand selftest --model "$model"
  phase selftest-deterministic ./longhand selftest --deterministic --model "$model"
fi

if wanted sanitizer; then
  for tool in memcheck racecheck; do
    phase "sanitizer-$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 ./longhand selftest --quick
  done
fi

# The one suite of numeric tests, on the GPU as on the processor: logits of transformers for every family, chunks, company,
# the small model's greedy texts.
if wanted tests; then
  phase tests env CARGO_MANIFEST_DIR="$here/worker" LONGHAND_TEST_MODEL="$model" LONGHAND_TEST_CUDA=1 \
    ./devices --test-threads 1 --nocapture
fi

# Bigger random models of both shapes, whose logits transformers computes in float32 here.
if wanted transformers; then
  for like in llama qwen; do
    phase "transformers-$like" python3 reference.py "$like" "worker/tests/fixtures/tiny" "$results/$like"
    phase "logits-$like" ./longhand selftest --model "$results/$like" --logits "$results/$like/logits.safetensors" --quick
    rm -f "$results/$like/model.safetensors"
  done
fi

if wanted bench; then
  llama=(--config shapes/llama-3.1-8b.json --load-format dummy)
  bench llama-8b 1x1024+128 32x1024+128 64x1024+128 100x4096+128 8x4096+1 -- "${llama[@]}"
  bench llama-8b-fp8kv 64x1024+128 100x4096+128 -- "${llama[@]}" --kv-cache-dtype fp8
  bench llama-8b-deterministic 64x1024+128 8x4096+1 -- "${llama[@]}" --deterministic
  bench qwen3-8b 64x2048+128 -- --config shapes/qwen3-8b.json --load-format dummy
  bench qwen3-0.6b 256x2048+128 -- --config shapes/qwen3-0.6b.json --load-format dummy
  bench smollm2 1x2048+128 32x2048+128 256x2048+128 512x2048+128 -- --model "$model"
fi

if wanted corpus; then
  phase instructions python3 instructions.py instructions.jsonl instructions.zh.jsonl 6000 "$results/instructions.jsonl"
  phase corpus ./corpus.sh "$model" "$results/instructions.jsonl" "$results/corpus"
fi

if wanted profile; then
  phase profile ./longhand bench engine --config shapes/llama-3.1-8b.json --load-format dummy --shape 64x1024+128 --profile
  if command -v nsys >/dev/null; then
    phase nsys nsys profile --force-overwrite true --stats true --output "$results/nsys" \
      ./longhand bench engine --config shapes/llama-3.1-8b.json --load-format dummy --shape 64x1024+32
  fi
fi

python3 table.py "$results"
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
