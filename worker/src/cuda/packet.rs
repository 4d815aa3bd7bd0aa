//! What a step needs to know of its batch, in two pieces of memory that are each copied to the GPU at once: what its layers
//! read (tokens, positions, block tables), and later how its tokens are chosen. Everything but the lists at their ends lies
//! at the same place in every step, as recorded steps read it there.

use super::gpu::{Buffer, Gpu, GpuError, Ptr, Staging, bytes_of, bytes_of_mut};
use super::kernels::kv::Span;
use super::kernels::rope::NO_SLOT;
use super::kernels::sample::{Choices, Row};
use crate::device::{BLOCK_TOKENS, SampleParams, StepBatch};

/// How many of everything one step may have; rows and sequences filled up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    pub(super) rows: usize,
    pub(super) sequences: usize,
    /// Tokens of a sequence.
    pub(super) context: usize,
    pub(super) vocab: usize,
}

/// Words for lists beyond the masks of all sequences: penalised tokens and biases, which are short as a rule.
const LISTS: usize = 4 << 20;

/// How much of everything a step's layers have, filled up as launches need it. Steps of the same shape are the same launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    pub(super) rows: usize,
    /// Rows that attend alone.
    pub(super) singles: usize,
    /// Groups of rows that attend together.
    pub(super) chunks: usize,
}

impl Shape {
    /// Each row is a sequence's next token.
    pub(super) fn decoding(rows: usize, alike: bool) -> Self {
        let (singles, chunks) = if alike { (0, rows) } else { (rows, 0) };
        Self { rows, singles, chunks }
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
    lists: usize,
    end: usize,
}

const SPAN_WORDS: usize = size_of::<Span>() / size_of::<u32>();
const ROW_WORDS: usize = size_of::<Row>() / size_of::<u32>();
/// Parts begin where vectors of 16 bytes may.
const ALIGNMENT: usize = 4;

impl Places {
    fn new(capacity: Capacity, style: Style) -> Self {
        let Capacity { rows, sequences, context, .. } = capacity;
        let mut places = Self::default();
        // The most spans: one long chunk, and one cut short for each sequence.
        let chunk = Span { rows: rows as u32, ..Span::default() };
        let parts = [
            (&mut places.tokens, rows),
            (&mut places.positions, rows),
            (&mut places.slots, rows),
            (&mut places.singles, sequences * SPAN_WORDS),
            (&mut places.chunks, (chunk.cut(style.group).count() + sequences) * SPAN_WORDS),
            (&mut places.lists, sequences * context.div_ceil(BLOCK_TOKENS)),
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

/// What the layers of a step read.
#[derive(Debug)]
pub(super) struct Packet {
    places: Places,
    style: Style,
    // The GPU's memory goes first, which waits for copies out of the other.
    memory: Buffer<u32>,
    /// One is written while the other may be on its way.
    staging: [Staging; 2],
    turn: usize,
    used: usize,
}

impl Packet {
    pub(super) fn new(gpu: &dyn Gpu, capacity: Capacity, style: Style) -> Result<Self, GpuError> {
        let places = Places::new(capacity, style);
        let staging = [gpu.staging(places.end * 4)?, gpu.staging(places.end * 4)?];
        Ok(Self { places, style, memory: Buffer::new(gpu, places.end)?, staging, turn: 0, used: 0 })
    }

    /// Writes a batch down. What was uploaded the time before the last must have arrived.
    pub(super) fn pack(&mut self, batch: &StepBatch, fit: impl Fn(usize) -> usize) -> Result<Shape, Full> {
        self.turn = 1 - self.turn;
        let words = &mut self.staging[self.turn].numbers_mut::<u32>()[..self.places.end];
        let (shape, used) = write(words, &self.places, self.style, batch, fit)?;
        self.used = used;
        Ok(shape)
    }

    /// Writes a batch of nothing down, filled up to `rows` rows.
    pub(super) fn pack_idle(&mut self, rows: usize) {
        // An empty batch has no list that could be too long.
        self.pack(&StepBatch::default(), |_| rows).ok();
    }

    pub(super) fn upload(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        gpu.upload(self.memory.ptr(), &self.staging[self.turn], self.used * 4)
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

    /// What spans give places in.
    pub(super) fn tables(&self) -> Ptr {
        self.memory.at(self.places.lists)
    }
}

/// Writes a batch down; gives its shape, and the words that are used.
fn write(
    words: &mut [u32],
    places: &Places,
    style: Style,
    batch: &StepBatch,
    fit: impl Fn(usize) -> usize,
) -> Result<(Shape, usize), Full> {
    let rows = batch.tokens.len();
    let mut lists = Lists { words: places.lists..places.end, next: places.lists };
    let mut shape = Shape { rows: fit(rows), singles: 0, chunks: 0 };
    words[places.tokens..][..rows].copy_from_slice(&batch.tokens);
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
    }
    let decoding = batch.sequences.len() == rows;
    let filled = if decoding { Shape::decoding(shape.rows, style.alike) } else { shape };
    // Rows that fill a launch up write nothing and attend to nothing.
    words[places.tokens + rows..places.tokens + shape.rows].fill(0);
    words[places.positions + rows..places.positions + shape.rows].fill(0);
    words[places.slots + rows..places.slots + shape.rows].fill(NO_SLOT);
    for (part, from, to) in
        [(places.singles, shape.singles, filled.singles), (places.chunks, shape.chunks, filled.chunks)]
    {
        words[part + from * SPAN_WORDS..part + to * SPAN_WORDS].fill(0);
    }
    Ok((filled, lists.next))
}

/// How the tokens of a step are chosen.
#[derive(Debug)]
pub(super) struct Wishes {
    choices: Choices,
    /// Where the rows that are sampled, the choices and the lists begin, and the end.
    places: [usize; 4],
    memory: Buffer<u32>,
    staging: Staging,
    used: usize,
}

impl Wishes {
    pub(super) fn new(gpu: &dyn Gpu, capacity: Capacity) -> Result<Self, GpuError> {
        let Capacity { sequences, vocab, .. } = capacity;
        let choices = sequences.next_multiple_of(ALIGNMENT);
        let lists = choices + sequences * ROW_WORDS;
        let end = lists + sequences * vocab.div_ceil(32) + LISTS.max(4 * vocab);
        let (memory, staging) = (Buffer::new(gpu, end)?, gpu.staging(end * 4)?);
        Ok(Self { choices: Choices::default(), places: [0, choices, lists, end], memory, staging, used: 0 })
    }

    /// Writes down which rows are sampled, and how; gives their number, filled up. What was uploaded before must have
    /// arrived.
    pub(super) fn pack(
        &mut self,
        wanted: &[(u32, &SampleParams)],
        fit: impl Fn(usize) -> usize,
    ) -> Result<usize, Full> {
        let [rows, choices, first, end] = self.places;
        let words = &mut self.staging.numbers_mut::<u32>()[..end];
        self.choices.clear();
        for (at, (row, params)) in wanted.iter().enumerate() {
            words[rows + at] = *row;
            self.choices.push(params);
        }
        let mut lists = Lists { words: first..end, next: first };
        // A bias is two words, and places count in biases.
        let biases = lists.add(words, bytes_of(&self.choices.biases))? / 2;
        let penalised = lists.add(words, bytes_of(&self.choices.penalised))?;
        let masks = lists.add(words, bytes_of(&self.choices.masks))?;
        for (index, row) in self.choices.rows.iter().enumerate() {
            let to = &mut words[choices + index * ROW_WORDS..][..ROW_WORDS];
            bytes_of_mut(to).copy_from_slice(bytes_of(&[row.shifted(biases, penalised, masks)]));
        }
        let (count, filled) = (wanted.len(), fit(wanted.len()));
        words[rows + count..rows + filled].fill(0);
        words[choices + count * ROW_WORDS..choices + filled * ROW_WORDS].fill(0);
        self.used = lists.next;
        Ok(filled)
    }

    pub(super) fn upload(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        gpu.upload(self.memory.ptr(), &self.staging, self.used * 4)
    }

    pub(super) fn rows(&self) -> Ptr {
        self.memory.at(self.places[0])
    }

    pub(super) fn choices(&self) -> Ptr {
        self.memory.at(self.places[1])
    }

    /// What choices give places in.
    pub(super) fn lists(&self) -> Ptr {
        self.memory.at(self.places[2])
    }
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
