//! What a step needs to know of its batch, in one piece of memory that is copied to the GPU at once: tokens, positions,
//! block tables, sampling. Everything but the lists at its end lies at the same place in every step, as recorded steps
//! read it there.

use super::gpu::{Buffer, Gpu, GpuError, Ptr, Staging, bytes_of, bytes_of_mut};
use super::kernels::kv::Span;
use super::kernels::rope::NO_SLOT;
use super::kernels::sample::{Choices, Row};
use crate::device::{BLOCK_TOKENS, StepBatch};

/// How many of everything one step may have; rows and sequences filled up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) rows: usize,
    pub(super) sequences: usize,
    /// Tokens of a sequence.
    pub(super) context: usize,
    pub(super) vocab: usize,
}

/// Words for lists beyond block tables and masks of all sequences: penalised tokens and biases, which are short as a rule.
const LISTS: usize = 4 << 20;

/// How much of everything a step has, filled up as launches need it. Steps of the same shape are the same launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) rows: usize,
    /// Rows that attend alone.
    pub(super) singles: usize,
    /// Groups of rows that attend together.
    pub(super) chunks: usize,
    pub(super) samples: usize,
}

impl Shape {
    /// Each row is a sequence's next token.
    pub(super) fn decoding(rows: usize, alike: bool) -> Self {
        let (singles, chunks) = if alike { (0, rows) } else { (rows, 0) };
        Self { rows, singles, chunks, samples: rows }
    }
}

/// How a batch is laid out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Query heads that share a KV head.
    pub(super) group: usize,
    /// Single rows attend as chunks do, so that their results do not depend on company.
    pub(super) alike: bool,
}

/// A batch whose lists are too long for one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full;

/// Where each part begins, in words.
#[derive(Debug, Clone, Copy, Default)]
struct Places {
    tokens: usize,
    positions: usize,
    slots: usize,
    singles: usize,
    chunks: usize,
    sampled_rows: usize,
    choices: usize,
    lists: usize,
    end: usize,
}

const SPAN_WORDS: usize = size_of::<Span>() / size_of::<u32>();
const ROW_WORDS: usize = size_of::<Row>() / size_of::<u32>();
/// Parts begin where vectors of 16 bytes may.
const ALIGNMENT: usize = 4;

impl Places {
    fn new(capacity: Capacity, style: Style) -> Self {
        let Capacity { rows, sequences, context, vocab } = capacity;
        let mut places = Self::default();
        let each = context.div_ceil(BLOCK_TOKENS) + vocab.div_ceil(32);
        let lists = sequences * each + LISTS.max(4 * vocab);
        // The most spans: one long chunk, and one cut short for each sequence.
        let chunk = Span { rows: rows as u32, ..Span::default() };
        let parts = [
            (&mut places.tokens, rows),
            (&mut places.positions, rows),
            (&mut places.slots, rows),
            (&mut places.singles, sequences * SPAN_WORDS),
            (&mut places.chunks, (chunk.cut(style.group).count() + sequences) * SPAN_WORDS),
            (&mut places.sampled_rows, sequences),
            (&mut places.choices, sequences * ROW_WORDS),
            (&mut places.lists, lists),
        ];
        let mut end = 0;
        for (start, words) in parts {
            *start = end;
            end += words.next_multiple_of(ALIGNMENT);
        }
        places.end = end;
        places
    }
}

#[derive(Debug)]
pub(super) struct Packet {
    places: Places,
    style: Style,
    choices: Choices,
    staging: Staging,
    memory: Buffer<u32>,
    used: usize,
}

impl Packet {
    pub(super) fn new(gpu: &dyn Gpu, capacity: Capacity, style: Style) -> Result<Self, GpuError> {
        let places = Places::new(capacity, style);
        let (staging, memory) = (gpu.staging(places.end * 4)?, Buffer::new(gpu, places.end)?);
        Ok(Self { places, style, choices: Choices::default(), staging, memory, used: 0 })
    }

    /// Writes a batch down. What was uploaded before must have arrived.
    pub(super) fn pack(&mut self, batch: &StepBatch, fit: impl Fn(usize) -> usize) -> Result<Shape, Full> {
        let words = &mut self.staging.numbers_mut::<u32>()[..self.places.end];
        let (shape, used) = write(words, &self.places, self.style, batch, &mut self.choices, fit)?;
        self.used = used;
        Ok(shape)
    }

    /// Writes a batch of nothing down, filled up to `rows` rows.
    pub(super) fn pack_idle(&mut self, rows: usize) {
        // An empty batch has no list that could be too long.
        self.pack(&StepBatch::default(), |_| rows).ok();
    }

    pub(super) fn upload(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        gpu.upload(self.memory.ptr(), &self.staging, self.used * 4)
    }

    pub(super) fn tokens(&self) -> Ptr {
        self.memory.at(self.places.tokens)
    }

    pub(super) fn positions(&self) -> Ptr {
        self.memory.at(self.places.positions)
    }

    pub(super) fn slots(&self) -> Ptr {
        self.memory.at(self.places.slots)
    }

    pub(super) fn singles(&self) -> Ptr {
        self.memory.at(self.places.singles)
    }

    pub(super) fn chunks(&self) -> Ptr {
        self.memory.at(self.places.chunks)
    }

    pub(super) fn sampled_rows(&self) -> Ptr {
        self.memory.at(self.places.sampled_rows)
    }

    pub(super) fn choices(&self) -> Ptr {
        self.memory.at(self.places.choices)
    }

    /// What spans and choices give places in.
    pub(super) fn lists(&self) -> Ptr {
        self.memory.at(self.places.lists)
    }
}

/// Writes a batch down; gives its shape, and the words that are used.
fn write(
    words: &mut [u32],
    places: &Places,
    style: Style,
    batch: &StepBatch,
    choices: &mut Choices,
    fit: impl Fn(usize) -> usize,
) -> Result<(Shape, usize), Full> {
    let rows = batch.tokens.len();
    let mut lists = Lists { words: places.lists..places.end, next: places.lists };
    let mut shape = Shape { rows: fit(rows), singles: 0, chunks: 0, samples: 0 };
    words[places.tokens..][..rows].copy_from_slice(&batch.tokens);
    choices.clear();
    let mut row = 0;
    for step in &batch.sequences {
        let blocks = &step.blocks[..(step.start + step.len).div_ceil(BLOCK_TOKENS)];
        let table = lists.add(words, bytes_of(blocks))?;
        for at in 0..step.len {
            let position = step.start + at;
            let block = step.blocks[position / BLOCK_TOKENS];
            words[places.positions + row + at] = position as u32;
            words[places.slots + row + at] = block * BLOCK_TOKENS as u32 + (position % BLOCK_TOKENS) as u32;
        }
        let mut put = |part: usize, count: &mut usize, span: Span| {
            let Span { row, rows, position, table } = span;
            words[part + *count * SPAN_WORDS..][..SPAN_WORDS].copy_from_slice(&[row, rows, position, table]);
            *count += 1;
        };
        let span = Span { row: row as u32, rows: step.len as u32, position: step.start as u32, table };
        if step.len == 1 && !style.alike {
            put(places.singles, &mut shape.singles, span);
        } else {
            span.cut(style.group).for_each(|span| put(places.chunks, &mut shape.chunks, span));
        }
        row += step.len;
        if let Some(params) = &step.sample {
            words[places.sampled_rows + shape.samples] = (row - 1) as u32;
            choices.push(params);
            shape.samples += 1;
        }
    }
    // A bias is two words, and places count in biases.
    lists.next = lists.next.next_multiple_of(ALIGNMENT);
    let biases = lists.add(words, bytes_of(&choices.biases))? / 2;
    let penalised = lists.add(words, bytes_of(&choices.penalised))?;
    let masks = lists.add(words, bytes_of(&choices.masks))?;
    for (index, row) in choices.rows.iter().enumerate() {
        let to = &mut words[places.choices + index * ROW_WORDS..][..ROW_WORDS];
        bytes_of_mut(to).copy_from_slice(bytes_of(&[row.shifted(biases, penalised, masks)]));
    }
    let decoding = batch.sequences.len() == rows;
    let filled = if decoding {
        Shape::decoding(shape.rows, style.alike)
    } else {
        Shape { samples: fit(shape.samples), ..shape }
    };
    let filled = if shape.samples == 0 { Shape { samples: 0, ..filled } } else { filled };
    // Rows that fill a launch up write nothing and attend to nothing.
    words[places.tokens + rows..places.tokens + shape.rows].fill(0);
    words[places.positions + rows..places.positions + shape.rows].fill(0);
    words[places.slots + rows..places.slots + shape.rows].fill(NO_SLOT);
    for (part, from, to) in
        [(places.singles, shape.singles, filled.singles), (places.chunks, shape.chunks, filled.chunks)]
    {
        words[part + from * SPAN_WORDS..part + to * SPAN_WORDS].fill(0);
    }
    words[places.sampled_rows + shape.samples..places.sampled_rows + filled.samples].fill(0);
    words[places.choices + shape.samples * ROW_WORDS..places.choices + filled.samples * ROW_WORDS].fill(0);
    Ok((filled, lists.next))
}

/// Lists of any length, one after the other.
struct Lists {
    words: std::ops::Range<usize>,
    next: usize,
}

impl Lists {
    /// Adds a list of whole words; gives its place, counted from the first list.
    fn add(&mut self, words: &mut [u32], list: &[u8]) -> Result<u32, Full> {
        let (start, end) = (self.next, self.next + list.len() / size_of::<u32>());
        if end > self.words.end {
            return Err(Full);
        }
        bytes_of_mut(&mut words[start..end]).copy_from_slice(list);
        self.next = end;
        Ok((start - self.words.start) as u32)
    }
}
