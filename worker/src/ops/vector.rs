//! Arithmetic on sixteen numbers at a time. The CPU device compiles a body that is generic over [`Vector`] and always
//! inlined once per instruction set, and all of them give the same bits: no fused operation is used here.

/// Numbers in a vector.
pub(crate) const LANES: usize = 16;
/// Sixteen numbers as plain Rust.
pub(crate) type Lanes = [f32; LANES];

/// Adding this rounds |x| < 2^22 to the nearest whole number, ties to even, in the low bits.
pub(crate) const ROUND: f32 = 12_582_912.0;

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
    fn select_gt(self, x: Self, least: Self) -> Self;
    /// 2^n of n + [`ROUND`].
    fn pow2_of_rounded(self) -> Self;
    /// Reduces in a fixed order: halves onto each other.
    fn sum(self) -> f32;
    /// The greatest magnitude in both; a NaN is above all.
    fn max_abs(self, other: Self) -> f32;
    /// Rounds to whole numbers from -127 to 127, stores them and gives their sum.
    fn store_i8(self, to: &mut [i8]) -> i32;
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
        std::array::from_fn(|i| max_num(self[i], other[i]))
    }

    #[inline(always)]
    fn select_gt(self, x: Self, least: Self) -> Self {
        std::array::from_fn(|i| if x[i] > least[i] { self[i] } else { 0.0 })
    }

    #[inline(always)]
    fn pow2_of_rounded(self) -> Self {
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
    fn max_abs(self, other: Self) -> f32 {
        // As bits, which order magnitudes as the floats do and put NaN above all.
        let max = self.iter().chain(&other).fold(0, |max, x| x.to_bits().wrapping_shl(1).max(max));
        f32::from_bits(max >> 1)
    }

    #[inline(always)]
    fn store_i8(self, to: &mut [i8]) -> i32 {
        let mut sum = 0;
        for (to, x) in to[..LANES].iter_mut().zip(self) {
            let whole = (x + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
            sum += whole;
            *to = whole as i8;
        }
        sum
    }
}

/// The greater one; unlike `f32::max` it compiles to one instruction. Of a NaN it makes the second.
#[inline(always)]
pub(crate) fn max_num(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}
