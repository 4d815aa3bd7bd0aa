//! Counts what a trainer would count: the tokens of a conversation.

use std::path::Path;
use std::sync::Arc;

use longhand_coordinator::corpus::TokenCount;
use longhand_proto::task::Message;
use longhand_worker::model::Model;

use crate::exit::{Failure, Result};

/// A model (GGUF, or a Hugging Face folder) counts its chat template too; a lone `tokenizer.json` knows none.
pub(crate) fn open(path: &Path) -> Result<TokenCount> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    if path.extension().is_some_and(|ending| ending == "json") {
        let tokenizer = tokenizers::Tokenizer::from_file(path).map_err(|error| {
            Failure::refused(format!(
                "{}: {error}; want the tokenizer.json of a model, its GGUF file, or its folder",
                path.display()
            ))
        })?;
        let count = move |messages: &[Message]| {
            // A text that the vocabulary cannot spell counts by its bytes: never too short.
            let of = |text: &str| tokenizer.encode_fast(text, false).map_or(text.len(), |encoding| encoding.len());
            messages.iter().map(|message| of(&message.content) as u32).sum()
        };
        return Ok(TokenCount { name: format!("{name} (no chat template)"), count: Arc::new(count) });
    }
    let model = Model::open(path).map_err(Failure::refused)?;
    let count = move |messages: &[Message]| match model.chat_template().render(messages) {
        // With the few tokens by which the template would open another answer.
        Ok(text) => model.tokenizer().encode(&text, true).len() as u32,
        // A template may refuse a conversation, such as one with a system turn.
        Err(_) => messages.iter().map(|message| model.tokenizer().encode(&message.content, false).len() as u32).sum(),
    };
    Ok(TokenCount { name, count: Arc::new(count) })
}
