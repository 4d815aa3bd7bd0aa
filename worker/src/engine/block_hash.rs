//! Names of full KV blocks, by which equal prefixes are found.

use crate::device::BLOCK_TOKENS;

/// Names a block's tokens and all tokens before them: 128 bits, so that equal means equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct BlockHash([u8; 16]);

impl BlockHash {
    /// Hash of a full block whose predecessor is `parent`; the first block's parent is the default.
    pub fn chain(parent: Self, tokens: &[u32]) -> Self {
        debug_assert_eq!(tokens.len(), BLOCK_TOKENS, "only full blocks have a hash");
        let mut bytes = [0; 16 + BLOCK_TOKENS * 4];
        bytes[..16].copy_from_slice(&parent.0);
        for (slot, token) in bytes[16..].chunks_exact_mut(4).zip(tokens) {
            slot.copy_from_slice(&token.to_le_bytes());
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&blake3::hash(&bytes).as_bytes()[..16]);
        Self(hash)
    }

    /// Appends the hashes of the full blocks of `tokens` that `hashes` lacks.
    pub fn extend(hashes: &mut Vec<Self>, tokens: &[u32]) {
        for block in tokens.chunks_exact(BLOCK_TOKENS).skip(hashes.len()) {
            let parent = hashes.last().copied().unwrap_or_default();
            hashes.push(Self::chain(parent, block));
        }
    }
}
