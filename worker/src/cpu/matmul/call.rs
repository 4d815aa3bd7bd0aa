//! What kernels of products are called with, and the macros that their files are made with.

use crate::cpu::activations::{ActivationRun, Dense, GROUP};
use crate::ops::vector::Lanes;

/// Results of a group of rows: `[row][output]`.
pub(crate) type Out = [Lanes; GROUP];

/// A quantised tile and the rows that it multiplies.
#[derive(Clone, Copy)]
pub(super) struct Quantised<'a> {
    /// Runs, as `tile` describes them.
    pub(super) tile: &'a [u8],
    pub(super) rows: &'a [ActivationRun],
    /// Value that stands for 0; ignored where there are minima.
    pub(super) zero: f32,
    /// What is read after this tile: its bytes are asked for meanwhile.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "plain Rust cannot ask"))]
    pub(super) prefetch: *const u8,
}

/// A dense tile and the rows that it multiplies.
#[derive(Clone, Copy)]
pub(super) struct Floats<'a> {
    pub(super) tile: &'a [u8],
    pub(super) rows: &'a [Dense],
}

/// Asks for `len` bytes of a tile that is read soon, to be had from the second-level cache.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn fetch(prefetch: *const u8, at: usize, len: usize) {
    if !prefetch.is_null() {
        for line in (at.next_multiple_of(64)..at + len).step_by(64) {
            // SAFETY: a hint.
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(
                    prefetch.wrapping_add(line).cast(),
                )
            };
        }
    }
}

/// Calls `$kernel::<R, ..>` with the number of rows as a constant, so that all sums live in registers.
#[cfg(target_arch = "x86_64")]
macro_rules! for_rows {
    ($rows:expr, $kernel:ident :: <$($arg:tt),*> ($($value:expr),*)) => {
        match $rows {
            1 => $kernel::<1, $($arg),*>($($value),*),
            2 => $kernel::<2, $($arg),*>($($value),*),
            3 => $kernel::<3, $($arg),*>($($value),*),
            4 => $kernel::<4, $($arg),*>($($value),*),
            5 => $kernel::<5, $($arg),*>($($value),*),
            6 => $kernel::<6, $($arg),*>($($value),*),
            7 => $kernel::<7, $($arg),*>($($value),*),
            8 => $kernel::<8, $($arg),*>($($value),*),
            other => unreachable!("{other} rows in one call"),
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use for_rows;

/// The entries of a file of vector kernels: `runs::<R, NIBBLES, MINS, HALVES>` for quantised tiles and
/// `inputs::<R, TYPE>` for dense ones (0 float32, 1 float16, 2 bfloat16), compiled for the features.
#[cfg(target_arch = "x86_64")]
macro_rules! entries {
    ($features:literal) => {
        /// # Safety
        /// The processor has the features, and the tile has the layout of `kind` for as many runs as there are.
        #[target_feature(enable = $features)]
        pub(super) unsafe fn quantised(kind: Kind, call: Quantised<'_>, rows: usize, out: &mut Out) {
            // SAFETY: the caller vouches for both.
            unsafe {
                match kind {
                    Kind::NibbleMin => for_rows!(rows, runs::<true, true, false>(call, out)),
                    Kind::Nibble => for_rows!(rows, runs::<true, false, false>(call, out)),
                    Kind::ByteMin => for_rows!(rows, runs::<false, true, false>(call, out)),
                    Kind::Byte { .. } => for_rows!(rows, runs::<false, false, false>(call, out)),
                    Kind::ByteHalves => for_rows!(rows, runs::<false, false, true>(call, out)),
                    Kind::F32 | Kind::F16 | Kind::BF16 => unreachable!("{kind:?} is not quantised"),
                }
            }
        }

        /// # Safety
        /// As of [`quantised`].
        #[target_feature(enable = $features)]
        pub(super) unsafe fn floats(kind: Kind, call: Floats<'_>, rows: usize, out: &mut Out) {
            // SAFETY: the caller vouches for both.
            unsafe {
                match kind {
                    Kind::F32 => for_rows!(rows, inputs::<0>(call, out)),
                    Kind::F16 => for_rows!(rows, inputs::<1>(call, out)),
                    Kind::BF16 => for_rows!(rows, inputs::<2>(call, out)),
                    Kind::NibbleMin | Kind::Nibble | Kind::ByteMin | Kind::Byte { .. } | Kind::ByteHalves => {
                        unreachable!("{kind:?} is quantised")
                    }
                }
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use entries;
