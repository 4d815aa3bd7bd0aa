"""Makes the first files of the corpus: one small file with every kind of metadata and every type of weight."""

from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from safetensors.numpy import save_file

OUT = Path(__file__).resolve().parent / "corpus"

writer = gguf.GGUFWriter(str(OUT / "gguf" / "seed"), "llama")
for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"):
    getattr(writer, f"add_{kind}")(f"k.{kind}", 3)
writer.add_float32("k.f32", 1.5)
writer.add_float64("k.f64", 2.5)
writer.add_bool("k.bool", True)
writer.add_string("k.str", "text")
writer.add_array("k.strings", ["a", "", "\u8336"])
writer.add_array("k.ints", [1, -2, 3])
writer.add_array("k.floats", [0.5, 1.5])
writer.add_custom_alignment(32)
for kind in (Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K):
    block, size = gguf.GGML_QUANT_SIZES[kind]
    data = np.zeros((1, size), dtype=np.uint8)
    if kind == Q.F32:
        writer.add_tensor("F32", np.zeros((1, 2, 3), dtype=np.float32))
    elif kind == Q.F16:
        writer.add_tensor("F16", np.zeros((2, 3), dtype=np.float16))
    else:
        writer.add_tensor(kind.name, data, raw_dtype=kind)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
save_file(
    {"a": np.zeros((2, 3), np.float32), "b": np.zeros((4,), np.float16), "c": np.zeros((0, 2), np.float32)},
    OUT / "safetensors" / "seed",
    metadata={"format": "pt"},
)
