//! The first half of a feed-forward layer: the activation of the gate times up, for rows of one group.

use super::activations::{Activations, GROUP, Sink};
use super::blocks::RUN;
use super::isa::Isa;
use super::matmul::{self, Out};
use super::matrix::Matrix;
use super::norm;
use crate::model::Activation;
use crate::ops::vector::LANES;

/// What all units of a layer share.
#[derive(Clone, Copy)]
pub(crate) struct GateUp<'a> {
    pub(crate) isa: Isa,
    pub(crate) activation: Activation,
    /// Of gate and up: whole runs.
    pub(crate) biases: [&'a [f32]; 2],
    pub(crate) input: &'a Activations,
    pub(crate) sink: Sink<'a>,
}

impl GateUp<'_> {
    /// Stores outputs `unit * 32` and the 31 behind it of the first `rows` rows of group `group`. `prefetch` gives what is read
    /// soon after each of the four tiles.
    pub(crate) fn put(
        &self,
        matrices: [&Matrix; 2],
        unit: usize,
        group: usize,
        rows: usize,
        prefetch: impl Fn(usize) -> *const u8,
    ) {
        let mut outs: [[Out; 2]; 2] = [[[[0.0; LANES]; GROUP]; 2]; 2];
        for (at, (matrix, outs)) in matrices.into_iter().zip(&mut outs).enumerate() {
            for (half, (tile, out)) in (unit * 2..matrix.tiles()).zip(outs).enumerate() {
                matmul::tile(self.isa, matrix, tile, self.input, group, rows, prefetch(at * 2 + half), out);
            }
        }
        let [gate, up] = &outs;
        let biases = self.biases.map(|bias| &bias[unit * RUN..][..RUN]);
        let put = match self.activation {
            Activation::Silu => norm::silu_put,
            Activation::GeluTanh => norm::gelu_put,
        };
        for row in 0..rows {
            let halves = |[low, high]: &[Out; 2]| [low[row], high[row]];
            let (gate, up) = (halves(gate), halves(up));
            put(self.isa, gate.each_ref(), up.each_ref(), biases, &self.sink, group * GROUP + row, unit * RUN);
        }
    }
}
