//! Who holds which block of the KV pool, and what finished blocks hold, so that a prompt which begins like an earlier
//! one starts where that one's blocks end.
//!
//! ```text
//!            grow / adopt                    release, last holder
//!   free ───────────────────▶ held (refs ≥ 1) ───────────────────▶ free, contents kept, least recently used first out
//! ```

use std::collections::HashMap;

use super::reuse::Reuse;
use crate::device::{BLOCK_TOKENS, BlockId};

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

/// The blocks of one sequence, in order. Not `Clone`: it is given back once, by value.
#[derive(Debug, Default)]
#[must_use = "blocks that are not released are lost"]
pub struct BlockTable {
    blocks: Vec<BlockId>,
    /// Leading blocks whose contents were adopted or sealed.
    sealed: usize,
}

impl BlockTable {
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
    /// What it holds, if other sequences may find it.
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
    ever: Reuse,
}

impl BlockManager {
    pub fn new(blocks: usize) -> Self {
        let mut manager = Self {
            blocks: vec![Block { refs: 0, hash: None, prev: NIL, next: NIL }; blocks],
            by_hash: HashMap::with_capacity(blocks),
            head: NIL,
            tail: NIL,
            free: 0,
            ever: Reuse::default(),
        };
        (0..blocks as BlockId).for_each(|id| manager.push_back(id));
        manager
    }

    pub fn total(&self) -> usize {
        self.blocks.len()
    }

    /// Blocks that no sequence holds, whether or not their contents are kept.
    pub fn free(&self) -> usize {
        self.free
    }

    /// Leading blocks of a sequence of `tokens` tokens that the pool holds. At least one token is left to compute, as
    /// the next token's logits come from the last one.
    pub fn cached(&self, hashes: &[BlockHash], tokens: usize) -> usize {
        let most = tokens.saturating_sub(1) / BLOCK_TOKENS;
        hashes.iter().take(most).take_while(|hash| self.by_hash.contains_key(hash)).count()
    }

    /// Leading tokens that the pool would hold, had it never given a block away.
    pub(crate) fn reusable(&self, hashes: &[BlockHash], tokens: usize) -> usize {
        self.ever.reusable(hashes, tokens)
    }

    /// Blocks that would leave the free list if a sequence adopted its first `cached` blocks and grew to `tokens`.
    pub fn cost(&self, hashes: &[BlockHash], cached: usize, tokens: usize) -> usize {
        let adopted = hashes[..cached].iter().filter_map(|hash| self.by_hash.get(hash));
        let revived = adopted.filter(|id| self.blocks[**id as usize].refs == 0).count();
        tokens.div_ceil(BLOCK_TOKENS) - cached + revived
    }

    /// A table that begins with the first `cached` blocks of a sequence; see [`BlockManager::cached`].
    pub fn adopt(&mut self, hashes: &[BlockHash], cached: usize) -> BlockTable {
        let mut table = BlockTable::default();
        for hash in &hashes[..cached] {
            let Some(&id) = self.by_hash.get(hash) else { break };
            if self.blocks[id as usize].refs == 0 {
                self.unlink(id);
            }
            self.blocks[id as usize].refs += 1;
            table.blocks.push(id);
        }
        table.sealed = table.blocks.len();
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

    /// Lets other sequences find the table's first `hashes.len()` blocks, whose keys and values are all computed.
    pub fn seal(&mut self, table: &mut BlockTable, hashes: &[BlockHash]) {
        self.ever.record(hashes.get(table.sealed..).unwrap_or_default());
        for (hash, &id) in hashes.iter().zip(&table.blocks).skip(table.sealed) {
            // Another sequence may have computed the same tokens at the same time: its block stays the known one.
            self.by_hash.entry(*hash).or_insert_with(|| {
                self.blocks[id as usize].hash = Some(*hash);
                id
            });
        }
        table.sealed = table.sealed.max(hashes.len().min(table.blocks.len()));
    }

    /// Gives a sequence's blocks back. The end of a sequence is forgotten before its beginning, which more sequences
    /// share; what nobody can find is reused first.
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
