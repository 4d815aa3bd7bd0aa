//! Turns a plan into one step of the device and keeps its buffers from step to step.

use super::scheduler::Row;
use super::sequence::Sequence;
use crate::device::{Ahead, Device, DeviceError, SampleParams, SeqStep, StepBatch};

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
        self.fill(running, rows);
        for (step, row) in self.batch.sequences.iter_mut().zip(rows) {
            let sequence = &running[row.index];
            let last = step.start + step.len == sequence.tokens.len();
            step.sample = last.then(|| sequence.params(&self.never, &self.eos));
        }
        self.sampled.clear();
        self.device.step(&self.batch, &mut self.sampled)?;
        let wanted = self.batch.sequences.iter().filter(|step| step.sample.is_some()).count();
        let mut sampled = self.chosen(wanted)?.iter().copied();
        Ok(self.batch.sequences.iter().map(|step| step.sample.as_ref().and_then(|_| sampled.next())).collect())
    }

    /// Writes the rows down, for now without a wish.
    fn fill(&mut self, running: &[Sequence], rows: &[Row]) {
        self.batch.tokens.clear();
        self.batch.sequences.truncate(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let sequence = &running[row.index];
            self.batch.tokens.extend(sequence.next(row.len));
            // The block list keeps its memory from step to step.
            let mut blocks = match self.batch.sequences.get_mut(at) {
                Some(old) => std::mem::take(&mut old.blocks),
                None => Vec::new(),
            };
            blocks.clear();
            blocks.extend_from_slice(sequence.table.blocks());
            let step = SeqStep { len: row.len, start: sequence.computed, blocks, sample: None };
            match self.batch.sequences.get_mut(at) {
                Some(old) => *old = step,
                None => self.batch.sequences.push(step),
            }
        }
    }

    /// What was chosen, if it is as much as was asked for.
    fn chosen(&self, wanted: usize) -> Result<&[u32], DeviceError> {
        let got = self.sampled.len();
        if got != wanted {
            return Err(DeviceError::Lost(format!("the device chose {got} tokens where {wanted} were asked")));
        }
        Ok(&self.sampled)
    }

    /// Whether steps are launched, chosen and collected; else they are run.
    pub(crate) fn is_ahead(&mut self) -> bool {
        self.device.ahead().is_some()
    }

    fn ahead(&mut self) -> Result<(&mut dyn Ahead, &StepBatch, &mut Vec<u32>), DeviceError> {
        let none = || DeviceError::Step("the device computes nothing ahead".into());
        Ok((self.device.ahead().ok_or_else(none)?, &self.batch, &mut self.sampled))
    }

    /// Starts the rows.
    pub(crate) fn launch(&mut self, running: &[Sequence], rows: &[Row]) -> Result<(), DeviceError> {
        self.fill(running, rows);
        let (device, batch, _) = self.ahead()?;
        device.launch(batch)
    }

    /// How a launched sequence's next token is chosen.
    pub(crate) fn wish(&self, sequence: &Sequence) -> SampleParams {
        sequence.params(&self.never, &self.eos)
    }

    /// Starts the choice of tokens after some of the launched rows.
    pub(crate) fn choose(&mut self, wishes: &[(usize, SampleParams)]) -> Result<(), DeviceError> {
        let wishes: Vec<_> = wishes.iter().map(|(row, wish)| (*row, wish)).collect();
        self.ahead()?.0.choose(&wishes)
    }

    /// Waits for the `wanted` tokens that were being chosen.
    pub(crate) fn collect(&mut self, wanted: usize) -> Result<Vec<u32>, DeviceError> {
        let (device, _, sampled) = self.ahead()?;
        sampled.clear();
        device.collect(sampled)?;
        self.chosen(wanted).map(<[u32]>::to_vec)
    }
}
