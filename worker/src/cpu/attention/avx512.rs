//! Attention with the bf16 dot products of AVX-512.

use std::arch::x86_64::*;
use std::ops::Range;

use super::call::{Call, SEGMENT, partial_len};
use crate::cpu::kv::kv_block_words;
use crate::cpu::x86::Zmm;
use crate::ops::exp2::EXP2_POLYNOMIAL;
use crate::ops::vector::{LANES, Vector};

/// The same 64 bytes as another type.
macro_rules! as_bf16 {
    ($words:expr) => {
        std::mem::transmute::<__m512i, __m512bh>($words)
    };
}

/// Queries whose sums fit into the registers.
const MOST: usize = 8;

/// # Safety
/// The processor has the features, and the call was checked by [`super::segment`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")]
pub(super) unsafe fn segment(call: &Call<'_>, out: &mut [f32]) {
    let (words, len) = (call.width / 2, partial_len(call.width));
    for (index, visible) in call.visible.chunks(MOST).enumerate() {
        let queries = &call.queries[index * MOST * words..][..visible.len() * words];
        let hidden = &call.hidden[index * MOST..][..visible.len()];
        let call = &Call { queries, visible, hidden, ..*call };
        let out = &mut out[index * MOST * len..];
        // SAFETY: the caller vouches for both.
        unsafe {
            match visible.len() {
                1 => self::queries::<1>(call, out),
                2 => self::queries::<2>(call, out),
                3 => self::queries::<3>(call, out),
                4 => self::queries::<4>(call, out),
                5 => self::queries::<5>(call, out),
                6 => self::queries::<6>(call, out),
                7 => self::queries::<7>(call, out),
                _ => self::queries::<MOST>(call, out),
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")]
unsafe fn queries<const Q: usize>(call: &Call<'_>, out: &mut [f32]) {
    let mut scores = [[0.0_f32; SEGMENT]; Q];
    let mut weights = [[0_u32; SEGMENT / 2]; Q];
    let len = partial_len(call.width);
    // SAFETY: all KV blocks and queries have the lengths that `width` asks for.
    unsafe {
        let mut kv_block = 0;
        while kv_block + 2 <= call.kv_blocks.len() {
            score::<Q, 2>(call, kv_block, &mut scores);
            kv_block += 2;
        }
        if kv_block < call.kv_blocks.len() {
            score::<Q, 1>(call, kv_block, &mut scores);
        }
    }
    for q in 0..Q {
        let totals = &mut out[q * len + call.width..];
        let seen = call.hidden[q]..call.visible[q];
        (totals[0], totals[1]) = softmax(&mut scores[q], &mut weights[q], seen, call.kv_blocks.len());
    }
    let mut first = 0;
    while first < call.width {
        // As many registers of values at once as there is room for the sums of all queries.
        let wide = if Q <= 6 { 4 } else { 2 };
        let left = (call.width - first) / LANES;
        // SAFETY: as above; `first + N * LANES <= width`.
        unsafe {
            if wide == 4 && left >= 4 {
                values::<Q, 4>(call, first, &weights, out);
                first += 4 * LANES;
            } else if left >= 2 {
                values::<Q, 2>(call, first, &weights, out);
                first += 2 * LANES;
            } else {
                values::<Q, 1>(call, first, &weights, out);
                first += LANES;
            }
        }
    }
}

/// Scores of `N` KV blocks from index `kv_block` on, for all queries.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn score<const Q: usize, const N: usize>(call: &Call<'_>, kv_block: usize, scores: &mut [[f32; SEGMENT]; Q]) {
    let keys: [*const u32; N] = std::array::from_fn(|n| call.kv_blocks[kv_block + n].as_ptr());
    let queries: [*const u32; Q] = std::array::from_fn(|q| call.queries[q * (call.width / 2)..].as_ptr());
    let mut sums = [[_mm512_setzero_ps(); N]; Q];
    for pair in 0..call.width / 2 {
        // SAFETY: a KV block's keys are `width / 2` registers, a query as many words.
        unsafe {
            let mut loaded = [_mm512_setzero_si512(); N];
            for (loaded, keys) in loaded.iter_mut().zip(keys) {
                *loaded = _mm512_loadu_si512(keys.add(pair * LANES).cast());
            }
            for q in 0..Q {
                let query = as_bf16!(_mm512_set1_epi32(*queries[q].add(pair) as i32));
                for n in 0..N {
                    sums[q][n] = _mm512_dpbf16_ps(sums[q][n], as_bf16!(loaded[n]), query);
                }
            }
        }
    }
    for (sums, scores) in sums.iter().zip(scores) {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: a register of sixteen scores.
            unsafe { _mm512_storeu_ps(scores[(kv_block + n) * LANES..][..LANES].as_mut_ptr(), *sum) };
        }
    }
}

/// Turns the scores of the positions that are seen into weights rounded to bf16, two positions a word. Gives the greatest score and the sum of weights.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma")]
pub(super) fn softmax(
    scores: &mut [f32; SEGMENT],
    weights: &mut [u32; SEGMENT / 2],
    seen: Range<usize>,
    kv_blocks: usize,
) -> (f32, f32) {
    if seen.is_empty() {
        weights[..kv_blocks * LANES / 2].fill(0);
        return (f32::NEG_INFINITY, 0.0);
    }
    let used = seen.end.div_ceil(LANES);
    scores[..seen.start].fill(f32::NEG_INFINITY);
    scores[seen.end..used * LANES].fill(f32::NEG_INFINITY);
    let mut row_max = _mm512_set1_ps(f32::NEG_INFINITY);
    for scores in scores.chunks_exact(LANES).take(used) {
        // SAFETY: sixteen floats.
        row_max = _mm512_max_ps(row_max, unsafe { _mm512_loadu_ps(scores.as_ptr()) });
    }
    let row_max = _mm512_reduce_max_ps(row_max);
    let mut sum = _mm512_setzero_ps();
    for (scores, weights) in scores.chunks_exact(LANES).zip(weights.chunks_exact_mut(LANES / 2)).take(used) {
        // SAFETY: sixteen floats.
        let score = unsafe { _mm512_loadu_ps(scores.as_ptr()) };
        let exact = exp2(_mm512_sub_ps(score, _mm512_set1_ps(row_max)));
        // SAFETY: two names for 32 plain bytes; eight words out.
        let rounded = unsafe {
            let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(exact));
            _mm256_storeu_si256(weights.as_mut_ptr().cast(), rounded);
            rounded
        };
        let wide = _mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(rounded));
        sum = _mm512_add_ps(sum, _mm512_castsi512_ps(wide));
    }
    weights[used * LANES / 2..kv_blocks * LANES / 2].fill(0);
    (row_max, Zmm(sum).sum())
}

/// 2^x for x <= 0 as [`crate::ops::exp2::exp2`] has it, by fused operations: 0 far below, NaN of NaN.
#[inline]
#[target_feature(enable = "avx512f,fma")]
fn exp2(x: __m512) -> __m512 {
    // The second operand is kept where one is NaN.
    let x = _mm512_max_ps(_mm512_set1_ps(-200.0), x);
    let whole = _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(x);
    let f = _mm512_sub_ps(x, whole);
    let [first, rest @ ..] = EXP2_POLYNOMIAL;
    let mut p = _mm512_set1_ps(first);
    for next in rest {
        p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(next));
    }
    _mm512_scalef_ps(p, whole)
}

/// Weighted sums of values `first..first + N * 16` of the head.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn values<const Q: usize, const N: usize>(
    call: &Call<'_>,
    first: usize,
    weights: &[[u32; SEGMENT / 2]; Q],
    out: &mut [f32],
) {
    let len = partial_len(call.width);
    let mut sums = [[_mm512_setzero_ps(); N]; Q];
    for (index, kv_block) in call.kv_blocks.iter().enumerate() {
        let rows = kv_block[kv_block_words(call.width) / 2..].as_ptr();
        for row in 0..LANES / 2 {
            let mut values = [_mm512_setzero_si512(); N];
            for (n, values) in values.iter_mut().enumerate() {
                // SAFETY: a KV block's values are eight rows of `width` words.
                *values = unsafe { _mm512_loadu_si512(rows.add(row * call.width + first + n * LANES).cast()) };
            }
            for (sums, weights) in sums.iter_mut().zip(weights) {
                let weight = _mm512_set1_epi32(weights[index * (LANES / 2) + row] as i32);
                for (sum, values) in sums.iter_mut().zip(values) {
                    // SAFETY: two names for 64 plain bytes.
                    unsafe { *sum = _mm512_dpbf16_ps(*sum, as_bf16!(values), as_bf16!(weight)) };
                }
            }
        }
    }
    for (q, sums) in sums.iter().enumerate() {
        for (n, sum) in sums.iter().enumerate() {
            // SAFETY: a register of sixteen values.
            unsafe { _mm512_storeu_ps(out[q * len + first + n * LANES..][..LANES].as_mut_ptr(), *sum) };
        }
    }
}
