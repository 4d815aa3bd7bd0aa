//! AVX2: products of bytes by way of 16-bit pairs. A tile's 16 lanes are two registers of eight.

use std::arch::x86_64::*;

use super::call::{Floats, Out, Quantised, entries, fetch, for_rows};
use crate::cpu::matrix::{Kind, run_bytes};
use crate::ops::vector::LANES;

/// Adds the dot products of one group of four inputs, for eight outputs, to `$sum`. A macro, as a function is not inlined
/// reliably and a call costs as much as the products.
macro_rules! add_dot {
    ($sum:ident, $weights:ident, $q:ident, $nibbles:ident, $ones:ident, $($group:literal)*) => {$({
        let four = _mm256_set1_epi32($q.add($group).read_unaligned());
        let loaded = _mm256_loadu_si256($weights.add(if $nibbles { $group % 4 } else { $group } * 64).cast());
        let pairs = if $nibbles {
            let shifted = if $group < 4 { loaded } else { _mm256_srli_epi16::<4>(loaded) };
            _mm256_maddubs_epi16(_mm256_and_si256(shifted, _mm256_set1_epi8(15)), four)
        } else {
            // Two products of full bytes overflow 16 bits, of seven bits they do not: the top bit is added apart.
            let top = _mm256_and_si256(_mm256_srli_epi16::<7>(loaded), _mm256_set1_epi8(1));
            let top = _mm256_madd_epi16(_mm256_maddubs_epi16(top, four), $ones);
            $sum = _mm256_add_epi32($sum, _mm256_slli_epi32::<7>(top));
            _mm256_maddubs_epi16(_mm256_and_si256(loaded, _mm256_set1_epi8(127)), four)
        };
        $sum = _mm256_add_epi32($sum, _mm256_madd_epi16(pairs, $ones));
    })*};
}

entries!("avx2,fma,f16c");

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn runs<const R: usize, const NIBBLES: bool, const MINS: bool, const HALVES: bool>(
    call: Quantised<'_>,
    out: &mut Out,
) {
    let (bytes, scale_bytes, min_bytes) = run_bytes(NIBBLES, MINS, HALVES);
    let stride = bytes + scale_bytes + min_bytes;
    assert!(call.tile.len() >= call.rows.len() * stride);
    let (zero, ones) = (_mm256_set1_ps(-call.zero), _mm256_set1_epi16(1));
    // The two registers one after the other: eight sums and the weights of a run do not fit for both at once.
    for side in 0..2 {
        let mut sums = [_mm256_setzero_ps(); R];
        for (index, run) in call.rows.iter().enumerate() {
            if side == 0 {
                fetch(call.prefetch, index * stride, stride);
            }
            // SAFETY: the tile has as many runs as the rows.
            let (scale, second, min) = unsafe {
                let at = call.tile.as_ptr().add(index * stride + bytes + side * 16);
                let scale = _mm256_cvtph_ps(_mm_loadu_si128(at.cast()));
                let second = if HALVES { _mm256_cvtph_ps(_mm_loadu_si128(at.add(LANES * 2).cast())) } else { scale };
                let min = if MINS {
                    _mm256_cvtph_ps(_mm_loadu_si128(at.add(scale_bytes).cast()))
                } else {
                    _mm256_mul_ps(scale, zero)
                };
                (scale, second, min)
            };
            let weights = &call.tile[index * stride..][..bytes];
            for (r, sum) in sums.iter_mut().enumerate() {
                let row_scale = _mm256_set1_ps(run.scale[r]);
                let q: *const i32 = run.q[r].as_ptr().cast();
                let at = weights[side * 32..].as_ptr();
                let (mut a, mut b) = (_mm256_setzero_si256(), _mm256_setzero_si256());
                // SAFETY: `weights` is one whole run, and a row of a run is eight groups of four bytes.
                unsafe {
                    add_dot!(a, at, q, NIBBLES, ones, 0 1 2 3);
                    add_dot!(b, at, q, NIBBLES, ones, 4 5 6 7);
                }
                if HALVES {
                    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(a), _mm256_mul_ps(scale, row_scale), *sum);
                    *sum = _mm256_fmadd_ps(min, _mm256_set1_ps(run.halves[0][r]), *sum);
                    *sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(b), _mm256_mul_ps(second, row_scale), *sum);
                    let min = _mm256_mul_ps(second, zero);
                    *sum = _mm256_fmadd_ps(min, _mm256_set1_ps(run.halves[1][r]), *sum);
                } else {
                    let d = _mm256_cvtepi32_ps(_mm256_add_epi32(a, b));
                    *sum = _mm256_fmadd_ps(d, _mm256_mul_ps(scale, row_scale), *sum);
                    *sum = _mm256_fmadd_ps(min, _mm256_set1_ps(run.sum[r]), *sum);
                }
            }
        }
        for (sum, out) in sums.iter().zip(out.iter_mut()) {
            // SAFETY: eight floats of sixteen.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(side * 8), *sum) };
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn inputs<const R: usize, const TYPE: usize>(call: Floats<'_>, out: &mut Out) {
    let bytes = if TYPE == 0 { 4 } else { 2 };
    for side in 0..2 {
        let mut sums = [_mm256_setzero_ps(); R];
        for (weights, row) in call.tile.chunks_exact(LANES * bytes).zip(call.rows) {
            // SAFETY: eight of sixteen weights.
            let w = unsafe {
                let at = weights.as_ptr().add(side * 8 * bytes);
                match TYPE {
                    0 => _mm256_loadu_ps(at.cast()),
                    1 => _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
                    _ => {
                        let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(at.cast()));
                        _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
                    }
                }
            };
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum = _mm256_fmadd_ps(w, _mm256_set1_ps(value), *sum);
            }
        }
        for (sum, out) in sums.iter().zip(out.iter_mut()) {
            // SAFETY: eight floats of sixteen.
            unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(side * 8), *sum) };
        }
    }
}
