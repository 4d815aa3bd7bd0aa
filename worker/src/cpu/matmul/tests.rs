//! Every kernel against sums in float64 over the same rounded rows.

use super::*;
use crate::cpu::activations::Forms;
use crate::cpu::norm;
use crate::cpu::pool::Pool;
use crate::cpu::test_inputs;
use crate::model::{DType, Tensor};
use crate::ops::vector::LANES;

fn pack(dtype: DType, outputs: usize, inputs: usize) -> Matrix {
    let data = test_inputs::weights(dtype, outputs * inputs, (outputs + inputs) as u64);
    Matrix::pack(&Tensor { dtype, shape: vec![outputs, inputs], data: &data }, &mut Pool::new(1).unwrap())
}

fn rows(isa: Isa, x: &[f32], inputs: usize, width: usize) -> Activations {
    let mut activations = Activations::new(x.len() / inputs, width, Forms { quantised: true, dense: true });
    let sink = activations.sink();
    for (row, x) in x.chunks_exact(inputs).enumerate() {
        let mut padded = x.to_vec();
        padded.resize(width, 0.0);
        norm::put(isa, &padded, &sink, row);
    }
    activations
}

/// Row `row` as the matrix sees it.
fn rounded(activations: &Activations, quantised: bool, row: usize) -> Vec<f32> {
    let (group, lane) = (row / GROUP, row % GROUP);
    (0..activations.width)
        .map(|i| {
            let run = &activations.runs[(group * activations.width + i) / RUN];
            if quantised {
                f32::from(run.q[lane][i % RUN]) * run.scale[lane]
            } else {
                activations.dense[group * activations.width + i][lane]
            }
        })
        .collect()
}

#[test]
fn kernels_agree_with_their_reference() {
    for dtype in DType::ALL {
        for (count, outputs, inputs) in [(1, 1, 256), (3, 17, 512), (8, 48, 256), (21, 33, 768), (513, 16, 256)] {
            let matrix = pack(dtype, outputs, inputs);
            let mut weights = vec![0.0; outputs * inputs];
            weights.chunks_exact_mut(inputs).enumerate().for_each(|(output, row)| matrix.row(output, row));
            let x = test_inputs::floats(count * inputs, 11);
            for isa in Isa::all() {
                let activations = rows(isa, &x, inputs, matrix.width);
                for row in (0..count).step_by(if count > 100 { 37 } else { 1 }) {
                    let group = row / GROUP;
                    let here = GROUP.min(count - group * GROUP);
                    let x = rounded(&activations, matrix.kind.is_quantised(), row);
                    for t in 0..matrix.tiles() {
                        let mut out = [[0.0; LANES]; GROUP];
                        tile(isa, &matrix, t, &activations, group, here, std::ptr::null(), &mut out);
                        for output in t * LANES..outputs.min((t + 1) * LANES) {
                            let products = weights[output * inputs..][..inputs].iter().zip(&x);
                            let products: Vec<f64> = products.map(|(w, x)| f64::from(*w) * f64::from(*x)).collect();
                            let want: f64 = products.iter().sum();
                            // The zero point of full bytes adds terms that cancel, up to the greatest weight each.
                            let size: f64 = products.iter().map(|x| x.abs()).sum();
                            let error = (f64::from(out[row % GROUP][output % LANES]) - want).abs();
                            assert!(
                                error < 3e-6 * size.max(1.0),
                                "{isa} {dtype:?} {count}x{outputs}x{inputs}: {error}"
                            );
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn a_row_gives_the_same_bits_alone_and_in_company() {
    for dtype in DType::ALL {
        let matrix = pack(dtype, 16, 512);
        let x = test_inputs::floats(8 * 512, 12);
        for isa in Isa::all() {
            let together = rows(isa, &x, 512, 512);
            for row in 0..8 {
                let alone = rows(isa, &x[row * 512..][..512], 512, 512);
                let mut want = [[0.0; LANES]; GROUP];
                tile(isa, &matrix, 0, &alone, 0, 1, std::ptr::null(), &mut want);
                for count in row + 1..=8 {
                    let mut got = [[0.0; LANES]; GROUP];
                    tile(isa, &matrix, 0, &together, 0, count, std::ptr::null(), &mut got);
                    assert_eq!(got[row], want[0], "{isa} {dtype:?}: row {row} of {count}");
                }
            }
        }
    }
}
