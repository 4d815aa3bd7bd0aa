//! Text to tokens, by the tokenizers library.

use std::sync::OnceLock;

use tokenizers::normalizers::Sequence as Normalizers;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper};

/// Turns text into tokens.
pub(super) struct Encoder {
    /// Special tokens that are written out in the text become those tokens.
    special: tokenizers::Tokenizer,
    /// The same without them, built when first needed: few callers have untrusted text.
    plain: OnceLock<tokenizers::Tokenizer>,
    /// `plain` for text that continues another: without the space that SentencePiece puts before a text.
    continued: OnceLock<tokenizers::Tokenizer>,
}

impl Encoder {
    pub(super) fn new(special: tokenizers::Tokenizer) -> Self {
        Self { special, plain: OnceLock::new(), continued: OnceLock::new() }
    }

    pub(super) fn encode(&self, text: &str, parse_special: bool) -> Vec<u32> {
        ids(if parse_special { &self.special } else { self.plain() }, text)
    }

    pub(super) fn encode_continued(&self, text: &str) -> Vec<u32> {
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
