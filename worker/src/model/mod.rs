//! Reading a model from disk: configuration, weights, tokenizer, chat template. What is not understood is refused by
//! name; nothing is guessed.

pub mod config;
pub mod quant;

pub use config::{Family, ModelConfig, RopeScaling, RopeStyle};
pub use quant::DType;

/// A weight as it lies in the file, memory-mapped.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    pub dtype: DType,
    /// Outermost first: a matrix is `[outputs, inputs]`, rows contiguous.
    pub shape: Vec<usize>,
    pub data: &'a [u8],
}
