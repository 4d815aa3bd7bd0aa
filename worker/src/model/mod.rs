//! Reading a model from disk: configuration, weights, tokenizer, chat template. What is not understood is refused by
//! name; nothing is guessed.
//!
//! A file format has a reader ([`gguf`], [`safetensors`]) and a loader that makes a model of it; what differs between families
//! of models stands in [`arch`].

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use longhand_proto::task::{ModelInfo, RecommendedSampling};
use memmap2::Mmap;

pub mod arch;
pub mod chat_template;
pub mod config;
mod error;
mod files;
mod from_gguf;
mod from_hugging_face;
pub mod gguf;
mod jinja;
mod json;
mod loaded;
pub mod quant;
pub mod safetensors;
mod tensor;
pub mod tokenizer;

pub use arch::{FamilyInfo, LayerWeight, Part, WeightId, families};
pub use chat_template::{ChatTemplate, Thinking};
pub use config::{Activation, Experts, LayerSpec, ModelConfig, SlidingWindow};
pub use error::ModelError;
pub use quant::{DType, QuantError, dequantize};
pub use tensor::{Tensor, TensorInfo};
pub use tokenizer::{GuardMarks, Tokenizer};

use self::files::unreadable;
use self::loaded::Loaded;
pub use crate::ops::rope::{RopeScaling, RopeStyle};

/// A model whose files are open, memory-mapped and checked: every weight that its configuration promises is there, in
/// the shape it must have.
pub struct Model {
    loaded: Loaded,
    /// Reading all weights takes seconds for a big model, and the first token need not wait for it.
    weights_hash: OnceLock<String>,
}

/// The error for a path that cannot be read; if it is spelled like a repository of the hub, what fetches that.
fn not_there(path: &Path, source: std::io::Error) -> ModelError {
    let text = path.to_string_lossy();
    let word = |part: &str| part.starts_with(char::is_alphanumeric) && !part.ends_with(".gguf");
    match text.split_once('/') {
        Some((owner, name)) if !path.exists() && word(owner) && word(name) && !name.contains('/') => {
            ModelError::NotAModel {
                file: path.to_owned(),
                what: "there is no such file or folder".into(),
                remedy: format!("`longhand model pull {text}` fetches it from the hub and prints the path to give"),
            }
        }
        Some(_) | None => unreadable(path, source),
    }
}

impl Model {
    /// Opens a `.gguf` file, or a folder in the Hugging Face layout: `config.json`, `*.safetensors` (with their index if
    /// there are several), `tokenizer.json`, and a chat template in `chat_template.jinja` or `tokenizer_config.json`.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::open_with(path, None)
    }

    /// The same with the chat template of another file, whatever the model has.
    pub fn open_with(path: &Path, chat_template: Option<&Path>) -> Result<Self, ModelError> {
        let template = chat_template.map(files::read_text).transpose()?;
        let about = std::fs::metadata(path).map_err(|source| not_there(path, source))?;
        let loaded = if about.is_file() {
            from_gguf::open(path, template)?
        } else if path.join("config.json").exists() {
            from_hugging_face::open(path, template)?
        } else {
            return Err(ModelError::NotAModel {
                file: path.to_owned(),
                what: "the folder has no config.json".into(),
                remedy: "give a .gguf file, or a folder with config.json, *.safetensors and tokenizer.json".into(),
            });
        };
        Ok(Self { loaded, weights_hash: OnceLock::new() })
    }

    /// The model's shape.
    pub fn config(&self) -> &ModelConfig {
        &self.loaded.config
    }

    /// The shape of the model whose `config.json` this is; no weights are needed.
    pub fn shape(config: &Path) -> Result<ModelConfig, ModelError> {
        from_hugging_face::shape(config)
    }

    /// A weight as it lies in the file; an error if the model has none such.
    pub fn tensor(&self, weight: WeightId) -> Result<Tensor<'_>, ModelError> {
        let stored = self.loaded.weights.get(&weight).ok_or(ModelError::NoSuchWeight(weight))?;
        let TensorInfo { dtype, shape, range } = &stored.info;
        Ok(Tensor { dtype: *dtype, shape: shape.clone(), data: &self.loaded.files[stored.file][range.clone()] })
    }

    /// All weights by what they do, and what they are, in no order.
    pub fn weights(&self) -> impl Iterator<Item = (WeightId, &TensorInfo)> {
        self.loaded.weights.iter().map(|(weight, stored)| (*weight, &stored.info))
    }

    /// The model's name: what its file says, or the name of its folder.
    pub fn name(&self) -> &str {
        &self.loaded.name
    }

    /// All elements of a weight in float32, outermost dimension first, norms as they are multiplied with; errors as of
    /// [`Model::tensor`].
    pub fn floats(&self, weight: WeightId) -> Result<Vec<f32>, ModelError> {
        // The length was checked when the model was opened.
        let mut floats = self.tensor(weight)?.to_f32().map_err(|_| ModelError::NoSuchWeight(weight))?;
        if weight.part() == Part::Norms {
            floats.iter_mut().for_each(|x| *x += self.config().norm_offset);
        }
        Ok(floats)
    }

    /// What its makers recommend.
    pub fn recommended_sampling(&self) -> RecommendedSampling {
        self.loaded.sampling
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.loaded.tokenizer
    }

    /// The model's chat template.
    pub fn chat_template(&self) -> &ChatTemplate {
        &self.loaded.chat_template
    }

    /// What a document's provenance says of the model; `engine` and `device` are left to the engine. The first call reads
    /// all weights to hash them.
    pub fn info(&self) -> ModelInfo {
        let Loaded { config, files, tokenizer, name, licence, sampling, .. } = &self.loaded;
        ModelInfo {
            name: name.clone(),
            weights_hash: self.weights_hash.get_or_init(|| hash(files)).clone(),
            tokenizer_hash: tokenizer.hash().to_owned(),
            licence: licence.clone(),
            engine: String::new(),
            device: String::new(),
            context: u32::try_from(config.context).unwrap_or(u32::MAX),
            sampling: *sampling,
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Loaded { name, config, .. } = &self.loaded;
        f.debug_struct("Model").field("name", name).field("config", config).finish_non_exhaustive()
    }
}

/// The BLAKE3 hash of a file, in hexadecimal; of several, of their hashes in the order of their names.
fn hash(files: &[Mmap]) -> String {
    let mut hashes = files.iter().map(|file| blake3::Hasher::new().update_rayon(file).finalize());
    match (hashes.next(), files.len()) {
        (Some(hash), 1) => hash.to_string(),
        (first, _) => {
            let mut all = blake3::Hasher::new();
            first.into_iter().chain(hashes).for_each(|hash| {
                all.update(hash.as_bytes());
            });
            all.finalize().to_string()
        }
    }
}
