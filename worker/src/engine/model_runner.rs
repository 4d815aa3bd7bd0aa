//! Turns a plan into one step of the device. Buffers are reused from step to step.

use std::sync::Arc;

use super::scheduler::Row;
use super::sequence::Sequence;
use super::tokenizer_adapter::TokenizerAdapter;
use crate::device::{Device, DeviceError, PipelinedDevice, SampleParams, Sampled, SeqStep, StepBatch};

#[derive(Debug)]
pub(crate) struct ModelRunner {
    device: Box<dyn Device>,
    batch: StepBatch,
    sampled: Vec<Sampled>,
    /// Special tokens that do not end a text: never sampled.
    suppressed: Vec<u32>,
    tokenizer: Arc<dyn TokenizerAdapter>,
}

impl ModelRunner {
    pub(crate) fn new(device: Box<dyn Device>, suppressed: Vec<u32>, tokenizer: Arc<dyn TokenizerAdapter>) -> Self {
        Self { device, batch: StepBatch::default(), sampled: Vec::new(), suppressed, tokenizer }
    }

    pub(crate) fn token_budget(&self) -> usize {
        self.device.max_batch_tokens().max(1)
    }

    /// Runs the rows; returns one entry per row, none where the row does not reach the end of its sequence.
    pub(crate) fn run(&mut self, running: &[Sequence], rows: &[Row]) -> Result<Vec<Option<Sampled>>, DeviceError> {
        self.build_batch(running, rows);
        for (step, row) in self.batch.sequences.iter_mut().zip(rows) {
            let sequence = &running[row.index];
            let last = step.start + step.len == sequence.tokens.len();
            step.sample = last.then(|| sequence.sample_params(&self.suppressed, &*self.tokenizer));
        }
        self.sampled.clear();
        self.device.step(&self.batch, &mut self.sampled)?;
        let expected = self.batch.sequences.iter().filter(|step| step.sample.is_some()).count();
        let mut sampled = self.sampled_tokens(expected)?.iter().copied();
        Ok(self.batch.sequences.iter().map(|step| step.sample.as_ref().and_then(|_| sampled.next())).collect())
    }

    /// Builds the batch of the rows, without sampling parameters.
    fn build_batch(&mut self, running: &[Sequence], rows: &[Row]) {
        self.batch.tokens.clear();
        self.batch.sequences.truncate(rows.len());
        for (at, row) in rows.iter().enumerate() {
            let sequence = &running[row.index];
            self.batch.tokens.extend(sequence.next_tokens(row.len));
            // The block list's allocation is reused from step to step.
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

    /// The sampled tokens, if there are as many as requested.
    fn sampled_tokens(&self, expected: usize) -> Result<&[Sampled], DeviceError> {
        let got = self.sampled.len();
        if got != expected {
            return Err(DeviceError::Lost(format!("the device sampled {got} tokens: expected {expected}")));
        }
        Ok(&self.sampled)
    }

    /// True if steps are launched, sampled and collected; otherwise they are run.
    pub(crate) fn is_pipelined(&mut self) -> bool {
        self.device.pipelined().is_some()
    }

    fn pipelined(&mut self) -> Result<(&mut dyn PipelinedDevice, &StepBatch, &mut Vec<Sampled>), DeviceError> {
        let none = || DeviceError::Step("the device is not pipelined".into());
        Ok((self.device.pipelined().ok_or_else(none)?, &self.batch, &mut self.sampled))
    }

    /// Launches the layers of the rows.
    pub(crate) fn launch(&mut self, running: &[Sequence], rows: &[Row]) -> Result<(), DeviceError> {
        self.build_batch(running, rows);
        let (device, batch, _) = self.pipelined()?;
        device.launch(batch)
    }

    /// How a launched sequence's next token is sampled.
    pub(crate) fn sample_params(&self, sequence: &Sequence) -> SampleParams {
        sequence.sample_params(&self.suppressed, &*self.tokenizer)
    }

    /// Launches the sampling of tokens after some of the launched rows.
    pub(crate) fn sample(&mut self, sample_params: &[(usize, SampleParams)]) -> Result<(), DeviceError> {
        let sample_params: Vec<_> = sample_params.iter().map(|(row, params)| (*row, params)).collect();
        self.pipelined()?.0.sample(&sample_params)
    }

    /// Waits for the `expected` tokens of the last [`ModelRunner::sample`].
    pub(crate) fn collect(&mut self, expected: usize) -> Result<Vec<Sampled>, DeviceError> {
        let (device, _, sampled) = self.pipelined()?;
        sampled.clear();
        device.collect(sampled)?;
        self.sampled_tokens(expected).map(<[Sampled]>::to_vec)
    }
}
