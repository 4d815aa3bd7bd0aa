//! The slow twin of the whole device: float32 throughout, one loop per formula, no cache, no threads, no tricks. Only
//! tests use it.

use super::rope::Rope;
use super::weights::floats;
use crate::cuda::kernels::kv::twin::nearest_e4m3;
use crate::model::{Model, ModelConfig, ModelError};

/// What is rounded to fewer bits than float32's and bf16's, as a device with such memory or such products does it. What
/// this alone makes of a model's logits is the measure for that device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
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
    let most = greatest(numbers);
    if most > 0.0 {
        numbers.iter_mut().for_each(|x| *x = (*x * (127.0 / most)).round_ties_even() * (most / 127.0));
    }
}

fn to_e4m3(numbers: &mut [f32]) {
    let scale = greatest(numbers) / 448.0;
    if scale > 0.0 {
        numbers.iter_mut().for_each(|x| *x = nearest_e4m3(*x / scale) * scale);
    }
}

fn greatest(numbers: &[f32]) -> f32 {
    numbers.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// Logits `[tokens, vocab]` of one sequence, every position attending to itself and all before it.
pub fn logits(model: &Model, tokens: &[u32], rounding: Rounding) -> Result<Vec<f32>, ModelError> {
    let config = model.config();
    let embedding = floats(model, "token_embd.weight")?;
    let dim = config.dim;
    let mut x: Vec<f32> = tokens.iter().flat_map(|token| &embedding[*token as usize * dim..][..dim]).copied().collect();
    let rope = Rope::new(config);
    let multiply = |name: &str, x: &[f32], inputs: usize| -> Result<Vec<f32>, ModelError> {
        let (mut weight, mut x) = (floats(model, name)?, x.to_vec());
        match rounding {
            Rounding::RowsToBytes => x.chunks_mut(32).for_each(to_bytes),
            Rounding::Layers if name.starts_with("blk.") => {
                x.chunks_mut(inputs).chain(weight.chunks_mut(inputs)).for_each(to_e4m3);
            }
            Rounding::Layers | Rounding::KeysAndValues | Rounding::Nothing => {}
        }
        Ok(multiply(&weight, &x, inputs))
    };
    for layer in 0..config.layers {
        let part = |part: &str| format!("blk.{layer}.{part}");
        let weight = |name: &str| floats(model, &part(name));
        let normed = norm(&x, &weight("attn_norm.weight")?, config.norm_eps);
        let mut projected = Vec::new();
        for name in ["attn_q", "attn_k", "attn_v"] {
            let mut out = multiply(&part(&format!("{name}.weight")), &normed, dim)?;
            if config.qkv_bias {
                let bias = weight(&format!("{name}.bias"))?;
                out.iter_mut().zip(bias.iter().cycle()).for_each(|(out, bias)| *out += bias);
            }
            projected.push(out);
        }
        let [q, k, v] = &mut projected[..] else { unreachable!("three projections") };
        for (name, heads) in [("attn_q_norm.weight", &mut *q), ("attn_k_norm.weight", &mut *k)] {
            if config.qk_norm {
                *heads = norm(heads, &weight(name)?, config.norm_eps);
            }
            rotate(&rope, heads, tokens.len(), config.head_dim);
        }
        if rounding == Rounding::KeysAndValues {
            k.chunks_mut(config.head_dim).chain(v.chunks_mut(config.head_dim)).for_each(to_e4m3);
        }
        let attended = attend(config, q, k, v, tokens.len());
        add(&mut x, &multiply(&part("attn_output.weight"), &attended, config.heads * config.head_dim)?);

        let normed = norm(&x, &weight("ffn_norm.weight")?, config.norm_eps);
        let gate = multiply(&part("ffn_gate.weight"), &normed, dim)?;
        let up = multiply(&part("ffn_up.weight"), &normed, dim)?;
        let hidden: Vec<f32> = gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect();
        add(&mut x, &multiply(&part("ffn_down.weight"), &hidden, config.ffn)?);
    }
    let normed = norm(&x, &floats(model, "output_norm.weight")?, config.norm_eps);
    multiply(if config.tied { "token_embd.weight" } else { "output.weight" }, &normed, dim)
}

fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
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

fn attend(config: &ModelConfig, q: &[f32], k: &[f32], v: &[f32], positions: usize) -> Vec<f32> {
    let (head_dim, heads, kv_heads) = (config.head_dim, config.heads, config.kv_heads);
    let mut out = vec![0.0; q.len()];
    for position in 0..positions {
        for head in 0..heads {
            let q = &q[(position * heads + head) * head_dim..][..head_dim];
            let at = |of: usize| (of * kv_heads + head / (heads / kv_heads)) * head_dim;
            let scores: Vec<f32> =
                (0..=position).map(|of| dot(q, &k[at(of)..][..head_dim]) / (head_dim as f32).sqrt()).collect();
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = scores.iter().map(|score| (score - most).exp()).collect();
            let total: f32 = weights.iter().sum();
            let out = &mut out[(position * heads + head) * head_dim..][..head_dim];
            for (of, weight) in weights.iter().enumerate() {
                out.iter_mut().zip(&v[at(of)..][..head_dim]).for_each(|(out, v)| *out += weight / total * v);
            }
        }
    }
    out
}
