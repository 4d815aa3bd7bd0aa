//! Phi 3, 3.5 and 4: one matrix for queries, keys and values, one for gate and up; LongRoPE, and heads that rotate in part.

use super::dense;
use super::family::Family;
use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use crate::model::config::{LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::ops::rope::RopeStyle;

pub(super) static FAMILY: Family = Family {
    name: "phi3",
    title: "Phi-3",
    models: "Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini",
    classes: &["Phi3ForCausalLM"],
    from_gguf,
    from_hugging_face,
    weights: dense::joined_weights,
};

fn from_gguf(file: &GgufConfig<'_>) -> Result<ModelConfig, ModelError> {
    file.dense(LayerSpec::plain(RopeStyle::Half))
}

fn from_hugging_face(file: &HuggingFaceConfig<'_>) -> Result<ModelConfig, ModelError> {
    file.dense(LayerSpec::plain(RopeStyle::Half), file.window()?)
}
