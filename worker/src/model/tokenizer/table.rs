//! What each token of a vocabulary stands for.

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

/// What each token stands for.
#[derive(Debug, Default)]
pub(super) struct TokenTable {
    /// One per row of the embedding matrix; empty for special tokens and for padding.
    pub(super) bytes: Vec<Box<[u8]>>,
    /// The written form of special tokens, such as `<|im_end|>`; none for ordinary ones.
    pub(super) special: Vec<Option<Box<str>>>,
}

impl TokenTable {
    /// Padding in every row.
    pub(super) fn of_padding(vocab: usize) -> Self {
        Self { bytes: vec![Box::default(); vocab], special: vec![None; vocab] }
    }

    pub(super) fn set(&mut self, token: usize, bytes: Vec<u8>) {
        self.bytes[token] = bytes.into();
        self.special[token] = None;
    }

    pub(super) fn set_special(&mut self, token: usize, written: &str) {
        self.bytes[token] = Box::default();
        self.special[token] = Some(written.into());
    }

    /// Finds the written forms of special tokens in a text, the longest one where several begin.
    pub(super) fn special_forms(&self) -> Result<AhoCorasick, BuildError> {
        let forms = self.special.iter().flatten().filter(|written| !written.is_empty());
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(forms.map(|written| written.as_bytes()))
    }

    pub(super) fn find_special(&self, written: &str) -> Option<u32> {
        self.special.iter().position(|special| special.as_deref() == Some(written)).map(|token| token as u32)
    }

    pub(super) fn hash(&self) -> String {
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

/// Written forms of tokens with a role; empty where there is none.
#[derive(Debug, Clone, Default)]
pub(crate) struct NamedTokens {
    pub(crate) bos: String,
    pub(crate) eos: String,
    pub(crate) pad: String,
    pub(crate) unk: String,
}
