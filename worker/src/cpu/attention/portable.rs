//! Attention in plain Rust, compiled for each instruction set: the reference for the hand-written kernel, and the code
//! where that one cannot run.

use super::call::{Call, SEGMENT, partial_len};
use crate::cpu::isa::per_isa;
use crate::ops::bf16::{from_bf16, to_bf16};
use crate::ops::exp2::exp2;
use crate::ops::vector::{LANES, Vector, max_num};

/// The two numbers of a word.
#[inline(always)]
fn unpack(word: u32) -> (f32, f32) {
    (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000))
}

#[inline(always)]
fn segment_body<V: Vector>(call: &Call<'_>, out: &mut [f32]) {
    let half = call.width / 2 * LANES;
    for (index, (out, &visible)) in out.chunks_exact_mut(partial_len(call.width)).zip(call.visible).enumerate() {
        let hidden = call.hidden[index];
        if hidden >= visible {
            let (values, totals) = out.split_at_mut(call.width);
            values.fill(0.0);
            (totals[0], totals[1]) = (f32::NEG_INFINITY, 0.0);
            continue;
        }
        let kv_blocks = &call.kv_blocks[..visible.div_ceil(LANES)];
        let mut scores = [f32::NEG_INFINITY; SEGMENT];
        for (kv_block, scores) in kv_blocks.iter().zip(scores.chunks_exact_mut(LANES)) {
            let mut sums = [0.0; LANES];
            for (keys, &query) in kv_block[..half].chunks_exact(LANES).zip(&call.queries[index * (call.width / 2)..]) {
                let (low, high) = unpack(query);
                for (sum, &key) in sums.iter_mut().zip(keys) {
                    let (key_low, key_high) = unpack(key);
                    *sum += key_low * low + key_high * high;
                }
            }
            scores.copy_from_slice(&sums);
        }
        scores[..hidden].fill(f32::NEG_INFINITY);
        scores[visible..].fill(f32::NEG_INFINITY);

        let mut row_max = V::splat(f32::NEG_INFINITY);
        for scores in scores.chunks_exact(LANES).take(kv_blocks.len()) {
            row_max = row_max.max(V::load(scores));
        }
        let mut lanes = [0.0; LANES];
        row_max.store(&mut lanes);
        let row_max = lanes.into_iter().fold(f32::NEG_INFINITY, max_num);
        let mut sum = V::splat(0.0);
        for scores in scores.chunks_exact_mut(LANES).take(kv_blocks.len()) {
            exp2(V::load(scores).sub(V::splat(row_max))).store(scores);
            scores.iter_mut().for_each(|score| *score = from_bf16(to_bf16(*score)));
            sum = sum.add(V::load(scores));
        }

        let (values, totals) = out.split_at_mut(call.width);
        values.fill(0.0);
        for (kv_block, weights) in kv_blocks.iter().zip(scores.chunks_exact(LANES)) {
            for (row, weights) in kv_block[half..].chunks_exact(call.width).zip(weights.chunks_exact(2)) {
                for (value, &word) in values.iter_mut().zip(row) {
                    let (even, odd) = unpack(word);
                    *value += even * weights[0] + odd * weights[1];
                }
            }
        }
        totals[0] = row_max;
        totals[1] = sum.sum();
    }
}

per_isa! {
    pub(super) fn segment(call: &Call<'_>, out: &mut [f32]) = segment_body;
}
