//! What the layers of a step read of its batch: tokens, positions, block tables, in one piece of memory that is copied to the
//! GPU at once. Everything but the lists at its end lies at the same offset in every step, as captured graphs read it there.

use super::capacity::{ALIGNMENT, Capacity, CapacityExceeded, Lists};
use super::gpu::{Buffer, Gpu, GpuError, Ptr, Staging, bytes_of};
use super::kernels::kv::Span;
use super::kernels::rope::NO_SLOT;
use crate::device::{BLOCK_TOKENS, StepBatch};

/// How much of everything the layers of a step have, padded. Steps with the same key are the same launches, so they share a
/// captured graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct GraphKey {
    pub(super) rows: usize,
    /// Rows that attend alone.
    pub(super) singles: usize,
    /// Groups of rows that attend together.
    pub(super) chunks: usize,
}

impl GraphKey {
    /// Each row is a sequence's next token.
    pub(super) fn decoding(rows: usize, deterministic: bool) -> Self {
        let (singles, chunks) = if deterministic { (0, rows) } else { (rows, 0) };
        Self { rows, singles, chunks }
    }
}

/// How a batch is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchLayout {
    /// Query heads that share a KV head.
    pub(super) group: usize,
    /// Single rows attend as chunks do, so that their results do not depend on company.
    pub(super) deterministic: bool,
}

/// Where each part begins, in words.
#[derive(Debug, Clone, Copy, Default)]
struct Offsets {
    tokens: usize,
    positions: usize,
    slots: usize,
    singles: usize,
    chunks: usize,
    lists: usize,
    end: usize,
}

const SPAN_WORDS: usize = size_of::<Span>() / size_of::<u32>();

impl Offsets {
    fn new(capacity: Capacity, layout: BatchLayout) -> Self {
        let Capacity { rows, sequences, context, .. } = capacity;
        let mut offsets = Self::default();
        // The most spans: one long chunk, and one cut short for each sequence.
        let chunk = Span { rows: rows as u32, ..Span::default() };
        let parts = [
            (&mut offsets.tokens, rows),
            (&mut offsets.positions, rows),
            (&mut offsets.slots, rows),
            (&mut offsets.singles, sequences * SPAN_WORDS),
            (&mut offsets.chunks, (chunk.cut(layout.group).count() + sequences) * SPAN_WORDS),
            (&mut offsets.lists, sequences * context.div_ceil(BLOCK_TOKENS)),
        ];
        let mut end = 0;
        for (start, words) in parts {
            *start = end;
            end += words.next_multiple_of(ALIGNMENT);
        }
        offsets.end = end;
        offsets
    }
}

/// What the layers of a step read.
#[derive(Debug)]
pub(super) struct StepInputs {
    offsets: Offsets,
    layout: BatchLayout,
    // The GPU's memory goes first, which waits for copies out of the other.
    memory: Buffer<u32>,
    /// One is written while the other may be on its way.
    staging: [Staging; 2],
    turn: usize,
    used: usize,
}

impl StepInputs {
    pub(super) fn new(gpu: &dyn Gpu, capacity: Capacity, layout: BatchLayout) -> Result<Self, GpuError> {
        let offsets = Offsets::new(capacity, layout);
        let staging = [gpu.staging(offsets.end * 4)?, gpu.staging(offsets.end * 4)?];
        Ok(Self { offsets, layout, memory: Buffer::new(gpu, offsets.end)?, staging, turn: 0, used: 0 })
    }

    /// Writes a batch down. What was uploaded the time before the last must have arrived.
    pub(super) fn pack(
        &mut self,
        batch: &StepBatch,
        padded: impl Fn(usize) -> usize,
    ) -> Result<GraphKey, CapacityExceeded> {
        self.turn = 1 - self.turn;
        let words = &mut self.staging[self.turn].numbers_mut::<u32>()[..self.offsets.end];
        let (key, used) = write(words, &self.offsets, self.layout, batch, padded)?;
        self.used = used;
        Ok(key)
    }

    /// Writes an empty batch, padded to `rows` rows.
    pub(super) fn pack_idle(&mut self, rows: usize) {
        // An empty batch has no list that could be too long.
        self.pack(&StepBatch::default(), |_| rows).ok();
    }

    pub(super) fn upload(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        gpu.upload(self.memory.ptr(), &self.staging[self.turn], self.used * 4)
    }

    pub(super) fn tokens(&self) -> Ptr {
        self.memory.at(self.offsets.tokens)
    }

    pub(super) fn positions(&self) -> Ptr {
        self.memory.at(self.offsets.positions)
    }

    pub(super) fn slots(&self) -> Ptr {
        self.memory.at(self.offsets.slots)
    }

    pub(super) fn singles(&self) -> Ptr {
        self.memory.at(self.offsets.singles)
    }

    pub(super) fn chunks(&self) -> Ptr {
        self.memory.at(self.offsets.chunks)
    }

    /// All block tables; spans give offsets into it.
    pub(super) fn tables(&self) -> Ptr {
        self.memory.at(self.offsets.lists)
    }
}

/// Writes a batch down; gives its key, and the words that are used.
fn write(
    words: &mut [u32],
    offsets: &Offsets,
    layout: BatchLayout,
    batch: &StepBatch,
    padded: impl Fn(usize) -> usize,
) -> Result<(GraphKey, usize), CapacityExceeded> {
    let rows = batch.tokens.len();
    let mut lists = Lists { words: offsets.lists..offsets.end, next: offsets.lists };
    let mut key = GraphKey { rows: padded(rows), singles: 0, chunks: 0 };
    words[offsets.tokens..][..rows].copy_from_slice(&batch.tokens);
    let mut row = 0;
    for step in &batch.sequences {
        let blocks = &step.blocks[..(step.start + step.len).div_ceil(BLOCK_TOKENS)];
        let table = lists.add(words, bytes_of(blocks))?;
        for at in 0..step.len {
            let position = step.start + at;
            let block = step.blocks[position / BLOCK_TOKENS];
            words[offsets.positions + row + at] = position as u32;
            words[offsets.slots + row + at] = block * BLOCK_TOKENS as u32 + (position % BLOCK_TOKENS) as u32;
        }
        let mut put = |part: usize, count: &mut usize, span: Span| {
            let Span { row, rows, position, table } = span;
            words[part + *count * SPAN_WORDS..][..SPAN_WORDS].copy_from_slice(&[row, rows, position, table]);
            *count += 1;
        };
        let span = Span { row: row as u32, rows: step.len as u32, position: step.start as u32, table };
        if step.len == 1 && !layout.deterministic {
            put(offsets.singles, &mut key.singles, span);
        } else {
            span.cut(layout.group).for_each(|span| put(offsets.chunks, &mut key.chunks, span));
        }
        row += step.len;
    }
    let decoding = batch.sequences.len() == rows;
    let padded_key = if decoding { GraphKey::decoding(key.rows, layout.deterministic) } else { key };
    // Rows that fill a launch up write nothing and attend to nothing.
    words[offsets.tokens + rows..offsets.tokens + key.rows].fill(0);
    words[offsets.positions + rows..offsets.positions + key.rows].fill(0);
    words[offsets.slots + rows..offsets.slots + key.rows].fill(NO_SLOT);
    for (part, from, to) in
        [(offsets.singles, key.singles, padded_key.singles), (offsets.chunks, key.chunks, padded_key.chunks)]
    {
        words[part + from * SPAN_WORDS..part + to * SPAN_WORDS].fill(0);
    }
    Ok((padded_key, lists.next))
}
