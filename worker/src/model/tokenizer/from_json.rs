//! A tokenizer from `tokenizer.json` and the files beside it.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tokenizers::{AddedToken, ModelWrapper};

use super::encoder::Encoder;
use super::roles::Roles;
use super::table::TokenTable;
use super::{Tokenizer, bytes};
use crate::model::error::ModelError;
use crate::model::json::Json;

/// How the vocabulary spells bytes, as its decoder says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spelling {
    ByteLevel,
    ByteFallback,
}

impl Tokenizer {
    /// From `tokenizer.json` in `folder`. `vocab` is the number of rows of the embedding matrix.
    pub(crate) fn from_folder(folder: &Path, vocab: usize, roles: &Roles) -> Result<Self, ModelError> {
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
            serde_json::from_value(without_limits(json.value)).map_err(|error| damaged(error.to_string()))?;
        if !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
            return Err(unsupported("model", "not BPE".into(), "use a model with a BPE tokenizer"));
        }
        let mut table = TokenTable::of_padding(vocab);
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
            table.set(id, bytes);
        }
        if let Some(byte) = bytes::first_lost(&spelled) {
            return Err(damaged(format!("the vocabulary has no token for the byte {byte:#04x}")));
        }
        for (id, AddedToken { content, special, .. }) in tokenizer.get_added_tokens_decoder() {
            let id = row(id, vocab).ok_or_else(|| damaged(too_many(id, vocab)))?;
            if special {
                table.set_special(id, &content);
            } else {
                table.set(id, content.into_bytes());
            }
        }
        let mut eos = roles.eos.clone();
        eos.extend(table.find_special(&roles.named.eos));
        Self::new(file, Encoder::new(tokenizer), table, eos, roles.named.clone())
    }
}

/// The file without what it says about batches for training: texts are neither cut nor filled up here.
fn without_limits(mut json: Value) -> Value {
    if let Some(fields) = json.as_object_mut() {
        fields.remove("truncation");
        fields.remove("padding");
    }
    json
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
