//! The safetensors container: where each tensor of a file lies, and as what.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors};

use super::quant::DType;
use super::tensor::TensorInfo;

/// Length of the number that says how long the header is.
const PREFIX: usize = 8;

/// Why bytes are not a safetensors file that can be read.
#[derive(Debug, thiserror::Error)]
pub enum SafetensorsError {
    /// The format's rules are broken.
    #[error("{0}")]
    Damaged(#[from] safetensors::SafeTensorError),
    /// A type of numbers that the engine does not compute with.
    #[error("tensor {tensor} has the type {dtype}")]
    Unsupported { tensor: String, dtype: Dtype },
}

/// Reads the header of a whole file and checks that its tensors fill the file without gap or overlap. Tensors whose name
/// `skip` says yes to are left out.
pub fn parse(bytes: &[u8], skip: impl Fn(&str) -> bool) -> Result<HashMap<String, TensorInfo>, SafetensorsError> {
    let (header, metadata) = SafeTensors::read_metadata(bytes)?;
    let start = PREFIX + header;
    metadata
        .tensors()
        .into_iter()
        .filter(|(name, _)| !skip(name))
        .map(|(name, info)| {
            let dtype = dtype(info.dtype)
                .ok_or_else(|| SafetensorsError::Unsupported { tensor: name.clone(), dtype: info.dtype })?;
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            Ok((name, TensorInfo { dtype, shape: info.shape.clone(), range }))
        })
        .collect()
}

fn dtype(dtype: Dtype) -> Option<DType> {
    #[allow(clippy::wildcard_enum_match_arm, reason = "the list of other types grows with the library")]
    match dtype {
        Dtype::F32 => Some(DType::F32),
        Dtype::F16 => Some(DType::F16),
        Dtype::BF16 => Some(DType::BF16),
        _ => None,
    }
}
