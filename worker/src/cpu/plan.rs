//! A step's batch, cut into the jobs that attention is made of.

use super::attention::SEGMENT;
use crate::device::{BLOCK_TOKENS, StepBatch};

/// Rows of a prefill chunk that attend together, so that each key is read once for many queries.
const TILE_ROWS: usize = 16;

/// Part of a sequence's attention for one KV head: consecutive rows, a range of segments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AttentionJob {
    pub(crate) sequence: usize,
    /// First row of the batch, and number of rows.
    pub(crate) row: usize,
    pub(crate) rows: usize,
    /// Position of the first row.
    pub(crate) position: usize,
    pub(crate) segments: (usize, usize),
    /// Which of the rows' partial results this job makes.
    pub(crate) part: usize,
}

/// Positions of a sequence that lie in one block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteJob {
    pub(crate) sequence: usize,
    pub(crate) row: usize,
    pub(crate) rows: usize,
    pub(crate) position: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Position of each row.
    pub(crate) positions: Vec<usize>,
    pub(crate) writes: Vec<WriteJob>,
    pub(crate) attention: Vec<AttentionJob>,
    /// First partial result of each row and their number, in units of all heads of a row.
    pub(crate) parts: Vec<(usize, usize)>,
    /// Partial results of all rows.
    pub(crate) total_parts: usize,
}

impl Plan {
    /// `spread`: cut the context of decoding rows into jobs of one segment if there are fewer rows than this. `window`:
    /// positions that a token sees, if it does not see all.
    pub(crate) fn new(batch: &StepBatch, spread: usize, window: Option<usize>) -> Self {
        let mut plan = Self::default();
        let rows = batch.tokens.len();
        let mut row = 0;
        for (sequence, step) in batch.sequences.iter().enumerate() {
            plan.positions.extend(step.start..step.start + step.len);
            let mut at = 0;
            while at < step.len {
                let position = step.start + at;
                let count = (BLOCK_TOKENS - position % BLOCK_TOKENS).min(step.len - at);
                plan.writes.push(WriteJob { sequence, row: row + at, rows: count, position });
                at += count;
            }
            for at in (0..step.len).step_by(TILE_ROWS) {
                let count = TILE_ROWS.min(step.len - at);
                let position = step.start + at;
                let first = window.map_or(0, |window| (position + 1).saturating_sub(window) / SEGMENT);
                let segments = (first, (position + count).div_ceil(SEGMENT));
                plan.push_attention(sequence, (row + at, count), position, segments, count == 1 && rows < spread);
            }
            row += step.len;
        }
        plan
    }

    fn push_attention(
        &mut self,
        sequence: usize,
        (row, rows): (usize, usize),
        position: usize,
        (first, end): (usize, usize),
        split: bool,
    ) {
        let parts = if split { end - first } else { 1 };
        for _ in 0..rows {
            self.parts.push((self.total_parts, parts));
            self.total_parts += parts;
        }
        for part in 0..parts {
            let segments = if split { (first + part, first + part + 1) } else { (first, end) };
            self.attention.push(AttentionJob { sequence, row, rows, position, segments, part });
        }
    }
}
