//! Element types of weights, in the block layouts of the GGUF format, and the plain way to turn them into numbers: the
//! reference that every fast kernel is tested against.

use half::{bf16, f16};

/// How a weight's numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// 4 bits; blocks of 32 with a scale.
    Q4_0,
    /// 4 bits; blocks of 32 with a scale and a minimum.
    Q4_1,
    /// 5 bits; blocks of 32 with a scale.
    Q5_0,
    /// 5 bits; blocks of 32 with a scale and a minimum.
    Q5_1,
    /// 8 bits; blocks of 32 with a scale.
    Q8_0,
    /// 4 bits; super-blocks of 256 with scales and minima.
    Q4K,
    /// 5 bits; super-blocks of 256 with scales and minima.
    Q5K,
    /// 6 bits; super-blocks of 256 with scales.
    Q6K,
    /// 2 bits; super-blocks of 256 with scales and minima.
    Q2K,
    /// 3 bits; super-blocks of 256 with scales.
    Q3K,
    /// 4 bits that choose from a list; blocks of 32 with a scale.
    Iq4Nl,
    /// 4 bits that choose from a list; super-blocks of 256 with scales.
    Iq4Xs,
}

/// What the four bits of [`DType::Iq4Nl`] and [`DType::Iq4Xs`] choose from.
pub(crate) const IQ4_LIST: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Bytes that are not whole blocks of the numbers asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{data} bytes are not {numbers} numbers of type {}", dtype.name())]
pub struct QuantError {
    dtype: DType,
    data: usize,
    numbers: usize,
}

impl DType {
    /// All types, in the order of the GGUF numbering.
    pub const ALL: [Self; 15] = [
        Self::F32,
        Self::F16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Iq4Nl,
        Self::Iq4Xs,
        Self::BF16,
    ];

    /// Numbers in one block.
    pub const fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::Iq4Nl => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K | Self::Iq4Xs => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4K => 4 + 12 + 128,
            Self::Q5K => 4 + 12 + 32 + 128,
            Self::Q6K => 128 + 64 + 16 + 2,
            Self::Q2K => 16 + 64 + 4,
            Self::Q3K => 32 + 64 + 12 + 2,
            Self::Iq4Nl => 2 + 16,
            Self::Iq4Xs => 4 + 4 + 128,
        }
    }

    /// The name that GGUF tools print.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Iq4Xs => "IQ4_XS",
        }
    }
}

/// Writes the numbers stored in `data` to `out`, whose length says how many there are.
pub fn dequantize(dtype: DType, data: &[u8], out: &mut [f32]) -> Result<(), QuantError> {
    let (block, bytes) = (dtype.block(), dtype.block_bytes());
    if !out.len().is_multiple_of(block) || data.len() != out.len() / block * bytes {
        return Err(QuantError { dtype, data: data.len(), numbers: out.len() });
    }
    let unpack = match dtype {
        DType::F32 => f32_one,
        DType::F16 => f16_one,
        DType::BF16 => bf16_one,
        DType::Q4_0 => q4_0,
        DType::Q4_1 => q4_1,
        DType::Q5_0 => q5_0,
        DType::Q5_1 => q5_1,
        DType::Q8_0 => q8_0,
        DType::Q4K => q4_k,
        DType::Q5K => q5_k,
        DType::Q6K => q6_k,
        DType::Q2K => q2_k,
        DType::Q3K => q3_k,
        DType::Iq4Nl => iq4_nl,
        DType::Iq4Xs => iq4_xs,
    };
    for (data, out) in data.chunks_exact(bytes).zip(out.chunks_exact_mut(block)) {
        unpack(data, out);
    }
    Ok(())
}

/// The half-precision number at byte `at`.
fn half(data: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([data[at], data[at + 1]]).to_f32()
}

fn f32_one(data: &[u8], out: &mut [f32]) {
    out[0] = f32::from_le_bytes([data[0], data[1], data[2], data[3]]);
}

fn f16_one(data: &[u8], out: &mut [f32]) {
    out[0] = half(data, 0);
}

fn bf16_one(data: &[u8], out: &mut [f32]) {
    out[0] = bf16::from_le_bytes([data[0], data[1]]).to_f32();
}

fn q4_0(data: &[u8], out: &mut [f32]) {
    let scale = half(data, 0);
    for (i, &byte) in data[2..].iter().enumerate() {
        out[i] = f32::from((byte & 15) as i8 - 8) * scale;
        out[i + 16] = f32::from((byte >> 4) as i8 - 8) * scale;
    }
}

fn q4_1(data: &[u8], out: &mut [f32]) {
    let (scale, min) = (half(data, 0), half(data, 2));
    for (i, &byte) in data[4..].iter().enumerate() {
        out[i] = f32::from(byte & 15) * scale + min;
        out[i + 16] = f32::from(byte >> 4) * scale + min;
    }
}

/// The two five-bit numbers i and i + 16: four bits from `low`, the fifth from bits i and i + 16 of `high`.
fn five_bits(high: &[u8], low: &[u8], i: usize) -> (i8, i8) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    let fifth = |bit: usize| ((high >> bit & 1) << 4) as i8;
    ((low[i] & 15) as i8 | fifth(i), (low[i] >> 4) as i8 | fifth(i + 16))
}

fn q5_0(data: &[u8], out: &mut [f32]) {
    let scale = half(data, 0);
    for i in 0..16 {
        let (a, b) = five_bits(&data[2..6], &data[6..], i);
        out[i] = f32::from(a - 16) * scale;
        out[i + 16] = f32::from(b - 16) * scale;
    }
}

fn q5_1(data: &[u8], out: &mut [f32]) {
    let (scale, min) = (half(data, 0), half(data, 2));
    for i in 0..16 {
        let (a, b) = five_bits(&data[4..8], &data[8..], i);
        out[i] = f32::from(a) * scale + min;
        out[i + 16] = f32::from(b) * scale + min;
    }
}

fn q8_0(data: &[u8], out: &mut [f32]) {
    let scale = half(data, 0);
    for (out, &byte) in out.iter_mut().zip(&data[2..]) {
        *out = f32::from(byte as i8) * scale;
    }
}

/// Six-bit scale and minimum of group `j` (of 8): four groups lie whole in bytes 0..8, the others are split.
fn scale_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        ((packed[j + 4] & 15) | (packed[j - 4] >> 6 << 4), (packed[j + 4] >> 4) | (packed[j] >> 6 << 4))
    };
    (f32::from(scale), f32::from(min))
}

fn q4_k(data: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(data, 0), half(data, 2));
    let (scales, quants) = (&data[4..16], &data[16..]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(scales, group);
        let (scale, min) = (d * scale, dmin * min);
        for (out, &byte) in out.iter_mut().zip(&quants[group / 2 * 32..]) {
            let q = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
            *out = scale * f32::from(q) - min;
        }
    }
}

fn q5_k(data: &[u8], out: &mut [f32]) {
    let (d, dmin) = (half(data, 0), half(data, 2));
    let (scales, high, quants) = (&data[4..16], &data[16..48], &data[48..]);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(scales, group);
        let (scale, min) = (d * scale, dmin * min);
        for (i, (out, &byte)) in out.iter_mut().zip(&quants[group / 2 * 32..]).enumerate() {
            let low = if group % 2 == 0 { byte & 15 } else { byte >> 4 };
            let q = low | (high[i] >> group & 1) << 4;
            *out = scale * f32::from(q) - min;
        }
    }
}

fn q6_k(data: &[u8], out: &mut [f32]) {
    let (low, high, scales, d) = (&data[..128], &data[128..192], &data[192..208], half(data, 208));
    for (i, out) in out.iter_mut().enumerate() {
        // Each half of 128 numbers is four runs of 32: the runs share the bytes of `low` in pairs and of `high` in fours.
        let (half, run, l) = (i / 128, i % 128 / 32, i % 32);
        let byte = low[half * 64 + run % 2 * 32 + l];
        let four = if run < 2 { byte & 15 } else { byte >> 4 };
        let two = high[half * 32 + l] >> (2 * run) & 3;
        let scale = f32::from(scales[i / 16] as i8);
        *out = d * scale * f32::from((four | two << 4) as i8 - 32);
    }
}

/// The two bits of number `i` of a super-block: each 32 bytes hold four runs of 32.
fn two_bits(quants: &[u8], i: usize) -> u8 {
    quants[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

fn q2_k(data: &[u8], out: &mut [f32]) {
    let (scales, quants, d, dmin) = (&data[..16], &data[16..80], half(data, 80), half(data, 82));
    for (i, out) in out.iter_mut().enumerate() {
        let packed = scales[i / 16];
        *out = d * f32::from(packed & 15) * f32::from(two_bits(quants, i)) - dmin * f32::from(packed >> 4);
    }
}

/// The scale of group `j` (of 16) of a Q3_K block: six bits, of which the high two of four groups share a byte.
pub(crate) fn q3_k_scale(packed: &[u8], j: usize) -> i8 {
    let low = if j < 8 { packed[j] & 15 } else { packed[j - 8] >> 4 };
    (low | (packed[8 + j % 4] >> (j / 4 * 2) & 3) << 4) as i8 - 32
}

fn q3_k(data: &[u8], out: &mut [f32]) {
    let (high, quants, scales, d) = (&data[..32], &data[32..96], &data[96..108], half(data, 108));
    for (i, out) in out.iter_mut().enumerate() {
        // Where the third bit is not set, four is taken off.
        let third = (high[i % 32] >> (i / 32) & 1) << 2;
        let q = (two_bits(quants, i) | third) as i8 - 4;
        *out = d * f32::from(q3_k_scale(scales, i / 16)) * f32::from(q);
    }
}

fn iq4_nl(data: &[u8], out: &mut [f32]) {
    from_list(half(data, 0), &data[2..], out);
}

/// 32 numbers from the list, times a scale.
fn from_list(scale: f32, quants: &[u8], out: &mut [f32]) {
    for (i, &byte) in quants.iter().enumerate() {
        out[i] = scale * f32::from(IQ4_LIST[usize::from(byte & 15)]);
        out[i + 16] = scale * f32::from(IQ4_LIST[usize::from(byte >> 4)]);
    }
}

/// The scale of run `j` (of 8) of an IQ4_XS block, whose `data` this is.
pub(crate) fn iq4_xs_scale(data: &[u8], j: usize) -> i8 {
    let high = u16::from_le_bytes([data[2], data[3]]);
    let low = data[4 + j / 2] >> (j % 2 * 4) & 15;
    (low | ((high >> (2 * j) & 3) as u8) << 4) as i8 - 32
}

fn iq4_xs(data: &[u8], out: &mut [f32]) {
    for (j, out) in out.chunks_exact_mut(32).enumerate() {
        from_list(half(data, 0) * f32::from(iq4_xs_scale(data, j)), &data[8 + j * 16..][..16], out);
    }
}
