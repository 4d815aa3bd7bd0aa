//! The reference that whole devices are held against: float32 throughout, one loop per formula, no cache, no threads, no
//! tricks. It ships with the program: `longhand selftest` compares the device at hand with it, as the tests do.

use crate::model::LayerWeight::{self, *};
use crate::model::{Activation, Experts, Model, ModelConfig, ModelError, WeightId};
use crate::ops::fp8::round_to_e4m3;
use crate::ops::rope::Rope;

/// What is rounded to fewer bits than float32's and bf16's, as a device with such memory or such products does it. What
/// this alone makes of a model's logits is the measure for that device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Nothing.
    Nothing,
    /// What is multiplied with weights: whole numbers of 8 bits, each 32 with one scale.
    RowsToBytes,
    /// Keys and values: e4m3, each head of a position with one scale.
    KeysAndValues,
    /// What is multiplied in layers, weights too: e4m3, each row of it with one scale.
    Layers,
}

/// To the nearest of 255 numbers, of which the outermost are the greatest magnitude.
fn to_bytes(numbers: &mut [f32]) {
    let max = max_abs(numbers);
    if max > 0.0 {
        numbers.iter_mut().for_each(|x| *x = (*x * (127.0 / max)).round_ties_even() * (max / 127.0));
    }
}

fn to_e4m3(numbers: &mut [f32]) {
    let scale = max_abs(numbers) / 448.0;
    if scale > 0.0 {
        numbers.iter_mut().for_each(|x| *x = round_to_e4m3(*x / scale) * scale);
    }
}

fn max_abs(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |max, x| max.max(x.abs()))
}

/// Logits `[tokens, vocab]` of one sequence, every position attending to itself and all before it.
pub fn logits(model: &Model, tokens: &[u32], rounding: Rounding) -> Result<Vec<f32>, ModelError> {
    let config = model.config();
    let embedding = model.floats(WeightId::Embedding)?;
    let dim = config.dim;
    let mut x: Vec<f32> = tokens.iter().flat_map(|token| &embedding[*token as usize * dim..][..dim]).copied().collect();
    x.iter_mut().for_each(|x| *x *= config.embedding_scale);
    let rope = |turns| Rope::new(turns, config.layer.rope_style, config.rotated);
    let (full, local) = (rope(config.rope_turns()), config.window_rope_turns().map(rope));
    for index in 0..config.layers {
        let rope = local.as_ref().filter(|_| config.window_of(index).is_some()).unwrap_or(&full);
        Layer { model, rope, index, rounding }.run(&mut x, tokens.len())?;
    }
    let normed = norm(&x, &model.floats(WeightId::OutputNorm)?, config.norm_eps);
    let lm_head = if config.tied_embeddings { WeightId::Embedding } else { WeightId::LmHead };
    project(model, lm_head, &normed, dim, rounding)
}

/// One layer.
struct Layer<'a> {
    model: &'a Model,
    rope: &'a Rope,
    index: usize,
    rounding: Rounding,
}

impl Layer<'_> {
    fn floats(&self, weight: LayerWeight) -> Result<Vec<f32>, ModelError> {
        self.model.floats(WeightId::Layer(self.index, weight))
    }

    /// Adds what a branch gives to the residual stream, normalised where the layer says so.
    fn add(&self, x: &mut [f32], mut out: Vec<f32>, post_norm: LayerWeight) -> Result<(), ModelError> {
        if self.model.config().layer.post_norms {
            out = norm(&out, &self.floats(post_norm)?, self.model.config().norm_eps);
        }
        x.iter_mut().zip(out).for_each(|(x, out)| *x += out);
        Ok(())
    }

    /// A projection, and its bias if there is one.
    fn project(
        &self,
        weight: LayerWeight,
        bias: Option<LayerWeight>,
        x: &[f32],
        inputs: usize,
    ) -> Result<Vec<f32>, ModelError> {
        let mut out = project(self.model, WeightId::Layer(self.index, weight), x, inputs, self.rounding)?;
        if let Some(bias) = bias {
            out.iter_mut().zip(self.floats(bias)?.iter().cycle()).for_each(|(out, bias)| *out += bias);
        }
        Ok(out)
    }

    /// Adds attention and feed-forward layer to the residual stream `x`, `[positions, dim]`.
    fn run(&self, x: &mut [f32], positions: usize) -> Result<(), ModelError> {
        let config = self.model.config();
        let (dim, head_dim) = (config.dim, config.head_dim);
        let normed = norm(x, &self.floats(AttnNorm)?, config.norm_eps);
        let bias = |bias| config.layer.qkv_bias.then_some(bias);
        let mut q = self.project(QProj, bias(QBias), &normed, dim)?;
        let mut k = self.project(KProj, bias(KBias), &normed, dim)?;
        let mut v = self.project(VProj, bias(VBias), &normed, dim)?;
        if config.layer.qk_norm {
            q = norm(&q, &self.floats(QNorm)?, config.norm_eps);
            k = norm(&k, &self.floats(KNorm)?, config.norm_eps);
        }
        rotate(self.rope, &mut q, positions, head_dim);
        rotate(self.rope, &mut k, positions, head_dim);
        if self.rounding == Rounding::KeysAndValues {
            k.chunks_mut(head_dim).chain(v.chunks_mut(head_dim)).for_each(to_e4m3);
        }
        let attended = attention(config, config.window_of(self.index), &q, &k, &v, positions);
        let out = self.project(OProj, config.layer.o_bias.then_some(OBias), &attended, config.heads * head_dim)?;
        self.add(x, out, PostAttnNorm)?;

        let normed = norm(x, &self.floats(MlpNorm)?, config.norm_eps);
        let out = match config.experts_of(self.index) {
            Some(experts) => self.mixture(experts, &normed)?,
            None => {
                let bias = |bias| config.layer.mlp_bias.then_some(bias);
                let gate = self.project(GateProj, bias(GateBias), &normed, dim)?;
                let up = self.project(UpProj, bias(UpBias), &normed, dim)?;
                self.project(DownProj, bias(DownBias), &self.gated(&gate, &up), config.ffn)?
            }
        };
        self.add(x, out, PostMlpNorm)?;
        Ok(())
    }

    fn gated(&self, gate: &[f32], up: &[f32]) -> Vec<f32> {
        let activate = |x: f32| match self.model.config().layer.activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::GeluTanh => 0.5 * x * (1.0 + (0.797_884_6 * (x + 0.044_715 * x * x * x)).tanh()),
        };
        gate.iter().zip(up).map(|(gate, up)| activate(*gate) * up).collect()
    }

    /// What the experts give for the rows of `x`, `[positions, dim]`: every expert is run over every row, and what a row's router
    /// did not choose counts nothing.
    fn mixture(&self, experts: &Experts, x: &[f32]) -> Result<Vec<f32>, ModelError> {
        let dim = self.model.config().dim;
        let logits = self.project(Router, None, x, dim)?;
        let shares: Vec<Vec<f32>> = logits.chunks_exact(experts.count).map(|row| shares(experts, row)).collect();
        let mut out = vec![0.0; x.len()];
        for expert in 0..experts.count {
            let gate = self.project(ExpertGate(expert), None, x, dim)?;
            let up = self.project(ExpertUp(expert), None, x, dim)?;
            let down = self.project(ExpertDown(expert), None, &self.gated(&gate, &up), experts.ffn)?;
            for ((out, down), shares) in out.chunks_exact_mut(dim).zip(down.chunks_exact(dim)).zip(&shares) {
                out.iter_mut().zip(down).for_each(|(out, down)| *out += shares[expert] * down);
            }
        }
        Ok(out)
    }
}

/// By how much each expert counts for a row with these router logits: the softmax, of the likeliest few alone.
fn shares(experts: &Experts, logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
    let mut order: Vec<usize> = (0..experts.count).collect();
    order.sort_by(|a, b| weights[*b].total_cmp(&weights[*a]));
    let used = &order[..experts.used];
    let total: f32 = if experts.renormalise { used } else { &order }.iter().map(|expert| weights[*expert]).sum();
    let mut shares = vec![0.0; experts.count];
    used.iter().for_each(|expert| shares[*expert] = weights[*expert] / total);
    shares
}

/// `[rows, inputs]` times a weight, both rounded as `rounding` says.
fn project(
    model: &Model,
    weight: WeightId,
    x: &[f32],
    inputs: usize,
    rounding: Rounding,
) -> Result<Vec<f32>, ModelError> {
    let (mut numbers, mut x) = (model.floats(weight)?, x.to_vec());
    match (rounding, weight) {
        // Routers are floats in all files.
        (Rounding::RowsToBytes | Rounding::Layers, WeightId::Layer(_, Router)) => {}
        (Rounding::RowsToBytes, _) => x.chunks_mut(32).for_each(to_bytes),
        (Rounding::Layers, WeightId::Layer(..)) => {
            x.chunks_mut(inputs).chain(numbers.chunks_mut(inputs)).for_each(to_e4m3);
        }
        (Rounding::Layers | Rounding::KeysAndValues | Rounding::Nothing, _) => {}
    }
    Ok(multiply(&numbers, &x, inputs))
}

/// Normalises every `weight.len()` values of `x`.
fn norm(x: &[f32], weight: &[f32], eps: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for x in x.chunks_exact(weight.len()) {
        let mean = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>() / x.len() as f64;
        let inverse = (1.0 / (mean + f64::from(eps)).sqrt()) as f32;
        out.extend(x.iter().zip(weight).map(|(x, weight)| x * inverse * weight));
    }
    out
}

/// `[rows, inputs]` times the transpose of `[outputs, inputs]`.
fn multiply(weight: &[f32], x: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = weight.len() / inputs;
    let mut out = vec![0.0; x.len() / inputs * outputs];
    for (output, weight) in weight.chunks_exact(inputs).enumerate() {
        for (row, x) in x.chunks_exact(inputs).enumerate() {
            out[row * outputs + output] = dot(weight, x);
        }
    }
    out
}

/// In 32 sums, which the compiler turns into registers: one sum would take a minute for the small real model.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0; 32];
    for (a, b) in a.chunks(32).zip(b.chunks(32)) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

fn rotate(rope: &Rope, heads: &mut [f32], positions: usize, head_dim: usize) {
    let mut angles = vec![[0.0; 2]; head_dim / 2];
    let row = heads.len() / positions;
    for (position, row) in heads.chunks_exact_mut(row).enumerate() {
        rope.angles(position, &mut angles);
        row.chunks_exact_mut(head_dim).for_each(|head| rope.rotate(head, &angles));
    }
}

/// Softmax attention, over the last `window` positions if there is one; `q` is `[positions, heads, head_dim]`, `k` and `v` are `[positions, kv_heads, head_dim]`.
fn attention(
    config: &ModelConfig,
    window: Option<usize>,
    q: &[f32],
    k: &[f32],
    v: &[f32],
    positions: usize,
) -> Vec<f32> {
    let (head_dim, heads, kv_heads) = (config.head_dim, config.heads, config.kv_heads);
    let mut out = vec![0.0; q.len()];
    for position in 0..positions {
        for head in 0..heads {
            let q = &q[(position * heads + head) * head_dim..][..head_dim];
            let at = |of: usize| (of * kv_heads + head / (heads / kv_heads)) * head_dim;
            let first = window.map_or(0, |window| (position + 1).saturating_sub(window));
            let scores: Vec<f32> =
                (first..=position).map(|of| dot(q, &k[at(of)..][..head_dim]) * config.query_scale).collect();
            let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = scores.iter().map(|score| (score - max).exp()).collect();
            let total: f32 = weights.iter().sum();
            let out = &mut out[(position * heads + head) * head_dim..][..head_dim];
            for (of, weight) in (first..).zip(&weights) {
                out.iter_mut().zip(&v[at(of)..][..head_dim]).for_each(|(out, v)| *out += weight / total * v);
            }
        }
    }
    out
}
