"""Loads a folder with `datasets` and says what is in it, as JSON: for each split its rows and the types of its columns."""

import json
import sys

from datasets import load_dataset

loaded = load_dataset(sys.argv[1])
print(json.dumps({
    name: {"rows": split.to_list(), "columns": {key: str(kind) for key, kind in split.features.items()}}
    for name, split in loaded.items()
}))
