//! The paged pool of keys and values, as `kv.cuh` lays it out, and the spans that attention works on.

pub(crate) mod attention;
mod reference;

use crate::cuda::gpu::Element;
use crate::device::BLOCK_TOKENS;

/// How a number lies in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvFormat {
    /// Rounded to bf16.
    Bf16,
    /// e4m3, with a float32 scale for each position and head: half the memory and half the reading.
    Fp8,
}

/// Head widths that there are kernels for.
pub const HEAD_DIMS: [usize; 5] = [32, 64, 80, 96, 128];

/// A kernel has one for each of them and each format.
pub(crate) const INSTANCES: usize = 2 * HEAD_DIMS.len();

/// The shape of one layer's pool: `[blocks][kv_heads]` KV blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    /// Key-value heads.
    pub kv_heads: usize,
    /// One of [`HEAD_DIMS`].
    pub head_dim: usize,
    /// Type of its numbers.
    pub format: KvFormat,
}

impl KvShape {
    /// Bytes of a number.
    fn number(&self) -> usize {
        match self.format {
            KvFormat::Bf16 => 2,
            KvFormat::Fp8 => 1,
        }
    }

    /// Bytes of one KV head of one block.
    pub fn kv_block_bytes(&self) -> usize {
        let scales = if self.format == KvFormat::Fp8 { 2 * BLOCK_TOKENS * size_of::<f32>() } else { 0 };
        2 * BLOCK_TOKENS * self.head_dim * self.number() + scales
    }

    /// Bytes of one block of one layer.
    pub fn block_bytes(&self) -> usize {
        self.kv_heads * self.kv_block_bytes()
    }

    /// Which of a kernel's instances is for this pool: first those of bf16, then those of fp8.
    pub(crate) fn instance(&self) -> usize {
        let width = HEAD_DIMS.iter().position(|width| *width == self.head_dim);
        let width = width.unwrap_or_else(|| panic!("there are no kernels for heads of {} numbers", self.head_dim));
        width + if self.format == KvFormat::Fp8 { HEAD_DIMS.len() } else { 0 }
    }

    /// Head width, padded to the steps of the tensor cores.
    pub(crate) fn padded(&self) -> usize {
        self.head_dim.next_multiple_of(32)
    }

    /// Words from one key to the next, and from one pair of values to the next, of a KV block in shared memory: `KEY` and
    /// `PAIR` of `SmemTile` in `kv.cuh`.
    fn strides(&self) -> (usize, usize) {
        // Rows begin `phase` words further on in the 32 banks than the row before.
        let apart = |words: usize, phase: usize| words + (phase + 32 - words % 32) % 32;
        let phase = if self.format == KvFormat::Fp8 { 8 } else { 16 };
        (apart(self.padded() * self.number() / 4, phase), apart(self.padded() * self.number() / 2, 8))
    }

    /// Bytes of a KV block in shared memory.
    pub(crate) fn smem_tile_bytes(&self) -> usize {
        let (key, pair) = self.strides();
        let scales = if self.format == KvFormat::Fp8 { 2 * BLOCK_TOKENS } else { 0 };
        4 * (BLOCK_TOKENS * key + BLOCK_TOKENS / 2 * pair + scales)
    }
}

/// Rows of a batch that attend together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Span {
    /// First row.
    pub row: u32,
    /// Their number; none is a span that does nothing.
    pub rows: u32,
    /// Position of the first row in its sequence.
    pub position: u32,
    /// Where the sequence's block table begins in the list of all tables.
    pub table: u32,
}

// SAFETY: four plain numbers of 32 bits.
unsafe impl Element for Span {}

impl Span {
    /// Queries of one block of the prefill kernel, and so the most query heads that share a KV head.
    pub const QUERIES: usize = 64;

    /// Cuts a chunk of `self.rows` rows into the spans that the prefill kernel takes, `group` query heads to a KV head.
    pub fn cut(self, group: usize) -> impl Iterator<Item = Self> {
        assert!((1..=Self::QUERIES).contains(&group), "{group} query heads to a KV head");
        let max = (Self::QUERIES / group) as u32;
        (0..self.rows).step_by(max as usize).map(move |at| Self {
            row: self.row + at,
            rows: max.min(self.rows - at),
            position: self.position + at,
            table: self.table,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_that_read_together_read_from_all_banks() {
        for (format, words) in [(KvFormat::Bf16, 4), (KvFormat::Fp8, 2)] {
            for head_dim in HEAD_DIMS {
                let (key, pair) = KvShape { kv_heads: 1, head_dim, format }.strides();
                // 16 bytes a lane: eight lanes at once; 8 bytes: sixteen.
                for first in (0..32).step_by(32 / words) {
                    let lanes = first..first + 32 / words;
                    let banks = |start: &dyn Fn(usize, usize) -> usize| {
                        let starts = lanes.clone().map(|lane| start(lane / 4, lane % 4));
                        let mut banks: Vec<usize> =
                            starts.flat_map(|start| start..start + words).map(|word| word % 32).collect();
                        banks.sort_unstable();
                        banks
                    };
                    let all: Vec<usize> = (0..32).collect();
                    assert_eq!(banks(&|g, t| g * key + t * words), all, "keys of {head_dim} {format:?}");
                    assert_eq!(banks(&|g, t| t * pair + g * words), all, "values of {head_dim} {format:?}");
                }
            }
        }
    }
}
