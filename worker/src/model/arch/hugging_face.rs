//! The configuration of a dense decoder from the `config.json` of a folder in the Hugging Face layout.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::dense::{self, SizeKeys, SizeSource, Traits};
use super::manifest;
use crate::model::config::{LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::model::json::Json;
use crate::model::tensor::StoredTensor;
use crate::ops::rope::RopeScaling;

const KEYS: SizeKeys = SizeKeys {
    layers: "num_hidden_layers",
    dim: "hidden_size",
    ffn: "intermediate_size",
    heads: "num_attention_heads",
    kv_heads: "num_key_value_heads",
    head_dim: "head_dim",
    context: "max_position_embeddings",
};

/// Whether a tensor is one of the tables that old converters saved beside the weights, though the configuration says how
/// to compute them.
pub(crate) fn is_derived(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}

/// Takes out what some writers save a second time: the output head, where it is the embedding.
pub(crate) fn remove_duplicates(config: &ModelConfig, tensors: &mut HashMap<String, StoredTensor>) {
    if config.tied_embeddings {
        let [_, lm_head] = dense::LM_HEAD;
        tensors.remove(lm_head);
    }
}

/// A `config.json` of a known family, with what the weights say beside it.
pub(crate) struct HuggingFaceConfig<'a> {
    pub(crate) json: &'a Json,
    pub(crate) family: &'static str,
    /// None where only the shape of a model is wanted: then `config.json` alone decides.
    pub(crate) tensors: Option<&'a HashMap<String, StoredTensor>>,
}

impl HuggingFaceConfig<'_> {
    /// A truth value of the file; false if it is not stated.
    pub(super) fn flag(&self, key: &str) -> Result<bool, ModelError> {
        Ok(self.json.flag(key)?.unwrap_or(false))
    }

    /// The sliding window that the file states, whether or not it is in use.
    pub(super) fn window(&self) -> Result<Option<usize>, ModelError> {
        self.json.optional_size("sliding_window")
    }

    /// The configuration of a dense decoder with these layers and this sliding window.
    pub(super) fn dense(&self, layer: LayerSpec, window: Option<usize>) -> Result<ModelConfig, ModelError> {
        self.refuse_variants()?;
        let (rope_base, rope_scaling) = self.rope()?;
        let [_, embedding] = dense::EMBEDDING;
        let [_, lm_head] = dense::LM_HEAD;
        let (vocab, tied) = match self.tensors {
            Some(tensors) => {
                (manifest::matrix(&self.json.file, tensors, embedding)?[0], !tensors.contains_key(lm_head))
            }
            None => (self.size("vocab_size")?, false),
        };
        let traits = Traits {
            family: self.family,
            vocab,
            window,
            rope_base,
            rope_scaling,
            norm_eps: self.json.get("rms_norm_eps").and_then(Value::as_f64).map_or(1e-6, |epsilon| epsilon as f32),
            tied_embeddings: self.json.flag("tie_word_embeddings")?.unwrap_or(tied),
            layer,
        };
        dense::config(self, &KEYS, traits)
    }

    /// What a configuration of a known family may ask for that the forward pass of a dense decoder does not compute.
    fn refuse_variants(&self) -> Result<(), ModelError> {
        let json = self.json;
        if let Some(value) = json.get("quantization_config") {
            let kind = value.get("quant_method").unwrap_or(value);
            let remedy = "use the model's original weights, or a GGUF file for quantised ones";
            return Err(json.unsupported("quantization_config", kind, remedy));
        }
        match json.get("hidden_act") {
            Some(activation) if activation != "silu" => {
                return Err(json.unsupported("hidden_act", activation, "use a model with the activation \"silu\""));
            }
            _ => (),
        }
        match json.get("partial_rotary_factor") {
            Some(share) if share.as_f64() != Some(1.0) => {
                Err(json.unsupported("partial_rotary_factor", share, "use a model whose heads are rotated whole"))
            }
            _ => Ok(()),
        }
    }

    /// Base and scaling. Older files have `rope_theta` and `rope_scaling`, newer ones both in `rope_parameters`.
    fn rope(&self) -> Result<(f32, Option<RopeScaling>), ModelError> {
        let json = self.json;
        let key = if json.get("rope_parameters").is_some() { "rope_parameters" } else { "rope_scaling" };
        let table = json.get(key).unwrap_or(&Value::Null);
        let base = table.get("rope_theta").or_else(|| json.get("rope_theta"));
        let base = base.map_or(Some(10_000.0), Value::as_f64);
        let base = base.ok_or_else(|| json.unsupported(key, table, "rope_theta must be a number"))? as f32;
        let number = |name: &str| {
            let number = table.get(name).and_then(Value::as_f64);
            number.map(|number| number as f32).ok_or_else(|| ModelError::Missing {
                file: json.file.clone(),
                key: format!("{key}.{name}"),
                remedy: "the configuration is incomplete: fetch it again".into(),
            })
        };
        let kind = table.get("rope_type").or_else(|| table.get("type")).unwrap_or(&Value::Null);
        let scaling = match kind.as_str() {
            None | Some("default") => None,
            Some("linear") => Some(RopeScaling::Linear { factor: number("factor")? }),
            Some("llama3") => Some(RopeScaling::Llama3 {
                factor: number("factor")?,
                low_freq_factor: number("low_freq_factor")?,
                high_freq_factor: number("high_freq_factor")?,
                original_context: number("original_max_position_embeddings")? as usize,
            }),
            Some(_) => {
                let remedy = "use a model with rope scaling of the kind default, linear or llama3";
                return Err(json.unsupported(&format!("{key}.rope_type"), kind, remedy));
            }
        };
        Ok((base, scaling))
    }
}

impl SizeSource for HuggingFaceConfig<'_> {
    fn file(&self) -> &Path {
        &self.json.file
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.json.size(key)
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        self.json.optional_size(key)
    }
}
