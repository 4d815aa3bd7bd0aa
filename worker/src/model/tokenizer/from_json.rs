//! A tokenizer from `tokenizer.json` and the files beside it.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, ModelWrapper};

use super::{Meanings, NamedTokens, Splitter, Tokenizer, bytes};
use crate::model::error::ModelError;
use crate::model::from_hugging_face::Json;

/// What the files beside `tokenizer.json` say about the roles of tokens.
pub(in crate::model) struct Roles {
    /// Token ids that `generation_config.json` and `config.json` list as ends.
    eos: Vec<u32>,
    named: NamedTokens,
}

impl Roles {
    pub(in crate::model) fn read(folder: &Path, config: &Value) -> Result<Self, ModelError> {
        let generation = Json::optional(folder, "generation_config.json")?;
        let mut eos = Vec::new();
        for value in [generation.as_ref().map(|json| &json.value), Some(config)].into_iter().flatten() {
            match value.get("eos_token_id") {
                Some(Value::Array(tokens)) => eos.extend(tokens.iter().filter_map(token_id)),
                Some(token) => eos.extend(token_id(token)),
                None => (),
            }
        }
        let tokenizer = Json::optional(folder, "tokenizer_config.json")?;
        let text = |key: &str| {
            let token = tokenizer.as_ref().and_then(|json| json.value.get(key));
            // Either the text itself, or an object that has it.
            let text = token.and_then(|token| token.as_str().or_else(|| token.get("content")?.as_str()));
            text.unwrap_or("").to_owned()
        };
        let named = NamedTokens {
            bos: text("bos_token"),
            eos: text("eos_token"),
            pad: text("pad_token"),
            unk: text("unk_token"),
        };
        Ok(Self { eos, named })
    }
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// How the vocabulary spells bytes, as its decoder says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    ByteLevel,
    ByteFallback,
}

impl Tokenizer {
    /// From `tokenizer.json` in `folder`. `vocab` is the number of rows of the embedding matrix.
    pub(in crate::model) fn from_folder(folder: &Path, vocab: usize, roles: &Roles) -> Result<Self, ModelError> {
        let json = Json::required(folder, "tokenizer.json")?;
        let file = &json.file;
        let damaged = |what: String| ModelError::Damaged { file: file.clone(), what };
        let unsupported = |key: &str, value: String, remedy: &str| ModelError::Unsupported {
            file: file.clone(),
            key: key.into(),
            value,
            remedy: remedy.into(),
        };
        let spelling = spelling(&json.value).ok_or_else(|| {
            let decoder = json.value.get("decoder").and_then(|decoder| decoder.get("type")).unwrap_or(&Value::Null);
            unsupported("decoder", decoder.to_string(), "use a model with a byte-level or byte-fallback tokenizer")
        })?;
        let tokenizer: tokenizers::Tokenizer =
            serde_json::from_value(json.value).map_err(|error| damaged(error.to_string()))?;
        if !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
            return Err(unsupported("model", "not BPE".into(), "use a model with a BPE tokenizer"));
        }
        let mut meanings = Meanings::of_padding(vocab);
        let letters = bytes::byte_letters();
        let mut spelled = HashSet::new();
        for (token, id) in tokenizer.get_vocab(false) {
            let id = row(id, vocab).ok_or_else(|| damaged(too_many(id, vocab)))?;
            let bytes = match spelling {
                Spelling::ByteLevel => bytes::of_byte_level(&token, &letters).unwrap_or_else(|| token.into_bytes()),
                Spelling::ByteFallback => match bytes::of_byte_token(&token) {
                    Some(byte) => vec![byte],
                    None => bytes::of_sentence_piece(&token),
                },
            };
            if let [byte] = bytes[..] {
                spelled.insert(byte);
            }
            meanings.set(id, bytes);
        }
        if let Some(byte) = bytes::first_lost(&spelled) {
            return Err(damaged(format!("the vocabulary has no token for the byte {byte:#04x}")));
        }
        for (id, AddedToken { content, special, .. }) in tokenizer.get_added_tokens_decoder() {
            let id = row(id, vocab).ok_or_else(|| damaged(too_many(id, vocab)))?;
            if special {
                meanings.set_special(id, &content);
            } else {
                meanings.set(id, content.into_bytes());
            }
        }
        let mut eos = roles.eos.clone();
        eos.extend(meanings.find_special(&roles.named.eos));
        Self::new(file, Splitter::new(tokenizer), meanings, eos, roles.named.clone())
    }
}

fn row(id: u32, vocab: usize) -> Option<usize> {
    usize::try_from(id).ok().filter(|&id| id < vocab)
}

fn too_many(id: u32, vocab: usize) -> String {
    format!("the vocabulary has the token {id}, the embedding matrix only {vocab} rows")
}

fn spelling(json: &Value) -> Option<Spelling> {
    let decoder = json.get("decoder")?;
    let steps = decoder.get("decoders").and_then(Value::as_array).map_or(std::slice::from_ref(decoder), |steps| steps);
    steps.iter().find_map(|step| match step.get("type")?.as_str()? {
        "ByteLevel" => Some(Spelling::ByteLevel),
        "ByteFallback" => Some(Spelling::ByteFallback),
        _ => None,
    })
}
