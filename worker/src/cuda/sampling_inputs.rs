//! How the tokens of a step are chosen, in one piece of memory that is copied to the GPU at once.

use super::capacity::{ALIGNMENT, Capacity, CapacityExceeded, Lists};
use super::gpu::{Buffer, Gpu, GpuError, Ptr, Staging, bytes_of, bytes_of_mut};
use super::kernels::sample::{Choices, Row};
use crate::device::SampleParams;

/// Words for lists beyond the masks of all sequences: penalised tokens and biases, which are short as a rule.
const LISTS: usize = 4 << 20;

const ROW_WORDS: usize = size_of::<Row>() / size_of::<u32>();

/// How the tokens of a step are chosen.
#[derive(Debug)]
pub(super) struct SamplingInputs {
    choices: Choices,
    /// Where the rows that are sampled, the choices and the lists begin, and the end.
    offsets: [usize; 4],
    memory: Buffer<u32>,
    staging: Staging,
    used: usize,
}

impl SamplingInputs {
    pub(super) fn new(gpu: &dyn Gpu, capacity: Capacity) -> Result<Self, GpuError> {
        let Capacity { sequences, vocab, .. } = capacity;
        let choices = sequences.next_multiple_of(ALIGNMENT);
        let lists = choices + sequences * ROW_WORDS;
        let end = lists + sequences * vocab.div_ceil(32) + LISTS.max(4 * vocab);
        let (memory, staging) = (Buffer::new(gpu, end)?, gpu.staging(end * 4)?);
        Ok(Self { choices: Choices::default(), offsets: [0, choices, lists, end], memory, staging, used: 0 })
    }

    /// Writes down which rows are sampled, and how; gives their number, padded_count up. What was uploaded before must have
    /// arrived.
    pub(super) fn pack(
        &mut self,
        wanted: &[(u32, &SampleParams)],
        padded: impl Fn(usize) -> usize,
    ) -> Result<usize, CapacityExceeded> {
        let [rows, choices, first, end] = self.offsets;
        let words = &mut self.staging.numbers_mut::<u32>()[..end];
        self.choices.clear();
        for (at, (row, params)) in wanted.iter().enumerate() {
            words[rows + at] = *row;
            self.choices.push(params);
        }
        let mut lists = Lists { words: first..end, next: first };
        // A bias is two words, and offsets count in biases.
        let biases = lists.add(words, bytes_of(&self.choices.biases))? / 2;
        let penalised = lists.add(words, bytes_of(&self.choices.penalised))?;
        let masks = lists.add(words, bytes_of(&self.choices.masks))?;
        for (index, row) in self.choices.rows.iter().enumerate() {
            let to = &mut words[choices + index * ROW_WORDS..][..ROW_WORDS];
            bytes_of_mut(to).copy_from_slice(bytes_of(&[row.shifted(biases, penalised, masks)]));
        }
        let (count, padded_count) = (wanted.len(), padded(wanted.len()));
        words[rows + count..rows + padded_count].fill(0);
        words[choices + count * ROW_WORDS..choices + padded_count * ROW_WORDS].fill(0);
        self.used = lists.next;
        Ok(padded_count)
    }

    pub(super) fn upload(&self, gpu: &dyn Gpu) -> Result<(), GpuError> {
        gpu.upload(self.memory.ptr(), &self.staging, self.used * 4)
    }

    pub(super) fn rows(&self) -> Ptr {
        self.memory.at(self.offsets[0])
    }

    pub(super) fn choices(&self) -> Ptr {
        self.memory.at(self.offsets[1])
    }

    /// All lists; choices give offsets into it.
    pub(super) fn lists(&self) -> Ptr {
        self.memory.at(self.offsets[2])
    }
}
