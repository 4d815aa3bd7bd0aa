//! Llama 2 and 3, Mistral, SmolLM2; the text part of Mistral Small 3.1 and later; Mixtral.

use super::dense;
use super::experts;
use super::family::Family;
use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use crate::model::config::{LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::ops::rope::RopeStyle;

pub(super) static FAMILY: Family = Family {
    name: "llama",
    title: "Llama",
    models: "Llama 2 and 3.x, SmolLM2, Mistral; the text part of Mistral Small 3.1 and later; Mixtral, on the CPU",
    classes: &["LlamaForCausalLM", "MistralForCausalLM", "Mistral3ForConditionalGeneration", "MixtralForCausalLM"],
    from_gguf,
    from_hugging_face,
    weights: dense::mixtral_weights,
};

fn from_gguf(file: &GgufConfig<'_>) -> Result<ModelConfig, ModelError> {
    // Converters permute the rows of q and k for this style.
    let rope_style = RopeStyle::Interleaved;
    file.mixture(LayerSpec::plain(rope_style), experts::from_gguf(file, "feed_forward_length")?)
}

fn from_hugging_face(file: &HuggingFaceConfig<'_>) -> Result<ModelConfig, ModelError> {
    let (bias, mlp_bias) = (file.flag("attention_bias")?, file.flag("mlp_bias")?);
    let layer = LayerSpec { qkv_bias: bias, o_bias: bias, mlp_bias, ..LayerSpec::plain(RopeStyle::Half) };
    let is_mixtral = file.json.get("num_local_experts").is_some();
    let experts = if is_mixtral { Some(experts::from_hugging_face(file, "intermediate_size", true)?) } else { None };
    // Mistral's window is in use wherever it is stated.
    file.mixture(layer, file.window()?, experts)
}
