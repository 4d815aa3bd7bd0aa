//! Reading quantised weights in their file layouts as runs of 32 whole numbers with scales, without loss.

use half::f16;

use crate::model::DType;
use crate::model::quant::{IQ4_LIST, iq4_xs_scale, q3_k_scale};

/// Weights that share scales.
pub(crate) const RUN: usize = 32;

/// 32 weights: `q * scale[i / 16] + min`, q in 0..=255. Where the format is symmetric, `min` is not stored but follows
/// from the zero point: `-zero * scale`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) q: [u8; RUN],
    pub(crate) scale: [f32; 2],
    pub(crate) min: f32,
}

/// How a quantised type is repacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scheme {
    /// Numbers fit in four bits.
    pub(crate) nibbles: bool,
    /// The number that stands for 0 where there are no minima.
    pub(crate) zero: Option<u8>,
    /// Each 16 weights have a scale of their own.
    pub(crate) halves: bool,
}

/// None for types that are not quantised.
pub(crate) fn scheme(dtype: DType) -> Option<Scheme> {
    let (nibbles, zero, halves) = match dtype {
        DType::F32 | DType::F16 | DType::BF16 => return None,
        // Its minima are of 16 weights, which no kernel has: it is expanded.
        DType::Q2K => return None,
        DType::Q4_0 => (true, Some(8), false),
        DType::Q4_1 | DType::Q4K => (true, None, false),
        DType::Q5_0 => (false, Some(16), false),
        DType::Q5_1 | DType::Q5K => (false, None, false),
        DType::Q8_0 | DType::Iq4Nl | DType::Iq4Xs => (false, Some(128), false),
        DType::Q3K | DType::Q6K => (false, Some(32), true),
    };
    Some(Scheme { nibbles, zero, halves })
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Low nibbles first, then high ones: how the simple formats order 32 weights.
fn nibbles(bytes: &[u8]) -> [u8; RUN] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

/// What four bits choose from the list, above 128.
fn from_list(bytes: &[u8]) -> [u8; RUN] {
    nibbles(bytes).map(|nibble| IQ4_LIST[usize::from(nibble)] as u8 ^ 0x80)
}

fn fifth_bits(q: [u8; RUN], bits: &[u8]) -> [u8; RUN] {
    let bits = u32::from_le_bytes([bits[0], bits[1], bits[2], bits[3]]);
    std::array::from_fn(|i| q[i] | ((bits >> i & 1) << 4) as u8)
}

/// The six-bit scale and minimum of run `j` of a Q4_K or Q5_K block.
fn scale_and_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        (packed[j + 4] & 15 | packed[j - 4] >> 6 << 4, packed[j + 4] >> 4 | packed[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// Calls `each` with every run of a row in order. `row` is a whole number of the type's blocks. Long, as it has an arm for each
/// type.
pub(crate) fn runs(dtype: DType, row: &[u8], mut each: impl FnMut(Run)) {
    let one = |q, scale, min| Run { q, scale: [scale; 2], min };
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 | DType::Q2K => unreachable!("{dtype:?} is not packed in runs"),
        DType::Q4_0 => row.chunks_exact(18).for_each(|b| each(one(nibbles(&b[2..]), half_at(b, 0), 0.0))),
        DType::Q4_1 => row.chunks_exact(20).for_each(|b| each(one(nibbles(&b[4..]), half_at(b, 0), half_at(b, 2)))),
        DType::Q5_0 => {
            row.chunks_exact(22).for_each(|b| each(one(fifth_bits(nibbles(&b[6..]), &b[2..6]), half_at(b, 0), 0.0)))
        }
        DType::Q5_1 => row
            .chunks_exact(24)
            .for_each(|b| each(one(fifth_bits(nibbles(&b[8..]), &b[4..8]), half_at(b, 0), half_at(b, 2)))),
        DType::Q8_0 => row.chunks_exact(34).for_each(|b| {
            let q = std::array::from_fn(|i| b[2 + i] ^ 0x80);
            each(one(q, half_at(b, 0), 0.0));
        }),
        DType::Q4K => row.chunks_exact(144).for_each(|b| {
            for j in 0..8 {
                let (scale, min) = scale_and_min(&b[4..16], j);
                let bytes = &b[16 + j / 2 * RUN..][..RUN];
                let q = std::array::from_fn(|i| if j % 2 == 0 { bytes[i] & 15 } else { bytes[i] >> 4 });
                each(one(q, half_at(b, 0) * scale, -half_at(b, 2) * min));
            }
        }),
        DType::Q5K => row.chunks_exact(176).for_each(|b| {
            for j in 0..8 {
                let (scale, min) = scale_and_min(&b[4..16], j);
                let (high, bytes) = (&b[16..48], &b[48 + j / 2 * RUN..][..RUN]);
                let q = std::array::from_fn(|i| {
                    let low = if j % 2 == 0 { bytes[i] & 15 } else { bytes[i] >> 4 };
                    low | (high[i] >> j & 1) << 4
                });
                each(one(q, half_at(b, 0) * scale, -half_at(b, 2) * min));
            }
        }),
        DType::Q3K => row.chunks_exact(110).for_each(|b| {
            let d = half_at(b, 108);
            for j in 0..8 {
                let low = &b[32 + j / 4 * RUN..][..RUN];
                let q = std::array::from_fn(|i| (low[i] >> (j % 4 * 2) & 3 | (b[i] >> j & 1) << 2) + 28);
                let scale = |half: usize| d * f32::from(q3_k_scale(&b[96..108], j * 2 + half));
                each(Run { q, scale: [scale(0), scale(1)], min: 0.0 });
            }
        }),
        DType::Iq4Nl => row.chunks_exact(18).for_each(|b| each(one(from_list(&b[2..]), half_at(b, 0), 0.0))),
        DType::Iq4Xs => row.chunks_exact(136).for_each(|b| {
            for j in 0..8 {
                let scale = half_at(b, 0) * f32::from(iq4_xs_scale(b, j));
                each(one(from_list(&b[8 + j * 16..][..16]), scale, 0.0));
            }
        }),
        DType::Q6K => row.chunks_exact(210).for_each(|b| {
            let d = half_at(b, 208);
            for j in 0..8 {
                // Halves of 128 weights: 64 bytes of low nibbles and 32 bytes of high bit pairs each.
                let (part, quarter) = (j / 4, j % 4);
                let low = &b[part * 64 + quarter % 2 * RUN..][..RUN];
                let high = &b[128 + part * RUN..][..RUN];
                let q = std::array::from_fn(|i| {
                    let low = if quarter < 2 { low[i] & 15 } else { low[i] >> 4 };
                    low | (high[i] >> (2 * quarter) & 3) << 4
                });
                let scale = |half: usize| d * f32::from(b[192 + j * 2 + half] as i8);
                each(Run { q, scale: [scale(0), scale(1)], min: 0.0 });
            }
        }),
    }
}
