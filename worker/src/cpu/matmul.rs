//! Rows times a matrix, one tile of 16 outputs and up to eight rows a call.
//!
//! `out[r][o] = sum over runs of (dot of bytes) * scale * row scale + min * row sum`, the runs in order: the same
//! operations for one row as for eight, so a row's result does not depend on its company.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod call;
mod plain;

pub(crate) use self::call::Out;
use self::call::{Floats, Quantised};
use super::activations::{Activations, GROUP};
use super::blocks::RUN;
use super::isa::Isa;
use super::matrix::{Kind, Matrix};

/// Multiplies `rows` (1..=8) rows of group `group` with tile `tile`. `prefetch` is a tile that is read soon after, a hint.
#[inline]
#[allow(clippy::too_many_arguments, reason = "a tile, rows, and where to")]
pub(crate) fn tile(
    isa: Isa,
    matrix: &Matrix,
    tile: usize,
    activations: &Activations,
    group: usize,
    rows: usize,
    prefetch: *const u8,
    out: &mut Out,
) {
    debug_assert!(activations.width == matrix.width && (1..=GROUP).contains(&rows));
    let tile = matrix.tile(tile);
    if matrix.kind.is_quantised() {
        let runs = matrix.width / RUN;
        let zero = f32::from(matrix.kind.zero().unwrap_or(0));
        quantised(
            isa,
            matrix.kind,
            Quantised { tile, rows: &activations.runs[group * runs..][..runs], zero, prefetch },
            rows,
            out,
        );
    } else {
        let rows_in = &activations.dense[group * matrix.width..][..matrix.width];
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

#[cfg(test)]
mod tests;
