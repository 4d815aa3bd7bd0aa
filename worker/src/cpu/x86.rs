//! The vectors of x86-64. Only `per_isa!` names these types, inside functions that are compiled for the instruction
//! set and called when the processor has it; that is what makes every `unsafe` here sound.

use std::arch::x86_64::*;

use crate::ops::vector::{LANES, ROUND, Vector};

/// A register of AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct Zmm(pub(crate) __m512);

/// Two registers of AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Ymms(__m256, __m256);

macro_rules! zmm {
    ($($intrinsics:tt)*) => {
        // SAFETY: see the module's documentation; memory is that of checked slices.
        unsafe { $($intrinsics)* }
    };
}
use zmm as ymms;

impl Vector for Zmm {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        zmm!(Self(_mm512_set1_ps(x)))
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        zmm!(Self(_mm512_loadu_ps(from[..LANES].as_ptr())))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        zmm!(_mm512_storeu_ps(to[..LANES].as_mut_ptr(), self.0))
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        zmm!(Self(_mm512_add_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        zmm!(Self(_mm512_sub_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        zmm!(Self(_mm512_mul_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        zmm!(Self(_mm512_div_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        zmm!(Self(_mm512_min_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        zmm!(Self(_mm512_max_ps(self.0, other.0)))
    }

    #[inline(always)]
    fn select_gt(self, x: Self, least: Self) -> Self {
        zmm!(Self(_mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(x.0, least.0), self.0)))
    }

    #[inline(always)]
    fn pow2_of_rounded(self) -> Self {
        let bias = 127_i32.wrapping_sub(ROUND.to_bits() as i32);
        zmm!(Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
            _mm512_castps_si512(self.0),
            _mm512_set1_epi32(bias)
        )))))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        zmm!(sum(_mm256_add_ps(_mm512_castps512_ps256(self.0), _mm512_extractf32x8_ps::<1>(self.0))))
    }

    #[inline(always)]
    fn max_abs(self, other: Self) -> f32 {
        zmm!({
            let bits = |v: __m512| _mm512_slli_epi32::<1>(_mm512_castps_si512(v));
            f32::from_bits(_mm512_reduce_max_epu32(_mm512_max_epu32(bits(self.0), bits(other.0))) >> 1)
        })
    }

    #[inline(always)]
    fn store_i8(self, to: &mut [i8]) -> i32 {
        zmm!({
            let whole = _mm512_cvtps_epi32(self.0);
            _mm_storeu_si128(to[..LANES].as_mut_ptr().cast(), _mm512_cvtepi32_epi8(whole));
            _mm512_reduce_add_epi32(whole)
        })
    }
}

impl Vector for Ymms {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        ymms!(Self(_mm256_set1_ps(x), _mm256_set1_ps(x)))
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        let from = &from[..LANES];
        ymms!(Self(_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from[8..].as_ptr())))
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = &mut to[..LANES];
        ymms!(_mm256_storeu_ps(to.as_mut_ptr(), self.0));
        ymms!(_mm256_storeu_ps(to[8..].as_mut_ptr(), self.1));
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        ymms!(Self(_mm256_add_ps(self.0, other.0), _mm256_add_ps(self.1, other.1)))
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        ymms!(Self(_mm256_sub_ps(self.0, other.0), _mm256_sub_ps(self.1, other.1)))
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        ymms!(Self(_mm256_mul_ps(self.0, other.0), _mm256_mul_ps(self.1, other.1)))
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        ymms!(Self(_mm256_div_ps(self.0, other.0), _mm256_div_ps(self.1, other.1)))
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        ymms!(Self(_mm256_min_ps(self.0, other.0), _mm256_min_ps(self.1, other.1)))
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        ymms!(Self(_mm256_max_ps(self.0, other.0), _mm256_max_ps(self.1, other.1)))
    }

    #[inline(always)]
    fn select_gt(self, x: Self, least: Self) -> Self {
        let half = |value, x, least| ymms!(_mm256_and_ps(value, _mm256_cmp_ps::<_CMP_GT_OQ>(x, least)));
        Self(half(self.0, x.0, least.0), half(self.1, x.1, least.1))
    }

    #[inline(always)]
    fn pow2_of_rounded(self) -> Self {
        let bias = 127_i32.wrapping_sub(ROUND.to_bits() as i32);
        let half = |rounded| {
            ymms!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(
                _mm256_castps_si256(rounded),
                _mm256_set1_epi32(bias)
            ))))
        };
        Self(half(self.0), half(self.1))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        ymms!(sum(_mm256_add_ps(self.0, self.1)))
    }

    #[inline(always)]
    fn max_abs(self, other: Self) -> f32 {
        ymms!({
            let bits = |v: __m256| _mm256_slli_epi32::<1>(_mm256_castps_si256(v));
            let max = |a: Self| _mm256_max_epu32(bits(a.0), bits(a.1));
            let max = _mm256_max_epu32(max(self), max(other));
            let max = _mm_max_epu32(_mm256_castsi256_si128(max), _mm256_extracti128_si256::<1>(max));
            let max = _mm_max_epu32(max, _mm_shuffle_epi32::<0b00_00_11_10>(max));
            let max = _mm_max_epu32(max, _mm_shuffle_epi32::<0b00_00_00_01>(max));
            f32::from_bits(_mm_cvtsi128_si32(max) as u32 >> 1)
        })
    }

    #[inline(always)]
    fn store_i8(self, to: &mut [i8]) -> i32 {
        ymms!({
            let (low, high) = (_mm256_cvtps_epi32(self.0), _mm256_cvtps_epi32(self.1));
            // Packing goes by halves of the registers; the permutation puts them in order.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(low, high));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to[..LANES].as_mut_ptr().cast(), bytes);
            let sum = _mm256_add_epi32(low, high);
            let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b00_00_11_10>(sum));
            let sum = _mm_add_epi32(sum, _mm_shuffle_epi32::<0b00_00_00_01>(sum));
            _mm_cvtsi128_si32(sum)
        })
    }
}

/// # Safety
/// The processor has AVX.
#[inline(always)]
unsafe fn sum(v: __m256) -> f32 {
    // SAFETY: the caller vouches for it.
    unsafe {
        let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
        _mm_cvtss_f32(_mm_add_ss(v, _mm_shuffle_ps::<1>(v, v)))
    }
}
