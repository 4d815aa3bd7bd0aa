//! Qwen 3, dense: RMS norms on each head's q and k.

use super::dense;
use super::family::Family;
use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use crate::model::config::{LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::ops::rope::RopeStyle;

pub(super) static FAMILY: Family = Family {
    name: "qwen3",
    title: "Qwen3",
    models: "Qwen3 (dense)",
    classes: &["Qwen3ForCausalLM"],
    from_gguf,
    from_hugging_face,
    weights: dense::weights,
};

pub(super) const LAYER: LayerSpec = LayerSpec { qk_norm: true, ..LayerSpec::plain(RopeStyle::Half) };

fn from_gguf(file: &GgufConfig<'_>) -> Result<ModelConfig, ModelError> {
    file.dense(LAYER)
}

fn from_hugging_face(file: &HuggingFaceConfig<'_>) -> Result<ModelConfig, ModelError> {
    let (layer, window) = layer_and_window(file)?;
    file.dense(layer, window)
}

/// What a `config.json` says of attention.
pub(super) fn layer_and_window(file: &HuggingFaceConfig<'_>) -> Result<(LayerSpec, Option<usize>), ModelError> {
    let bias = file.flag("attention_bias")?;
    // These files state a window and switch it off.
    let window = if file.flag("use_sliding_window")? { file.window()? } else { None };
    Ok((LayerSpec { qkv_bias: bias, o_bias: bias, ..LAYER }, window))
}
