//! A model from a GGUF file, or from the parts that one was cut into.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhand_proto::task::RecommendedSampling;
use memmap2::Mmap;

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

/// Which part of how many a file is, counted from 0.
const PART: &str = "split.no";
const PARTS: &str = "split.count";

/// With `template` (its file and text) instead of the model's own, if there is one.
pub(super) fn open(path: &Path, template: Option<(PathBuf, String)>) -> Result<Loaded, ModelError> {
    let files = all_parts(path)?;
    let gguf = Gguf::parse(&files[0]).map_err(|error| refuse(path, error))?;
    let family = family(path, &gguf)?;
    let mut tensors = tensors(path, &files)?;
    let rope_factors = take_rope_factors(path, &files, &mut tensors)?;
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
    let sampling = sampling(&gguf);
    Ok(Loaded { config, files, weights, tokenizer, chat_template, name, licence, sampling })
}

/// The keys that llama.cpp's converter makes of `generation_config.json`.
fn sampling(gguf: &Gguf<'_>) -> RecommendedSampling {
    let float = |key: &str| gguf.float(&format!("general.sampling.{key}"));
    let top_k = gguf.unsigned("general.sampling.top_k").and_then(|value| u32::try_from(value).ok());
    RecommendedSampling {
        temperature: float("temp"),
        top_k,
        top_p: float("top_p"),
        min_p: float("min_p"),
        repetition_penalty: float("penalty_repeat"),
    }
    .usable()
}

/// The file, and those behind it if it is the first of several.
fn all_parts(path: &Path) -> Result<Vec<Mmap>, ModelError> {
    let mut files = vec![map(path)?];
    let count = Gguf::parse(&files[0]).map_err(|error| refuse(path, error))?.unsigned(PARTS).unwrap_or(1);
    for index in 1..count {
        files.push(map(&part(path, index, count)?)?);
    }
    Ok(files)
}

/// Where part number `index`, counted from 0, lies beside the first one.
fn part(first: &Path, index: u64, count: u64) -> Result<PathBuf, ModelError> {
    let ending = |index: u64| format!("-{:05}-of-{count:05}.gguf", index + 1);
    let name = first.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match name.strip_suffix(&ending(0)) {
        Some(stem) => Ok(first.with_file_name(format!("{stem}{}", ending(index)))),
        None => Err(ModelError::Unsupported {
            file: first.to_owned(),
            key: PARTS.into(),
            value: count.to_string(),
            remedy: format!("give the first part, whose name ends with {}, with the others beside it", ending(0)),
        }),
    }
}

/// The tensors of all parts; an error if a file is not the part that its name says.
fn tensors(path: &Path, files: &[Mmap]) -> Result<HashMap<String, StoredTensor>, ModelError> {
    let mut all = HashMap::new();
    for (index, bytes) in files.iter().enumerate() {
        let (at, count) = (index as u64, files.len() as u64);
        let file = if index == 0 { path.to_owned() } else { part(path, at, count)? };
        let gguf = Gguf::parse(bytes).map_err(|error| refuse(&file, error))?;
        let damaged = |what: String| ModelError::Damaged { file: file.clone(), what };
        let stated = (gguf.unsigned(PART).unwrap_or(0), gguf.unsigned(PARTS).unwrap_or(1));
        if stated != (at, count) {
            return Err(damaged(format!("it is part {} of {}, not {} of {count}", stated.0 + 1, stated.1, at + 1)));
        }
        for (&name, info) in gguf.tensors() {
            if all.insert(name.to_owned(), StoredTensor { file: index, info: info.clone() }).is_some() {
                return Err(damaged(format!("tensor {name:?} is also in another part")));
            }
        }
    }
    Ok(all)
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
        remedy: format!(
            "use a model of the architecture {}, or serve this one with llama.cpp and use --engine openai",
            arch::architectures()
        ),
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
