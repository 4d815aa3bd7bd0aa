"""table.py RESULTS: what was measured, beside what an H100 can do. Nothing is printed as measured that was not."""

import json
import sys
from pathlib import Path

# Of an H100 80GB: bytes a second read on such a card, and bf16 operations a second of a big product.
BYTES, OPERATIONS = 3.0e12, 798e12
SHAPES = {
    # weights in bytes read for each token, bytes of keys and values for a token of context, operations for a token
    "llama-8b": (15.0e9, 131072, 15.0e9),
    "llama-8b-fp8": (8.0e9, 131072, 7.5e9),
    "llama-8b-fp8kv": (15.0e9, 65536 + 2048, 15.0e9),
    "llama-8b-eager": (15.0e9, 131072, 15.0e9),
    "llama-8b-deterministic": (15.0e9, 131072, 15.0e9),
    "qwen3-8b": (15.1e9, 147456, 15.1e9),
    "qwen3-0.6b": (1.19e9, 114688, 1.19e9),
    "smollm2": (269e6, 23040, 269e6),
}
# What the row is for: reading or writing, and the least and the aim in tokens a second.
WANTED = {
    ("llama-8b", "1x1024+128"): ("write", 150, 170),
    ("llama-8b", "64x1024+128"): ("write", 6300, 7700),
    ("llama-8b", "100x4096+128"): ("write", 3700, None),
    ("llama-8b", "8x4096+1"): ("read", 35000, 45000),
    ("smollm2", "256x2048+128"): ("write", 45540, None),
}


def ceilings(name, streams, prompt, tokens):
    """Tokens a second that memory (writing) and arithmetic (reading) allow."""
    weights, context, operations = SHAPES[name]
    step = weights + streams * (prompt + tokens / 2) * context
    return OPERATIONS / operations, streams * BYTES / step


def bench_rows(results):
    """Of each log the lines that are whole, one a shape; None for a log without any."""
    for path in sorted(results.glob("bench-*.log")):
        name, found = path.stem.removeprefix("bench-"), False
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith("{") and line.endswith("}"):
                speed, found = json.loads(line), True
                streams, rest = speed["shape"].split("x")
                yield name, speed["shape"], (int(streams), *map(int, rest.split("+"))), speed
        if not found:
            yield name, "", (0, 0, 0), None


def main(folder):
    results = Path(folder)
    print((results / "machine.txt").read_text().strip())
    print()
    print(f"{'model':<24}{'shape':<16}{'what':<7}{'tok/s':>9}{'ceiling':>9}{'ratio':>7}{'least':>8}{'aim':>8}")
    written = {}
    for name, shape, (streams, prompt, tokens), speed in bench_rows(results):
        what, least, aim = WANTED.get((name, shape), ("read" if tokens == 1 else "write", None, None))
        if speed is None:
            print(f"{name:<24}{'failed: see its log':<23}")
            continue
        read, write = ceilings(name, streams, prompt, tokens)
        got, ceiling = (speed["prefill"], read) if what == "read" else (speed["decode"], write)
        written[name, streams] = speed["decode"]
        verdict = "" if least is None else ("  ok" if got >= least else "  BELOW")
        print(f"{name:<24}{shape:<16}{what:<7}{got:>9.0f}{ceiling:>9.0f}{got / ceiling:>7.2f}"
              f"{least or '':>8}{aim or '':>8}{verdict}")
    one, many = written.get(("llama-8b", 1)), written.get(("llama-8b", 32))
    if one and many:
        print(f"\n32 streams against one: {many / one:.1f} times (at least 20)")
    corpus = results / "corpus"
    if (corpus / "time.json").exists() and (corpus / "stats.json").exists():
        time = json.loads((corpus / "time.json").read_text())
        whole = "" if time["finished"] else ", NOT finished"
        print(f"\ncorpus of 6,000 instructions: {time['seconds']} s{whole} (aim: under 900); {corpus / 'stats.json'}:")
        print(json.dumps(json.loads((corpus / "stats.json").read_text()), indent=1)[:4000])
    for name in ("profile", "selftest"):
        if (results / f"{name}.log").exists():
            print(f"\n{name}:\n" + "\n".join((results / f"{name}.log").read_text().splitlines()[-24:]))


if __name__ == "__main__":
    main(sys.argv[1])
