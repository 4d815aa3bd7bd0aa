"""Reads an exported folder as a trainer does, and says what it would train on, as JSON.

Both trainers are installed without torch. TRL's data functions need none: a row goes through its own chat templating, as
before training. Of LLaMA-Factory the parser of dataset_info.json and the converters are run as they are; importing the
package itself fails without torch, so the two of its modules that they take names from stand here: `extras.misc` (torch)
and `extras.constants` (peft, which wants torch).
"""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

from datasets import load_dataset

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def trl(folder, tokenizer):
    from transformers import PreTrainedTokenizerFast
    from trl.data_utils import apply_chat_template, is_conversational, pack_dataset

    tokenizer = PreTrainedTokenizerFast(tokenizer_file=tokenizer)
    tokenizer.chat_template = TEMPLATE
    data = load_dataset(folder)["train"]
    assert all(is_conversational(row) for row in data)
    rendered = data.map(lambda row: apply_chat_template(row, tokenizer), remove_columns=data.column_names)
    if "text" in rendered.column_names:
        tokens = rendered.map(lambda row: {"input_ids": tokenizer(row["text"])["input_ids"]}, remove_columns=["text"])
        packed = pack_dataset(tokens, seq_length=32_768)
        assert sum(map(len, packed["input_ids"])) == sum(map(len, tokens["input_ids"]))
    return rendered.to_list()


def llama_factory(folder):
    home = Path(importlib.util.find_spec("llamafactory").origin).parent

    def module(name, **names):
        made = sys.modules[f"llamafactory{name}"] = ModuleType(f"llamafactory{name}")
        made.__dict__.update(names)

    for package in ["", ".data", ".extras"]:
        module(package, __path__=[str(home.joinpath(*package.split(".")[1:]))])
    module(".extras.constants", DATA_CONFIG="dataset_info.json", RUNNING_LOG="running_log.txt")
    module(".extras.misc", use_modelscope=lambda: False, use_openmind=lambda: False)
    from llamafactory.data.converter import align_dataset
    from llamafactory.data.parser import get_dataset_list

    arguments = SimpleNamespace(streaming=False, preprocessing_num_workers=None, overwrite_cache=True, media_dir=folder)
    rows = []
    for attributes in get_dataset_list(list(json.load(open(f"{folder}/dataset_info.json"))), folder):
        # What its loader does for an entry of this kind.
        assert attributes.load_from == "script", attributes
        path = os.path.join(folder, attributes.dataset_name)
        data = load_dataset(path, name=attributes.subset, data_dir=attributes.folder, split=attributes.split)
        aligned = align_dataset(data, attributes, arguments, SimpleNamespace(local_process_index=0))
        rows += [{"prompt": row["_prompt"], "response": row["_response"]} for row in aligned]
    return rows


print(json.dumps({"trl": trl, "llama_factory": llama_factory}[sys.argv[1]](*sys.argv[2:])))
