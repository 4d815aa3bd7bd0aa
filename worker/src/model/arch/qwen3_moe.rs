//! Qwen 3, mixtures of experts: the layers of the dense models with experts in place of one feed-forward layer.

use super::dense;
use super::experts;
use super::family::Family;
use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use super::qwen3;
use crate::model::config::ModelConfig;
use crate::model::error::ModelError;

pub(super) static FAMILY: Family = Family {
    name: "qwen3moe",
    title: "Qwen3-MoE",
    models: "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder-30B-A3B; on the CPU",
    classes: &["Qwen3MoeForCausalLM"],
    from_gguf,
    from_hugging_face,
    weights: dense::weights,
};

fn from_gguf(file: &GgufConfig<'_>) -> Result<ModelConfig, ModelError> {
    file.mixture(qwen3::LAYER, experts::from_gguf(file, "expert_feed_forward_length")?)
}

fn from_hugging_face(file: &HuggingFaceConfig<'_>) -> Result<ModelConfig, ModelError> {
    let experts = experts::from_hugging_face(file, "moe_intermediate_size", file.flag("norm_topk_prob")?)?;
    let (layer, window) = qwen3::layer_and_window(file)?;
    file.mixture(layer, window, Some(experts))
}
