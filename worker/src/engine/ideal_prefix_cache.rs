//! The prefix cache of an unlimited pool, in which no block is ever overwritten: the baseline that the real hit rate is
//! compared with.

use std::collections::{HashSet, VecDeque};

use super::block_hash::BlockHash;
use crate::device::BLOCK_TOKENS;

/// Blocks that are remembered: four million tokens, many times what a GPU's pool holds. The oldest are evicted, so the
/// baseline is too low only for prefixes that were not used for longer than that.
const MAX_BLOCKS: usize = 1 << 18;

/// The latest blocks that were computed.
#[derive(Debug, Default)]
pub(crate) struct IdealPrefixCache {
    seen: HashSet<BlockHash>,
    order: VecDeque<BlockHash>,
}

impl IdealPrefixCache {
    /// Leading tokens of a sequence of `tokens` tokens that were computed before. One token is always left to compute.
    pub(crate) fn reusable_tokens(&self, hashes: &[BlockHash], tokens: usize) -> usize {
        let most = tokens.saturating_sub(1) / BLOCK_TOKENS;
        hashes.iter().take(most).take_while(|hash| self.seen.contains(hash)).count() * BLOCK_TOKENS
    }

    /// Records blocks that were computed.
    pub(crate) fn record(&mut self, hashes: &[BlockHash]) {
        for &hash in hashes.iter().filter(|hash| self.seen.insert(**hash)) {
            self.order.push_back(hash);
        }
        for oldest in self.order.drain(..self.order.len().saturating_sub(MAX_BLOCKS)) {
            self.seen.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(tokens: &[u32]) -> Vec<BlockHash> {
        let mut hashes = Vec::new();
        BlockHash::extend(&mut hashes, tokens);
        hashes
    }

    #[test]
    fn counts_leading_blocks_that_were_seen_and_leaves_a_token_to_compute() {
        let text: Vec<u32> = (0..BLOCK_TOKENS as u32 * 3).collect();
        let mut cache = IdealPrefixCache::default();
        cache.record(&hashes(&text));
        let reusable = |tokens: &[u32]| cache.reusable_tokens(&hashes(tokens), tokens.len());
        assert_eq!(reusable(&text), 2 * BLOCK_TOKENS, "the last token is always computed");
        assert_eq!(reusable(&[&text[..], &[7]].concat()), 3 * BLOCK_TOKENS);
        assert_eq!(reusable(&[&text[..BLOCK_TOKENS + 3], &[7; BLOCK_TOKENS]].concat()), BLOCK_TOKENS);
        assert_eq!(reusable(&[&[7], &text[..]].concat()), 0);
        assert_eq!(reusable(&[]), 0);
    }

    #[test]
    fn forgets_the_oldest_when_full() {
        let mut cache = IdealPrefixCache::default();
        let hash = |n: usize| BlockHash::chain(BlockHash::default(), &[n as u32; BLOCK_TOKENS]);
        (0..=MAX_BLOCKS).for_each(|n| cache.record(&[hash(n)]));
        assert_eq!(cache.reusable_tokens(&[hash(0)], 100), 0);
        assert_eq!(cache.reusable_tokens(&[hash(1)], 100), BLOCK_TOKENS);
        assert_eq!((cache.seen.len(), cache.order.len()), (MAX_BLOCKS, MAX_BLOCKS));
    }
}
