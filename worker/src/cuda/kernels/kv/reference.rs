//! Reading and writing pools number by number, for checks.

use half::bf16;

use super::{KvFormat, KvShape};
use crate::cuda::kernels::test_rng::TestRng;
use crate::device::BLOCK_TOKENS;
use crate::ops::fp8::e4m3_to_f32;

impl KvShape {
    /// Byte of number `i` of the key or value at `slot` (block * 16 + position).
    fn at(&self, slot: usize, head: usize, value: bool, i: usize) -> usize {
        let (block, position) = (slot / BLOCK_TOKENS, slot % BLOCK_TOKENS);
        let index = match value {
            false => position * self.head_dim + i,
            true => BLOCK_TOKENS * self.head_dim + (position / 2 * self.head_dim + i) * 2 + position % 2,
        };
        (block * self.kv_heads + head) * self.kv_block_bytes() + index * self.number()
    }

    fn scale_at(&self, slot: usize, head: usize, value: bool) -> usize {
        let block = (slot / BLOCK_TOKENS * self.kv_heads + head) * self.kv_block_bytes();
        let index = if value { BLOCK_TOKENS } else { 0 } + slot % BLOCK_TOKENS;
        block + 2 * BLOCK_TOKENS * self.head_dim + index * 4
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
                KvFormat::Fp8 => e4m3_to_f32(pool[at]) * scale,
            }
        };
        (0..self.head_dim).map(number).collect()
    }

    /// Fills a slot's keys and values with random numbers between -1 and 1 or so.
    pub(crate) fn fill(&self, pool: &mut [u8], slot: usize, rng: &mut TestRng) {
        for head in 0..self.kv_heads {
            for value in [false, true] {
                for i in 0..self.head_dim {
                    let at = self.at(slot, head, value, i);
                    match self.format {
                        KvFormat::Bf16 => {
                            let number = bf16::from_f32(rng.float(1.0));
                            pool[at..at + 2].copy_from_slice(&number.to_le_bytes());
                        }
                        // All but NaN.
                        KvFormat::Fp8 => pool[at] = (rng.below(127) + 128 * rng.below(2)) as u8,
                    }
                }
                if self.format == KvFormat::Fp8 {
                    let scale = (0.5 + rng.below(100) as f32 / 100.0) / 448.0;
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
