"""reference.py llama|qwen TINY FOLDER: a random model in the shape of its family, big enough to need every kernel at its
full size, saved in FOLDER with the tokenizer of a tiny one, and the logits that transformers computes of it in float32."""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

SHAPE = dict(
    hidden_size=1024, intermediate_size=2816, num_hidden_layers=6, num_attention_heads=16, num_key_value_heads=4,
    head_dim=128, vocab_size=288, max_position_embeddings=4096, tie_word_embeddings=False,
)
FAMILIES = {"llama": ("llama", LlamaConfig, LlamaForCausalLM), "qwen": ("qwen3", Qwen3Config, Qwen3ForCausalLM)}
LENGTHS = [1, 17, 300, 2000]


def main(family, tiny, folder):
    name, config, model = FAMILIES[family]
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in (Path(tiny) / name).iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "generation")):
            shutil.copy(path, folder)
    torch.manual_seed(11)
    made = model(config(**SHAPE)).to(torch.bfloat16)
    made.save_pretrained(folder, safe_serialization=True)
    # Its numbers, computed with as if they had all digits. Read anew: what is cast to bf16 and back has lost digits of the
    # frequencies of its positions.
    exact = model.from_pretrained(folder, dtype=torch.float32).eval()
    out = {}
    for index, length in enumerate(LENGTHS):
        tokens = torch.randint(0, SHAPE["vocab_size"], (1, length))
        with torch.no_grad():
            logits = exact(tokens).logits[0]
        kept = logits[-min(length, 64):].contiguous()
        out[f"tokens.{index}"] = tokens[0].to(torch.int32)
        out[f"logits.{index}"] = kept
    save_file(out, folder / "logits.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
