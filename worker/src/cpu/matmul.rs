//! Rows times a matrix, one tile of 16 outputs and up to eight rows a call.
//!
//! `out[r][o] = sum over runs of (dot of bytes) * scale * row scale + min * row sum`, the runs in order: the same
//! operations for one row as for eight, so a row's result does not depend on its company.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;

use super::acts::{ActRun, Acts, Dense, GROUP};
use super::blocks::RUN;
use super::isa::Isa;
use super::lanes::Lanes;
use super::tile::{Kind, Matrix};

/// Results of a group of rows: `[row][output]`.
pub(crate) type Out = [Lanes; GROUP];

/// A quantised tile and the rows that meet it.
#[derive(Clone, Copy)]
struct Quantised<'a> {
    /// Runs, as `tile` describes them.
    tile: &'a [u8],
    rows: &'a [ActRun],
    /// Value that stands for 0; ignored where there are minima.
    zero: f32,
    /// What is read after this tile: its bytes are asked for meanwhile.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "plain Rust cannot ask"))]
    ahead: *const u8,
}

/// A dense tile and the rows that meet it.
#[derive(Clone, Copy)]
struct Floats<'a> {
    tile: &'a [u8],
    rows: &'a [Dense],
}

/// Multiplies `rows` (1..=8) rows of group `group` with tile `tile`. `ahead` is a tile that is read soon after, a hint.
#[inline]
#[allow(clippy::too_many_arguments, reason = "a tile, rows, and where to")]
pub(crate) fn tile(
    isa: Isa,
    matrix: &Matrix,
    tile: usize,
    acts: &Acts,
    group: usize,
    rows: usize,
    ahead: *const u8,
    out: &mut Out,
) {
    debug_assert!(acts.width == matrix.width && (1..=GROUP).contains(&rows));
    let tile = matrix.tile(tile);
    if matrix.kind.is_quantised() {
        let runs = matrix.width / RUN;
        let zero = f32::from(matrix.kind.zero().unwrap_or(0));
        quantised(
            isa,
            matrix.kind,
            Quantised { tile, rows: &acts.runs[group * runs..][..runs], zero, ahead },
            rows,
            out,
        );
    } else {
        let rows_in = &acts.dense[group * matrix.width..][..matrix.width];
        floats(isa, matrix.kind, Floats { tile, rows: rows_in }, rows, out);
    }
}

#[inline]
fn quantised(isa: Isa, kind: Kind, call: Quantised<'_>, rows: usize, out: &mut Out) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa` holds what the processor was found to have; the tile has the layout of its kind.
        Isa::Avx512 { .. } => unsafe { avx512::quantised(kind, call, rows, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::quantised(kind, call, rows, out) },
        Isa::Plain => plain::quantised(kind, call, rows, out),
    }
}

#[inline]
fn floats(isa: Isa, kind: Kind, call: Floats<'_>, rows: usize, out: &mut Out) {
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Isa` holds what the processor was found to have; the tile has the layout of its kind.
        Isa::Avx512 { .. } => unsafe { avx512::floats(kind, call, rows, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx2 => unsafe { avx2::floats(kind, call, rows, out) },
        Isa::Plain => plain::floats(kind, call, rows, out),
    }
}

/// Asks for `len` bytes of a tile that is read soon, to be had from the second-level cache.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn fetch(ahead: *const u8, at: usize, len: usize) {
    if !ahead.is_null() {
        for line in (at.next_multiple_of(64)..at + len).step_by(64) {
            // SAFETY: a hint.
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(ahead.wrapping_add(line).cast())
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
use for_rows;

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
use entries;

#[cfg(test)]
mod tests;
