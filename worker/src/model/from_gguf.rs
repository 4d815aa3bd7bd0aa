//! A model from one GGUF file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::arch::family::Family;
use super::arch::gguf::{GgufConfig, take_rope_factors};
use super::arch::{self, Format};
use super::chat_template::ChatTemplate;
use super::error::ModelError;
use super::files::map;
use super::gguf::{Gguf, GgufError};
use super::loaded::Loaded;
use super::tensor::StoredTensor;
use super::tokenizer::Tokenizer;

/// With `template` (its file and text) instead of the model's own, if there is one.
pub(super) fn open(path: &Path, template: Option<(PathBuf, String)>) -> Result<Loaded, ModelError> {
    let map = map(path)?;
    let gguf = Gguf::parse(&map).map_err(|error| refuse(path, error))?;
    let family = family(path, &gguf)?;
    let mut tensors: HashMap<String, StoredTensor> = gguf
        .tensors()
        .iter()
        .map(|(&name, info)| (name.to_owned(), StoredTensor { file: 0, info: info.clone() }))
        .collect();
    let rope_factors = take_rope_factors(path, &map, &mut tensors)?;
    let source = GgufConfig { path, gguf: &gguf, family: family.name, tensors: &tensors, rope_factors };
    let config = (family.from_gguf)(&source)?;
    let weights = family.bind(path, Format::Gguf, &config, tensors)?;
    let tokenizer = Arc::new(Tokenizer::from_gguf(path, &gguf, config.vocab)?);
    let own = || {
        let found = gguf.str("tokenizer.chat_template").map(|template| (path.to_owned(), template.to_owned()));
        found.ok_or_else(|| ModelError::Missing {
            file: path.to_owned(),
            key: "tokenizer.chat_template".into(),
            remedy:
                "use the instruction-tuned variant of the model, whose file carries a chat template, or give one with \
                     --chat-template FILE"
                    .into(),
        })
    };
    let (file, template) = template.map_or_else(own, Ok)?;
    let chat_template = ChatTemplate::new(&file, &template, &tokenizer)?;
    let name = gguf.str("general.name").map(str::to_owned).unwrap_or_else(|| stem(path));
    let licence = gguf.str("general.license").unwrap_or("").to_owned();
    Ok(Loaded { config, files: vec![map], weights, tokenizer, chat_template, name, licence })
}

fn family(path: &Path, gguf: &Gguf<'_>) -> Result<&'static Family, ModelError> {
    let key = "general.architecture";
    let name = gguf.str(key).ok_or_else(|| ModelError::Missing {
        file: path.to_owned(),
        key: key.into(),
        remedy: "the file is not a language model in GGUF format".into(),
    })?;
    arch::of_architecture(name).ok_or_else(|| ModelError::Unsupported {
        file: path.to_owned(),
        key: key.into(),
        value: name.into(),
        remedy: format!("use a model of the architecture {}", arch::architectures()),
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
