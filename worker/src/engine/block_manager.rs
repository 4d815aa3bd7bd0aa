//! Which sequence holds which block of the KV pool, and the prefix cache: what full blocks contain, so that a prompt which
//! begins like an earlier one starts where that one's blocks end.
//!
//! ```text
//!         grow / share_prefix                release, last holder
//!   free ───────────────────▶ held (refs ≥ 1) ───────────────────▶ free, contents kept, least recently used first out
//! ```

use std::collections::HashMap;

use super::block_hash::BlockHash;
use super::ideal_prefix_cache::IdealPrefixCache;
use crate::device::{BLOCK_TOKENS, BlockId};

/// The blocks of one sequence, in order. Not `Clone`: it is released once, by value.
#[derive(Debug, Default)]
#[must_use = "blocks that are not released are lost"]
pub struct BlockTable {
    blocks: Vec<BlockId>,
    /// Leading blocks that were shared or published.
    published: usize,
}

impl BlockTable {
    /// `blocks()[p / BLOCK_TOKENS]` holds position `p`.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }
}

impl Drop for BlockTable {
    fn drop(&mut self) {
        debug_assert!(self.blocks.is_empty() || std::thread::panicking(), "a block table was not released");
    }
}

const NIL: BlockId = BlockId::MAX;

#[derive(Debug, Clone)]
struct Block {
    refs: u32,
    /// Its contents, if other sequences may share it.
    hash: Option<BlockHash>,
    /// Neighbours in the free list; meaningless while held.
    prev: BlockId,
    next: BlockId,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct BlockManager {
    blocks: Vec<Block>,
    by_hash: HashMap<BlockHash, BlockId>,
    /// Ends of the free list: the head is taken next.
    head: BlockId,
    tail: BlockId,
    free: usize,
    ideal_cache: IdealPrefixCache,
}

impl BlockManager {
    /// A pool of `blocks` free blocks.
    pub fn new(blocks: usize) -> Self {
        let mut manager = Self {
            blocks: vec![Block { refs: 0, hash: None, prev: NIL, next: NIL }; blocks],
            by_hash: HashMap::with_capacity(blocks),
            head: NIL,
            tail: NIL,
            free: 0,
            ideal_cache: IdealPrefixCache::default(),
        };
        (0..blocks as BlockId).for_each(|id| manager.push_back(id));
        manager
    }

    /// Blocks of the pool.
    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that no sequence holds, whether or not their contents are kept.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Number of leading blocks of a sequence of `tokens` tokens that the pool holds. At least one token is left to compute, as
    /// the next token's logits come from the last one.
    pub fn cached_blocks(&self, hashes: &[BlockHash], tokens: usize) -> usize {
        let most = tokens.saturating_sub(1) / BLOCK_TOKENS;
        hashes.iter().take(most).take_while(|hash| self.by_hash.contains_key(hash)).count()
    }

    /// Leading tokens that the pool would hold, had no block ever been overwritten.
    pub(crate) fn reusable_tokens(&self, hashes: &[BlockHash], tokens: usize) -> usize {
        self.ideal_cache.reusable_tokens(hashes, tokens)
    }

    /// Blocks that would leave the free list if a sequence shared its first `cached` blocks and grew to `tokens`.
    pub fn blocks_needed(&self, hashes: &[BlockHash], cached: usize, tokens: usize) -> usize {
        let shared = hashes[..cached].iter().filter_map(|hash| self.by_hash.get(hash));
        let revived = shared.filter(|id| self.blocks[**id as usize].refs == 0).count();
        tokens.div_ceil(BLOCK_TOKENS) - cached + revived
    }

    /// A table that begins with the first `cached` blocks of a sequence; see [`BlockManager::cached_blocks`].
    pub fn share_prefix(&mut self, hashes: &[BlockHash], cached: usize) -> BlockTable {
        let mut table = BlockTable::default();
        for hash in &hashes[..cached] {
            let Some(&id) = self.by_hash.get(hash) else { break };
            if self.blocks[id as usize].refs == 0 {
                self.unlink(id);
            }
            self.blocks[id as usize].refs += 1;
            table.blocks.push(id);
        }
        table.published = table.blocks.len();
        table
    }

    /// Makes the table cover `tokens` positions; false, and nothing changed, if the pool has too few free blocks.
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize) -> bool {
        let more = tokens.div_ceil(BLOCK_TOKENS).saturating_sub(table.blocks.len());
        if more > self.free {
            return false;
        }
        for _ in 0..more {
            let id = self.head;
            self.unlink(id);
            let block = &mut self.blocks[id as usize];
            block.refs = 1;
            if let Some(hash) = block.hash.take() {
                self.by_hash.remove(&hash);
            }
            table.blocks.push(id);
        }
        true
    }

    /// Lets other sequences share the table's first `hashes.len()` blocks, whose keys and values are all computed.
    pub fn publish_blocks(&mut self, table: &mut BlockTable, hashes: &[BlockHash]) {
        self.ideal_cache.record(hashes.get(table.published..).unwrap_or_default());
        for (hash, &id) in hashes.iter().zip(&table.blocks).skip(table.published) {
            // Another sequence may have computed the same tokens at the same time: its block stays the published one.
            self.by_hash.entry(*hash).or_insert_with(|| {
                self.blocks[id as usize].hash = Some(*hash);
                id
            });
        }
        table.published = table.published.max(hashes.len().min(table.blocks.len()));
    }

    /// Takes the table's blocks out of the cache.
    pub fn forget(&mut self, table: &BlockTable) {
        for id in &table.blocks {
            if let Some(hash) = self.blocks[*id as usize].hash.take() {
                self.by_hash.remove(&hash);
            }
        }
    }

    /// Releases a sequence's blocks. The end of a sequence is overwritten before its beginning, which more sequences
    /// share; unpublished blocks are reused first.
    pub fn release(&mut self, mut table: BlockTable) {
        for id in std::mem::take(&mut table.blocks).into_iter().rev() {
            let block = &mut self.blocks[id as usize];
            block.refs -= 1;
            if block.refs == 0 {
                if block.hash.is_some() {
                    self.push_back(id);
                } else {
                    self.push_front(id);
                }
            }
        }
    }

    fn push_back(&mut self, id: BlockId) {
        let tail = self.tail;
        self.blocks[id as usize].prev = tail;
        self.blocks[id as usize].next = NIL;
        if tail == NIL {
            self.head = id;
        } else {
            self.blocks[tail as usize].next = id;
        }
        self.tail = id;
        self.free += 1;
    }

    fn push_front(&mut self, id: BlockId) {
        let head = self.head;
        self.blocks[id as usize].prev = NIL;
        self.blocks[id as usize].next = head;
        if head == NIL {
            self.tail = id;
        } else {
            self.blocks[head as usize].prev = id;
        }
        self.head = id;
        self.free += 1;
    }

    fn unlink(&mut self, id: BlockId) {
        let Block { prev, next, .. } = self.blocks[id as usize];
        if prev == NIL {
            self.head = next;
        } else {
            self.blocks[prev as usize].next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            self.blocks[next as usize].prev = prev;
        }
        self.free -= 1;
    }
}

#[cfg(test)]
mod tests;
