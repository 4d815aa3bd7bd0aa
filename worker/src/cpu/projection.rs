//! Rows times whole matrices, on all threads.

use std::ops::Range;

use super::activations::{Activations, GROUP};
use super::buffer::Shared;
use super::isa::Isa;
use super::matmul::{self, Out};
use super::partition::{TileRange, for_tiles};
use super::pool::Pool;
use crate::ops::vector::{LANES, Lanes};

/// Takes what a tile gave: which matrix, which of its outputs, the first row, the results of the rows.
type Each<'a> = dyn Fn(usize, Range<usize>, usize, &[Lanes]) + Sync + 'a;

/// Multiplies rows with the matrices of the first range.
pub(crate) fn multiply(
    pool: &mut Pool,
    isa: Isa,
    ranges: [TileRange<'_>; 2],
    activations: &Activations,
    rows: usize,
    each: &Each<'_>,
) {
    for_tiles(pool, ranges, rows, &|unit, groups, prefetch| {
        let Some((part, matrix, tile)) = ranges[0].tile(unit, 0) else { unreachable!("a unit of the range") };
        let outputs = tile * LANES..matrix.outputs.min(tile * LANES + LANES);
        let mut out: Out = [[0.0; LANES]; GROUP];
        for group in groups {
            let here = GROUP.min(rows - group * GROUP);
            matmul::tile(isa, matrix, tile, activations, group, here, prefetch.tile(0, group), &mut out);
            each(part, outputs.clone(), group * GROUP, &out[..here]);
        }
    });
}

/// Adds the products of rows with the one matrix of the first range, and its bias if there is one, to `x`, `[row][output]`.
pub(crate) fn add_to_residual(
    pool: &mut Pool,
    isa: Isa,
    ranges: [TileRange<'_>; 2],
    activations: &Activations,
    rows: usize,
    bias: &[f32],
    x: Shared<'_, f32>,
) {
    let Some((_, matrix, _)) = ranges[0].tile(0, 0) else { return };
    multiply(pool, isa, ranges, activations, rows, &|_, outputs, first_row, results| {
        for (row, result) in results.iter().enumerate() {
            // SAFETY: this call alone has these outputs of these rows.
            let x = unsafe { x.part((first_row + row) * matrix.outputs + outputs.start, outputs.len()) };
            x.iter_mut().zip(result).for_each(|(x, result)| *x += result);
            if let Some(bias) = bias.get(outputs.clone()) {
                x.iter_mut().zip(bias).for_each(|(x, bias)| *x += bias);
            }
        }
    });
}
