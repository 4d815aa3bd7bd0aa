//! Llama 2 and 3, Mistral, SmolLM2.

use super::dense;
use super::family::Family;
use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use crate::model::config::{LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::ops::rope::RopeStyle;

pub(super) static FAMILY: Family = Family {
    name: "llama",
    classes: &["LlamaForCausalLM", "MistralForCausalLM"],
    from_gguf,
    from_hugging_face,
    weights: dense::weights,
};

fn from_gguf(file: &GgufConfig<'_>) -> Result<ModelConfig, ModelError> {
    // Converters permute the rows of q and k for this style.
    let rope_style = RopeStyle::Interleaved;
    file.dense(LayerSpec { qkv_bias: file.has_qkv_bias(), qk_norm: false, rope_style })
}

fn from_hugging_face(file: &HuggingFaceConfig<'_>) -> Result<ModelConfig, ModelError> {
    let qkv_bias = file.flag("attention_bias")?;
    // Mistral's window is in use wherever it is stated.
    file.dense(LayerSpec { qkv_bias, qk_norm: false, rope_style: RopeStyle::Half }, file.window()?)
}
