//! Attention with tiles: queries are the rows of both products, so that a query's bits do not depend on its company.

use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
use std::mem::MaybeUninit;

use super::avx512::softmax;
use super::call::{Call, QUERIES, SEGMENT, partial_len};
use crate::cpu::amx::{self, Lines, Shapes};
use crate::cpu::kv::kv_block_words;
use crate::ops::vector::LANES;

const WORD: usize = size_of::<u32>();

/// Sums in tiles 0 to 3, the left operand in 4 and 5, the right one in 6 and 7.
const fn shapes(queries: usize, words: usize) -> Shapes {
    let (sums, left, right) = ((queries, LANES * WORD), (queries, words * WORD), (words, LANES * WORD));
    Shapes::new([sums, sums, sums, sums, left, left, right, right])
}

/// # Safety
/// The processor has the features, tiles among them, and the call was checked by [`super::segment`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")]
pub(super) unsafe fn segment(call: &Call<'_>, out: &mut [f32]) {
    let len = partial_len(call.width);
    let mut scores: Lines<[MaybeUninit<[f32; SEGMENT]>; QUERIES]> = Lines([MaybeUninit::uninit(); QUERIES]);
    let mut weights: Lines<[MaybeUninit<[u32; SEGMENT / 2]>; QUERIES]> = Lines([MaybeUninit::uninit(); QUERIES]);
    // SAFETY: `score` writes the scores of all KV blocks, `softmax` reads no others and writes the weights of all KV blocks,
    // and `values` reads no others.
    unsafe {
        score(call, scores.0.as_mut_ptr().cast());
        for (q, (&hidden, &visible)) in call.hidden.iter().zip(call.visible).enumerate() {
            let (scores, weights) = (scores.0[q].assume_init_mut(), weights.0[q].assume_init_mut());
            let totals = &mut out[q * len + call.width..];
            (totals[0], totals[1]) = softmax(scores, weights, hidden..visible, call.kv_blocks.len());
        }
        values(call, weights.0.as_ptr().cast(), out);
        amx::release();
    }
}

/// Scores of all queries, `[query][SEGMENT]`, over all KV blocks.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn score(call: &Call<'_>, scores: *mut u8) {
    // Words of a head that one product takes: a whole row of a tile, if the head is made of such.
    let words = if call.width.is_multiple_of(2 * LANES) { LANES } else { LANES / 2 };
    let (query, keys) = (call.width / 2 * WORD, LANES * WORD);
    let queries = call.queries.as_ptr().cast::<u8>();
    // SAFETY: a KV block's keys are `width / 2` rows, a query as many words; of both, `words` at a time.
    unsafe {
        shapes(call.visible.len(), words).set();
        for (index, kv_blocks) in call.kv_blocks.chunks(4).enumerate() {
            let prefetch = call.prefetch.get(index * 4..).unwrap_or_default();
            let key = |kv_block: usize, word: usize| {
                if let Some(prefetch) = prefetch.get(kv_block) {
                    fetch(&prefetch[word * LANES..][..words * LANES]);
                }
                kv_blocks[kv_block].as_ptr().cast::<u8>().add(word * keys)
            };
            amx::zero::<0>();
            amx::zero::<1>();
            amx::zero::<2>();
            amx::zero::<3>();
            for word in (0..call.width / 2).step_by(words) {
                amx::load::<4>(queries.add(word * WORD), query);
                amx::load::<6>(key(0, word), keys);
                amx::dot_bf16::<0, 4, 6>();
                if kv_blocks.len() > 1 {
                    amx::load::<7>(key(1, word), keys);
                    amx::dot_bf16::<1, 4, 7>();
                }
                if kv_blocks.len() > 2 {
                    amx::load::<6>(key(2, word), keys);
                    amx::dot_bf16::<2, 4, 6>();
                }
                if kv_blocks.len() > 3 {
                    amx::load::<7>(key(3, word), keys);
                    amx::dot_bf16::<3, 4, 7>();
                }
            }
            let at = |kv_block: usize| scores.add((index * 4 + kv_block) * LANES * WORD);
            amx::store::<0>(at(0), SEGMENT * WORD);
            if kv_blocks.len() > 1 {
                amx::store::<1>(at(1), SEGMENT * WORD);
            }
            if kv_blocks.len() > 2 {
                amx::store::<2>(at(2), SEGMENT * WORD);
            }
            if kv_blocks.len() > 3 {
                amx::store::<3>(at(3), SEGMENT * WORD);
            }
        }
    }
}

/// Weighted sums of the values of all KV blocks, for all queries. `weights` are `[query][SEGMENT]` in bf16.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn values(call: &Call<'_>, weights: *const u8, out: &mut [f32]) {
    const WEIGHTS: usize = SEGMENT / 2 * WORD;
    let out_row = partial_len(call.width) * WORD;
    let row = call.width * WORD;
    // SAFETY: a KV block's values are eight rows of `width` words, and `out` has as many for each query.
    unsafe {
        shapes(call.visible.len(), LANES / 2).set();
        for first in (0..call.width).step_by(4 * LANES) {
            let wide = ((call.width - first) / LANES).min(4);
            amx::zero::<0>();
            amx::zero::<1>();
            amx::zero::<2>();
            amx::zero::<3>();
            for (index, kv_block) in call.kv_blocks.iter().enumerate() {
                if first == 0
                    && let Some(prefetch) = call.prefetch.get(index)
                {
                    fetch(&prefetch[kv_block_words(call.width) / 2..]);
                }
                let values =
                    |n: usize| kv_block.as_ptr().add(kv_block_words(call.width) / 2 + first + n * LANES).cast::<u8>();
                amx::load::<4>(weights.add(index * LANES / 2 * WORD), WEIGHTS);
                amx::load::<6>(values(0), row);
                amx::dot_bf16::<0, 4, 6>();
                if wide > 1 {
                    amx::load::<7>(values(1), row);
                    amx::dot_bf16::<1, 4, 7>();
                }
                if wide > 2 {
                    amx::load::<6>(values(2), row);
                    amx::dot_bf16::<2, 4, 6>();
                }
                if wide > 3 {
                    amx::load::<7>(values(3), row);
                    amx::dot_bf16::<3, 4, 7>();
                }
            }
            let to = out.as_mut_ptr().add(first).cast::<u8>();
            amx::store::<0>(to, out_row);
            if wide > 1 {
                amx::store::<1>(to.add(LANES * WORD), out_row);
            }
            if wide > 2 {
                amx::store::<2>(to.add(2 * LANES * WORD), out_row);
            }
            if wide > 3 {
                amx::store::<3>(to.add(3 * LANES * WORD), out_row);
            }
        }
    }
}

/// Asks for memory, to be had from the second-level cache: what a thread needs next does not fit into the first.
#[inline(always)]
fn fetch(words: &[u32]) {
    for line in words.chunks(LANES) {
        // SAFETY: a hint.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) };
    }
}
