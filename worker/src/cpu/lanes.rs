//! Arithmetic on sixteen numbers at a time, in plain Rust. Every function is inlined into its caller, so compiled
//! inside a `#[target_feature]` function it becomes that instruction set's code, and all of them give the same bits:
//! no fused operation is used here.

pub(crate) const LANES: usize = 16;
pub(crate) type Lanes = [f32; LANES];

#[inline(always)]
pub(crate) fn load(from: &[f32]) -> Lanes {
    let mut v = [0.0; LANES];
    v.copy_from_slice(&from[..LANES]);
    v
}

#[inline(always)]
pub(crate) fn map(a: Lanes, f: impl Fn(f32) -> f32) -> Lanes {
    let mut out = a;
    for lane in &mut out {
        *lane = f(*lane);
    }
    out
}

#[inline(always)]
pub(crate) fn zip(a: Lanes, b: Lanes, f: impl Fn(f32, f32) -> f32) -> Lanes {
    let mut out = a;
    for (lane, b) in out.iter_mut().zip(b) {
        *lane = f(*lane, b);
    }
    out
}

/// Reduces in a fixed order: halves onto each other.
#[inline(always)]
pub(crate) fn fold(mut a: Lanes, f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            a[i] = f(a[i], a[i + width]);
        }
        width /= 2;
    }
    a[0]
}

#[inline(always)]
pub(crate) fn sum(a: Lanes) -> f32 {
    fold(a, |x, y| x + y)
}

/// The greater one; unlike `f32::max` it compiles to one instruction. Of a NaN it makes the second.
#[inline(always)]
pub(crate) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Adding and subtracting this rounds to the nearest whole number, ties to even, for |x| < 2^22.
const ROUND: f32 = 12_582_912.0;

/// Nearest whole number as an integer, for |x| < 2^22.
#[inline(always)]
pub(crate) fn nearest(x: f32) -> i32 {
    (x + ROUND).to_bits() as i32 - ROUND.to_bits() as i32
}

/// 2^x within 2 units in the last place; exactly 1 at 0 and exactly 0 below -126.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let clamped = if x < 127.0 { x } else { 127.0 };
    let clamped = if clamped > -126.0 { clamped } else { -126.0 };
    let whole = nearest(clamped);
    let f = clamped - whole as f32;
    // Taylor series of 2^f about 0; |f| <= 1/2 leaves 2e-8.
    let mut p = 1.525_273_3e-5_f32;
    p = p * f + 1.540_353e-4;
    p = p * f + 1.333_355_8e-3;
    p = p * f + 9.618_129e-3;
    p = p * f + 5.550_411e-2;
    p = p * f + 2.402_265e-1;
    p = p * f + 6.931_472e-1;
    p = p * f + 1.0;
    let scale = f32::from_bits(((whole + 127) << 23) as u32);
    if x > -126.0 { p * scale } else { 0.0 }
}

#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    exp2(x * std::f32::consts::LOG2_E)
}

/// x times the logistic function of x.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Nearest bf16, ties to even. NaN stays NaN.
#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    if bits & 0x7fff_ffff > 0x7f80_0000 { 0x7fc0 } else { rounded }
}

#[inline(always)]
pub(crate) fn from_bf16(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_accurate_and_exact_where_softmax_needs_it() {
        assert_eq!(exp2(0.0), 1.0);
        assert_eq!(exp2(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp2(-3.0), 0.125);
        for i in -12_000..12_000 {
            let x = i as f32 * 0.0103;
            let want = f64::from(x).exp2();
            let error = (f64::from(exp2(x)) - want).abs() / want;
            assert!(error < 2.5e-7, "2^{x}: relative error {error}");
        }
    }

    #[test]
    fn bf16_rounds_to_nearest_even() {
        for x in [0.0, 1.0, -1.5, 3.140_625_2, 1.003_906_3, 1.011_718_8, f32::INFINITY, 1e-40] {
            assert_eq!(to_bf16(x), half::bf16::from_f32(x).to_bits(), "{x}");
        }
        assert!(from_bf16(to_bf16(f32::NAN)).is_nan());
    }
}
