//! Tensors as they lie in a file.

use std::ops::Range;

use super::quant::{DType, QuantError, dequantize};

/// Where a container says that a tensor lies, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub dtype: DType,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Bytes of the file; inside it, whole blocks.
    pub range: Range<usize>,
}

/// A tensor of one of a model's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredTensor {
    /// Index into the model's files.
    pub(crate) file: usize,
    pub(crate) info: TensorInfo,
}

/// A weight as it lies in the file, memory-mapped.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    /// Element type.
    pub dtype: DType,
    /// Outermost first: a matrix is `[outputs, inputs]`, rows contiguous.
    pub shape: Vec<usize>,
    /// The elements in the layout of their type.
    pub data: &'a [u8],
}

impl Tensor<'_> {
    /// Its elements in float32, one after the other; an error if `data` is not as long as shape and type say.
    pub fn to_f32(&self) -> Result<Vec<f32>, QuantError> {
        let mut numbers = vec![0.0; self.shape.iter().product()];
        dequantize(self.dtype, self.data, &mut numbers)?;
        Ok(numbers)
    }
}
