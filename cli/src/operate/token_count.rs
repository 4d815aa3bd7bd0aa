//! Counts the tokens of a conversation as a trainer would.

use std::path::Path;
use std::sync::Arc;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::corpus::TokenCount;
use longhand_proto::task::Message;
use longhand_worker::model::Model;

/// Counts with the tokenizer at `path`. A model (GGUF, or a Hugging Face folder) includes its chat template; a lone
/// `tokenizer.json` has none.
pub(crate) fn open(path: &Path) -> Result<TokenCount> {
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    if path.extension().is_some_and(|ending| ending == "json") {
        let tokenizer = tokenizers::Tokenizer::from_file(path).map_err(|error| {
            Failure::refused(format!(
                "{}: {error}; expected the tokenizer.json of a model, its GGUF file, or its folder",
                path.display()
            ))
        })?;
        let count = move |messages: &[Message]| {
            // A text that cannot be encoded counts as its bytes, which is never too few.
            let of = |text: &str| tokenizer.encode_fast(text, false).map_or(text.len(), |encoding| encoding.len());
            messages.iter().map(|message| of(&message.content) as u32).sum()
        };
        return Ok(TokenCount { name: format!("{name} (no chat template)"), count: Arc::new(count) });
    }
    let model = Model::open(path).map_err(Failure::refused)?;
    let count = move |messages: &[Message]| match model.chat_template().render(messages) {
        // This includes the few tokens with which the template would start another reply.
        Ok(text) => model.tokenizer().encode(&text, true).len() as u32,
        // A template may reject a conversation, such as one with a system turn.
        Err(_) => messages.iter().map(|message| model.tokenizer().encode(&message.content, false).len() as u32).sum(),
    };
    Ok(TokenCount { name, count: Arc::new(count) })
}
