//! Reading a model from disk: configuration, weights, tokenizer, chat template. What is not understood is refused by
//! name; nothing is guessed.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use longhand_proto::task::ModelInfo;
use memmap2::Mmap;

pub mod chat_template;
pub mod config;
mod error;
mod from_gguf;
mod from_hugging_face;
pub mod gguf;
pub mod quant;
pub mod safetensors;
pub mod tokenizer;
mod weights;

pub use chat_template::ChatTemplate;
pub use config::{Family, ModelConfig, RopeScaling, RopeStyle};
pub use error::ModelError;
pub use quant::{DType, QuantError, dequantize};
pub use tokenizer::Tokenizer;

/// A model whose files are open, memory-mapped and checked: every weight that its configuration promises is there, in
/// the shape it must have.
pub struct Model {
    config: ModelConfig,
    /// The files that hold weights.
    files: Vec<Mmap>,
    weights: HashMap<String, Weight>,
    tokenizer: Arc<Tokenizer>,
    chat_template: ChatTemplate,
    name: String,
    licence: String,
    /// Reading all weights takes seconds for a big model, and the first token need not wait for it.
    weights_hash: OnceLock<String>,
}

/// Where a weight lies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Weight {
    /// Index into [`Model::files`].
    file: usize,
    range: Range<usize>,
    dtype: DType,
    shape: Vec<usize>,
}

/// Where a container says that a tensor lies, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    pub dtype: DType,
    /// Outermost first.
    pub shape: Vec<usize>,
    /// Bytes of the file; inside it, whole blocks.
    pub range: Range<usize>,
}

/// A weight as it lies in the file, memory-mapped.
#[derive(Debug, Clone)]
pub struct Tensor<'a> {
    pub dtype: DType,
    /// Outermost first: a matrix is `[outputs, inputs]`, rows contiguous.
    pub shape: Vec<usize>,
    pub data: &'a [u8],
}

impl Tensor<'_> {
    /// Its numbers, one after the other.
    pub fn to_f32(&self) -> Result<Vec<f32>, QuantError> {
        let mut numbers = vec![0.0; self.shape.iter().product()];
        dequantize(self.dtype, self.data, &mut numbers)?;
        Ok(numbers)
    }
}

impl Model {
    /// Opens a `.gguf` file, or a folder in the Hugging Face layout: `config.json`, `*.safetensors` (with their index if
    /// there are several), `tokenizer.json`, and a chat template in `chat_template.jinja` or `tokenizer_config.json`.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let about = std::fs::metadata(path).map_err(|source| unreadable(path, source))?;
        if about.is_file() {
            return from_gguf::open(path);
        }
        if path.join("config.json").exists() {
            return from_hugging_face::open(path);
        }
        Err(ModelError::NotAModel {
            file: path.to_owned(),
            what: "the folder has no config.json".into(),
            remedy: "give a .gguf file, or a folder with config.json, *.safetensors and tokenizer.json".into(),
        })
    }

    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The shape of the model whose `config.json` this is; no weights are needed.
    pub fn shape(config: &Path) -> Result<ModelConfig, ModelError> {
        from_hugging_face::shape(config)
    }

    /// The weight of this name. Names are those of GGUF whatever the file: `token_embd.weight`, `blk.N.attn_norm.weight`,
    /// `blk.N.attn_q.weight` and `.bias` (also `attn_k`, `attn_v`), `blk.N.attn_output.weight`,
    /// `blk.N.attn_q_norm.weight`, `blk.N.attn_k_norm.weight`, `blk.N.ffn_norm.weight`, `blk.N.ffn_gate.weight` (also
    /// `ffn_up`, `ffn_down`), `output_norm.weight`, and `output.weight` unless the head is tied.
    pub fn tensor(&self, name: &str) -> Result<Tensor<'_>, ModelError> {
        let weight = self.weights.get(name).ok_or_else(|| ModelError::NoSuchWeight(name.to_owned()))?;
        Ok(Tensor {
            dtype: weight.dtype,
            shape: weight.shape.clone(),
            data: &self.files[weight.file][weight.range.clone()],
        })
    }

    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    pub fn chat_template(&self) -> &ChatTemplate {
        &self.chat_template
    }

    /// What a document's provenance says of the model; `engine` and `device` are left to the engine. The first call reads
    /// all weights to hash them.
    pub fn info(&self) -> ModelInfo {
        ModelInfo {
            name: self.name.clone(),
            weights_hash: self.weights_hash.get_or_init(|| hash(&self.files)).clone(),
            tokenizer_hash: self.tokenizer.hash().to_owned(),
            licence: self.licence.clone(),
            engine: String::new(),
            device: String::new(),
            context: u32::try_from(self.config.context).unwrap_or(u32::MAX),
        }
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("name", &self.name).field("config", &self.config).finish_non_exhaustive()
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

fn map(path: &Path) -> Result<Mmap, ModelError> {
    let file = File::open(path).map_err(|source| unreadable(path, source))?;
    // SAFETY: the map is read-only. Weights of a model are not rewritten in place while it runs; whoever does so changes
    // numbers or ends this process with SIGBUS, as with every program that maps its weights. Readers check all bounds
    // against the map's length, and text is checked where it is parsed and copied before `open` returns.
    unsafe { Mmap::map(&file) }.map_err(|source| unreadable(path, source))
}

/// A small text file that belongs to the model; none if it does not exist.
fn read_if_there(path: PathBuf) -> Result<Option<(PathBuf, String)>, ModelError> {
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(unreadable(&path, source)),
    }
}

fn unreadable(path: &Path, source: std::io::Error) -> ModelError {
    ModelError::Unreadable { file: path.to_owned(), source }
}
