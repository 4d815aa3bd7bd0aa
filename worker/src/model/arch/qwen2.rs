//! Qwen 2 and 2.5: biases on the q, k and v projections.

use super::dense;
use super::family::Family;
use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use crate::model::config::{LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::ops::rope::RopeStyle;

pub(super) static FAMILY: Family = Family {
    name: "qwen2",
    title: "Qwen2",
    models: "Qwen2, Qwen2.5",
    classes: &["Qwen2ForCausalLM"],
    from_gguf,
    from_hugging_face,
    weights: dense::weights,
};

fn from_gguf(file: &GgufConfig<'_>) -> Result<ModelConfig, ModelError> {
    file.dense(LayerSpec::plain(RopeStyle::Half))
}

fn from_hugging_face(file: &HuggingFaceConfig<'_>) -> Result<ModelConfig, ModelError> {
    // These files state a window and switch it off.
    let window = if file.flag("use_sliding_window")? { file.window()? } else { None };
    file.dense(LayerSpec { qkv_bias: true, ..LayerSpec::plain(RopeStyle::Half) }, window)
}
