//! A model from one GGUF file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use super::chat_template::ChatTemplate;
use super::config::{Family, ModelConfig, RopeScaling, RopeStyle};
use super::error::ModelError;
use super::gguf::{Gguf, GgufError, Value};
use super::tokenizer::Tokenizer;
use super::{Model, Weight, dequantize, map, weights};

/// The weight that carries rope scaling as divisors; it becomes part of the configuration.
const ROPE_FACTORS: &str = "rope_freqs.weight";

pub(super) fn open(path: &Path) -> Result<Model, ModelError> {
    let map = map(path)?;
    let gguf = Gguf::parse(&map).map_err(|error| refuse(path, error))?;
    let keys = Keys { path, gguf: &gguf, arch: architecture(path, &gguf)? };
    let mut weights: HashMap<String, Weight> = gguf
        .tensors()
        .iter()
        .map(|(&name, info)| {
            let weight = Weight { file: 0, range: info.range.clone(), dtype: info.dtype, shape: info.shape.clone() };
            (name.to_owned(), weight)
        })
        .collect();
    let factors = weights.remove(ROPE_FACTORS);
    let config = config(&keys, &weights, factors.map(|weight| rope_factors(path, &map, &weight)).transpose()?)?;
    weights::check(path, &config, &weights)?;
    let tokenizer = Tokenizer::from_gguf(path, &gguf, config.vocab)?;
    let template = gguf.str("tokenizer.chat_template").ok_or_else(|| ModelError::Missing {
        file: path.to_owned(),
        key: "tokenizer.chat_template".into(),
        remedy: "use the instruction-tuned variant of the model, whose file carries a chat template".into(),
    })?;
    let chat_template = ChatTemplate::new(path, template, &tokenizer)?;
    let name = gguf.str("general.name").map(str::to_owned).unwrap_or_else(|| stem(path));
    let licence = gguf.str("general.license").unwrap_or("").to_owned();
    Ok(Model {
        config,
        weights,
        tokenizer: Arc::new(tokenizer),
        chat_template,
        name,
        licence,
        weights_hash: OnceLock::new(),
        files: vec![map],
    })
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn refuse(path: &Path, error: GgufError) -> ModelError {
    let file = path.to_owned();
    match error {
        GgufError::Magic => ModelError::NotAModel {
            file,
            what: error.to_string(),
            remedy: "give a .gguf file, or a folder with config.json, *.safetensors and tokenizer.json".into(),
        },
        GgufError::Damaged { .. } => ModelError::Damaged { file, what: error.to_string() },
        GgufError::Unsupported { key, value, remedy } => {
            ModelError::Unsupported { file, key, value, remedy: remedy.into() }
        }
    }
}

/// Metadata keys below the architecture's name.
struct Keys<'a> {
    path: &'a Path,
    gguf: &'a Gguf<'a>,
    arch: Architecture,
}

#[derive(Clone, Copy)]
struct Architecture {
    name: &'static str,
    family: Family,
}

const ARCHITECTURES: [Architecture; 3] = [
    Architecture { name: "llama", family: Family::Llama },
    Architecture { name: "qwen2", family: Family::Qwen2 },
    Architecture { name: "qwen3", family: Family::Qwen3 },
];

fn architecture(path: &Path, gguf: &Gguf<'_>) -> Result<Architecture, ModelError> {
    let key = "general.architecture";
    let name = gguf.str(key).ok_or_else(|| ModelError::Missing {
        file: path.to_owned(),
        key: key.into(),
        remedy: "the file is no language model in GGUF form".into(),
    })?;
    ARCHITECTURES.into_iter().find(|arch| arch.name == name).ok_or_else(|| ModelError::Unsupported {
        file: path.to_owned(),
        key: key.into(),
        value: name.into(),
        remedy: "use a model of the architecture llama, qwen2 or qwen3".into(),
    })
}

impl Keys<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch.name)
    }

    fn unsupported(&self, key: &str, value: impl ToString, remedy: &str) -> ModelError {
        ModelError::Unsupported {
            file: self.path.to_owned(),
            key: self.key(key),
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let full = self.key(key);
        match (self.gguf.get(&full), self.gguf.unsigned(&full)) {
            (None, _) => Ok(None),
            (Some(Value::Array(_)), _) => {
                Err(self.unsupported(key, "a list", "use a model whose layers are all alike"))
            }
            (Some(_), Some(n)) => usize::try_from(n).map(Some).map_err(|_| self.bad(&full)),
            (Some(_), None) => Err(self.bad(&full)),
        }
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional_size(key)?.ok_or_else(|| self.missing(key))
    }

    fn optional_float(&self, key: &str) -> Result<Option<f32>, ModelError> {
        let full = self.key(key);
        match (self.gguf.get(&full), self.gguf.float(&full)) {
            (None, _) => Ok(None),
            (Some(_), Some(x)) => Ok(Some(x)),
            (Some(_), None) => Err(self.bad(&full)),
        }
    }

    fn bad(&self, key: &str) -> ModelError {
        ModelError::Damaged { file: self.path.to_owned(), what: format!("the value of {key} is not a number") }
    }

    fn missing(&self, key: &str) -> ModelError {
        ModelError::Missing {
            file: self.path.to_owned(),
            key: self.key(key),
            remedy: "convert the model anew with a current converter".into(),
        }
    }
}

fn config(
    keys: &Keys<'_>,
    weights: &HashMap<String, Weight>,
    factors: Option<Vec<f32>>,
) -> Result<ModelConfig, ModelError> {
    let Architecture { family, .. } = keys.arch;
    refuse_variants(keys)?;
    let (vocab, _) = weights::embedding(keys.path, weights)?;
    let dim = keys.size("embedding_length")?;
    let heads = keys.size("attention.head_count")?;
    let head_dim = match keys.optional_size("attention.key_length")? {
        Some(width) => width,
        None => dim.checked_div(heads).unwrap_or(0),
    };
    let config = ModelConfig {
        family,
        layers: keys.size("block_count")?,
        dim,
        ffn: keys.size("feed_forward_length")?,
        heads,
        kv_heads: keys.optional_size("attention.head_count_kv")?.unwrap_or(heads),
        head_dim,
        vocab,
        context: context(keys)?,
        rope_base: keys.optional_float("rope.freq_base")?.unwrap_or(10_000.0),
        rope_scaling: rope_scaling(keys, factors)?,
        rope_style: match family {
            Family::Llama => RopeStyle::Interleaved,
            Family::Qwen2 | Family::Qwen3 => RopeStyle::Half,
        },
        norm_eps: keys
            .optional_float("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?,
        tied: !weights.contains_key("output.weight"),
        qkv_bias: weights.contains_key("blk.0.attn_q.bias"),
        qk_norm: family == Family::Qwen3,
    };
    for key in ["attention.value_length", "rope.dimension_count"] {
        if let Some(width) = keys.optional_size(key)?.filter(|&width| width != head_dim) {
            let remedy = "use a model whose heads are rotated whole, with keys and values of one width";
            return Err(keys.unsupported(key, format!("{width}, with heads {head_dim} wide"), remedy));
        }
    }
    match config.fault() {
        None => Ok(config),
        Some(what) => Err(ModelError::Damaged { file: keys.path.to_owned(), what }),
    }
}

/// What a file of a known architecture may hold that its plain forward pass does not compute.
fn refuse_variants(keys: &Keys<'_>) -> Result<(), ModelError> {
    if let Some(experts) = keys.optional_size("expert_count")?.filter(|&experts| experts > 0) {
        return Err(keys.unsupported("expert_count", experts, "use a dense model"));
    }
    match keys.gguf.unsigned("split.count") {
        Some(parts) if parts > 1 => Err(ModelError::Unsupported {
            file: keys.path.to_owned(),
            key: "split.count".into(),
            value: parts.to_string(),
            remedy: "join the parts to one file with `llama-gguf-split --merge`".into(),
        }),
        _ => Ok(()),
    }
}

fn context(keys: &Keys<'_>) -> Result<usize, ModelError> {
    let context = keys.size("context_length")?;
    let window = keys.optional_size("attention.sliding_window")?.filter(|&window| window > 0);
    Ok(window.map_or(context, |window| context.min(window)))
}

fn rope_scaling(keys: &Keys<'_>, factors: Option<Vec<f32>>) -> Result<Option<RopeScaling>, ModelError> {
    let key = "rope.scaling.type";
    let kind = keys.gguf.str(&keys.key(key)).unwrap_or("none");
    let linear = match kind {
        "none" => None,
        "linear" => {
            let factor = keys.optional_float("rope.scaling.factor")?;
            factor.filter(|&factor| factor != 1.0).map(|factor| RopeScaling::Linear { factor })
        }
        other => return Err(keys.unsupported(key, other, "use a model without rope scaling, or with linear scaling")),
    };
    match (linear, factors) {
        (linear, None) => Ok(linear),
        (None, Some(factors)) => Ok(Some(RopeScaling::Factors(factors))),
        (Some(_), Some(_)) => {
            Err(keys.unsupported(key, "linear, with the weight rope_freqs.weight too", "convert the model anew"))
        }
    }
}

fn rope_factors(path: &Path, map: &[u8], weight: &Weight) -> Result<Vec<f32>, ModelError> {
    // Half of a head's width; more can only be a damaged file.
    let mut factors = vec![0.0; weight.shape.iter().product::<usize>().min(1 << 16)];
    dequantize(weight.dtype, &map[weight.range.clone()], &mut factors).map_err(|error| ModelError::Damaged {
        file: path.to_owned(),
        what: format!("weight {ROPE_FACTORS}: {error}"),
    })?;
    Ok(factors)
}
