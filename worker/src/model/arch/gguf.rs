//! The configuration of a dense decoder from the metadata of a GGUF file.

use std::collections::HashMap;
use std::path::Path;

use super::dense::{self, SizeKeys, SizeSource, Traits};
use super::manifest;
use crate::model::config::{LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::model::gguf::{Gguf, Value};
use crate::model::quant::dequantize;
use crate::model::tensor::StoredTensor;
use crate::ops::rope::RopeScaling;

const KEYS: SizeKeys = SizeKeys {
    layers: "block_count",
    dim: "embedding_length",
    ffn: "feed_forward_length",
    heads: "attention.head_count",
    kv_heads: "attention.head_count_kv",
    head_dim: "attention.key_length",
    context: "context_length",
};

/// The weight that carries rope scaling as divisors; it becomes part of the configuration.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The divisors of rope frequencies that a file holds among its weights, taken out of them.
pub(crate) fn take_rope_factors(
    path: &Path,
    map: &[u8],
    tensors: &mut HashMap<String, StoredTensor>,
) -> Result<Option<Vec<f32>>, ModelError> {
    let Some(StoredTensor { info, .. }) = tensors.remove(ROPE_FACTORS) else { return Ok(None) };
    // Half of a head's width; more can only be a damaged file.
    let mut factors = vec![0.0; info.shape.iter().product::<usize>().min(1 << 16)];
    dequantize(info.dtype, &map[info.range], &mut factors).map_err(|error| ModelError::Damaged {
        file: path.to_owned(),
        what: format!("weight {ROPE_FACTORS}: {error}"),
    })?;
    Ok(Some(factors))
}

/// A GGUF file of a known family, as far as its configuration goes. Keys stand below the family's name.
pub(crate) struct GgufConfig<'a> {
    pub(crate) path: &'a Path,
    pub(crate) gguf: &'a Gguf<'a>,
    pub(crate) family: &'static str,
    pub(crate) tensors: &'a HashMap<String, StoredTensor>,
    /// Of [`take_rope_factors`].
    pub(crate) rope_factors: Option<Vec<f32>>,
}

impl GgufConfig<'_> {
    /// Whether q, k and v projections have biases.
    pub(super) fn has_qkv_bias(&self) -> bool {
        self.tensors.contains_key(&dense::first_bias())
    }

    /// The configuration of a dense decoder with these layers.
    pub(super) fn dense(&self, layer: LayerSpec) -> Result<ModelConfig, ModelError> {
        self.refuse_variants()?;
        let [embedding, ..] = dense::EMBEDDING;
        let [lm_head, ..] = dense::LM_HEAD;
        let eps = "attention.layer_norm_rms_epsilon";
        let traits = Traits {
            family: self.family,
            vocab: manifest::matrix(self.path, self.tensors, embedding)?[0],
            window: self.optional_size("attention.sliding_window")?.filter(|&window| window > 0),
            rope_base: self.optional_float("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling()?,
            norm_eps: self.optional_float(eps)?.ok_or_else(|| self.missing(eps))?,
            tied_embeddings: !self.tensors.contains_key(lm_head),
            layer,
        };
        let config = dense::config(self, &KEYS, traits)?;
        for key in ["attention.value_length", "rope.dimension_count"] {
            if let Some(width) = self.optional_size(key)?.filter(|&width| width != config.head_dim) {
                let remedy = "use a model whose heads are rotated whole, with keys and values of one width";
                return Err(self.unsupported(key, format!("{width}, with heads {} wide", config.head_dim), remedy));
            }
        }
        Ok(config)
    }

    /// What a file of a known family may hold that the forward pass of a dense decoder does not compute.
    fn refuse_variants(&self) -> Result<(), ModelError> {
        if let Some(experts) = self.optional_size("expert_count")?.filter(|&experts| experts > 0) {
            return Err(self.unsupported("expert_count", experts, "use a dense model"));
        }
        match self.gguf.unsigned("split.count") {
            Some(parts) if parts > 1 => Err(ModelError::Unsupported {
                file: self.path.to_owned(),
                key: "split.count".into(),
                value: parts.to_string(),
                remedy: "join the parts to one file with `llama-gguf-split --merge`".into(),
            }),
            _ => Ok(()),
        }
    }

    fn rope_scaling(&self) -> Result<Option<RopeScaling>, ModelError> {
        let key = "rope.scaling.type";
        let kind = self.gguf.str(&self.key(key)).unwrap_or("none");
        let linear = match kind {
            "none" => None,
            "linear" => {
                let factor = self.optional_float("rope.scaling.factor")?;
                factor.filter(|&factor| factor != 1.0).map(|factor| RopeScaling::Linear { factor })
            }
            other => {
                return Err(self.unsupported(key, other, "use a model without rope scaling, or with linear scaling"));
            }
        };
        match (linear, &self.rope_factors) {
            (linear, None) => Ok(linear),
            (None, Some(factors)) => Ok(Some(RopeScaling::Factors(factors.clone()))),
            (Some(_), Some(_)) => {
                let value = format!("linear, with the weight {ROPE_FACTORS} too");
                Err(self.unsupported(key, value, "convert the model again with a current converter"))
            }
        }
    }

    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.family)
    }

    fn optional_float(&self, key: &str) -> Result<Option<f32>, ModelError> {
        let full = self.key(key);
        match (self.gguf.get(&full), self.gguf.float(&full)) {
            (None, _) => Ok(None),
            (Some(_), Some(x)) => Ok(Some(x)),
            (Some(_), None) => Err(self.not_a_number(&full)),
        }
    }

    fn unsupported(&self, key: &str, value: impl ToString, remedy: &str) -> ModelError {
        ModelError::Unsupported {
            file: self.path.to_owned(),
            key: self.key(key),
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }

    fn not_a_number(&self, key: &str) -> ModelError {
        ModelError::Damaged { file: self.path.to_owned(), what: format!("the value of {key} is not a number") }
    }

    fn missing(&self, key: &str) -> ModelError {
        ModelError::Missing {
            file: self.path.to_owned(),
            key: self.key(key),
            remedy: "convert the model again with a current converter".into(),
        }
    }
}

impl SizeSource for GgufConfig<'_> {
    fn file(&self) -> &Path {
        self.path
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional_size(key)?.ok_or_else(|| self.missing(key))
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let full = self.key(key);
        match (self.gguf.get(&full), self.gguf.unsigned(&full)) {
            (None, _) => Ok(None),
            (Some(Value::Array(_)), _) => {
                Err(self.unsupported(key, "a list", "use a model whose layers all have the same shape"))
            }
            (Some(_), Some(n)) => usize::try_from(n).map(Some).map_err(|_| self.not_a_number(&full)),
            (Some(_), None) => Err(self.not_a_number(&full)),
        }
    }
}
