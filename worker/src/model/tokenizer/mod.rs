//! Text to tokens and back.
//!
//! What a token means, byte for byte, is worked out once when the model is opened; decoding is concatenation and loses
//! nothing.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aho_corasick::AhoCorasick;
use toktrie::TokEnv;

use super::error::ModelError;

mod bytes;
mod encoder;
mod from_gguf;
mod from_json;
mod grammar;
mod guard;
mod guard_marks;
mod roles;
mod table;

use self::encoder::Encoder;
pub use self::guard_marks::GuardMarks;
pub(super) use self::roles::Roles;
pub(super) use self::table::NamedTokens;
use self::table::TokenTable;

/// A model's tokenizer.
pub struct Tokenizer {
    encoder: Arc<Encoder>,
    table: TokenTable,
    eos: Vec<u32>,
    /// The texts that a chat template may ask for.
    named: NamedTokens,
    hash: String,
    special_forms: AhoCorasick,
    tok_env: OnceLock<TokEnv>,
}

/// Special tokens that end a turn whichever model has them; models tend to list only some of theirs.
const END_OF_TURN: [&str; 8] =
    ["<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>"];

impl Tokenizer {
    fn new(
        file: &Path,
        encoder: Encoder,
        table: TokenTable,
        mut eos: Vec<u32>,
        named: NamedTokens,
    ) -> Result<Self, ModelError> {
        eos.extend(END_OF_TURN.iter().filter_map(|written| table.find_special(written)));
        let mut seen = std::collections::HashSet::new();
        eos.retain(|&token| seen.insert(token));
        if let Some(token) = eos.iter().find(|&&token| token as usize >= table.bytes.len()) {
            return Err(ModelError::Damaged {
                file: file.to_owned(),
                what: format!("the end-of-text token {token} is not in the vocabulary"),
            });
        }
        if eos.is_empty() {
            return Err(ModelError::Missing {
                file: file.to_owned(),
                key: "an end-of-text token".into(),
                remedy: "without one no text would ever end: use a model that states it".into(),
            });
        }
        let special_forms = table.special_forms().map_err(|error| ModelError::Damaged {
            file: file.to_owned(),
            what: format!("the special tokens cannot be searched for: {error}"),
        })?;
        let hash = table.hash();
        Ok(Self { special_forms, encoder: Arc::new(encoder), table, eos, named, hash, tok_env: OnceLock::new() })
    }

    /// Tokens of `text`, nothing added. With `parse_special` the written forms of special tokens become those tokens, as
    /// the output of a chat template needs it; without, they are text like any other.
    pub fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        self.encoder.encode(text, parse_special)
    }

    /// The text of `tokens` without special tokens. Bytes that are no UTF-8, such as a character cut in two, show as
    /// U+FFFD; use [`Self::token_bytes`] to join a text that arrives in pieces.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut bytes = Vec::with_capacity(tokens.len() * 4);
        tokens.iter().for_each(|&token| bytes.extend_from_slice(self.token_bytes(token)));
        String::from_utf8(bytes).unwrap_or_else(|broken| String::from_utf8_lossy(broken.as_bytes()).into_owned())
    }

    /// What the token adds to a text; empty for special tokens, for padding, and beyond the vocabulary.
    pub fn token_bytes(&self, token: u32) -> &[u8] {
        self.table.bytes.get(token as usize).map_or(&[], |bytes| bytes)
    }

    /// All tokens that end a turn, the one the model names first; never empty.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// The token as it is written, control tokens too; its number where it has no form.
    pub fn token_text(&self, token: u32) -> String {
        let bytes = self.token_bytes(token);
        let special = self.table.special.get(token as usize).and_then(Option::as_deref);
        match special {
            Some(written) => written.to_owned(),
            None if bytes.is_empty() => token.to_string(),
            None => self.decode(&[token]),
        }
    }

    /// True for tokens that are no text: control tokens and padding.
    pub fn is_special(&self, token: u32) -> bool {
        self.token_bytes(token).is_empty()
    }

    /// Rows of the embedding matrix, padding included: every token the model can give is below it.
    pub fn vocab(&self) -> usize {
        self.table.bytes.len()
    }

    /// Hash of what each token means: equal where checkpoints can be exchanged.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The vocabulary as `llguidance` needs it. Built at the first call, shared afterwards.
    pub fn tok_env(&self) -> TokEnv {
        self.tok_env.get_or_init(|| grammar::tok_env(&self.encoder, &self.table, &self.eos)).clone()
    }

    pub(super) fn named(&self) -> &NamedTokens {
        &self.named
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocab", &self.vocab()).field("eos", &self.eos).finish_non_exhaustive()
    }
}
