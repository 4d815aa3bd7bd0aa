//! Attention of one layer, job by job.

use super::attention::{self, Call, QUERIES, SEGMENT};
use super::buffer::Shared;
use super::isa::Isa;
use super::kv::KvPool;
use super::plan::{AttentionJob, Plan};
use crate::device::{BLOCK_TOKENS, StepBatch};
use crate::model::ModelConfig;

/// Blocks of a segment.
const BLOCKS: usize = SEGMENT / BLOCK_TOKENS;

/// What attention reads in one layer.
#[derive(Clone, Copy)]
pub(crate) struct LayerAttention<'a> {
    pub(crate) isa: Isa,
    pub(crate) config: &'a ModelConfig,
    pub(crate) kv: &'a KvPool,
    pub(crate) layer: usize,
    pub(crate) queries: &'a [u32],
    pub(crate) batch: &'a StepBatch,
    pub(crate) plan: &'a Plan,
    /// Positions that a token sees, as the plan was made for.
    pub(crate) window: Option<usize>,
}

impl<'a> LayerAttention<'a> {
    /// A job, and the KV head that it is done for.
    fn job(&self, chunk: usize) -> Option<(&AttentionJob, usize)> {
        let group = self.config.kv_heads;
        Some((self.plan.attention.get(chunk / group)?, chunk % group))
    }

    /// What a job reads of a segment: its KV blocks, in `into`.
    fn kv_blocks<'b>(
        &self,
        job: &AttentionJob,
        kv_head: usize,
        segment: usize,
        into: &'b mut [&'a [u32]; BLOCKS],
    ) -> &'b [&'a [u32]] {
        let end = (job.position + job.rows).min((segment + 1) * SEGMENT).div_ceil(BLOCK_TOKENS);
        let blocks = &self.batch.sequences[job.sequence].blocks[segment * BLOCKS..end];
        for (kv_block, &block) in into.iter_mut().zip(blocks) {
            *kv_block = self.kv.kv_block(self.layer, block, kv_head);
        }
        &into[..blocks.len()]
    }

    /// Does a job for one KV head and all query heads that share it. `partials`: as [`Plan`] numbers them, of all heads.
    pub(crate) fn run(&self, chunk: usize, partials: &Shared<'_, f32>) {
        let Some((job, kv_head)) = self.job(chunk) else { return };
        let mut out = vec![0.0; QUERIES * attention::partial_len(self.kv.width)];
        for segment in job.segments.0..job.segments.1 {
            let next = match segment + 1 < job.segments.1 {
                true => Some((job, kv_head, segment + 1)),
                false => self.job(chunk + 1).map(|(job, kv_head)| (job, kv_head, job.segments.0)),
            };
            let mut later: [&[u32]; BLOCKS] = Default::default();
            let prefetch: &[&[u32]] = match next {
                Some((job, kv_head, segment)) => self.kv_blocks(job, kv_head, segment, &mut later),
                None => &[],
            };
            self.segment(job, kv_head, segment, prefetch, partials, &mut out);
        }
    }

    /// Folds one segment into the partial results of a job's queries.
    fn segment(
        &self,
        job: &AttentionJob,
        kv_head: usize,
        segment: usize,
        mut prefetch: &[&[u32]],
        partials: &Shared<'_, f32>,
        out: &mut [f32],
    ) {
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
        let (start, count) = (segment * SEGMENT, job.rows * share);
        let mut here: [&[u32]; BLOCKS] = Default::default();
        let kv_blocks = self.kv_blocks(job, kv_head, segment, &mut here);
        // Rows before the segment see nothing of it.
        let skipped = start.saturating_sub(job.position) * share;
        for first in (skipped..count).step_by(QUERIES) {
            let here = first..count.min(first + QUERIES);
            let (mut visible, mut hidden) = ([0; QUERIES], [0; QUERIES]);
            for (query, (visible, hidden)) in here.clone().zip(visible.iter_mut().zip(&mut hidden)) {
                let end = job.position + query / share + 1;
                *visible = SEGMENT.min(end - start);
                let first = self.window.map_or(0, |window| end.saturating_sub(window));
                *hidden = SEGMENT.min(first.saturating_sub(start));
            }
            let (visible, hidden) = (&visible[..here.len()], &hidden[..here.len()]);
            // Positions grow with the rows: what the last query does not see, none does.
            let kv_blocks = &kv_blocks[..visible[here.len() - 1].div_ceil(BLOCK_TOKENS)];
            let queries = &queries[here.start * words..here.end * words];
            attention::segment(self.isa, &Call { queries, visible, hidden, kv_blocks, width, prefetch }, out);
            prefetch = &[];
            for (query, part) in here.zip(out.chunks_exact(len)) {
                // No query sees anything before the job's first segment.
                match segment == job.segments.0 {
                    true => total(query).copy_from_slice(part),
                    false => attention::fold(self.isa, total(query), part),
                }
            }
        }
    }

    /// Puts the heads of a row together.
    pub(crate) fn collect(&self, row: usize, partials: &Shared<'_, f32>, values: &mut [f32]) {
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
