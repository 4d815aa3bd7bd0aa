//! The configuration of a dense decoder from the metadata of a GGUF file.

use std::collections::HashMap;
use std::path::Path;

use memmap2::Mmap;

use super::dense::{self, SizeKeys, SizeSource, Traits};
use super::manifest;
use crate::model::config::{Experts, LayerSpec, ModelConfig};
use crate::model::error::ModelError;
use crate::model::gguf::{Gguf, Value};
use crate::model::quant::dequantize;
use crate::model::tensor::StoredTensor;
use crate::ops::rope::{RopeScaling, RopeStyle};

const KEYS: SizeKeys = SizeKeys {
    layers: "block_count",
    dim: "embedding_length",
    ffn: "feed_forward_length",
    heads: "attention.head_count",
    kv_heads: "attention.head_count_kv",
    head_dim: "attention.key_length",
    context: "context_length",
};

const WINDOW: &str = "attention.sliding_window";

/// Weights that carry rope scaling as divisors of frequencies; they become part of the configuration.
const ROPE_FACTORS: &str = "rope_freqs.weight";
const LONG_FACTORS: &str = "rope_factors_long.weight";
const SHORT_FACTORS: &str = "rope_factors_short.weight";

/// The divisors of rope frequencies that a file holds among its weights, by name, taken out of them.
pub(crate) fn take_rope_factors(
    path: &Path,
    files: &[Mmap],
    tensors: &mut HashMap<String, StoredTensor>,
) -> Result<HashMap<&'static str, Vec<f32>>, ModelError> {
    let mut all = HashMap::new();
    for name in [ROPE_FACTORS, LONG_FACTORS, SHORT_FACTORS] {
        let Some(StoredTensor { file, info }) = tensors.remove(name) else { continue };
        // Half of a head's width; more can only be a damaged file.
        let mut factors = vec![0.0; info.shape.iter().product::<usize>().min(1 << 16)];
        dequantize(info.dtype, &files[file][info.range], &mut factors)
            .map_err(|error| ModelError::Damaged { file: path.to_owned(), what: format!("weight {name}: {error}") })?;
        all.insert(name, factors);
    }
    Ok(all)
}

/// A GGUF file of a known family, as far as its configuration goes. Keys stand below the family's name.
pub(crate) struct GgufConfig<'a> {
    pub(crate) path: &'a Path,
    pub(crate) gguf: &'a Gguf<'a>,
    pub(crate) family: &'static str,
    pub(crate) tensors: &'a HashMap<String, StoredTensor>,
    /// Of [`take_rope_factors`].
    pub(crate) rope_factors: HashMap<&'static str, Vec<f32>>,
}

impl GgufConfig<'_> {
    /// The width of the sliding window, which must be stated.
    pub(super) fn window(&self) -> Result<usize, ModelError> {
        self.size(WINDOW)
    }

    /// The configuration of a dense decoder with these layers, and the biases that the file has.
    pub(super) fn dense(&self, layer: LayerSpec) -> Result<ModelConfig, ModelError> {
        if let Some(experts) = self.optional_size("expert_count")?.filter(|&experts| experts > 0) {
            let remedy = "the engine runs no mixture of experts of this family: use a dense model, or serve this one with vLLM or \
                          llama.cpp and use --engine openai";
            return Err(self.unsupported("expert_count", experts, remedy));
        }
        self.mixture(layer, None)
    }

    /// The same of a family that has experts, or may have them.
    pub(super) fn mixture(&self, layer: LayerSpec, experts: Option<Experts>) -> Result<ModelConfig, ModelError> {
        let layer = dense::with_biases(layer, |name| self.tensors.contains_key(name));
        let [embedding, ..] = dense::EMBEDDING;
        let [lm_head, ..] = dense::LM_HEAD;
        let head_dim = dense::head_dim(self, &KEYS)?;
        let rotated = self.optional_size("rope.dimension_count")?.unwrap_or(head_dim);
        let traits = Traits {
            family: self.family,
            vocab: manifest::matrix(self.path, self.tensors, embedding)?[0],
            // The window of a family of which only some layers have one does not bound the context.
            window: self.optional_size(WINDOW)?.filter(|&window| window > 0 && !layer.post_norms),
            rope_base: self.optional_float("rope.freq_base")?.unwrap_or(10_000.0),
            rope_scaling: self.rope_scaling()?,
            rotated,
            norm_eps: self.float("attention.layer_norm_rms_epsilon")?,
            tied_embeddings: !self.tensors.contains_key(lm_head),
            layer,
            experts,
        };
        let config = dense::config(self, &KEYS, traits)?;
        // The converter pairs the rows of whole heads.
        let in_pairs = layer.rope_style == RopeStyle::Interleaved;
        for (key, applies) in [("attention.value_length", true), ("rope.dimension_count", in_pairs)] {
            if let Some(width) = self.optional_size(key)?.filter(|&width| applies && width != config.head_dim) {
                let remedy = "use a model whose heads are rotated whole, with keys and values of one width, or serve this \
                              one with llama.cpp and use --engine openai";
                return Err(self.unsupported(key, format!("{width}, with heads {} wide", config.head_dim), remedy));
            }
        }
        Ok(config)
    }

    fn rope_scaling(&self) -> Result<Option<RopeScaling>, ModelError> {
        let key = "rope.scaling.type";
        let kind = self.gguf.str(&self.key(key)).unwrap_or("none");
        let stated = match kind {
            "none" => None,
            "linear" => {
                let factor = self.optional_float("rope.scaling.factor")?;
                factor.filter(|&factor| factor != 1.0).map(|factor| RopeScaling::Linear { factor })
            }
            "yarn" => Some(self.yarn()?),
            // Said by the weights alone.
            "longrope" => None,
            other => {
                let remedy = "use a model with rope scaling of the kind none, linear, yarn or longrope, or serve this one with \
                              llama.cpp and use --engine openai";
                return Err(self.unsupported(key, other, remedy));
            }
        };
        let by_weights = match self.rope_factors.get(ROPE_FACTORS) {
            Some(divisors) => Some(RopeScaling::Factors { divisors: divisors.clone(), magnitude: 1.0 }),
            None => self.longrope()?,
        };
        match (stated, by_weights) {
            (Some(_), Some(_)) => {
                let value = format!("{kind}, with divisors of frequencies among the weights too");
                Err(self.unsupported(key, value, "convert the model again with a current converter"))
            }
            (stated, by_weights) => Ok(stated.or(by_weights)),
        }
    }

    fn yarn(&self) -> Result<RopeScaling, ModelError> {
        let factor = self.float("rope.scaling.factor")?;
        // What the converter could not say otherwise stands in `attn_factor`, beside the factor that all programs use.
        let magnitude = 1.0 + 0.1 * factor.max(1.0).ln();
        Ok(RopeScaling::Yarn {
            factor,
            beta_fast: self.optional_float("rope.scaling.yarn_beta_fast")?.unwrap_or(32.0),
            beta_slow: self.optional_float("rope.scaling.yarn_beta_slow")?.unwrap_or(1.0),
            truncate: true,
            original_context: self.size("rope.scaling.original_context_length")?,
            magnitude: magnitude * self.optional_float("rope.scaling.attn_factor")?.unwrap_or(1.0),
        })
    }

    /// LongRoPE, where the weights have its two lists. As in the other format, the model's context chooses.
    fn longrope(&self) -> Result<Option<RopeScaling>, ModelError> {
        if !self.rope_factors.contains_key(LONG_FACTORS) && !self.rope_factors.contains_key(SHORT_FACTORS) {
            return Ok(None);
        }
        let original = "rope.scaling.original_context_length";
        let list = if self.size(KEYS.context)? > self.size(original)? { LONG_FACTORS } else { SHORT_FACTORS };
        let divisors = self.rope_factors.get(list).ok_or_else(|| manifest::missing(self.path, list))?.clone();
        Ok(Some(RopeScaling::Factors { divisors, magnitude: self.float("rope.scaling.attn_factor")? }))
    }

    fn float(&self, key: &str) -> Result<f32, ModelError> {
        self.optional_float(key)?.ok_or_else(|| self.missing(key))
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

    pub(super) fn unsupported(&self, key: &str, value: impl ToString, remedy: &str) -> ModelError {
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
