//! A step's batch, checked, and cut into the pieces of work that attention is made of.

use super::attention::SEGMENT;
use crate::device::{BLOCK_TOKENS, DeviceError, SeqStep, StepBatch};

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
    /// `spread`: cut the context of decoding rows into jobs of one segment if there are fewer rows than this.
    pub(crate) fn new(batch: &StepBatch, spread: usize) -> Self {
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
                plan.attend(sequence, row + at, count, step.start + at, count == 1 && rows < spread);
            }
            row += step.len;
        }
        plan
    }

    fn attend(&mut self, sequence: usize, row: usize, rows: usize, position: usize, split: bool) {
        let segments = (position + rows).div_ceil(SEGMENT);
        let parts = if split { segments } else { 1 };
        for _ in 0..rows {
            self.parts.push((self.total_parts, parts));
            self.total_parts += parts;
        }
        for part in 0..parts {
            let segments = if split { (part, part + 1) } else { (0, segments) };
            self.attention.push(AttentionJob { sequence, row, rows, position, segments, part });
        }
    }
}

/// Refuses a batch that cannot be run.
pub(crate) fn check(batch: &StepBatch, max_tokens: usize, vocab: usize, blocks: usize) -> Result<(), DeviceError> {
    let wrong = |what: String| Err(DeviceError::Step(what));
    let tokens = batch.tokens.len();
    if tokens > max_tokens {
        return wrong(format!("{tokens} tokens in one step, where {max_tokens} fit"));
    }
    let lengths: usize = batch.sequences.iter().map(|sequence| sequence.len).sum();
    if lengths != tokens {
        return wrong(format!("{tokens} tokens for sequences of {lengths} in all"));
    }
    if let Some(token) = batch.tokens.iter().find(|token| **token as usize >= vocab) {
        return wrong(format!("token {token} is beyond the vocabulary of {vocab}"));
    }
    let mut written = Vec::new();
    for (index, SeqStep { len, start, blocks: table, .. }) in batch.sequences.iter().enumerate() {
        let needed = (start + len).div_ceil(BLOCK_TOKENS);
        if *len == 0 || table.len() < needed {
            let held = table.len();
            return wrong(format!(
                "sequence {index}: {len} tokens from {start} on need {needed} blocks, it has {held}"
            ));
        }
        if let Some(block) = table[..needed].iter().find(|block| **block as usize >= blocks) {
            return wrong(format!("sequence {index}: block {block} is beyond the pool of {blocks}"));
        }
        written.extend_from_slice(&table[start / BLOCK_TOKENS..needed]);
    }
    // Blocks are written by several threads at once: two sequences may share what they read, never what they write.
    written.sort_unstable();
    if let Some(pair) = written.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong(format!("block {} is written by two sequences, or twice by one", pair[0]));
    }
    Ok(())
}
