//! Weights in the one layout that all kernels read.
//!
//! A matrix `[outputs, inputs]` is cut into tiles of 16 outputs. A tile is contiguous and runs along the inputs, its
//! outputs lie in the vector lanes, so every output is one sequential sum whose order does not depend on how many rows
//! are multiplied at once. A quantised tile is a row of runs of 32 inputs: 8 groups of 16
//! outputs x 4 inputs, one byte each (the operand of a 4-way byte dot product; with four-bit weights group j shares its
//! bytes with group j + 4), then the run's scales, 16 half floats each, then its minima. A dense tile holds 16 outputs
//! of one input after the other. Tiles follow one another, so a product reads memory straight through.

use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};

use super::blocks::{self, RUN};
use super::buffer::{Buffer, Shared};
use super::pool::Pool;
use crate::model::{DType, Tensor, dequantize};
use crate::ops::vector::LANES;

/// Element layout of a tile, as the kernels tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Four bits, scales and minima.
    NibbleMin,
    /// Four bits, zero point 8.
    Nibble,
    /// A byte, scales and minima.
    ByteMin,
    /// A byte, a zero point: 16 or 128.
    Byte {
        zero: u8,
    },
    /// A byte, zero point 32, two scales per run.
    ByteHalves,
    F32,
    F16,
    BF16,
}

impl Kind {
    fn of(dtype: DType) -> Self {
        match blocks::scheme(dtype) {
            Some(scheme) => match (scheme.nibbles, scheme.zero) {
                (true, None) => Kind::NibbleMin,
                (true, Some(_)) => Kind::Nibble,
                (false, None) => Kind::ByteMin,
                (false, Some(_)) if scheme.halves => Kind::ByteHalves,
                (false, Some(zero)) => Kind::Byte { zero },
            },
            None if dtype == DType::F32 => Kind::F32,
            None if matches!(dtype, DType::F16 | DType::Q2K) => Kind::F16,
            None => Kind::BF16,
        }
    }

    /// Whether rows must be quantised to meet it.
    pub(crate) fn is_quantised(self) -> bool {
        !matches!(self, Kind::F32 | Kind::F16 | Kind::BF16)
    }

    /// Bytes of weights, scales and minima per run of 32 inputs (16 outputs).
    fn run_bytes(self) -> (usize, usize, usize) {
        match self {
            Kind::NibbleMin => run_bytes(true, true, false),
            Kind::Nibble => run_bytes(true, false, false),
            Kind::ByteMin => run_bytes(false, true, false),
            Kind::Byte { .. } => run_bytes(false, false, false),
            Kind::ByteHalves => run_bytes(false, false, true),
            Kind::F32 => (RUN * LANES * 4, 0, 0),
            Kind::F16 | Kind::BF16 => (RUN * LANES * 2, 0, 0),
        }
    }
}

/// Bytes of the weights, scales and minima of a quantised run.
pub(crate) const fn run_bytes(nibbles: bool, mins: bool, halves: bool) -> (usize, usize, usize) {
    const SCALES: usize = LANES * 2;
    (
        if nibbles { RUN * LANES / 2 } else { RUN * LANES },
        if halves { 2 * SCALES } else { SCALES },
        if mins { SCALES } else { 0 },
    )
}

/// A repacked weight matrix.
pub(crate) struct Matrix {
    pub(crate) kind: Kind,
    pub(crate) outputs: usize,
    /// As in the file.
    inputs: usize,
    /// Inputs with zeros added up to whole runs: the width of the rows that it multiplies.
    pub(crate) width: usize,
    tile_bytes: usize,
    /// Shared with the matrices that were packed with it.
    data: Arc<Buffer<u8>>,
    /// Where its first tile begins.
    start: usize,
}

impl fmt::Debug for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Matrix({:?}, {} x {})", self.kind, self.outputs, self.inputs)
    }
}

impl Matrix {
    /// Repacks `tensor`, whose shape and length were checked when the model was opened.
    pub(crate) fn pack(tensor: &Tensor<'_>, pool: &mut Pool) -> Self {
        let mut data = Buffer::new(packed_bytes(tensor));
        pack_tiles(tensor, &data.shared(), 0, pool);
        Self::packed(tensor, Arc::new(data), 0)
    }

    /// The same of several, one behind the other in memory: small ones get huge pages together.
    pub(crate) fn pack_all(tensors: &[Tensor<'_>], pool: &mut Pool) -> Vec<Self> {
        let mut data = Buffer::new(tensors.iter().map(packed_bytes).sum());
        let mut starts = Vec::with_capacity(tensors.len());
        let mut start = 0;
        for tensor in tensors {
            starts.push(start);
            pack_tiles(tensor, &data.shared(), start, pool);
            start += packed_bytes(tensor);
        }
        let data = Arc::new(data);
        tensors.iter().zip(starts).map(|(tensor, start)| Self::packed(tensor, Arc::clone(&data), start)).collect()
    }

    fn packed(tensor: &Tensor<'_>, data: Arc<Buffer<u8>>, start: usize) -> Self {
        let (outputs, inputs) = (tensor.shape[0], tensor.shape[1]);
        let (kind, width) = (Kind::of(tensor.dtype), inputs.next_multiple_of(RUN));
        Self { kind, outputs, inputs, width, tile_bytes: tile_bytes(tensor), data, start }
    }

    pub(crate) fn tiles(&self) -> usize {
        self.outputs.div_ceil(LANES)
    }

    pub(crate) fn tile(&self, tile: usize) -> &[u8] {
        &self.data[self.start + tile * self.tile_bytes..][..self.tile_bytes]
    }

    pub(crate) fn tile_bytes(&self) -> usize {
        self.tile_bytes
    }

    /// The weights of one output, in float32: an embedding, when the matrix holds one per output.
    pub(crate) fn row(&self, output: usize, out: &mut [f32]) {
        let (bytes, lane) = (self.tile(output / LANES), output % LANES);
        for (i, out) in out[..self.inputs].iter_mut().enumerate() {
            *out = self.weight(bytes, lane, i);
        }
    }

    fn weight(&self, tile: &[u8], lane: usize, i: usize) -> f32 {
        let two = |at: usize| [tile[at], tile[at + 1]];
        let dense = i * LANES + lane;
        match self.kind {
            Kind::F32 => {
                let at = dense * 4;
                return f32::from_le_bytes([tile[at], tile[at + 1], tile[at + 2], tile[at + 3]]);
            }
            Kind::F16 => return f16::from_le_bytes(two(dense * 2)).to_f32(),
            Kind::BF16 => return bf16::from_le_bytes(two(dense * 2)).to_f32(),
            Kind::NibbleMin | Kind::Nibble | Kind::ByteMin | Kind::Byte { .. } | Kind::ByteHalves => {}
        }
        let (weights, scales, mins) = self.kind.run_bytes();
        let (inner, stride) = (i % RUN, weights + scales + mins);
        let run = &tile[i / RUN * stride..][..stride];
        let two = |at: usize| f16::from_le_bytes([run[at + lane * 2], run[at + lane * 2 + 1]]).to_f32();
        let (group, at) = (inner / 4, lane * 4 + inner % 4);
        let q = f32::from(match weights == RUN * LANES {
            true => run[at + group * 64],
            false => run[at + group % 4 * 64] >> (group / 4 * 4) & 15,
        });
        let scale = two(weights + if scales > LANES * 2 { inner / 16 * LANES * 2 } else { 0 });
        match self.kind.zero() {
            Some(zero) => (q - f32::from(zero)) * scale,
            None => q * scale + two(weights + scales),
        }
    }
}

impl Kind {
    /// The number that stands for 0; none if there are minima or floats.
    pub(crate) fn zero(self) -> Option<u8> {
        match self {
            Kind::Nibble => Some(8),
            Kind::Byte { zero } => Some(zero),
            Kind::ByteHalves => Some(32),
            Kind::NibbleMin | Kind::ByteMin | Kind::F32 | Kind::F16 | Kind::BF16 => None,
        }
    }
}

fn tile_bytes(tensor: &Tensor<'_>) -> usize {
    let (weights, scales, mins) = Kind::of(tensor.dtype).run_bytes();
    (tensor.shape[1].div_ceil(RUN) * (weights + scales + mins)).next_multiple_of(64)
}

fn packed_bytes(tensor: &Tensor<'_>) -> usize {
    tensor.shape[0].div_ceil(LANES) * tile_bytes(tensor)
}

/// Repacks a matrix into its tiles, which begin at byte `start` of `out`.
fn pack_tiles(tensor: &Tensor<'_>, out: &Shared<'_, u8>, start: usize, pool: &mut Pool) {
    let (outputs, inputs) = (tensor.shape[0], tensor.shape[1]);
    let (kind, tile_bytes, row_bytes) = (Kind::of(tensor.dtype), tile_bytes(tensor), tensor.data.len() / outputs);
    pool.run(outputs.div_ceil(LANES), &|tile| {
        // SAFETY: each tile is a range of its own.
        let bytes = unsafe { out.part(start + tile * tile_bytes, tile_bytes) };
        for lane in 0..LANES.min(outputs - tile * LANES) {
            let row = &tensor.data[(tile * LANES + lane) * row_bytes..][..row_bytes];
            if tensor.dtype == DType::Q2K {
                pack_row(DType::F16, kind, &expanded(DType::Q2K, row, inputs), inputs, bytes, lane);
            } else {
                pack_row(tensor.dtype, kind, row, inputs, bytes, lane);
            }
        }
    });
}

/// A row as half floats.
fn expanded(dtype: DType, row: &[u8], inputs: usize) -> Vec<u8> {
    let mut numbers = vec![0.0; inputs];
    // The length was checked when the model was opened.
    dequantize(dtype, row, &mut numbers).ok();
    numbers.into_iter().flat_map(|x| f16::from_f32(x).to_le_bytes()).collect()
}

fn pack_row(dtype: DType, kind: Kind, row: &[u8], inputs: usize, tile: &mut [u8], lane: usize) {
    if !kind.is_quantised() {
        let bytes = row.len() / inputs;
        for i in 0..inputs {
            tile[(i * LANES + lane) * bytes..][..bytes].copy_from_slice(&row[i * bytes..][..bytes]);
        }
        return;
    }
    let (weights, scales, mins) = kind.run_bytes();
    let put = |run: &mut [u8], at: usize, x: f32| {
        run[at + lane * 2..][..2].copy_from_slice(&f16::from_f32(x).to_le_bytes());
    };
    let mut out_runs = tile.chunks_exact_mut(weights + scales + mins);
    blocks::runs(dtype, row, |run| {
        let Some(out) = out_runs.next() else { unreachable!("a row has the tile's width") };
        if weights == RUN * LANES {
            for (group, four) in run.q.chunks_exact(4).enumerate() {
                out[group * 64 + lane * 4..][..4].copy_from_slice(four);
            }
        } else {
            let (low, high) = run.q.split_at(RUN / 2);
            for (group, (low, high)) in low.chunks_exact(4).zip(high.chunks_exact(4)).enumerate() {
                for (out, (low, high)) in out[group * 64 + lane * 4..][..4].iter_mut().zip(low.iter().zip(high)) {
                    *out = low | high << 4;
                }
            }
        }
        for half in 0..scales / (LANES * 2) {
            put(out, weights + half * LANES * 2, run.scale[half]);
        }
        if mins > 0 {
            put(out, weights + scales, run.min);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::test_inputs;

    #[test]
    fn a_packed_matrix_gives_back_the_weights_of_the_file() {
        let mut pool = Pool::new(2).unwrap();
        for dtype in DType::ALL {
            let (outputs, inputs) = (37, 512);
            let data = test_inputs::weights(dtype, outputs * inputs, 1);
            let tensor = Tensor { dtype, shape: vec![outputs, inputs], data: &data };
            let mut want = vec![0.0; outputs * inputs];
            dequantize(dtype, &data, &mut want).unwrap();
            let matrix = Matrix::pack(&tensor, &mut pool);
            let mut got = vec![0.0; inputs];
            // Products of the super-block formats' scales are rounded to half precision.
            let rounding =
                if matches!(dtype, DType::Q2K | DType::Q3K | DType::Q4K | DType::Q5K | DType::Q6K | DType::Iq4Xs) {
                    1e-3
                } else {
                    1e-7
                };
            for (output, want) in want.chunks_exact(inputs).enumerate() {
                matrix.row(output, &mut got);
                let max = want.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
                for (got, want) in got.iter().zip(want) {
                    assert!((got - want).abs() <= rounding * max, "{dtype:?}: {got}, not {want}");
                }
            }
        }
    }

    #[test]
    fn matrices_packed_together_are_those_packed_alone() {
        let mut pool = Pool::new(2).unwrap();
        let types = [DType::Q4K, DType::Q6K, DType::BF16];
        let data: Vec<_> = types.iter().map(|&dtype| test_inputs::weights(dtype, 37 * 512, 3)).collect();
        let tensors: Vec<_> =
            types.iter().zip(&data).map(|(&dtype, data)| Tensor { dtype, shape: vec![37, 512], data }).collect();
        for (tensor, together) in tensors.iter().zip(Matrix::pack_all(&tensors, &mut pool)) {
            let alone = Matrix::pack(tensor, &mut pool);
            assert_eq!((together.kind, together.tiles()), (alone.kind, alone.tiles()));
            assert!((0..3).all(|tile| together.tile(tile) == alone.tile(tile)), "{together:?}");
        }
    }

    #[test]
    fn dense_rows_of_odd_width_are_padded_with_zeros() {
        let data = test_inputs::weights(DType::F32, 3 * 44, 2);
        let tensor = Tensor { dtype: DType::F32, shape: vec![3, 44], data: &data };
        let matrix = Matrix::pack(&tensor, &mut Pool::new(1).unwrap());
        assert_eq!((matrix.width, matrix.tiles()), (64, 1));
        assert!(matrix.tile(0)[44 * LANES * 4..].iter().all(|byte| *byte == 0));
    }
}
