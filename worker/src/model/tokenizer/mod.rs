//! Text to tokens and back.
//!
//! What a token means, byte for byte, is worked out once when the model is opened; decoding is concatenation and loses
//! nothing.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use tokenizers::normalizers::Sequence as Normalizers;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};
use toktrie::TokEnv;

use super::error::ModelError;

mod bytes;
mod from_gguf;
mod from_json;
mod grammar;
mod guard;

pub(super) use from_json::Roles;

/// A model's tokenizer.
pub struct Tokenizer {
    splitter: Arc<Splitter>,
    meanings: Meanings,
    eos: Vec<u32>,
    /// The texts that a chat template may ask for.
    named: NamedTokens,
    hash: String,
    tok_env: OnceLock<TokEnv>,
}

/// Turns text into tokens.
struct Splitter {
    /// Special tokens that are written out in the text become those tokens.
    special: tokenizers::Tokenizer,
    /// The same without them, built when first needed: few callers have untrusted text.
    plain: OnceLock<tokenizers::Tokenizer>,
    /// `plain` for text that continues another: without the space that SentencePiece puts before a text.
    continued: OnceLock<tokenizers::Tokenizer>,
}

impl Splitter {
    fn new(special: tokenizers::Tokenizer) -> Self {
        Self { special, plain: OnceLock::new(), continued: OnceLock::new() }
    }

    fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        ids(if parse_special { &self.special } else { self.plain() }, text)
    }

    fn encode_continued(&self, text: &str) -> Vec<u32> {
        ids(self.continued.get_or_init(|| without_prefix(self.plain().clone())), text)
    }

    fn plain(&self) -> &tokenizers::Tokenizer {
        self.plain.get_or_init(|| {
            let mut plain = self.special.clone();
            plain.set_encode_special_tokens(true);
            plain
        })
    }
}

fn ids(tokenizer: &tokenizers::Tokenizer, text: &str) -> Vec<u32> {
    match tokenizer.encode_fast(text, false) {
        Ok(encoding) => encoding.get_ids().to_vec(),
        // Byte-level and byte-fallback vocabularies have tokens for every text; the constructors check it.
        Err(error) => unreachable!("a complete vocabulary refused a text: {error}"),
    }
}

fn without_prefix(mut tokenizer: tokenizers::Tokenizer) -> tokenizers::Tokenizer {
    fn normalizer(step: NormalizerWrapper) -> Option<NormalizerWrapper> {
        #[allow(clippy::wildcard_enum_match_arm, reason = "only two kinds of steps can hold a prefix")]
        match step {
            NormalizerWrapper::Prepend(_) => None,
            NormalizerWrapper::Sequence(steps) => {
                let steps = steps.as_ref().iter().cloned().filter_map(normalizer).collect();
                Some(Normalizers::new(steps).into())
            }
            other => Some(other),
        }
    }
    fn words(step: PreTokenizerWrapper) -> PreTokenizerWrapper {
        #[allow(clippy::wildcard_enum_match_arm, reason = "only these kinds of steps can hold a prefix")]
        match step {
            PreTokenizerWrapper::Metaspace(mut step) => {
                step.prepend_scheme = PrependScheme::Never;
                step.into()
            }
            PreTokenizerWrapper::ByteLevel(mut step) => {
                step.add_prefix_space = false;
                step.into()
            }
            PreTokenizerWrapper::Sequence(steps) => Sequence::new(steps.into_iter().map(words).collect()).into(),
            other => other,
        }
    }
    let steps = tokenizer.get_normalizer().cloned().and_then(normalizer);
    if let Err(error) = tokenizer.with_normalizer(steps) {
        unreachable!("a normalizer that was accepted is refused with a step less: {error}");
    }
    let steps = tokenizer.get_pre_tokenizer().cloned().map(words);
    tokenizer.with_pre_tokenizer(steps);
    tokenizer
}

/// What each token stands for.
#[derive(Debug, Default)]
struct Meanings {
    /// One per row of the embedding matrix; empty for special tokens and for padding.
    bytes: Vec<Box<[u8]>>,
    /// The written form of special tokens, such as `<|im_end|>`; none for ordinary ones.
    special: Vec<Option<Box<str>>>,
}

/// Written forms of tokens with a role; empty where there is none.
#[derive(Debug, Clone, Default)]
pub(super) struct NamedTokens {
    pub(super) bos: String,
    pub(super) eos: String,
    pub(super) pad: String,
    pub(super) unk: String,
}

impl Meanings {
    /// All meanings unknown: rows of padding.
    fn of_padding(vocab: usize) -> Self {
        Self { bytes: vec![Box::default(); vocab], special: vec![None; vocab] }
    }

    fn set(&mut self, token: usize, bytes: Vec<u8>) {
        self.bytes[token] = bytes.into();
        self.special[token] = None;
    }

    fn set_special(&mut self, token: usize, written: &str) {
        self.bytes[token] = Box::default();
        self.special[token] = Some(written.into());
    }

    fn find_special(&self, written: &str) -> Option<u32> {
        self.special.iter().position(|special| special.as_deref() == Some(written)).map(|token| token as u32)
    }

    fn hash(&self) -> String {
        let mut hash = blake3::Hasher::new_derive_key("longhand tokenizer v1");
        for (bytes, special) in self.bytes.iter().zip(&self.special) {
            let (kind, bytes) = match special {
                Some(written) => (1u8, written.as_bytes()),
                None => (0, &**bytes),
            };
            hash.update(&[kind]);
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hash.finalize().to_string()
    }
}

/// Special tokens that end a turn whichever model has them; models tend to list only some of theirs.
const END_OF_TURN: [&str; 8] =
    ["<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<end_of_turn>", "</s>"];

impl Tokenizer {
    fn new(
        file: &Path,
        splitter: Splitter,
        meanings: Meanings,
        mut eos: Vec<u32>,
        named: NamedTokens,
    ) -> Result<Self, ModelError> {
        eos.extend(END_OF_TURN.iter().filter_map(|written| meanings.find_special(written)));
        let mut seen = std::collections::HashSet::new();
        eos.retain(|&token| seen.insert(token));
        if let Some(token) = eos.iter().find(|&&token| token as usize >= meanings.bytes.len()) {
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
        let hash = meanings.hash();
        Ok(Self { splitter: Arc::new(splitter), meanings, eos, named, hash, tok_env: OnceLock::new() })
    }

    /// Tokens of `text`, nothing added. With `parse_special` the written forms of special tokens become those tokens, as
    /// the output of a chat template needs it; without, they are text like any other.
    pub fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        self.splitter.encode(text, parse_special)
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
        self.meanings.bytes.get(token as usize).map_or(&[], |bytes| bytes)
    }

    /// All tokens that end a turn, the one the model names first; never empty.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// True for tokens that are no text: control tokens and padding.
    pub fn is_special(&self, token: u32) -> bool {
        self.token_bytes(token).is_empty()
    }

    /// Rows of the embedding matrix, padding included: every token the model can give is below it.
    pub fn vocab(&self) -> usize {
        self.meanings.bytes.len()
    }

    /// Hash of what each token means: equal where checkpoints can be exchanged.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The vocabulary as `llguidance` needs it. Built at the first call, shared afterwards.
    pub fn tok_env(&self) -> TokEnv {
        self.tok_env.get_or_init(|| grammar::tok_env(&self.splitter, &self.meanings, &self.eos)).clone()
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
