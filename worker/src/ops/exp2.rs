//! Powers of two, the same bits on every instruction set and, for the sampler, on every device.

use super::vector::{LANES, Lanes, ROUND, Vector};

/// Taylor series of 2^f about 0, the highest power first; |f| <= 1/2 leaves 2e-8.
pub(crate) const EXP2_POLYNOMIAL: [f32; 8] =
    [1.525_273_3e-5, 1.540_353e-4, 1.333_355_8e-3, 9.618_129e-3, 5.550_411e-2, 2.402_265e-1, 6.931_472e-1, 1.0];

/// 2^x within 2 units in the last place; exactly 1 at 0 and exactly 0 below -126.
#[inline(always)]
pub(crate) fn exp2<V: Vector>(x: V) -> V {
    let clamped = x.min(V::splat(127.0)).max(V::splat(-126.0));
    let rounded = clamped.add(V::splat(ROUND));
    let f = clamped.sub(rounded.sub(V::splat(ROUND)));
    let [first, rest @ ..] = EXP2_POLYNOMIAL;
    let mut p = V::splat(first);
    for next in rest {
        p = p.mul(f).add(V::splat(next));
    }
    p.mul(rounded.pow2_of_rounded()).select_gt(x, V::splat(-126.0))
}

/// 2^x of a single number, with the bits that a vector's lane gets.
#[inline(always)]
pub(crate) fn exp2_one(x: f32) -> f32 {
    // The lanes have nothing to do with each other: the compiler drops all but one.
    exp2::<Lanes>([x; LANES])[0]
}

/// x times the logistic function of x.
#[inline(always)]
pub(crate) fn silu<V: Vector>(x: V) -> V {
    let power = exp2(x.mul(V::splat(-std::f32::consts::LOG2_E)));
    x.div(V::splat(1.0).add(power))
}

/// Half of x times 1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)): x times the logistic function of twice that.
#[inline(always)]
pub(crate) fn gelu_tanh<V: Vector>(x: V) -> V {
    // Twice sqrt(2 / pi), to the base 2.
    const LINEAR: f32 = -1.595_769 * std::f32::consts::LOG2_E;
    let cubic = x.mul(x).mul(V::splat(LINEAR * 0.044_715)).add(V::splat(LINEAR));
    x.div(V::splat(1.0).add(exp2(x.mul(cubic))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_follows_its_formula() {
        for i in -1_000..1_000 {
            let x = i as f32 * 0.0103;
            let wide = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let want = 0.5 * wide * (1.0 + inner.tanh());
            assert!((f64::from(gelu_tanh::<Lanes>([x; LANES])[0]) - want).abs() < 1e-6, "gelu({x})");
        }
    }

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
}
