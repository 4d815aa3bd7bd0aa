//! Arithmetic on sixteen numbers at a time. A body that is generic over [`Vector`] and always inlined is compiled once
//! per instruction set by `per_isa!`, and all of them give the same bits: no fused operation is used here.

#[cfg(target_arch = "x86_64")]
pub(super) mod x86;

pub(crate) const LANES: usize = 16;
pub(crate) type Lanes = [f32; LANES];

/// Adding this rounds |x| < 2^22 to the nearest whole number, ties to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

/// Sixteen numbers in the registers of one instruction set. The compiler makes scalars of loops over small arrays as
/// soon as several meet in one function, so the operations are spelled out.
pub(crate) trait Vector: Copy {
    fn splat(x: f32) -> Self;
    /// The first sixteen of `from`.
    fn load(from: &[f32]) -> Self;
    fn store(self, to: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// The less one, and `other` where one is NaN.
    fn min(self, other: Self) -> Self;
    /// The greater one, and `other` where one is NaN.
    fn max(self, other: Self) -> Self;
    /// Zero where `x` is not above `least`.
    fn where_above(self, x: Self, least: Self) -> Self;
    /// 2^n of n + [`ROUND`].
    fn power_of_rounded(self) -> Self;
    /// Reduces in a fixed order: halves onto each other.
    fn sum(self) -> f32;
    /// The greatest magnitude in both; a NaN is above all.
    fn magnitude(self, other: Self) -> f32;
    /// Rounds to whole numbers from -127 to 127, stores them and gives their sum.
    fn to_bytes(self, to: &mut [i8]) -> i32;
}

/// Plain Rust.
impl Vector for Lanes {
    #[inline(always)]
    fn splat(x: f32) -> Self {
        [x; LANES]
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        std::array::from_fn(|i| from[i])
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[..LANES].copy_from_slice(&self);
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] + other[i])
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] - other[i])
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] * other[i])
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        std::array::from_fn(|i| self[i] / other[i])
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        std::array::from_fn(|i| if self[i] < other[i] { self[i] } else { other[i] })
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        std::array::from_fn(|i| greater(self[i], other[i]))
    }

    #[inline(always)]
    fn where_above(self, x: Self, least: Self) -> Self {
        std::array::from_fn(|i| if x[i] > least[i] { self[i] } else { 0.0 })
    }

    #[inline(always)]
    fn power_of_rounded(self) -> Self {
        self.map(|x| f32::from_bits(x.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23))
    }

    #[inline(always)]
    fn sum(self) -> f32 {
        let mut sums = self;
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                sums[i] += sums[i + width];
            }
        }
        sums[0]
    }

    #[inline(always)]
    fn magnitude(self, other: Self) -> f32 {
        // As bits, which order magnitudes as the floats do and put NaN above all.
        let most = self.iter().chain(&other).fold(0, |most, x| x.to_bits().wrapping_shl(1).max(most));
        f32::from_bits(most >> 1)
    }

    #[inline(always)]
    fn to_bytes(self, to: &mut [i8]) -> i32 {
        let mut sum = 0;
        for (to, x) in to[..LANES].iter_mut().zip(self) {
            let whole = (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
            sum += whole;
            *to = whole as i8;
        }
        sum
    }
}

/// Taylor series of 2^f about 0, the highest power first; |f| <= 1/2 leaves 2e-8.
pub(crate) const EXP2: [f32; 8] =
    [1.525_273_3e-5, 1.540_353e-4, 1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1, 1.0];

/// 2^x within 2 units in the last place; exactly 1 at 0 and exactly 0 below -126.
#[inline(always)]
pub(crate) fn exp2<V: Vector>(x: V) -> V {
    let clamped = x.min(V::splat(127.0)).max(V::splat(-126.0));
    let rounded = clamped.add(V::splat(ROUND));
    let f = clamped.sub(rounded.sub(V::splat(ROUND)));
    let [first, rest @ ..] = EXP2;
    let mut p = V::splat(first);
    for next in rest {
        p = p.mul(f).add(V::splat(next));
    }
    p.mul(rounded.power_of_rounded()).where_above(x, V::splat(-126.0))
}

/// 2^x of a single number, with the bits that a vector's lane gets.
#[inline(always)]
pub(crate) fn exp2_one(x: f32) -> f32 {
    // The lanes have nothing to do with each other: the compiler drops all but one.
    exp2::<Lanes>([x; LANES])[0]
}

/// The greater one; unlike `f32::max` it compiles to one instruction. Of a NaN it makes the second.
#[inline(always)]
pub(crate) fn greater(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// x times the logistic function of x.
#[inline(always)]
pub(crate) fn silu<V: Vector>(x: V) -> V {
    let power = exp2(x.mul(V::splat(-std::f32::consts::LOG2_E)));
    x.div(V::splat(1.0).add(power))
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
    use crate::cpu::isa::{Isa, per_isa};

    #[test]
    fn exp2_is_accurate_and_exact_where_softmax_needs_it() {
        let exp2 = super::exp2_one;
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

    /// Every operation on two vectors, one after the other.
    #[inline(always)]
    fn all_body<V: Vector>(a: &[f32], b: &[f32], out: &mut Vec<f32>) {
        let (x, y) = (V::load(a), V::load(b));
        let vectors = [
            x.add(y),
            x.sub(y),
            x.mul(y),
            x.div(y),
            x.min(y),
            x.max(y),
            x.where_above(x, y),
            exp2(x),
            silu(x),
            V::splat(a[3]),
        ];
        for vector in vectors {
            let mut lanes = [0.0; LANES];
            vector.store(&mut lanes);
            out.extend(lanes);
        }
        out.extend([x.sum(), x.magnitude(y)]);
        let mut bytes = [0; LANES];
        out.push(x.to_bytes(&mut bytes) as f32);
        out.extend(bytes.map(f32::from));
    }

    per_isa! {
        fn all(a: &[f32], b: &[f32], out: &mut Vec<f32>) = all_body;
    }

    #[test]
    fn all_instruction_sets_give_the_same_bits() {
        let odd =
            [0.5, 1.5, -2.5, -0.0, 126.5, -127.0, 3.0, 1e-30, -1e-30, 64.0, 0.25, -7.5, 2.5, 100.49, -100.51, 0.0];
        let others = crate::cpu::twin::floats(LANES, 9);
        for (a, b) in [(&odd[..], &others[..]), (&others, &odd), (&odd, &odd)] {
            let mut want = Vec::new();
            all_body::<Lanes>(a, b, &mut want);
            for isa in Isa::all() {
                let mut got = Vec::new();
                all(isa, a, b, &mut got);
                let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&got), bits(&want), "{isa}: {got:?}, not {want:?}");
            }
        }
        for poison in [f32::NAN, -f32::NAN, f32::INFINITY] {
            let mut a = odd;
            a[11] = poison;
            for isa in Isa::all() {
                let mut got = Vec::new();
                all(isa, &a, &odd, &mut got);
                let magnitude = got[10 * LANES + 1];
                assert!(!magnitude.is_finite(), "{isa}: {magnitude}");
            }
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
