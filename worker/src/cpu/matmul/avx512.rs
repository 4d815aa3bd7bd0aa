//! AVX-512 with VNNI: 64 products of bytes an instruction. The weights are the unsigned operand.

use std::arch::x86_64::*;

use super::call::{Floats, Out, Quantised, entries, fetch, for_rows};
use crate::cpu::matrix::{Kind, run_bytes};
use crate::ops::vector::LANES;

/// Dot products of the named groups of four inputs, for 16 outputs. A macro, as a function is not inlined reliably and
/// a call costs as much as the products.
macro_rules! dot {
    ($w:ident, $q:ident, $($group:literal)*) => {{
        let mut sum = _mm512_setzero_si512();
        $(sum = _mm512_dpbusd_epi32(sum, $w[$group], _mm512_set1_epi32($q.add($group).read_unaligned()));)*
        sum
    }};
}

entries!("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c");

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn runs<const R: usize, const NIBBLES: bool, const MINS: bool, const HALVES: bool>(
    call: Quantised<'_>,
    out: &mut Out,
) {
    let (bytes, scale_bytes, min_bytes) = run_bytes(NIBBLES, MINS, HALVES);
    let stride = bytes + scale_bytes + min_bytes;
    assert!(call.tile.len() >= call.rows.len() * stride);
    let (low, zero) = (_mm512_set1_epi8(15), _mm512_set1_ps(-call.zero));
    let mut sums = [_mm512_setzero_ps(); R];
    for (index, run) in call.rows.iter().enumerate() {
        // SAFETY: the tile has as many runs as the rows.
        let (w, scale, second, min) = unsafe {
            let at = call.tile.as_ptr().add(index * stride);
            fetch(call.prefetch, index * stride, stride);
            let mut w = [_mm512_setzero_si512(); 8];
            for i in 0..if NIBBLES { 4 } else { 8 } {
                let loaded = _mm512_loadu_si512(at.add(i * 64).cast());
                if NIBBLES {
                    w[i] = _mm512_and_si512(loaded, low);
                    w[i + 4] = _mm512_and_si512(_mm512_srli_epi16::<4>(loaded), low);
                } else {
                    w[i] = loaded;
                }
            }
            let at = at.add(bytes);
            let scale = _mm512_cvtph_ps(_mm256_loadu_si256(at.cast()));
            let second = if HALVES { _mm512_cvtph_ps(_mm256_loadu_si256(at.add(LANES * 2).cast())) } else { scale };
            let min = if MINS {
                _mm512_cvtph_ps(_mm256_loadu_si256(at.add(scale_bytes).cast()))
            } else {
                _mm512_mul_ps(scale, zero)
            };
            (w, scale, second, min)
        };
        for (r, sum) in sums.iter_mut().enumerate() {
            let row_scale = _mm512_set1_ps(run.scale[r]);
            let q: *const i32 = run.q[r].as_ptr().cast();
            if HALVES {
                // SAFETY: a row of a run is eight groups of four bytes.
                let (a, b) = unsafe { (dot!(w, q, 0 1 2 3), dot!(w, q, 4 5 6 7)) };
                *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(scale, row_scale), *sum);
                *sum = _mm512_fmadd_ps(min, _mm512_set1_ps(run.halves[0][r]), *sum);
                *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(b), _mm512_mul_ps(second, row_scale), *sum);
                let min = _mm512_mul_ps(second, zero);
                *sum = _mm512_fmadd_ps(min, _mm512_set1_ps(run.halves[1][r]), *sum);
            } else {
                // SAFETY: as above.
                let d = unsafe { dot!(w, q, 0 1 2 3 4 5 6 7) };
                *sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(d), _mm512_mul_ps(scale, row_scale), *sum);
                *sum = _mm512_fmadd_ps(min, _mm512_set1_ps(run.sum[r]), *sum);
            }
        }
    }
    for (sum, out) in sums.iter().zip(out) {
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *sum) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")]
unsafe fn inputs<const R: usize, const TYPE: usize>(call: Floats<'_>, out: &mut Out) {
    let bytes = if TYPE == 0 { LANES * 4 } else { LANES * 2 };
    let mut sums = [_mm512_setzero_ps(); R];
    for (weights, row) in call.tile.chunks_exact(bytes).zip(call.rows) {
        let at = weights.as_ptr();
        // SAFETY: `bytes` bytes are there.
        let w = unsafe {
            match TYPE {
                0 => _mm512_loadu_ps(at.cast()),
                1 => _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())),
                _ => {
                    let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(at.cast()));
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
                }
            }
        };
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum = _mm512_fmadd_ps(w, _mm512_set1_ps(value), *sum);
        }
    }
    for (sum, out) in sums.iter().zip(out) {
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), *sum) };
    }
}
