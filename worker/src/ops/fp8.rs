//! Eight-bit floats (e4m3), slowly and exactly: what devices that compute in them are checked against.

use std::sync::LazyLock;

/// An e4m3 number: sign, four bits of exponent, three of mantissa.
pub(crate) fn e4m3_to_f32(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2_f32.powi(exponent - 7) };
    let size = if byte & 127 == 127 { f32::NAN } else { size };
    if byte > 127 { -size } else { size }
}

/// The nearest e4m3 number, never more than 448; of two as near, the one with an even last bit.
pub(crate) fn round_to_e4m3(x: f32) -> f32 {
    static NUMBERS: LazyLock<[f32; 127]> = LazyLock::new(|| std::array::from_fn(|byte| e4m3_to_f32(byte as u8)));
    let size = x.abs();
    let above = NUMBERS.partition_point(|number| *number < size).min(126);
    let below = above.saturating_sub(1);
    let (up, down) = (NUMBERS[above] - size, size - NUMBERS[below]);
    let byte = if up < down || (up == down && above % 2 == 0) { above } else { below };
    if x.is_nan() { x } else { NUMBERS[byte].copysign(x) }
}
