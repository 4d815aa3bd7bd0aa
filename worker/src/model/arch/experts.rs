//! Mixtures of experts: what files state of them, and what of it is refused.

use serde_json::Value;

use super::dense::SizeSource;
use super::gguf::GgufConfig;
use super::hugging_face::HuggingFaceConfig;
use crate::model::config::Experts;
use crate::model::error::ModelError;

const REMEDY: &str = "the engine runs experts that a softmax chooses, without shared ones: use a model of this kind, or serve \
                      this one with vLLM or llama.cpp and use --engine openai";

/// `expert_gating_func` of a softmax over all experts.
const SOFTMAX: usize = 1;

/// The experts that a `config.json` states, each as wide as the key `ffn` says.
pub(super) fn from_hugging_face(
    file: &HuggingFaceConfig<'_>,
    ffn: &str,
    renormalise: bool,
) -> Result<Experts, ModelError> {
    let json = file.json;
    for key in ["shared_expert_intermediate_size", "n_shared_experts", "num_shared_experts"] {
        if let Some(value) = json.get(key).filter(|value| value.as_u64() != Some(0)) {
            return Err(json.unsupported(key, value, REMEDY));
        }
    }
    match json.get("scoring_func") {
        Some(function) if function != "softmax" => return Err(json.unsupported("scoring_func", function, REMEDY)),
        Some(_) | None => {}
    }
    // Newer releases of transformers write the second key for all families.
    let count = match file.optional_size("num_experts")? {
        Some(count) => count,
        None => file.size("num_local_experts")?,
    };
    let (used, ffn) = (file.size("num_experts_per_tok")?, file.size(ffn)?);
    Ok(Experts { count, used, ffn, renormalise, dense_layers: dense_layers(file)? })
}

/// Layers that have one feed-forward layer for all tokens, listed by index, and all but one of `decoder_sparse_step`.
fn dense_layers(file: &HuggingFaceConfig<'_>) -> Result<Vec<usize>, ModelError> {
    let json = file.json;
    let step = file.optional_size("decoder_sparse_step")?.unwrap_or(1);
    let listed = match json.get("mlp_only_layers") {
        None => Vec::new(),
        Some(value) => {
            let layers: Option<Vec<u64>> = value.as_array().and_then(|list| list.iter().map(Value::as_u64).collect());
            layers.ok_or_else(|| json.unsupported("mlp_only_layers", value, "expected a list of layers"))?
        }
    };
    let is_dense = |layer: &usize| listed.contains(&(*layer as u64)) || step == 0 || !(layer + 1).is_multiple_of(step);
    // A number of layers that no model has is refused where the whole configuration is checked.
    Ok((0..file.size("num_hidden_layers")?.min(1 << 12)).filter(is_dense).collect())
}

/// The experts that a GGUF file states, each as wide as the key `ffn` says; none if it states none.
pub(super) fn from_gguf(file: &GgufConfig<'_>, ffn: &str) -> Result<Option<Experts>, ModelError> {
    let Some(count) = file.optional_size("expert_count")?.filter(|&count| count > 0) else { return Ok(None) };
    for key in ["expert_shared_count", "expert_shared_feed_forward_length"] {
        if let Some(value) = file.optional_size(key)?.filter(|&value| value > 0) {
            return Err(file.unsupported(key, value, REMEDY));
        }
    }
    if let Some(function) = file.optional_size("expert_gating_func")?.filter(|&function| function != SOFTMAX) {
        return Err(file.unsupported("expert_gating_func", function, REMEDY));
    }
    let (used, ffn) = (file.size("expert_used_count")?, file.size(ffn)?);
    Ok(Some(Experts { count, used, ffn, renormalise: true, dense_layers: Vec::new() }))
}
