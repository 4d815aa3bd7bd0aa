//! Which tokens have a role, as the files of a Hugging Face folder say.

use std::path::Path;

use serde_json::Value;

use super::table::NamedTokens;
use crate::model::error::ModelError;
use crate::model::json::Json;

/// What the files beside `tokenizer.json` say about the roles of tokens.
pub(crate) struct Roles {
    /// Token ids that `generation_config.json` and `config.json` list as ends.
    pub(super) eos: Vec<u32>,
    pub(super) named: NamedTokens,
}

impl Roles {
    pub(crate) fn read(folder: &Path, config: &Value) -> Result<Self, ModelError> {
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
