"""Finds near duplicates among instructions with a library from PyPI: time, peak memory and number found, as JSON.

Usage: dedup_peer.py LIBRARY FILE. A text is the set of its 5-word shingles; the first of two near duplicates is kept.
"""

import json
import re
import resource
import sys
import time

library, path = sys.argv[1:]
WORD = re.compile(r"\w+")
BATCH = 2048


def sets():
    """The set of shingles of each row."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = WORD.findall(json.loads(line)["prompt"].lower())
            yield list({" ".join(words[at:at + 5]) for at in range(max(1, len(words) - 4))})


def batches():
    batch = []
    for row in sets():
        batch.append(row)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def datasketch():
    from datasketch import MinHash, MinHashLSH

    lsh, found = MinHashLSH(threshold=0.8, num_perm=128), 0
    for key, row in enumerate(sets()):
        minhash = MinHash(num_perm=128)
        minhash.update_batch([shingle.encode() for shingle in row])
        if lsh.query(minhash):
            found += 1
        else:
            lsh.insert(key, minhash, check_duplication=False)
    return found


def rensa():
    """The class for the task: compares the candidates found by the bands, and keeps the first."""
    from rensa import RMinHashDeduplicator

    seen, rows = RMinHashDeduplicator(0.8, 128, True, 16), 0
    for batch in batches():
        seen.add_pairs([(str(rows + at), row) for at, row in enumerate(batch)])
        rows += len(batch)
    return rows - seen.len()


def rensa_matrix():
    """Its fastest way: flags rows that share a band, without comparing them."""
    from rensa import RMinHash, RMinHashLSH

    lsh, rows, found = RMinHashLSH(0.8, 128, 16), 0, 0
    for batch in batches():
        matrix = RMinHash.digest_matrix_from_token_sets(batch, 128, 42)
        found += sum(lsh.insert_matrix_and_query_duplicate_flags(matrix, rows))
        rows += len(batch)
    return found


start = time.monotonic()
found = {"datasketch": datasketch, "rensa": rensa, "rensa-matrix": rensa_matrix}[library]()
print(json.dumps({
    "seconds": time.monotonic() - start,
    "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    "found": found,
}))
