//! Which instruction set the kernels run on, found at run time.

use std::fmt;

/// An instruction set that this processor has: only [`Isa::all`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isa {
    /// AVX-512 with VNNI, its bf16 dot products if `bf16`, and the tiles of AMX if `amx`.
    #[cfg(target_arch = "x86_64")]
    Avx512 {
        bf16: bool,
        amx: bool,
    },
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

impl Isa {
    /// What this processor has, best first.
    pub(crate) fn all() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vnni");
            if avx2 && avx512 {
                if is_x86_feature_detected!("avx512bf16") {
                    if super::amx::is_available() {
                        found.push(Self::Avx512 { bf16: true, amx: true });
                    }
                    found.push(Self::Avx512 { bf16: true, amx: false });
                }
                found.push(Self::Avx512 { bf16: false, amx: false });
            }
            if avx2 {
                found.push(Self::Avx2);
            }
        }
        found.push(Self::Plain);
        found
    }

    pub(crate) fn best() -> Self {
        Self::all()[0]
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 { amx: true, .. } => "avx512-amx",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 { bf16: true, .. } => "avx512-vnni-bf16",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 { .. } => "avx512-vnni",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            Self::Plain => "plain",
        })
    }
}

/// Defines functions that compile an `#[inline(always)]` body, generic over [`crate::ops::vector::Vector`], once per
/// instruction set.
macro_rules! per_isa {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) = $body:ident;) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments, reason = "the body's arguments and the instruction set")]
        $vis fn $name(isa: $crate::cpu::isa::Isa, $($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma")]
            fn avx512($($arg: $type),*) {
                $body::<$crate::cpu::x86::Zmm>($($arg),*)
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                $body::<$crate::cpu::x86::Ymms>($($arg),*)
            }
            match isa {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Isa` holds what the processor was found to have.
                $crate::cpu::isa::Isa::Avx512 { .. } => unsafe { avx512($($arg),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::cpu::isa::Isa::Avx2 => unsafe { avx2($($arg),*) },
                $crate::cpu::isa::Isa::Plain => $body::<$crate::ops::vector::Lanes>($($arg),*),
            }
        }
    };
}
pub(crate) use per_isa;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::test_inputs;
    use crate::ops::exp2::{exp2, silu};
    use crate::ops::vector::{LANES, Lanes, Vector};

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
            x.select_gt(x, y),
            exp2(x),
            silu(x),
            V::splat(a[3]),
        ];
        for vector in vectors {
            let mut lanes = [0.0; LANES];
            vector.store(&mut lanes);
            out.extend(lanes);
        }
        out.extend([x.sum(), x.max_abs(y)]);
        let mut bytes = [0; LANES];
        out.push(x.store_i8(&mut bytes) as f32);
        out.extend(bytes.map(f32::from));
    }

    per_isa! {
        fn all(a: &[f32], b: &[f32], out: &mut Vec<f32>) = all_body;
    }

    #[test]
    fn all_instruction_sets_give_the_same_bits() {
        let odd =
            [0.5, 1.5, -2.5, -0.0, 126.5, -127.0, 3.0, 1e-30, -1e-30, 64.0, 0.25, -7.5, 2.5, 100.49, -100.51, 0.0];
        let others = test_inputs::floats(LANES, 9);
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
                let max_abs = got[10 * LANES + 1];
                assert!(!max_abs.is_finite(), "{isa}: {max_abs}");
            }
        }
    }
}
