"""instructions.py EXAMPLES... COUNT OUTPUT: variations of example instructions, each with an id of its own."""

import json
import sys
from pathlib import Path

# What makes one instruction many: who reads it, and how it is told.
READERS = [
    "for beginners", "for experts", "for children of twelve", "for a local newspaper", "for a travel guide", "for students",
    "for people in a hurry", "for a lecture", "for a museum", "for a book club", "for engineers", "for teachers",
]
MANNERS = [
    "with many examples", "in plain words", "as a story", "with questions and answers", "with its history", "in a warm tone",
    "with figures where they help", "with a surprising beginning", "with advice at the end", "with both sides of each question",
]


def main(*arguments):
    *examples, count, output = arguments
    rows = [json.loads(line) for path in examples for line in Path(path).read_text().splitlines() if line.strip()]
    with open(output, "w", encoding="utf-8") as file:
        for number in range(int(count)):
            row = dict(rows[number % len(rows)])
            turn = number // len(rows)
            key = next(key for key in ("prompt", "instruction") if key in row)
            reader, manner = READERS[turn % len(READERS)], MANNERS[turn // len(READERS) % len(MANNERS)]
            row[key] = f"{row[key]} ({reader}, {manner}; variation {turn})"
            row["id"] = f"gpu-{number:05}"
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
