//! The vocabulary in the form that the grammar engine walks.

use std::sync::Arc;

use toktrie::{TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use super::encoder::Encoder;
use super::table::TokenTable;

struct GrammarVocabulary {
    encoder: Arc<Encoder>,
    trie: TokTrie,
}

pub(super) fn tok_env(encoder: &Arc<Encoder>, table: &TokenTable, eos: &[u32]) -> TokEnv {
    let words: Vec<Vec<u8>> = table
        .bytes
        .iter()
        .zip(&table.special)
        .map(|(bytes, special)| match special {
            // The marker is no byte of UTF-8, so no grammar over text can reach a special token by accident.
            Some(written) => [&[TokTrie::SPECIAL_TOKEN_MARKER], written.as_bytes()].concat(),
            // Padding stays empty: the trie leaves such tokens out and no mask allows them.
            None => bytes.to_vec(),
        })
        .collect();
    let info = TokRxInfo::new(words.len() as u32, eos[0]);
    let trie = TokTrie::from(&info, &words).with_eos_tokens(eos);
    Arc::new(GrammarVocabulary { encoder: encoder.clone(), trie })
}

impl TokenizerEnv for GrammarVocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.encoder.encode_continued(text))
    }

    fn tokenize_bytes_special(&self, bytes: &[u8]) -> Vec<TokenId> {
        let plain = |text: &str| self.encoder.encode_continued(text);
        self.trie.tokenize_with_greedy_fallback(bytes, |text| self.trie.tokenize_with_special(text, plain))
    }
}
