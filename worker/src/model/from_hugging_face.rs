//! A model from a folder in the Hugging Face layout.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhand_proto::task::RecommendedSampling;
use memmap2::Mmap;
use serde_json::Value;

use super::arch::family::Family;
use super::arch::hugging_face::{HuggingFaceConfig, is_derived, remove_duplicates};
use super::arch::{self, Format};
use super::chat_template::ChatTemplate;
use super::config::ModelConfig;
use super::error::ModelError;
use super::files::{map, read_if_there, unreadable};
use super::json::Json;
use super::loaded::Loaded;
use super::safetensors::{self, SafetensorsError};
use super::tensor::StoredTensor;
use super::tokenizer::{Roles, Tokenizer};

/// With `template` (its file and text) instead of the model's own, if there is one.
pub(super) fn open(folder: &Path, template: Option<(PathBuf, String)>) -> Result<Loaded, ModelError> {
    let (json, multimodal) = text_part(Json::required(folder, "config.json")?);
    let (files, mut tensors) = read_weights(&weight_files(folder)?, multimodal)?;
    let family = family(&json)?;
    let source = HuggingFaceConfig { json: &json, family: family.name, tensors: Some(&tensors) };
    let config = (family.from_hugging_face)(&source)?;
    remove_duplicates(&config, &mut tensors);
    let weights = family.bind(folder, Format::HuggingFace, &config, tensors)?;
    let roles = Roles::read(folder, &json.value)?;
    let tokenizer = Arc::new(Tokenizer::from_folder(folder, config.vocab, &roles)?);
    let (file, template) = template.map_or_else(|| chat_template(folder), Ok)?;
    let chat_template = ChatTemplate::new(&file, &template, &tokenizer)?;
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (licence, sampling) = (licence(folder)?, sampling(folder)?);
    Ok(Loaded { config, files, weights, tokenizer, chat_template, name, licence, sampling })
}

/// What `generation_config.json` states.
fn sampling(folder: &Path) -> Result<RecommendedSampling, ModelError> {
    let generation = Json::optional(folder, "generation_config.json")?;
    let value = |key: &str| generation.as_ref().and_then(|json| json.get(key));
    let float = |key: &str| value(key).and_then(Value::as_f64).map(|value| value as f32);
    let top_k = value("top_k").and_then(Value::as_u64).and_then(|value| u32::try_from(value).ok());
    let recommended = RecommendedSampling {
        temperature: float("temperature"),
        top_k,
        top_p: float("top_p"),
        min_p: float("min_p"),
        repetition_penalty: float("repetition_penalty"),
    };
    Ok(recommended.usable())
}

/// The shape that a `config.json` alone promises, for measuring without weights.
pub(super) fn shape(file: &Path) -> Result<ModelConfig, ModelError> {
    let (json, _) = text_part(Json::read(file)?);
    let family = family(&json)?;
    (family.from_hugging_face)(&HuggingFaceConfig { json: &json, family: family.name, tensors: None })
}

fn family(json: &Json) -> Result<&'static Family, ModelError> {
    let class = json.get("architectures").and_then(|classes| classes.get(0)).unwrap_or(&Value::Null);
    let remedy =
        || format!("use a model of the class {}, or serve this one with vLLM and use --engine openai", arch::classes());
    let family = class.as_str().and_then(arch::of_class);
    family.ok_or_else(|| json.unsupported("architectures", class, &remedy()))
}

/// The configuration of a multimodal model's text part, and whether it is one: what `text_config` states stands before what
/// the file states for all parts.
fn text_part(mut json: Json) -> (Json, bool) {
    let Some(Value::Object(text)) = json.value.get_mut("text_config").map(Value::take) else { return (json, false) };
    if let Some(all) = json.value.as_object_mut() {
        all.extend(text.into_iter().filter(|(key, value)| key != "architectures" && !value.is_null()));
        // The two places contradict each other in many files; the weights say it.
        all.remove("tie_word_embeddings");
    }
    (json, true)
}

/// What a weight of a multimodal model is called in a model of text; none if it belongs to another part.
fn text_weight(name: &str) -> Option<String> {
    match name.strip_prefix("model.language_model.") {
        Some(rest) => Some(format!("model.{rest}")),
        None if name == "lm_head.weight" => Some(name.to_owned()),
        None => name.strip_prefix("language_model.").map(str::to_owned),
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

fn read_weights(paths: &[PathBuf], multimodal: bool) -> Result<(Vec<Mmap>, HashMap<String, StoredTensor>), ModelError> {
    let (mut files, mut tensors) = (Vec::new(), HashMap::new());
    for (file, path) in paths.iter().enumerate() {
        let map = map(path)?;
        let skip = |name: &str| is_derived(name) || multimodal && text_weight(name).is_none();
        for (stored, info) in safetensors::parse(&map, skip).map_err(|error| refuse(path, error))? {
            let name = if multimodal { text_weight(&stored).unwrap_or(stored) } else { stored };
            if tensors.contains_key(&name) {
                let what = format!("weight {name} is also in another file of the folder");
                return Err(ModelError::Damaged { file: path.clone(), what });
            }
            tensors.insert(name, StoredTensor { file, info });
        }
        files.push(map);
    }
    Ok((files, tensors))
}

fn refuse(path: &Path, error: SafetensorsError) -> ModelError {
    let file = path.to_owned();
    match error {
        SafetensorsError::Damaged(error) => ModelError::Damaged { file, what: error.to_string() },
        SafetensorsError::Unsupported { tensor, dtype } => ModelError::Unsupported {
            file,
            key: format!("the type of tensor {tensor}"),
            value: dtype.to_string(),
            remedy: "use weights in F32, F16 or BF16, or a GGUF file for quantised ones, or serve this model with vLLM and use --engine openai".into(),
        },
    }
}

/// The template and the file that holds it.
fn chat_template(folder: &Path) -> Result<(PathBuf, String), ModelError> {
    if let Some(found) = read_if_there(folder.join("chat_template.jinja"))? {
        return Ok(found);
    }
    let states = |json: &Json| json.get("chat_template").is_some();
    // Processors of multimodal models had a file of their own.
    let config = match Json::optional(folder, "tokenizer_config.json")?.filter(states) {
        Some(config) => Some(config),
        None => Json::optional(folder, "chat_template.json")?,
    };
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
            remedy: "use the instruction-tuned variant of the model, or give a template with --chat-template FILE"
                .into(),
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
