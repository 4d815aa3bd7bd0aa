//! Turns a plan into one step of the device and keeps its buffers from step to step.

use super::scheduler::Row;
use super::sequence::Sequence;
use crate::device::{Device, DeviceError, SeqStep, StepBatch};

#[derive(Debug)]
pub(crate) struct ModelRunner {
    device: Box<dyn Device>,
    batch: StepBatch,
    sampled: Vec<u32>,
    /// Tokens that are no text.
    never: Vec<u32>,
    eos: Vec<u32>,
}

impl ModelRunner {
    pub(crate) fn new(device: Box<dyn Device>, never: Vec<u32>, eos: Vec<u32>) -> Self {
        Self { device, batch: StepBatch::default(), sampled: Vec::new(), never, eos }
    }

    pub(crate) fn budget(&self) -> usize {
        self.device.max_batch_tokens().max(1)
    }

    /// Runs the rows; the answer has one entry per row, none where the row does not reach the end of its sequence.
    pub(crate) fn run(&mut self, running: &[Sequence], rows: &[Row]) -> Result<Vec<Option<u32>>, DeviceError> {
        self.batch.tokens.clear();
        self.batch.sequences.truncate(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let sequence = &running[row.index];
            let (start, end) = (sequence.computed, sequence.computed + row.len);
            self.batch.tokens.extend_from_slice(&sequence.tokens[start..end]);
            let last = end == sequence.tokens.len();
            let sample = last.then(|| sequence.params(&self.never, &self.eos));
            // The block list keeps its memory from step to step.
            let mut blocks = match self.batch.sequences.get_mut(at) {
                Some(old) => std::mem::take(&mut old.blocks),
                None => Vec::new(),
            };
            blocks.clear();
            blocks.extend_from_slice(sequence.table.blocks());
            let step = SeqStep { len: row.len, start, blocks, sample };
            match self.batch.sequences.get_mut(at) {
                Some(old) => *old = step,
                None => self.batch.sequences.push(step),
            }
        }
        self.sampled.clear();
        self.device.step(&self.batch, &mut self.sampled)?;
        let wanted = self.batch.sequences.iter().filter(|step| step.sample.is_some()).count();
        if self.sampled.len() != wanted {
            let got = self.sampled.len();
            return Err(DeviceError::Lost(format!("the device chose {got} tokens where {wanted} were asked")));
        }
        let mut sampled = self.sampled.iter().copied();
        Ok(self.batch.sequences.iter().map(|step| step.sample.as_ref().and_then(|_| sampled.next())).collect())
    }
}
