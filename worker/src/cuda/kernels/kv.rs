//! The paged pool of keys and values, as `kv.cuh` lays it out, and the spans that attention works on.

use crate::cuda::gpu::Element;
use crate::device::BLOCK_TOKENS;

/// How a number lies in the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvFormat {
    Bf16,
    /// e4m3, with a float32 scale for each position and head: half the memory and half the reading.
    Fp8,
}

/// Head widths that there are kernels for.
pub const HEAD_DIMS: [usize; 5] = [32, 64, 80, 96, 128];

/// A kernel has one for each of them and each format.
pub(crate) const INSTANCES: usize = 2 * HEAD_DIMS.len();

/// The shape of one layer's pool: `[blocks][kv_heads]` pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvShape {
    pub kv_heads: usize,
    /// One of [`HEAD_DIMS`].
    pub head_dim: usize,
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
    pub fn piece_bytes(&self) -> usize {
        let scales = if self.format == KvFormat::Fp8 { 2 * BLOCK_TOKENS * size_of::<f32>() } else { 0 };
        2 * BLOCK_TOKENS * self.head_dim * self.number() + scales
    }

    /// Bytes of one block of one layer.
    pub fn block_bytes(&self) -> usize {
        self.kv_heads * self.piece_bytes()
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

    /// Words from one key to the next, and from one pair of values to the next, of a piece in shared memory: `KEY` and
    /// `PAIR` of `Stage` in `kv.cuh`.
    fn strides(&self) -> (usize, usize) {
        // Rows begin `phase` words further on in the 32 banks than the row before.
        let apart = |words: usize, phase: usize| words + (phase + 32 - words % 32) % 32;
        let phase = if self.format == KvFormat::Fp8 { 8 } else { 16 };
        (apart(self.padded() * self.number() / 4, phase), apart(self.padded() * self.number() / 2, 8))
    }

    /// Bytes of a piece in shared memory.
    pub(crate) fn stage_bytes(&self) -> usize {
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
        let most = (Self::QUERIES / group) as u32;
        (0..self.rows).step_by(most as usize).map(move |at| Self {
            row: self.row + at,
            rows: most.min(self.rows - at),
            position: self.position + at,
            table: self.table,
        })
    }
}

/// Slow reading and writing of pools, for checks.
pub(crate) mod twin {
    use std::sync::LazyLock;

    use half::bf16;

    use super::{KvFormat, KvShape};
    use crate::cuda::kernels::check::Chance;
    use crate::device::BLOCK_TOKENS;

    /// An e4m3 number: sign, four bits of exponent, three of mantissa.
    pub(crate) fn from_e4m3(byte: u8) -> f32 {
        let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
        let size = if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2_f32.powi(exponent - 7) };
        let size = if byte & 127 == 127 { f32::NAN } else { size };
        if byte > 127 { -size } else { size }
    }

    /// The nearest e4m3 number, never more than 448; of two as near, the one with an even last bit.
    pub(crate) fn nearest_e4m3(x: f32) -> f32 {
        static NUMBERS: LazyLock<[f32; 127]> = LazyLock::new(|| std::array::from_fn(|byte| from_e4m3(byte as u8)));
        let size = x.abs();
        let above = NUMBERS.partition_point(|number| *number < size).min(126);
        let below = above.saturating_sub(1);
        let (up, down) = (NUMBERS[above] - size, size - NUMBERS[below]);
        let byte = if up < down || (up == down && above % 2 == 0) { above } else { below };
        if x.is_nan() { x } else { NUMBERS[byte].copysign(x) }
    }

    impl KvShape {
        /// Byte of number `i` of the key or value at `slot` (block * 16 + position).
        fn at(&self, slot: usize, head: usize, value: bool, i: usize) -> usize {
            let (block, position) = (slot / BLOCK_TOKENS, slot % BLOCK_TOKENS);
            let index = match value {
                false => position * self.head_dim + i,
                true => BLOCK_TOKENS * self.head_dim + (position / 2 * self.head_dim + i) * 2 + position % 2,
            };
            (block * self.kv_heads + head) * self.piece_bytes() + index * self.number()
        }

        fn scale_at(&self, slot: usize, head: usize, value: bool) -> usize {
            let piece = (slot / BLOCK_TOKENS * self.kv_heads + head) * self.piece_bytes();
            let index = if value { BLOCK_TOKENS } else { 0 } + slot % BLOCK_TOKENS;
            piece + 2 * BLOCK_TOKENS * self.head_dim + index * 4
        }

        /// The scale of a position, 1 for bf16.
        pub(crate) fn scale(&self, pool: &[u8], slot: usize, head: usize, value: bool) -> f32 {
            match self.format {
                KvFormat::Bf16 => 1.0,
                KvFormat::Fp8 => {
                    let at = self.scale_at(slot, head, value);
                    f32::from_le_bytes([pool[at], pool[at + 1], pool[at + 2], pool[at + 3]])
                }
            }
        }

        /// The key or value of a head at a slot.
        pub(crate) fn read(&self, pool: &[u8], slot: usize, head: usize, value: bool) -> Vec<f32> {
            let scale = self.scale(pool, slot, head, value);
            let number = |i| {
                let at = self.at(slot, head, value, i);
                match self.format {
                    KvFormat::Bf16 => bf16::from_le_bytes([pool[at], pool[at + 1]]).to_f32(),
                    KvFormat::Fp8 => from_e4m3(pool[at]) * scale,
                }
            };
            (0..self.head_dim).map(number).collect()
        }

        /// Fills a slot's keys and values with random numbers between -1 and 1 or so.
        pub(crate) fn fill(&self, pool: &mut [u8], slot: usize, chance: &mut Chance) {
            for head in 0..self.kv_heads {
                for value in [false, true] {
                    for i in 0..self.head_dim {
                        let at = self.at(slot, head, value, i);
                        match self.format {
                            KvFormat::Bf16 => {
                                let number = bf16::from_f32(chance.float(1.0));
                                pool[at..at + 2].copy_from_slice(&number.to_le_bytes());
                            }
                            // All but NaN.
                            KvFormat::Fp8 => pool[at] = (chance.below(127) + 128 * chance.below(2)) as u8,
                        }
                    }
                    if self.format == KvFormat::Fp8 {
                        let scale = (0.5 + chance.below(100) as f32 / 100.0) / 448.0;
                        let at = self.scale_at(slot, head, value);
                        pool[at..at + 4].copy_from_slice(&scale.to_le_bytes());
                    }
                }
            }
        }

        /// What a write leaves in the second position of a pair that is not written yet.
        pub(crate) fn clear_value(&self, pool: &mut [u8], slot: usize) {
            for head in 0..self.kv_heads {
                for i in 0..self.head_dim {
                    let at = self.at(slot, head, true, i);
                    pool[at..at + self.number()].fill(0);
                }
            }
        }
    }
}

/// What both kernels of attention are checked with.
pub(crate) mod attention {
    use half::bf16;

    use super::{KvShape, Span};
    use crate::cuda::kernels::check::Chance;
    use crate::device::BLOCK_TOKENS;

    /// Sequences with their keys and values in a pool; everything else in it is NaN.
    pub(crate) struct Case {
        pub(crate) shape: KvShape,
        pub(crate) heads: usize,
        pub(crate) pool: Vec<u8>,
        pub(crate) tables: Vec<u32>,
        /// One a sequence.
        pub(crate) spans: Vec<Span>,
        /// `[rows][heads][head_dim]`, scaled.
        pub(crate) queries: Vec<bf16>,
    }

    impl Case {
        /// A sequence for each (position, rows).
        pub(crate) fn new(shape: KvShape, group: usize, sequences: &[(usize, usize)], chance: &mut Chance) -> Self {
            let blocks = |(position, rows): &(usize, usize)| (position + rows).div_ceil(BLOCK_TOKENS);
            let needed: usize = sequences.iter().map(blocks).sum();
            // Some that nobody has.
            let mut free = chance.shuffled(needed as u32 + 3);
            let mut pool = vec![0xff; (needed + 3) * shape.block_bytes()];
            let (mut tables, mut spans, mut row) = (Vec::new(), Vec::new(), 0);
            for sequence @ &(position, rows) in sequences {
                let table = tables.len();
                tables.extend(free.drain(..blocks(sequence)));
                let slot = |at: usize| tables[table + at / BLOCK_TOKENS] as usize * BLOCK_TOKENS + at % BLOCK_TOKENS;
                (0..position + rows).for_each(|at| shape.fill(&mut pool, slot(at), chance));
                if (position + rows) % 2 == 1 {
                    shape.clear_value(&mut pool, slot(position + rows - 1) + 1);
                }
                spans.push(Span { row, rows: rows as u32, position: position as u32, table: table as u32 });
                row += rows as u32;
            }
            let heads = shape.kv_heads * group;
            // Scores of some size, so that weights differ.
            let queries = chance.bf16s(row as usize * heads * shape.head_dim, 1.0);
            Self { shape, heads, pool, tables, spans, queries }
        }

        /// The definition, in 64 bits: `[rows][heads][head_dim]`.
        pub(crate) fn twin(&self) -> Vec<f32> {
            let Self { shape, heads, .. } = self;
            let (width, group) = (shape.head_dim, heads / shape.kv_heads);
            let mut out = Vec::new();
            for span in &self.spans {
                let slot = |at: usize| {
                    let block = self.tables[span.table as usize + at / BLOCK_TOKENS];
                    block as usize * BLOCK_TOKENS + at % BLOCK_TOKENS
                };
                let context = (span.position + span.rows) as usize;
                let all = |value| -> Vec<Vec<Vec<f32>>> {
                    let head = |head| (0..context).map(|at| shape.read(&self.pool, slot(at), head, value)).collect();
                    (0..shape.kv_heads).map(head).collect()
                };
                let (keys, values) = (all(false), all(true));
                for row in 0..span.rows as usize {
                    for head in 0..*heads {
                        let query = &self.queries[((span.row as usize + row) * heads + head) * width..][..width];
                        let seen = span.position as usize + row + 1;
                        let score = |key: &Vec<f32>| -> f64 {
                            key.iter().zip(query).map(|(k, q)| f64::from(*k) * q.to_f64()).sum()
                        };
                        let scores: Vec<f64> = keys[head / group][..seen].iter().map(score).collect();
                        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp2()).collect();
                        let total: f64 = weights.iter().sum();
                        out.extend((0..width).map(|i| {
                            let values = values[head / group].iter().zip(&weights);
                            (values.map(|(value, weight)| f64::from(value[i]) * weight).sum::<f64>() / total) as f32
                        }));
                    }
                }
            }
            out
        }
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
