//! The forward pass of one step, shared by all families: a row of work after the other, each spread over the pool.

use std::ops::Range;

use super::acts::{Acts, GROUP};
use super::attention::{self, Call, QUERIES, SEGMENT};
use super::blocks::RUN;
use super::buffer::{Buffer, Shared};
use super::isa::Isa;
use super::kv::{self, KvPool};
use super::lanes::{LANES, Lanes};
use super::matmul::{self, Out};
use super::norm;
use super::pool::Pool;
use super::rope::Rope;
use super::step::{AttentionJob, Plan, WriteJob};
use super::tile::Matrix;
use super::weights::{Layer, Weights, forms};
use crate::device::{BLOCK_TOKENS, StepBatch};
use crate::model::ModelConfig;

/// Groups of rows that are multiplied with all tiles of a chunk before the next ones: 128 rows stay in the cache.
const ROW_BLOCK: usize = 16;

/// Rows below which small work is not worth waking anybody for.
const FEW_ROWS: usize = 4;

/// Rows below which the context of a decoding row is spread over the pool, per thread.
const SPREAD_ROWS: usize = 8;

/// What one step needs besides weights and KV; allocated once.
#[derive(Debug)]
struct Scratch {
    /// Residual stream, `[row][dim]`.
    x: Buffer<f32>,
    /// Queries, keys and values, `[row][q + k + v]`.
    qkv: Buffer<f32>,
    /// Rotated and scaled queries, `[row][head][width / 2]`.
    queries: Buffer<u32>,
    /// Partial results of attention; grows with the context.
    partials: Vec<f32>,
    /// `[row][head_dim / 2]`
    angles: Vec<[f32; 2]>,
    attn_in: Acts,
    output_in: Acts,
    ffn_in: Acts,
    down_in: Acts,
    head_in: Acts,
}

#[derive(Debug)]
pub(crate) struct Forward {
    pub(crate) config: ModelConfig,
    pub(crate) isa: Isa,
    pub(crate) pool: Pool,
    pub(crate) weights: Weights,
    pub(crate) kv: KvPool,
    rope: Rope,
    scratch: Scratch,
}

/// Rows whose logits are computed together.
pub(crate) const HEAD_ROWS: usize = 32;

impl Forward {
    pub(crate) fn new(config: ModelConfig, isa: Isa, pool: Pool, weights: Weights, kv: KvPool, rows: usize) -> Self {
        let layers = &weights.layers;
        let width = kv::padded(config.head_dim);
        let (q, k) = (config.heads * config.head_dim, config.kv_heads * config.head_dim);
        let acts = |width: usize, forms| Acts::new(rows, width.next_multiple_of(RUN), forms);
        let scratch = Scratch {
            x: Buffer::new(rows * config.dim),
            qkv: Buffer::new(rows * (q + 2 * k)),
            queries: Buffer::new(rows * config.heads * width / 2),
            partials: Vec::new(),
            angles: Vec::new(),
            attn_in: acts(config.dim, forms(layers.iter().flat_map(|layer| &layer.qkv))),
            output_in: acts(q, forms(layers.iter().map(|layer| &layer.output))),
            ffn_in: acts(config.dim, forms(layers.iter().flat_map(|layer| [&layer.gate, &layer.up]))),
            down_in: acts(config.ffn, forms(layers.iter().map(|layer| &layer.down))),
            head_in: Acts::new(HEAD_ROWS, config.dim.next_multiple_of(RUN), forms([weights.head()])),
        };
        Self { rope: Rope::new(&config), config, isa, pool, weights, kv, scratch }
    }

    /// Runs all layers over a checked batch. The residual stream of its rows is left for [`Forward::logits`].
    pub(crate) fn layers(&mut self, batch: &StepBatch) {
        let plan = Plan::new(batch, SPREAD_ROWS * self.pool.threads());
        self.embed(batch, &plan);
        for layer in 0..self.config.layers {
            self.attend(layer, batch, &plan);
            self.feed(layer, batch.tokens.len());
        }
    }

    fn embed(&mut self, batch: &StepBatch, plan: &Plan) {
        let dim = self.config.dim;
        for (token, x) in batch.tokens.iter().zip(self.scratch.x.chunks_exact_mut(dim)) {
            self.weights.embedding.row(*token as usize, x);
        }
        let pairs = self.config.head_dim / 2;
        self.scratch.angles.resize(batch.tokens.len() * pairs, [0.0; 2]);
        for (&position, angles) in plan.positions.iter().zip(self.scratch.angles.chunks_exact_mut(pairs)) {
            self.rope.angles(position, angles);
        }
    }

    fn attend(&mut self, index: usize, batch: &StepBatch, plan: &Plan) {
        let Self { config, isa, pool, weights, kv, rope, scratch } = self;
        let (layer, isa, rows) = (&weights.layers[index], *isa, batch.tokens.len());
        norm_rows(pool, isa, &scratch.x, config, &layer.attn_norm, rows, &mut scratch.attn_in);

        let (head_dim, width) = (config.head_dim, kv.width);
        let [q, k, v] = layer.qkv.each_ref().map(|matrix| matrix.outputs);
        let qkv_width = q + k + v;
        let out = scratch.qkv.shared();
        let parts = layer.qkv.each_ref();
        multiply(pool, isa, &parts, &scratch.attn_in, rows, &|part, outputs, first_row, results| {
            let offset = [0, q, q + k][part];
            let bias = layer.biases[part].get(outputs.clone());
            for (row, result) in results.iter().enumerate() {
                // SAFETY: this call alone has these outputs of these rows.
                let out = unsafe { out.part((first_row + row) * qkv_width + offset + outputs.start, outputs.len()) };
                out.copy_from_slice(&result[..outputs.len()]);
                if let Some(bias) = bias {
                    out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                }
            }
        });

        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let turn = Turn { layer, rope, angles: &scratch.angles, config, scale, width };
        let (out, queries, writer) = (scratch.qkv.shared(), scratch.queries.shared(), kv.writer(index));
        let write = |job: &WriteJob| {
            for at in 0..job.rows {
                let row = job.row + at;
                // SAFETY: each row is in one job.
                let (qkv, queries) = unsafe {
                    let per_row = config.heads * width / 2;
                    (out.part(row * qkv_width, qkv_width), queries.part(row * per_row, per_row))
                };
                let (q, kv) = qkv.split_at_mut(q);
                let (k, v) = kv.split_at_mut(k);
                turn.row(isa, row, q, k, queries);
                let slot = (job.position + at) % BLOCK_TOKENS;
                let block = batch.sequences[job.sequence].blocks[job.position / BLOCK_TOKENS];
                for (head, (key, value)) in k.chunks_exact(head_dim).zip(v.chunks_exact(head_dim)).enumerate() {
                    // SAFETY: a job has its block alone: one sequence writes it, and its rows there are one job.
                    unsafe { writer.put(block, head, slot, key, value) };
                }
            }
        };
        spread(pool, plan.writes.len(), rows, &|index| write(&plan.writes[index]));

        let len = attention::partial_len(width);
        let needed = plan.total_parts * config.heads * len;
        if scratch.partials.len() < needed {
            scratch.partials.resize(needed, 0.0);
        }
        let view = View { isa, config, kv, layer: index, queries: &scratch.queries, batch, plan };
        let partials = Shared::new(&mut scratch.partials);
        let group = config.kv_heads;
        pool.run(plan.attention.len() * group, &|chunk| {
            view.attend(&plan.attention[chunk / group], chunk % group, &partials);
        });

        let (sink, partials) = (scratch.output_in.sink(), Shared::new(&mut scratch.partials));
        spread(pool, rows.div_ceil(GROUP), rows, &|group| {
            let mut values = vec![0.0; sink.width];
            for row in group * GROUP..rows.min(group * GROUP + GROUP) {
                view.collect(row, &partials, &mut values);
                norm::put(isa, &values, &sink, row);
            }
        });

        add_to_residual(pool, isa, &layer.output, &scratch.output_in, rows, scratch.x.shared());
    }

    fn feed(&mut self, layer: usize, rows: usize) {
        let Self { config, isa, pool, weights, scratch, .. } = self;
        let (layer, isa) = (&weights.layers[layer], *isa);
        norm_rows(pool, isa, &scratch.x, config, &layer.ffn_norm, rows, &mut scratch.ffn_in);
        let sink = scratch.down_in.sink();
        let (gate, up, acts) = (&layer.gate, &layer.up, &scratch.ffn_in);
        // A unit is two tiles: 32 outputs, one run of the next matrix's rows.
        let units = gate.tiles().div_ceil(2);
        for_tiles(pool, units, 2 * (gate.tile_bytes() + up.tile_bytes()), rows, &|unit, groups| {
            for group in groups {
                let here = GROUP.min(rows - group * GROUP);
                let mut outs: [[Out; 2]; 2] = [[[[0.0; LANES]; GROUP]; 2]; 2];
                for (matrix, outs) in [gate, up].into_iter().zip(&mut outs) {
                    for (tile, out) in (unit * 2..matrix.tiles()).zip(outs) {
                        matmul::tile(isa, matrix, tile, acts, group, here, out);
                    }
                }
                let [gate, up] = &outs;
                for row in 0..here {
                    let halves = |[low, high]: &[Out; 2]| [low[row], high[row]];
                    let (gate, up) = (halves(gate), halves(up));
                    let row = group * GROUP + row;
                    norm::silu_put(isa, gate.each_ref(), up.each_ref(), &sink, row, unit * RUN);
                }
            }
        });
        add_to_residual(pool, isa, &layer.down, &scratch.down_in, rows, scratch.x.shared());
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
        multiply(pool, isa, &[weights.head()], &scratch.head_in, rows.len(), &|_, outputs, first_row, results| {
            for (row, result) in results.iter().enumerate() {
                // SAFETY: this call alone has these outputs of these rows.
                let out = unsafe { out.part((first_row + row) * vocab + outputs.start, outputs.len()) };
                out.copy_from_slice(&result[..outputs.len()]);
            }
        });
    }
}

/// Runs small jobs on the pool if there are many rows, else here.
fn spread(pool: &mut Pool, jobs: usize, rows: usize, job: &(dyn Fn(usize) + Sync)) {
    if rows < FEW_ROWS { (0..jobs).for_each(job) } else { pool.run(jobs, job) }
}

fn norm_rows(pool: &mut Pool, isa: Isa, x: &[f32], config: &ModelConfig, weight: &[f32], rows: usize, to: &mut Acts) {
    let sink = to.sink();
    spread(pool, rows.div_ceil(GROUP), rows, &|group| {
        let mut values = vec![0.0; sink.width];
        for row in group * GROUP..rows.min(group * GROUP + GROUP) {
            let x = &x[row * config.dim..][..config.dim];
            norm::norm_put(isa, x, weight, config.norm_eps, &sink, row, &mut values);
        }
    });
}

/// Calls `each(unit, groups)` for all units and all groups of rows, in chunks that are worth a thread's while.
fn for_tiles(pool: &mut Pool, units: usize, bytes: usize, rows: usize, each: &(dyn Fn(usize, Range<usize>) + Sync)) {
    let groups = rows.div_ceil(GROUP);
    // About 1 us of reading or multiplying at least; four chunks a thread even out what else runs on the machine.
    let least = (24 << 10) / (bytes * groups).max(1) + 1;
    let per_chunk = units.div_ceil(4 * pool.threads()).max(least).min(units.max(1));
    pool.run(units.div_ceil(per_chunk), &|chunk| {
        for first in (0..groups).step_by(ROW_BLOCK) {
            for unit in chunk * per_chunk..units.min((chunk + 1) * per_chunk) {
                each(unit, first..groups.min(first + ROW_BLOCK));
            }
        }
    });
}

/// Takes what a tile gave: which matrix, which of its outputs, the first row, the results of the rows.
type Take<'a> = dyn Fn(usize, Range<usize>, usize, &[Lanes]) + Sync + 'a;

/// Multiplies rows with several matrices.
fn multiply(pool: &mut Pool, isa: Isa, matrices: &[&Matrix], acts: &Acts, rows: usize, each: &Take<'_>) {
    let tiles: usize = matrices.iter().map(|matrix| matrix.tiles()).sum();
    for_tiles(pool, tiles, matrices[0].tile_bytes(), rows, &|unit, groups| {
        let (mut part, mut tile) = (0, unit);
        while tile >= matrices[part].tiles() {
            tile -= matrices[part].tiles();
            part += 1;
        }
        let matrix = matrices[part];
        let outputs = tile * LANES..matrix.outputs.min(tile * LANES + LANES);
        let mut out: Out = [[0.0; LANES]; GROUP];
        for group in groups {
            let here = GROUP.min(rows - group * GROUP);
            matmul::tile(isa, matrix, tile, acts, group, here, &mut out);
            each(part, outputs.clone(), group * GROUP, &out[..here]);
        }
    });
}

fn add_to_residual(pool: &mut Pool, isa: Isa, matrix: &Matrix, acts: &Acts, rows: usize, x: Shared<'_, f32>) {
    multiply(pool, isa, &[matrix], acts, rows, &|_, outputs, first_row, results| {
        for (row, result) in results.iter().enumerate() {
            // SAFETY: this call alone has these outputs of these rows.
            let x = unsafe { x.part((first_row + row) * matrix.outputs + outputs.start, outputs.len()) };
            x.iter_mut().zip(result).for_each(|(x, result)| *x += result);
        }
    });
}

/// Head norms and rope of one layer.
struct Turn<'a> {
    layer: &'a Layer,
    rope: &'a Rope,
    angles: &'a [[f32; 2]],
    config: &'a ModelConfig,
    /// Of the queries.
    scale: f32,
    /// Padded head width.
    width: usize,
}

impl Turn<'_> {
    /// Turns queries and keys of a row in place, and stores the queries, scaled, as words.
    fn row(&self, isa: Isa, row: usize, q: &mut [f32], k: &mut [f32], queries: &mut [u32]) {
        let head_dim = self.config.head_dim;
        let angles = &self.angles[row * (head_dim / 2)..][..head_dim / 2];
        let mut normed = vec![0.0; if self.config.qk_norm { head_dim } else { 0 }];
        let mut turn = |head: &mut [f32], weight: &[f32]| {
            if self.config.qk_norm {
                norm::norm(isa, head, weight, self.config.norm_eps, &mut normed);
                head.copy_from_slice(&normed);
            }
            self.rope.rotate(head, angles);
        };
        let [q_norm, k_norm] = &self.layer.head_norms;
        k.chunks_exact_mut(head_dim).for_each(|head| turn(head, k_norm));
        for (head, words) in q.chunks_exact_mut(head_dim).zip(queries.chunks_exact_mut(self.width / 2)) {
            turn(head, q_norm);
            for (word, pair) in words.iter_mut().zip(head.chunks_exact(2)) {
                *word = kv::pair(pair[0] * self.scale, pair[1] * self.scale);
            }
        }
    }
}

/// What attention reads in one layer.
struct View<'a> {
    isa: Isa,
    config: &'a ModelConfig,
    kv: &'a KvPool,
    layer: usize,
    queries: &'a [u32],
    batch: &'a StepBatch,
    plan: &'a Plan,
}

impl View<'_> {
    /// Does a job for one KV head and all query heads that share it.
    fn attend(&self, job: &AttentionJob, kv_head: usize, partials: &Shared<'_, f32>) {
        let (width, heads) = (self.kv.width, self.config.heads);
        let share = heads / self.config.kv_heads;
        let len = attention::partial_len(width);
        let total = |row: usize, head: usize| {
            let (first, _) = self.plan.parts[row];
            // SAFETY: a (row, part, head) is in one job.
            unsafe { partials.part(((first + job.part) * heads + head) * len, len) }
        };
        let query_at = |index: usize| (job.row + index / share, kv_head * share + index % share);
        let count = job.rows * share;
        for index in 0..count {
            let (row, head) = query_at(index);
            attention::clear(total(row, head));
        }
        let table = &self.batch.sequences[job.sequence].blocks;
        let mut out = vec![0.0; QUERIES * len];
        for segment in job.segments.0..job.segments.1 {
            let start = segment * SEGMENT;
            let end = (job.position + job.rows).min(start + SEGMENT);
            let mut pieces: [&[u32]; SEGMENT / BLOCK_TOKENS] = [&[]; SEGMENT / BLOCK_TOKENS];
            let blocks = &table[start / BLOCK_TOKENS..end.div_ceil(BLOCK_TOKENS)];
            for (piece, &block) in pieces.iter_mut().zip(blocks) {
                *piece = self.kv.piece(self.layer, block, kv_head);
            }
            // Rows before the segment see nothing of it.
            let skipped = start.saturating_sub(job.position) * share;
            for first in (skipped..count).step_by(QUERIES) {
                let here = QUERIES.min(count - first);
                let mut call = Call { queries: [&[]; QUERIES], visible: [0; QUERIES], count: here, pieces: &[], width };
                for at in 0..here {
                    let (row, head) = query_at(first + at);
                    call.queries[at] = &self.queries[(row * heads + head) * (width / 2)..][..width / 2];
                    call.visible[at] = SEGMENT.min(self.plan.positions[row] + 1 - start);
                }
                // Positions grow with the rows: what the last query does not see, none does.
                call.pieces = &pieces[..call.visible[here - 1].div_ceil(BLOCK_TOKENS)];
                attention::segment(self.isa, &call, &mut out);
                for (at, part) in out.chunks_exact(len).take(here).enumerate() {
                    let (row, head) = query_at(first + at);
                    attention::fold(self.isa, total(row, head), part);
                }
            }
        }
    }

    /// Puts the heads of a row together.
    fn collect(&self, row: usize, partials: &Shared<'_, f32>, values: &mut [f32]) {
        let (width, heads, head_dim) = (self.kv.width, self.config.heads, self.config.head_dim);
        let len = attention::partial_len(width);
        let (first, count) = self.plan.parts[row];
        for (head, values) in values.chunks_exact_mut(head_dim).take(heads).enumerate() {
            // SAFETY: a row is collected by one thread, after all its parts are done.
            let part = |part: usize| unsafe { partials.part(((first + part) * heads + head) * len, len) };
            let total = part(0);
            for later in 1..count {
                attention::fold(self.isa, total, part(later));
            }
            let weight = total[width + 1];
            values.iter_mut().zip(&*total).for_each(|(value, total)| *value = total / weight);
        }
    }
}
