//! RMS norms, and SiLU times a factor, each ending in the form that the next matrix reads.

use super::activations::Sink;
use super::isa::per_isa;
use crate::ops::exp2::{gelu_tanh, silu};
use crate::ops::vector::{LANES, Lanes, Vector};

/// `1 / sqrt(mean of squares + eps)`, summed in lanes in a fixed order.
#[inline(always)]
fn inverse_rms<V: Vector>(x: &[f32], eps: f32) -> f32 {
    let mut squares = V::splat(0.0);
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        let x = V::load(chunk);
        squares = squares.add(x.mul(x));
    }
    let mut total = squares.sum();
    for x in rest {
        total += x * x;
    }
    1.0 / (total / x.len() as f32 + eps).sqrt()
}

#[inline(always)]
fn norm_body<V: Vector>(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let inverse = inverse_rms::<V>(x, eps);
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * inverse * weight;
    }
}

#[inline(always)]
fn norm_put_body<V: Vector>(x: &[f32], weight: &[f32], eps: f32, sink: &Sink<'_>, row: usize, scratch: &mut [f32]) {
    norm_body::<V>(x, weight, eps, scratch);
    put_body::<V>(scratch, sink, row);
}

#[inline(always)]
fn put_body<V: Vector>(values: &[f32], sink: &Sink<'_>, row: usize) {
    // SAFETY: whoever hands out rows to threads does so by whole groups.
    unsafe { sink.put::<V>(row, 0, values) }
}

#[inline(always)]
fn silu_put_body<V: Vector>(
    gate: [&Lanes; 2],
    up: [&Lanes; 2],
    biases: [&[f32]; 2],
    sink: &Sink<'_>,
    row: usize,
    first: usize,
) {
    gated_put(silu::<V>, gate, up, biases, sink, row, first);
}

#[inline(always)]
fn gelu_put_body<V: Vector>(
    gate: [&Lanes; 2],
    up: [&Lanes; 2],
    biases: [&[f32]; 2],
    sink: &Sink<'_>,
    row: usize,
    first: usize,
) {
    gated_put(gelu_tanh::<V>, gate, up, biases, sink, row, first);
}

#[inline(always)]
fn gated_put<V: Vector>(
    activation: impl Fn(V) -> V,
    gate: [&Lanes; 2],
    up: [&Lanes; 2],
    [gate_bias, up_bias]: [&[f32]; 2],
    sink: &Sink<'_>,
    row: usize,
    first: usize,
) {
    let mut values = [0.0; 2 * LANES];
    for (half, values) in values.chunks_exact_mut(LANES).enumerate() {
        let biased = |x: &Lanes, bias: &[f32]| V::load(x).add(V::load(&bias[half * LANES..]));
        activation(biased(gate[half], gate_bias)).mul(biased(up[half], up_bias)).store(values);
    }
    // SAFETY: the thread that multiplies these outputs owns them for all rows.
    unsafe { sink.put::<V>(row, first, &values) }
}

per_isa! {
    /// Normalises one head in place.
    pub(crate) fn norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = norm_body;
}
per_isa! {
    /// Normalises a row into `sink`. `scratch` is as wide as the sink, zero beyond the row's end.
    pub(crate) fn norm_put(x: &[f32], weight: &[f32], eps: f32, sink: &Sink<'_>, row: usize, scratch: &mut [f32]) = norm_put_body;
}
per_isa! {
    /// Stores a whole row in `sink`.
    pub(crate) fn put(values: &[f32], sink: &Sink<'_>, row: usize) = put_body;
}
per_isa! {
    /// Stores `silu(gate) * up` of 32 inputs from `first` on, after their biases are added.
    pub(crate) fn silu_put(gate: [&Lanes; 2], up: [&Lanes; 2], biases: [&[f32]; 2], sink: &Sink<'_>, row: usize, first: usize) = silu_put_body;
}
per_isa! {
    /// The same with `gelu_tanh(gate)`.
    pub(crate) fn gelu_put(gate: [&Lanes; 2], up: [&Lanes; 2], biases: [&[f32]; 2], sink: &Sink<'_>, row: usize, first: usize) = gelu_put_body;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::activations::{Activations, Forms, GROUP};
    use crate::cpu::blocks::RUN;
    use crate::cpu::isa::Isa;
    use crate::cpu::test_inputs;

    #[test]
    fn norm_and_quantise_follow_the_formula_on_every_instruction_set() {
        for isa in Isa::all() {
            for (rows, dim) in [(1, 32), (3, 576), (513, 96), (9, 100)] {
                let width = usize::next_multiple_of(dim, RUN);
                let (x, weight) = (test_inputs::floats(rows * dim, 3), test_inputs::floats(dim, 4));
                let mut activations = Activations::new(rows, width, Forms { quantised: true, dense: true });
                let sink = activations.sink();
                let mut scratch = vec![0.0; width];
                for row in 0..rows {
                    norm_put(isa, &x[row * dim..][..dim], &weight, 1e-5, &sink, row, &mut scratch);
                }
                for row in 0..rows {
                    let x = &x[row * dim..][..dim];
                    let mean = x.iter().map(|x| f64::from(x * x)).sum::<f64>() / dim as f64;
                    let (group, lane) = (row / GROUP, row % GROUP);
                    for i in 0..dim {
                        let want = (f64::from(x[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i])) as f32;
                        let dense = activations.dense[group * width + i][lane];
                        assert!((dense - want).abs() < 1e-5 * want.abs().max(0.1), "{isa}: {dense}, not {want}");
                        let run = &activations.runs[(group * width + i) / RUN];
                        let got = f32::from(run.q[lane][i % RUN]) * run.scale[lane];
                        assert!((got - dense).abs() <= 0.501 * run.scale[lane], "{isa}: {got}, not {dense}");
                    }
                    for run in &activations.runs[group * width / RUN..][..width / RUN] {
                        let sum: i32 = run.q[lane].iter().map(|q| i32::from(*q)).sum();
                        assert_eq!(run.sum[lane], sum as f32 * run.scale[lane]);
                        let half: i32 = run.q[lane][16..].iter().map(|q| i32::from(*q)).sum();
                        assert_eq!(run.halves[1][lane], half as f32 * run.scale[lane]);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_that_is_not_numbers_stays_so() {
        for isa in Isa::all() {
            for poison in [f32::NAN, f32::INFINITY] {
                let mut activations = Activations::new(1, 64, Forms { quantised: true, dense: false });
                let mut x = vec![1.0; 64];
                x[40] = poison;
                put(isa, &x, &activations.sink(), 0);
                let run = &activations.runs[1];
                assert!(!run.scale[0].is_finite(), "{isa}");
            }
        }
    }

    #[test]
    fn silu_times_up_follows_the_formula() {
        let (gate, up, bias) = (test_inputs::floats(32, 5), test_inputs::floats(32, 6), test_inputs::floats(32, 7));
        let halves = |v: &[f32]| [0, LANES].map(|at| <Lanes as Vector>::load(&v[at..]));
        let (gates, ups) = (halves(&gate), halves(&up));
        for isa in Isa::all() {
            let mut activations = Activations::new(11, 64, Forms { quantised: false, dense: true });
            silu_put(isa, gates.each_ref(), ups.each_ref(), [&bias, &[0.0; 32]], &activations.sink(), 10, 32);
            for i in 0..32 {
                let gate = gate[i] + bias[i];
                let want = gate / (1.0 + (-gate).exp()) * up[i];
                assert!((activations.dense[64 + 32 + i][2] - want).abs() < 1e-6, "{isa}");
            }
        }
    }
}
