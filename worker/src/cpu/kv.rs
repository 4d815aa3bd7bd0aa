//! The pool of keys and values: bf16, in blocks of 16 positions.
//!
//! Of each layer, block and KV head there is one KV block: the keys, 16 positions side by side in the lanes and two
//! numbers of the head in each word, `[head_dim / 2][16]`; then the values, the head in the lanes and two positions in
//! each word, `[8][head_dim]`. So both products of attention run along words, and nothing is added across lanes.

use std::io;

use super::buffer::{Buffer, Shared};
use crate::device::{BLOCK_TOKENS, BlockId};
use crate::ops::bf16::to_bf16;
use crate::ops::vector::LANES;

/// Words of one KV block for heads of (padded) width `width`.
pub(crate) const fn kv_block_words(width: usize) -> usize {
    BLOCK_TOKENS * width
}

/// Heads are padded with zeros to whole registers.
pub(crate) const fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(LANES)
}

/// Two neighbours in one word, the first in the low half.
#[inline(always)]
pub(crate) fn pair(low: f32, high: f32) -> u32 {
    u32::from(to_bf16(low)) | u32::from(to_bf16(high)) << 16
}

/// The words of a row of numbers, two each.
pub(crate) fn pairs(from: &[f32], to: &mut [u32]) {
    for (word, from) in to.iter_mut().zip(from.chunks_exact(2)) {
        *word = pair(from[0], from[1]);
    }
}

#[derive(Debug)]
pub(crate) struct KvPool {
    pub(crate) blocks: usize,
    heads: usize,
    /// Padded head width.
    pub(crate) width: usize,
    words: Buffer<u32>,
}

impl KvPool {
    pub(crate) fn new(layers: usize, blocks: usize, heads: usize, head_dim: usize) -> io::Result<Self> {
        let width = padded(head_dim);
        let words = (layers * heads * kv_block_words(width)).saturating_mul(blocks);
        Ok(Self { blocks, heads, width, words: Buffer::try_new(words)? })
    }

    fn offset(&self, layer: usize, block: BlockId, head: usize) -> usize {
        ((layer * self.blocks + block as usize) * self.heads + head) * kv_block_words(self.width)
    }

    #[inline]
    pub(crate) fn kv_block(&self, layer: usize, block: BlockId, head: usize) -> &[u32] {
        &self.words[self.offset(layer, block, head)..][..kv_block_words(self.width)]
    }

    pub(crate) fn writer(&mut self, layer: usize) -> Writer<'_> {
        let first = self.offset(layer, 0, 0);
        let count = self.offset(1, 0, 0);
        Writer { heads: self.heads, width: self.width, words: Shared::new(&mut self.words[first..first + count]) }
    }
}

/// Write access to one layer from several threads.
#[derive(Clone, Copy)]
pub(crate) struct Writer<'a> {
    heads: usize,
    width: usize,
    words: Shared<'a, u32>,
}

impl Writer<'_> {
    /// Stores key and value of one head at position `slot` of a block.
    ///
    /// # Safety
    /// No other thread may write this block now.
    #[inline]
    pub(crate) unsafe fn put(&self, block: BlockId, head: usize, slot: usize, key: &[f32], value: &[f32]) {
        let size = kv_block_words(self.width);
        // SAFETY: the caller vouches for the block.
        let kv_block = unsafe { self.words.part((block as usize * self.heads + head) * size, size) };
        let (keys, values) = kv_block.split_at_mut(size / 2);
        for (pairs, key) in keys.chunks_exact_mut(BLOCK_TOKENS).zip(key.chunks_exact(2)) {
            pairs[slot] = pair(key[0], key[1]);
        }
        if slot == 0 {
            // What an earlier sequence left behind is multiplied by zero later: it must not be NaN.
            values.fill(0);
        }
        let row = &mut values[slot / 2 * self.width..][..value.len()];
        for (word, &value) in row.iter_mut().zip(value) {
            let bits = u32::from(to_bf16(value));
            *word = if slot.is_multiple_of(2) { bits } else { *word & 0xffff | bits << 16 };
        }
    }
}
