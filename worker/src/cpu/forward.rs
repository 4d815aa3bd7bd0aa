//! The forward pass of one step, shared by all families: a row of work after the other, each spread over the pool.

use std::slice;

use super::activations::{Activations, GROUP};
use super::attention;
use super::blocks::RUN;
use super::buffer::{Buffer, Shared};
use super::gate_up::GateUp;
use super::isa::Isa;
use super::kv::{self, KvPool};
use super::layer_attention::LayerAttention;
use super::mixture::{self, Mixture};
use super::norm;
use super::partition::{TileRange, for_tiles};
use super::plan::{Plan, WriteJob};
use super::pool::Pool;
use super::projection::{add_to_residual, multiply};
use super::qk_rope::QkRope;
use super::weights::{Mlp, Weights, forms};
use crate::device::{BLOCK_TOKENS, StepBatch};
use crate::model::ModelConfig;
use crate::ops::rope::Rope;

/// Rows below which the context of a decoding row is spread over the pool, per thread.
const SPREAD_ROWS: usize = 8;

/// What one step needs besides weights and KV; allocated once.
#[derive(Debug)]
struct Scratch {
    /// Residual stream, `[row][dim]`.
    x: Buffer<f32>,
    /// Queries, keys and values, `[row][q + k + v]`.
    qkv: Buffer<f32>,
    /// Rotated and scaled queries, `[KV head][row][share of heads][width / 2]`: attention reads those of a KV head, over
    /// consecutive rows, in one piece.
    queries: Buffer<u32>,
    /// Partial results of attention; grows with the context.
    partials: Vec<f32>,
    /// `[row][head_dim / 2]`; of layers with a window behind those of all others.
    angles: Vec<[f32; 2]>,
    /// What a branch gives before it is normalised, `[row][dim]`; empty where nothing is.
    branch: Buffer<f32>,
    attn_in: Activations,
    output_in: Activations,
    mlp_in: Activations,
    down_in: Activations,
    /// Of mixtures of experts.
    experts: mixture::Scratch,
    head_in: Activations,
}

#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) config: ModelConfig,
    pub(crate) isa: Isa,
    pub(crate) pool: Pool,
    pub(crate) weights: Weights,
    pub(crate) kv: KvPool,
    rope: Rope,
    /// Of layers with a sliding window.
    window_rope: Option<Rope>,
    scratch: Scratch,
}

/// The jobs of a step, for layers that see all positions and for those with a window.
struct Plans {
    full: Plan,
    window: Option<Plan>,
}

impl Plans {
    fn of(&self, window: Option<usize>) -> &Plan {
        self.window.as_ref().filter(|_| window.is_some()).unwrap_or(&self.full)
    }
}

/// Rows whose logits are computed together.
pub(crate) const HEAD_ROWS: usize = 32;

impl Forward {
    pub(crate) fn new(config: ModelConfig, isa: Isa, pool: Pool, weights: Weights, kv: KvPool, rows: usize) -> Self {
        let layers = &weights.layers;
        let width = kv::padded(config.head_dim);
        let (q, k) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let dense = || layers.iter().filter_map(|layer| layer.mlp.dense());
        let routers = layers.iter().filter_map(|layer| layer.mlp.experts()).map(|mlp| &mlp.router);
        let input = |width: usize, forms| Activations::new(rows, width.next_multiple_of(RUN), forms);
        let scratch = Scratch {
            x: Buffer::new(rows * config.dim),
            qkv: Buffer::new(rows * (q + 2 * k)),
            queries: Buffer::new(rows * config.heads * width / 2),
            partials: Vec::new(),
            angles: Vec::new(),
            branch: Buffer::new(if config.layer.post_norms { rows * config.dim } else { 0 }),
            attn_in: input(config.dim, forms(layers.iter().flat_map(|layer| &layer.qkv))),
            output_in: input(q, forms(layers.iter().map(|layer| &layer.output))),
            mlp_in: input(config.dim, forms(dense().flat_map(|mlp| [&mlp.gate, &mlp.up]).chain(routers))),
            down_in: input(config.ffn, forms(dense().map(|mlp| &mlp.down))),
            experts: mixture::Scratch::new(&config, layers, rows),
            head_in: Activations::new(HEAD_ROWS, config.dim.next_multiple_of(RUN), forms([weights.lm_head()])),
        };
        let rope = |turns| Rope::new(turns, config.layer.rope_style, config.rotated);
        Self {
            rope: rope(config.rope_turns()),
            window_rope: config.window_rope_turns().map(rope),
            config,
            isa,
            pool,
            weights,
            kv,
            scratch,
        }
    }

    /// Runs all layers over a checked batch. The residual stream of its rows is left for [`Forward::logits`].
    pub(crate) fn layers(&mut self, batch: &StepBatch) {
        let spread = SPREAD_ROWS * self.pool.threads();
        let window = self.config.window.map(|window| Plan::new(batch, spread, Some(window.width)));
        let plans = Plans { full: Plan::new(batch, spread, None), window };
        self.embed(batch, &plans.full);
        for layer in 0..self.config.layers {
            self.attention(layer, batch, plans.of(self.config.window_of(layer)));
            self.mlp(layer, batch.tokens.len());
        }
    }

    fn embed(&mut self, batch: &StepBatch, plan: &Plan) {
        let dim = self.config.dim;
        for (token, x) in batch.tokens.iter().zip(self.scratch.x.chunks_exact_mut(dim)) {
            self.weights.embedding.row(*token as usize, x);
            x.iter_mut().for_each(|x| *x *= self.config.embedding_scale);
        }
        let (rows, pairs) = (batch.tokens.len(), self.config.head_dim / 2);
        let ropes = [Some(&self.rope), self.window_rope.as_ref()];
        self.scratch.angles.resize(2 * rows * pairs, [0.0; 2]);
        for (rope, angles) in ropes.into_iter().flatten().zip(self.scratch.angles.chunks_exact_mut(rows * pairs)) {
            for (&position, angles) in plan.positions.iter().zip(angles.chunks_exact_mut(pairs)) {
                rope.angles(position, angles);
            }
        }
    }

    /// Attention of one layer, added to the residual stream.
    fn attention(&mut self, index: usize, batch: &StepBatch, plan: &Plan) {
        let rows = batch.tokens.len();
        self.qkv_proj(index, rows);
        self.write_kv(index, batch, plan);

        let Self { config, isa, pool, weights, kv, scratch, .. } = self;
        let (layer, isa) = (&weights.layers[index], *isa);
        let needed = plan.total_parts * config.heads * attention::partial_len(kv.width);
        if scratch.partials.len() < needed {
            scratch.partials.resize(needed, 0.0);
        }
        let work = LayerAttention {
            isa,
            config,
            kv,
            layer: index,
            queries: &scratch.queries,
            batch,
            plan,
            window: config.window_of(index),
        };
        let partials = Shared::new(&mut scratch.partials);
        pool.run(plan.attention.len() * config.kv_heads, &|chunk| work.run(chunk, &partials));
        let (sink, partials) = (scratch.output_in.sink(), Shared::new(&mut scratch.partials));
        pool.spread(rows.div_ceil(GROUP), rows, &|group| {
            let mut values = vec![0.0; sink.width];
            for row in group * GROUP..rows.min(group * GROUP + GROUP) {
                work.collect(row, &partials, &mut values);
                norm::put(isa, &values, &sink, row);
            }
        });

        let ranges = [TileRange::Each(slice::from_ref(&layer.output)), layer.mlp.first()];
        let Scratch { x, branch, output_in, .. } = scratch;
        let out = if layer.post_attn_norm.is_empty() { x.shared() } else { cleared(branch, rows * config.dim) };
        add_to_residual(pool, isa, ranges, output_in, rows, &layer.output_bias, out);
        add_normed(pool, isa, config, &layer.post_attn_norm, rows, branch, x);
    }

    /// Queries, keys and values of all rows, biases added.
    fn qkv_proj(&mut self, index: usize, rows: usize) {
        let Self { config, isa, pool, weights, scratch, .. } = self;
        let (layer, isa) = (&weights.layers[index], *isa);
        norm_rows(pool, isa, &scratch.x, config, &layer.attn_norm, rows, &mut scratch.attn_in);
        let [q, k, v] = layer.qkv.each_ref().map(|matrix| matrix.outputs);
        let out = scratch.qkv.shared();
        let ranges = [TileRange::Each(&layer.qkv), TileRange::Each(slice::from_ref(&layer.output))];
        multiply(pool, isa, ranges, &scratch.attn_in, rows, &|part, outputs, first_row, results| {
            let offset = [0, q, q + k][part];
            let bias = layer.biases[part].get(outputs.clone());
            for (row, result) in results.iter().enumerate() {
                let at = (first_row + row) * (q + k + v) + offset + outputs.start;
                // SAFETY: this call alone has these outputs of these rows.
                let out = unsafe { out.part(at, outputs.len()) };
                out.copy_from_slice(&result[..outputs.len()]);
                if let Some(bias) = bias {
                    out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                }
            }
        });
    }

    /// Rotates queries and keys; queries go where attention reads them, keys and values into the pool.
    fn write_kv(&mut self, index: usize, batch: &StepBatch, plan: &Plan) {
        let Self { config, isa, pool, weights, kv, rope, window_rope, scratch } = self;
        let (layer, isa, rows) = (&weights.layers[index], *isa, batch.tokens.len());
        let (head_dim, share, query_words) = (config.head_dim, config.heads / config.kv_heads, kv.width / 2);
        let [q, k, v] = layer.qkv.each_ref().map(|matrix| matrix.outputs);
        let scale = std::f32::consts::LOG2_E * config.query_scale;
        let (rope, first) = match window_rope {
            Some(window_rope) if config.window_of(index).is_some() => (&*window_rope, rows * head_dim / 2),
            _ => (&*rope, 0),
        };
        let qk_rope = QkRope { layer, rope, angles: &scratch.angles[first..], config, scale };
        let (out, queries, writer) = (scratch.qkv.shared(), scratch.queries.shared(), kv.writer(index));
        let write = |job: &WriteJob| {
            for at in 0..job.rows {
                let row = job.row + at;
                // SAFETY: each row is in one job.
                let qkv = unsafe { out.part(row * (q + k + v), q + k + v) };
                let (q, kv) = qkv.split_at_mut(q);
                let (k, v) = kv.split_at_mut(k);
                qk_rope.apply(isa, row, q, k);
                for (kv_head, heads) in q.chunks_exact(share * head_dim).enumerate() {
                    let (first, count) = ((kv_head * rows + row) * share * query_words, share * query_words);
                    // SAFETY: as above.
                    let words = unsafe { queries.part(first, count) };
                    for (head, words) in heads.chunks_exact(head_dim).zip(words.chunks_exact_mut(query_words)) {
                        kv::pairs(head, words);
                    }
                }
                let slot = (job.position + at) % BLOCK_TOKENS;
                let block = batch.sequences[job.sequence].blocks[job.position / BLOCK_TOKENS];
                for (head, (key, value)) in k.chunks_exact(head_dim).zip(v.chunks_exact(head_dim)).enumerate() {
                    // SAFETY: a job has its block alone: one sequence writes it, and its rows there are one job.
                    unsafe { writer.put(block, head, slot, key, value) };
                }
            }
        };
        pool.spread(plan.writes.len(), rows, &|index| write(&plan.writes[index]));
    }

    /// The feed-forward layer, added to the residual stream.
    fn mlp(&mut self, index: usize, rows: usize) {
        let Self { config, isa, pool, weights, scratch, .. } = self;
        let next = match weights.layers.get(index + 1) {
            Some(layer) => TileRange::Each(&layer.qkv),
            None => TileRange::Each(slice::from_ref(weights.lm_head())),
        };
        let (layer, isa) = (&weights.layers[index], *isa);
        norm_rows(pool, isa, &scratch.x, config, &layer.mlp_norm, rows, &mut scratch.mlp_in);
        let Scratch { x, branch, mlp_in, down_in, experts, .. } = scratch;
        match &layer.mlp {
            Mlp::Dense(mlp) => {
                let down = TileRange::Each(slice::from_ref(&mlp.down));
                let gate_up = GateUp {
                    isa,
                    activation: config.layer.activation,
                    biases: mlp.gate_up_biases.each_ref().map(Vec::as_slice),
                    input: mlp_in,
                    sink: down_in.sink(),
                };
                for_tiles(pool, [layer.mlp.first(), down], rows, &|unit, groups, prefetch| {
                    for group in groups {
                        let here = GROUP.min(rows - group * GROUP);
                        gate_up.put([&mlp.gate, &mlp.up], unit, group, here, |at| prefetch.tile(at, group));
                    }
                });
                let out = if layer.post_mlp_norm.is_empty() { x.shared() } else { cleared(branch, rows * config.dim) };
                add_to_residual(pool, isa, [down, next], down_in, rows, &mlp.down_bias, out);
            }
            Mlp::Experts(mlp) => {
                let mixture = Mixture { isa, config, weights: mlp, norm: &layer.mlp_norm, rows };
                mixture.run(pool, x, mlp_in, experts, next);
                let out = if layer.post_mlp_norm.is_empty() { x.shared() } else { cleared(branch, rows * config.dim) };
                mixture.add(pool, experts, out);
            }
        }
        add_normed(pool, isa, config, &layer.post_mlp_norm, rows, branch, x);
    }

    /// Logits of up to [`HEAD_ROWS`] rows of the last step, `[row][vocab]`.
    pub(crate) fn logits(&mut self, rows: &[usize], out: &mut [f32]) {
        let Self { config, isa, pool, weights, scratch, .. } = self;
        let (isa, vocab) = (*isa, config.vocab);
        let sink = scratch.head_in.sink();
        let mut values = vec![0.0; sink.width];
        for (index, row) in rows.iter().enumerate() {
            let x = &scratch.x[row * config.dim..][..config.dim];
            norm::norm_put(isa, x, &weights.output_norm, config.norm_eps, &sink, index, &mut values);
        }
        let out = Shared::new(out);
        let ranges = [slice::from_ref(weights.lm_head()), &weights.layers[0].qkv].map(TileRange::Each);
        multiply(pool, isa, ranges, &scratch.head_in, rows.len(), &|_, outputs, first_row, results| {
            for (row, result) in results.iter().enumerate() {
                // SAFETY: this call alone has these outputs of these rows.
                let out = unsafe { out.part((first_row + row) * vocab + outputs.start, outputs.len()) };
                out.copy_from_slice(&result[..outputs.len()]);
            }
        });
    }
}

/// Zeros, to be added to.
fn cleared(branch: &mut Buffer<f32>, len: usize) -> Shared<'_, f32> {
    branch[..len].fill(0.0);
    branch.shared()
}

/// Adds what a branch gives, normalised with `weight`, to the residual stream; does nothing where there is no such norm.
fn add_normed(
    pool: &mut Pool,
    isa: Isa,
    config: &ModelConfig,
    weight: &[f32],
    rows: usize,
    branch: &mut Buffer<f32>,
    x: &mut Buffer<f32>,
) {
    if weight.is_empty() {
        return;
    }
    let (dim, x, branch) = (config.dim, x.shared(), &branch[..rows * config.dim]);
    pool.spread(rows, rows, &|row| {
        let mut normed = vec![0.0; dim];
        norm::norm(isa, &branch[row * dim..][..dim], weight, config.norm_eps, &mut normed);
        // SAFETY: this call alone has this row.
        let x = unsafe { x.part(row * dim, dim) };
        x.iter_mut().zip(normed).for_each(|(x, normed)| *x += normed);
    });
}

fn norm_rows(
    pool: &mut Pool,
    isa: Isa,
    x: &[f32],
    config: &ModelConfig,
    weight: &[f32],
    rows: usize,
    to: &mut Activations,
) {
    let sink = to.sink();
    pool.spread(rows.div_ceil(GROUP), rows, &|group| {
        let mut values = vec![0.0; sink.width];
        for row in group * GROUP..rows.min(group * GROUP + GROUP) {
            let x = &x[row * config.dim..][..config.dim];
            norm::norm_put(isa, x, weight, config.norm_eps, &sink, row, &mut values);
        }
    });
}
