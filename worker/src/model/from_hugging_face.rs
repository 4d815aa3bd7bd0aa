//! A model from a folder in the Hugging Face layout.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use memmap2::Mmap;
use serde_json::Value;

use super::chat_template::ChatTemplate;
use super::config::{Family, ModelConfig, RopeScaling, RopeStyle};
use super::error::ModelError;
use super::safetensors::{self, SafetensorsError};
use super::tokenizer::{Roles, Tokenizer};
use super::{Model, Weight, map, read_if_there, unreadable, weights};

const SUPPORTED: &str = "use a model of the class LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM or \
                         Qwen3ForCausalLM";

pub(super) fn open(folder: &Path) -> Result<Model, ModelError> {
    let json = Json::required(folder, "config.json")?;
    let paths = weight_files(folder)?;
    let (files, mut weights) = read_weights(&paths)?;
    let (vocab, _) = weights::embedding(&json.file, &weights)?;
    let config = config(&json, vocab, !weights.contains_key("output.weight"))?;
    if config.tied {
        // Some writers save the shared matrix twice.
        weights.remove("output.weight");
    }
    weights::check(folder, &config, &weights)?;
    let roles = Roles::read(folder, &json.value)?;
    let tokenizer = Tokenizer::from_folder(folder, config.vocab, &roles)?;
    let (file, template) = chat_template(folder)?;
    let chat_template = ChatTemplate::new(&file, &template, &tokenizer)?;
    Ok(Model {
        config,
        files,
        weights,
        tokenizer: Arc::new(tokenizer),
        chat_template,
        name: folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        licence: licence(folder)?,
        weights_hash: OnceLock::new(),
    })
}

/// A JSON file and where it lies.
pub(super) struct Json {
    pub(super) file: PathBuf,
    pub(super) value: Value,
}

impl Json {
    pub(super) fn optional(folder: &Path, name: &str) -> Result<Option<Self>, ModelError> {
        let Some((file, text)) = read_if_there(folder.join(name))? else { return Ok(None) };
        match serde_json::from_str(&text) {
            Ok(value) => Ok(Some(Self { file, value })),
            Err(error) => Err(ModelError::Damaged { file, what: error.to_string() }),
        }
    }

    pub(super) fn required(folder: &Path, name: &str) -> Result<Self, ModelError> {
        Self::optional(folder, name)?.ok_or_else(|| ModelError::Missing {
            file: folder.to_owned(),
            key: name.into(),
            remedy: "fetch the whole model folder".into(),
        })
    }

    fn get(&self, key: &str) -> Option<&Value> {
        self.value.get(key).filter(|value| !value.is_null())
    }

    fn size(&self, key: &str) -> Result<usize, ModelError> {
        self.optional_size(key)?.ok_or_else(|| ModelError::Missing {
            file: self.file.clone(),
            key: key.into(),
            remedy: "the configuration is not whole: fetch it again".into(),
        })
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        let size = |value: &Value| value.as_u64().and_then(|n| usize::try_from(n).ok());
        self.get(key)
            .map(|value| size(value).ok_or_else(|| self.unsupported(key, value, "want a whole number")))
            .transpose()
    }

    fn flag(&self, key: &str) -> Result<Option<bool>, ModelError> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| self.unsupported(key, value, "want true or false"));
        self.get(key).map(flag).transpose()
    }

    fn unsupported(&self, key: &str, value: &Value, remedy: &str) -> ModelError {
        ModelError::Unsupported {
            file: self.file.clone(),
            key: key.into(),
            value: value.to_string(),
            remedy: remedy.into(),
        }
    }
}

/// The shape that a `config.json` alone promises, for measuring without weights.
pub(super) fn shape(file: &Path) -> Result<ModelConfig, ModelError> {
    let text = std::fs::read_to_string(file).map_err(|source| unreadable(file, source))?;
    let value = serde_json::from_str(&text);
    let value = value
        .map_err(|error: serde_json::Error| ModelError::Damaged { file: file.to_owned(), what: error.to_string() })?;
    let json = Json { file: file.to_owned(), value };
    config(&json, json.size("vocab_size")?, false)
}

fn config(json: &Json, vocab: usize, tied: bool) -> Result<ModelConfig, ModelError> {
    let family = family(json)?;
    refuse_variants(json)?;
    let (dim, heads) = (json.size("hidden_size")?, json.size("num_attention_heads")?);
    let rope = Rope::read(json)?;
    let config = ModelConfig {
        family,
        layers: json.size("num_hidden_layers")?,
        dim,
        ffn: json.size("intermediate_size")?,
        heads,
        kv_heads: json.optional_size("num_key_value_heads")?.unwrap_or(heads),
        head_dim: match json.optional_size("head_dim")? {
            Some(width) => width,
            None => dim.checked_div(heads).unwrap_or(0),
        },
        vocab,
        context: context(json, family)?,
        rope_base: rope.base,
        rope_scaling: rope.scaling,
        rope_style: RopeStyle::Half,
        norm_eps: json.get("rms_norm_eps").and_then(Value::as_f64).map_or(1e-6, |epsilon| epsilon as f32),
        tied: json.flag("tie_word_embeddings")?.unwrap_or(tied),
        qkv_bias: family == Family::Qwen2 || json.flag("attention_bias")?.unwrap_or(false),
        qk_norm: family == Family::Qwen3,
    };
    match config.fault() {
        None => Ok(config),
        Some(what) => Err(ModelError::Damaged { file: json.file.clone(), what }),
    }
}

fn family(json: &Json) -> Result<Family, ModelError> {
    let class = json.get("architectures").and_then(|classes| classes.get(0)).unwrap_or(&Value::Null);
    match class.as_str() {
        Some("LlamaForCausalLM" | "MistralForCausalLM") => Ok(Family::Llama),
        Some("Qwen2ForCausalLM") => Ok(Family::Qwen2),
        Some("Qwen3ForCausalLM") => Ok(Family::Qwen3),
        _ => Err(json.unsupported("architectures", class, SUPPORTED)),
    }
}

/// What a configuration of a known class may ask for that the plain forward pass does not compute.
fn refuse_variants(json: &Json) -> Result<(), ModelError> {
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

/// The trained context, capped by a sliding window that the family makes use of.
fn context(json: &Json, family: Family) -> Result<usize, ModelError> {
    let context = json.size("max_position_embeddings")?;
    // Qwen's configurations state a window and switch it off.
    let in_use = family == Family::Llama || json.flag("use_sliding_window")?.unwrap_or(false);
    let window = json.optional_size("sliding_window")?.filter(|_| in_use);
    Ok(window.map_or(context, |window| context.min(window)))
}

struct Rope {
    base: f32,
    scaling: Option<RopeScaling>,
}

impl Rope {
    /// Older configurations have `rope_theta` and `rope_scaling`, newer ones both in `rope_parameters`.
    fn read(json: &Json) -> Result<Self, ModelError> {
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
                remedy: "the configuration is not whole: fetch it again".into(),
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
        Ok(Self { base, scaling })
    }
}

/// The files that hold the weights, in the order of their names.
fn weight_files(folder: &Path) -> Result<Vec<PathBuf>, ModelError> {
    if let Some(index) = Json::optional(folder, "model.safetensors.index.json")? {
        let names: Option<BTreeSet<&str>> = index
            .value
            .get("weight_map")
            .and_then(Value::as_object)
            .and_then(|map| map.values().map(Value::as_str).collect());
        let names = names.filter(|names| names.iter().all(|name| !name.contains(['/', '\\'])));
        let damaged = || ModelError::Damaged {
            file: index.file.clone(),
            what: "weight_map does not lead from names of weights to names of files".into(),
        };
        return Ok(names.ok_or_else(damaged)?.into_iter().map(|name| folder.join(name)).collect());
    }
    let single = folder.join("model.safetensors");
    if single.exists() {
        return Ok(vec![single]);
    }
    Err(ModelError::NotAModel {
        file: folder.to_owned(),
        what: "there is neither model.safetensors nor model.safetensors.index.json".into(),
        remedy: "fetch the model in safetensors form; PyTorch's .bin and .pt files are programs and are not read"
            .into(),
    })
}

fn read_weights(paths: &[PathBuf]) -> Result<(Vec<Mmap>, HashMap<String, Weight>), ModelError> {
    let (mut files, mut weights) = (Vec::new(), HashMap::new());
    for (index, path) in paths.iter().enumerate() {
        let map = map(path)?;
        let tensors = safetensors::parse(&map).map_err(|error| refuse(path, error))?;
        for (name, info) in tensors {
            let name = canonical(&name).unwrap_or(name);
            let weight = Weight { file: index, range: info.range, dtype: info.dtype, shape: info.shape };
            if weights.insert(name.clone(), weight).is_some() {
                let what = format!("weight {name} is also in another file of the folder");
                return Err(ModelError::Damaged { file: path.clone(), what });
            }
        }
        files.push(map);
    }
    Ok((files, weights))
}

fn refuse(path: &Path, error: SafetensorsError) -> ModelError {
    let file = path.to_owned();
    match error {
        SafetensorsError::Damaged(error) => ModelError::Damaged { file, what: error.to_string() },
        SafetensorsError::Unsupported { tensor, dtype } => ModelError::Unsupported {
            file,
            key: format!("the type of tensor {tensor}"),
            value: dtype.to_string(),
            remedy: "use weights in F32, F16 or BF16, or a GGUF file for quantised ones".into(),
        },
    }
}

/// The name that GGUF has for a weight; none for a weight that no supported family has.
fn canonical(name: &str) -> Option<String> {
    let fixed = match name {
        "model.embed_tokens.weight" => "token_embd.weight",
        "model.norm.weight" => "output_norm.weight",
        "lm_head.weight" => "output.weight",
        _ => {
            let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
            let (part, kind) = rest.rsplit_once('.')?;
            let part = match part {
                "input_layernorm" => "attn_norm",
                "self_attn.q_proj" => "attn_q",
                "self_attn.k_proj" => "attn_k",
                "self_attn.v_proj" => "attn_v",
                "self_attn.o_proj" => "attn_output",
                "self_attn.q_norm" => "attn_q_norm",
                "self_attn.k_norm" => "attn_k_norm",
                "post_attention_layernorm" => "ffn_norm",
                "mlp.gate_proj" => "ffn_gate",
                "mlp.up_proj" => "ffn_up",
                "mlp.down_proj" => "ffn_down",
                _ => return None,
            };
            return Some(format!("blk.{layer}.{part}.{kind}"));
        }
    };
    Some(fixed.to_owned())
}

/// The template and the file that holds it.
fn chat_template(folder: &Path) -> Result<(PathBuf, String), ModelError> {
    if let Some(found) = read_if_there(folder.join("chat_template.jinja"))? {
        return Ok(found);
    }
    let config = Json::optional(folder, "tokenizer_config.json")?;
    let template = config.as_ref().and_then(|json| match json.get("chat_template")? {
        Value::String(template) => Some(template),
        // Several named templates: the default one is for conversations.
        Value::Array(named) => {
            let default = named.iter().find(|one| one.get("name").is_some_and(|name| name == "default"))?;
            match default.get("template")? {
                Value::String(template) => Some(template),
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    });
    match (&config, template) {
        (Some(json), Some(template)) => Ok((json.file.clone(), template.clone())),
        _ => Err(ModelError::Missing {
            file: folder.to_owned(),
            key: "a chat template (chat_template.jinja, or chat_template in tokenizer_config.json)".into(),
            remedy: "use the instruction-tuned variant of the model".into(),
        }),
    }
}

/// The `license` line of the model card, empty where there is none.
fn licence(folder: &Path) -> Result<String, ModelError> {
    let card = folder.join("README.md");
    let bytes = match std::fs::read(&card) {
        Ok(bytes) => bytes,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(source) => return Err(unreadable(&card, source)),
    };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let header = lines.next().is_some_and(|line| line.trim() == "---");
    let stated = lines.take_while(|line| line.trim() != "---").find_map(|line| line.strip_prefix("license:"));
    Ok(stated.filter(|_| header).map(|licence| licence.trim().to_owned()).unwrap_or_default())
}
