//! The forward pass of one step, shared by all families: a row of work after the other, each spread over the pool.

use std::ops::Range;
use std::slice;

use super::acts::{Acts, GROUP};
use super::attention::{self, Call, QUERIES, SEGMENT};
use super::blocks::RUN;
use super::buffer::{Buffer, Shared};
use super::isa::Isa;
use super::kv::{self, KvPool};
use super::lanes::{LANES, Lanes};
use super::matmul::{self, Out};
use super::norm;
use super::pool::{self, Pool};
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

/// Blocks of a segment.
const PIECES: usize = SEGMENT / BLOCK_TOKENS;

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

        let (head_dim, width, share) = (config.head_dim, kv.width, config.heads / config.kv_heads);
        let [q, k, v] = layer.qkv.each_ref().map(|matrix| matrix.outputs);
        let qkv_width = q + k + v;
        let out = scratch.qkv.shared();
        let output = Stage::Each(slice::from_ref(&layer.output));
        multiply(
            pool,
            isa,
            [Stage::Each(&layer.qkv), output],
            &scratch.attn_in,
            rows,
            &|part, outputs, first_row, results| {
                let offset = [0, q, q + k][part];
                let bias = layer.biases[part].get(outputs.clone());
                for (row, result) in results.iter().enumerate() {
                    // SAFETY: this call alone has these outputs of these rows.
                    let out =
                        unsafe { out.part((first_row + row) * qkv_width + offset + outputs.start, outputs.len()) };
                    out.copy_from_slice(&result[..outputs.len()]);
                    if let Some(bias) = bias {
                        out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
                    }
                }
            },
        );

        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let turn = Turn { layer, rope, angles: &scratch.angles, config, scale };
        let (out, queries, writer) = (scratch.qkv.shared(), scratch.queries.shared(), kv.writer(index));
        let write = |job: &WriteJob| {
            for at in 0..job.rows {
                let row = job.row + at;
                // SAFETY: each row is in one job.
                let qkv = unsafe { out.part(row * qkv_width, qkv_width) };
                let (q, kv) = qkv.split_at_mut(q);
                let (k, v) = kv.split_at_mut(k);
                turn.row(isa, row, q, k);
                for (kv_head, heads) in q.chunks_exact(share * head_dim).enumerate() {
                    // SAFETY: as above.
                    let words = unsafe { queries.part((kv_head * rows + row) * share * width / 2, share * width / 2) };
                    for (head, words) in heads.chunks_exact(head_dim).zip(words.chunks_exact_mut(width / 2)) {
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
        spread(pool, plan.writes.len(), rows, &|index| write(&plan.writes[index]));

        let len = attention::partial_len(width);
        let needed = plan.total_parts * config.heads * len;
        if scratch.partials.len() < needed {
            scratch.partials.resize(needed, 0.0);
        }
        let view = View { isa, config, kv, layer: index, queries: &scratch.queries, batch, plan };
        let partials = Shared::new(&mut scratch.partials);
        let group = config.kv_heads;
        pool.run(plan.attention.len() * group, &|chunk| view.attend(chunk, &partials));

        let (sink, partials) = (scratch.output_in.sink(), Shared::new(&mut scratch.partials));
        spread(pool, rows.div_ceil(GROUP), rows, &|group| {
            let mut values = vec![0.0; sink.width];
            for row in group * GROUP..rows.min(group * GROUP + GROUP) {
                view.collect(row, &partials, &mut values);
                norm::put(isa, &values, &sink, row);
            }
        });

        let stages = [output, Stage::Pairs(&layer.gate, &layer.up)];
        add_to_residual(pool, isa, stages, &scratch.output_in, rows, scratch.x.shared());
    }

    fn feed(&mut self, layer: usize, rows: usize) {
        let Self { config, isa, pool, weights, scratch, .. } = self;
        let next = match weights.layers.get(layer + 1) {
            Some(layer) => Stage::Each(&layer.qkv),
            None => Stage::Each(slice::from_ref(weights.head())),
        };
        let (layer, isa) = (&weights.layers[layer], *isa);
        let down = Stage::Each(slice::from_ref(&layer.down));
        norm_rows(pool, isa, &scratch.x, config, &layer.ffn_norm, rows, &mut scratch.ffn_in);
        let sink = scratch.down_in.sink();
        let (gate, up, acts) = (&layer.gate, &layer.up, &scratch.ffn_in);
        let stages = [Stage::Pairs(gate, up), down];
        for_tiles(pool, stages, rows, &|unit, groups, ahead| {
            for group in groups {
                let here = GROUP.min(rows - group * GROUP);
                let mut outs: [[Out; 2]; 2] = [[[[0.0; LANES]; GROUP]; 2]; 2];
                for (at, (matrix, outs)) in [gate, up].into_iter().zip(&mut outs).enumerate() {
                    for (half, (tile, out)) in (unit * 2..matrix.tiles()).zip(outs).enumerate() {
                        matmul::tile(isa, matrix, tile, acts, group, here, ahead.tile(at * 2 + half, group), out);
                    }
                }
                let [gate, up] = &outs;
                for row in 0..here {
                    let halves = |[low, high]: &[Out; 2]| [low[row], high[row]];
                    let (gate, up) = (halves(gate), halves(up));
                    norm::silu_put(isa, gate.each_ref(), up.each_ref(), &sink, group * GROUP + row, unit * RUN);
                }
            }
        });
        add_to_residual(pool, isa, [down, next], &scratch.down_in, rows, scratch.x.shared());
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
        let stages = [slice::from_ref(weights.head()), &weights.layers[0].qkv].map(Stage::Each);
        multiply(pool, isa, stages, &scratch.head_in, rows.len(), &|_, outputs, first_row, results| {
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

/// Weights that the same rows meet, in units of tiles.
#[derive(Debug, Clone, Copy)]
enum Stage<'a> {
    /// One tile after the other, one matrix after the other.
    Each(&'a [Matrix]),
    /// Two tiles of each: 32 outputs of both, which make one run of the rows that come of them.
    Pairs(&'a Matrix, &'a Matrix),
}

impl<'a> Stage<'a> {
    fn units(self) -> usize {
        match self {
            Self::Each(matrices) => matrices.iter().map(Matrix::tiles).sum(),
            Self::Pairs(first, _) => first.tiles().div_ceil(2),
        }
    }

    fn unit_bytes(self) -> usize {
        match self {
            Self::Each(matrices) => matrices[0].tile_bytes(),
            Self::Pairs(first, second) => 2 * (first.tile_bytes() + second.tile_bytes()),
        }
    }

    /// Matrix and tile that come as number `at` of a unit.
    fn tile(self, unit: usize, at: usize) -> Option<(usize, &'a Matrix, usize)> {
        match self {
            Self::Each(matrices) => {
                let mut tile = unit;
                for (part, matrix) in matrices.iter().enumerate() {
                    if tile < matrix.tiles() {
                        return Some((part, matrix, tile));
                    }
                    tile -= matrix.tiles();
                }
                None
            }
            Self::Pairs(first, second) => {
                let (part, tile) = (at / 2, unit * 2 + at % 2);
                let matrix = [first, second][part];
                (tile < matrix.tiles()).then_some((part, matrix, tile))
            }
        }
    }
}

/// How a stage's units are spread over threads.
struct Split<'a> {
    stage: Stage<'a>,
    units: usize,
    per_chunk: usize,
    threads: usize,
}

impl<'a> Split<'a> {
    fn new(stage: Stage<'a>, groups: usize, threads: usize) -> Self {
        let units = stage.units();
        // About 1 us of reading or multiplying at least; four chunks a thread even out what else runs on the machine.
        let least = (24 << 10) / (stage.unit_bytes() * groups).max(1) + 1;
        Self { stage, units, per_chunk: units.div_ceil(4 * threads).max(least).min(units.max(1)), threads }
    }

    fn chunks(&self) -> usize {
        self.units.div_ceil(self.per_chunk)
    }

    fn chunk(&self, chunk: usize) -> Range<usize> {
        chunk * self.per_chunk..self.units.min((chunk + 1) * self.per_chunk)
    }

    /// What a thread does unless others are faster.
    fn share(&self, thread: usize) -> Range<usize> {
        let chunks = pool::share_of(self.chunks(), thread, self.threads);
        self.chunk(chunks.start).start..self.units.min(chunks.end * self.per_chunk)
    }
}

/// A unit that a thread will come to soon.
#[derive(Clone, Copy)]
struct Ahead<'a>(Option<(Stage<'a>, usize)>);

impl Ahead<'_> {
    /// The unit's tile number `at`, to be fetched while a tile meets its first group of rows.
    fn tile(self, at: usize, group: usize) -> *const u8 {
        let found = self.0.filter(|_| group == 0).and_then(|(stage, unit)| stage.tile(unit, at));
        found.map_or(std::ptr::null(), |(_, matrix, tile)| matrix.tile(tile).as_ptr())
    }
}

/// Calls `each(unit, groups, ahead)` for all units of the first stage and all groups of rows, in chunks that are worth a
/// thread's while. A thread that comes to the end of its share looks ahead to its share of the second stage.
fn for_tiles(
    pool: &mut Pool,
    [stage, next]: [Stage<'_>; 2],
    rows: usize,
    each: &(dyn Fn(usize, Range<usize>, Ahead<'_>) + Sync),
) {
    let (groups, threads) = (rows.div_ceil(GROUP), pool.threads());
    let (split, next) = (Split::new(stage, groups, threads), Split::new(next, groups, threads));
    // What memory gives while it is waited for.
    let distance = (16 << 10) / stage.unit_bytes() + 1;
    let chunks = split.chunks();
    pool.run(chunks, &|chunk| {
        let thread = ((chunk + 1) * threads - 1) / chunks;
        let (share, after) = (split.share(thread), next.share(thread));
        for first in (0..groups).step_by(ROW_BLOCK) {
            for unit in split.chunk(chunk) {
                let later = unit + distance;
                let ahead = match later.checked_sub(share.end) {
                    None => Some((stage, later)),
                    Some(over) => Some((next.stage, after.start + over)).filter(|(_, unit)| *unit < after.end),
                };
                each(unit, first..groups.min(first + ROW_BLOCK), Ahead(ahead));
            }
        }
    });
}

/// Takes what a tile gave: which matrix, which of its outputs, the first row, the results of the rows.
type Take<'a> = dyn Fn(usize, Range<usize>, usize, &[Lanes]) + Sync + 'a;

/// Multiplies rows with the matrices of the first stage.
fn multiply(pool: &mut Pool, isa: Isa, stages: [Stage<'_>; 2], acts: &Acts, rows: usize, each: &Take<'_>) {
    for_tiles(pool, stages, rows, &|unit, groups, ahead| {
        let Some((part, matrix, tile)) = stages[0].tile(unit, 0) else { unreachable!("a unit of the stage") };
        let outputs = tile * LANES..matrix.outputs.min(tile * LANES + LANES);
        let mut out: Out = [[0.0; LANES]; GROUP];
        for group in groups {
            let here = GROUP.min(rows - group * GROUP);
            matmul::tile(isa, matrix, tile, acts, group, here, ahead.tile(0, group), &mut out);
            each(part, outputs.clone(), group * GROUP, &out[..here]);
        }
    });
}

fn add_to_residual(pool: &mut Pool, isa: Isa, stages: [Stage<'_>; 2], acts: &Acts, rows: usize, x: Shared<'_, f32>) {
    let Some((_, matrix, _)) = stages[0].tile(0, 0) else { return };
    multiply(pool, isa, stages, acts, rows, &|_, outputs, first_row, results| {
        for (row, result) in results.iter().enumerate() {
            // SAFETY: this call alone has these outputs of these rows.
            let x = unsafe { x.part((first_row + row) * matrix.outputs + outputs.start, outputs.len()) };
            x.iter_mut().zip(result).for_each(|(x, result)| *x += result);
        }
    });
}

/// Head norms, rope and scale of one layer.
struct Turn<'a> {
    layer: &'a Layer,
    rope: &'a Rope,
    angles: &'a [[f32; 2]],
    config: &'a ModelConfig,
    /// Of the queries.
    scale: f32,
}

impl Turn<'_> {
    /// Turns queries and keys of a row in place, and scales the queries.
    fn row(&self, isa: Isa, row: usize, q: &mut [f32], k: &mut [f32]) {
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
        for head in q.chunks_exact_mut(head_dim) {
            turn(head, q_norm);
            head.iter_mut().for_each(|x| *x *= self.scale);
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

impl<'a> View<'a> {
    /// A job, and the KV head that it is done for.
    fn chunk(&self, chunk: usize) -> Option<(&AttentionJob, usize)> {
        let group = self.config.kv_heads;
        Some((self.plan.attention.get(chunk / group)?, chunk % group))
    }

    /// What a job reads of a segment.
    fn pieces<'b>(
        &self,
        job: &AttentionJob,
        kv_head: usize,
        segment: usize,
        into: &'b mut [&'a [u32]; PIECES],
    ) -> &'b [&'a [u32]] {
        let end = (job.position + job.rows).min((segment + 1) * SEGMENT).div_ceil(BLOCK_TOKENS);
        let blocks = &self.batch.sequences[job.sequence].blocks[segment * PIECES..end];
        for (piece, &block) in into.iter_mut().zip(blocks) {
            *piece = self.kv.piece(self.layer, block, kv_head);
        }
        &into[..blocks.len()]
    }

    /// Does a job for one KV head and all query heads that share it.
    fn attend(&self, chunk: usize, partials: &Shared<'_, f32>) {
        let Some((job, kv_head)) = self.chunk(chunk) else { return };
        let (width, heads) = (self.kv.width, self.config.heads);
        let (share, rows) = (heads / self.config.kv_heads, self.batch.tokens.len());
        let (len, words) = (attention::partial_len(width), width / 2);
        let total = |query: usize| {
            let (first, _) = self.plan.parts[job.row + query / share];
            let head = kv_head * share + query % share;
            // SAFETY: a (row, part, head) is in one job.
            unsafe { partials.part(((first + job.part) * heads + head) * len, len) }
        };
        let queries = &self.queries[(kv_head * rows + job.row) * share * words..][..job.rows * share * words];
        let count = job.rows * share;
        let mut out = vec![0.0; QUERIES * len];
        for segment in job.segments.0..job.segments.1 {
            let start = segment * SEGMENT;
            let (mut here, mut later): ([&[u32]; PIECES], [&[u32]; PIECES]) = Default::default();
            let pieces = self.pieces(job, kv_head, segment, &mut here);
            let next = match segment + 1 < job.segments.1 {
                true => Some((job, kv_head, segment + 1)),
                false => self.chunk(chunk + 1).map(|(job, kv_head)| (job, kv_head, job.segments.0)),
            };
            let mut ahead: &[&[u32]] = match next {
                Some((job, kv_head, segment)) => self.pieces(job, kv_head, segment, &mut later),
                None => &[],
            };
            // Rows before the segment see nothing of it.
            let skipped = start.saturating_sub(job.position) * share;
            for first in (skipped..count).step_by(QUERIES) {
                let here = first..count.min(first + QUERIES);
                let mut visible = [0; QUERIES];
                for (query, visible) in here.clone().zip(&mut visible) {
                    *visible = SEGMENT.min(job.position + query / share + 1 - start);
                }
                let visible = &visible[..here.len()];
                // Positions grow with the rows: what the last query does not see, none does.
                let pieces = &pieces[..visible[here.len() - 1].div_ceil(BLOCK_TOKENS)];
                let queries = &queries[here.start * words..here.end * words];
                let call = Call { queries, visible, pieces, width, ahead };
                attention::segment(self.isa, &call, &mut out);
                ahead = &[];
                for (query, part) in here.zip(out.chunks_exact(len)) {
                    // Every query sees something of the job's first segment.
                    match segment == job.segments.0 {
                        true => total(query).copy_from_slice(part),
                        false => attention::fold(self.isa, total(query), part),
                    }
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
