//! What must hold for any bytes at all. The fuzz targets and the replay of their corpus in `cargo test` share it.

use longhand_worker::model::gguf::{Gguf, Value};
use longhand_worker::model::{TensorInfo, dequantize, safetensors};

/// Reads `data` as GGUF; what is accepted must lie inside it. True if it was accepted.
pub(crate) fn gguf(data: &[u8]) -> bool {
    let Ok(gguf) = Gguf::parse(data) else { return false };
    for key in gguf.keys() {
        if let Some(Value::Array(array)) = gguf.get(key) {
            let items =
                [array.strings().map(|v| v.len()), array.floats().map(|v| v.len()), array.integers().map(|v| v.len())];
            assert!(items.into_iter().flatten().all(|len| len <= data.len()), "an array is longer than the file");
        }
    }
    gguf.tensors().values().for_each(|info| tensor(data, info));
    true
}

/// Reads `data` as safetensors; what is accepted must lie inside it. True if it was accepted.
pub(crate) fn safetensors(data: &[u8]) -> bool {
    let Ok(tensors) = safetensors::parse(data, |_| false) else { return false };
    tensors.values().for_each(|info| tensor(data, info));
    true
}

fn tensor(data: &[u8], TensorInfo { dtype, shape, range }: &TensorInfo) {
    let bytes = data.get(range.clone()).expect("a tensor lies outside the file");
    // An empty dimension makes the others meaningless, and their product may not even fit.
    let numbers = if shape.contains(&0) { 0 } else { shape.iter().product() };
    let mut out = vec![0.0; numbers];
    dequantize(*dtype, bytes, &mut out).expect("a tensor's bytes do not fit its shape");
}
