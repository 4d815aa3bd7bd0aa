//! The configuration of a dense decoder from the `config.json` of a folder in the Hugging Face layout.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::dense::{self, SizeKeys, SizeSource, Traits};
use super::hugging_face_rope;
use super::manifest;
use crate::model::config::{Experts, LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::model::json::Json;
use crate::model::tensor::StoredTensor;

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
        self.mixture(layer, window, None)
    }

    /// The same of a family that has experts, or may have them.
    pub(super) fn mixture(
        &self,
        layer: LayerSpec,
        window: Option<usize>,
        experts: Option<Experts>,
    ) -> Result<ModelConfig, ModelError> {
        self.refuse_variants()?;
        let rope = hugging_face_rope::read(self.json, self.size(KEYS.context)?)?;
        // Cut off, as transformers does.
        let rotated = (dense::head_dim(self, &KEYS)? as f64 * rope.share) as usize;
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
            rope_base: rope.base,
            rope_scaling: rope.scaling,
            rotated,
            norm_eps: self.json.get("rms_norm_eps").and_then(Value::as_f64).map_or(1e-6, |epsilon| epsilon as f32),
            tied_embeddings: self.json.flag("tie_word_embeddings")?.unwrap_or(tied),
            layer,
            experts,
        };
        dense::config(self, &KEYS, traits)
    }

    /// What a configuration of a known family may ask for that the forward pass of a dense decoder does not compute.
    fn refuse_variants(&self) -> Result<(), ModelError> {
        let json = self.json;
        if let Some(value) = json.get("quantization_config") {
            let kind = value.get("quant_method").unwrap_or(value);
            let remedy = "use the model's original weights, or a GGUF file for quantised ones, or serve this model with vLLM and use --engine openai";
            return Err(json.unsupported("quantization_config", kind, remedy));
        }
        match json.get("hidden_act") {
            Some(activation) if activation != "silu" => Err(json.unsupported(
                "hidden_act",
                activation,
                "use a model with the activation \"silu\", or serve this one with vLLM and use --engine openai",
            )),
            _ => Ok(()),
        }
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
