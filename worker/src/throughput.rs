//! Throughput of a device on one workload: a number of streams, each with a prompt to prefill and tokens to decode.

use std::ops::Range;

use longhand_proto::task::Sampling;

use crate::device::{
    BLOCK_TOKENS, BlockId, DEFERRED_TOKEN, Device, DeviceError, RngKey, SampleParams, SeqStep, StepBatch,
};

/// Drives a device as a scheduler would, greedily and without any text.
#[derive(Debug)]
pub struct ThroughputMeter<'a> {
    device: &'a mut dyn Device,
    streams: usize,
    per_stream: usize,
}

impl<'a> ThroughputMeter<'a> {
    /// `streams` streams of up to `tokens` tokens each.
    ///
    /// # Errors
    /// The KV pool is too small for them.
    pub fn new(device: &'a mut dyn Device, streams: usize, tokens: usize) -> Result<Self, DeviceError> {
        let (per_stream, blocks) = (tokens.div_ceil(BLOCK_TOKENS), device.kv_blocks());
        if streams * per_stream > blocks {
            let needed = streams * per_stream;
            return Err(DeviceError::Step(format!(
                "{streams} streams of {tokens} tokens need {needed} KV blocks; the device has {blocks}"
            )));
        }
        Ok(Self { device, streams, per_stream })
    }

    /// Prefills `tokens` tokens of each stream, from its start, one stream after the other, in steps as large as the device
    /// takes.
    ///
    /// # Errors
    /// A step failed.
    pub fn prefill(&mut self, tokens: usize) -> Result<(), DeviceError> {
        let (mut batch, mut sampled) = (StepBatch::default(), Vec::new());
        for stream in 0..self.streams {
            let mut start = 0;
            while start < tokens {
                let len = (self.device.max_batch_tokens() - batch.tokens.len()).min(tokens - start);
                batch.tokens.extend((start..start + len).map(|at| self.token(stream, at)));
                batch.sequences.push(self.sequence(stream, start, len, start + len == tokens));
                start += len;
                if batch.tokens.len() == self.device.max_batch_tokens() {
                    self.device.step(&std::mem::take(&mut batch), &mut sampled)?;
                }
            }
        }
        if !batch.tokens.is_empty() {
            self.device.step(&batch, &mut sampled)?;
        }
        Ok(())
    }

    /// Decodes the tokens at `positions` of each stream, all streams in one step; pipelined where the device can.
    ///
    /// # Errors
    /// A step failed.
    pub fn decode(&mut self, positions: Range<usize>) -> Result<(), DeviceError> {
        let mut tokens: Vec<u32> = (0..self.streams).map(|stream| self.token(stream, positions.start)).collect();
        let mut launched = false;
        for position in positions {
            let sequences = (0..self.streams).map(|stream| self.sequence(stream, position, 1, true)).collect();
            let batch = StepBatch { tokens: std::mem::take(&mut tokens), sequences };
            let Some(device) = self.device.pipelined() else {
                let mut sampled = Vec::new();
                self.device.step(&batch, &mut sampled)?;
                let sampled = sampled.into_iter().collect::<Result<Vec<_>, _>>();
                tokens = sampled.map_err(|error| DeviceError::Step(error.to_string()))?;
                continue;
            };
            device.launch(&batch)?;
            if std::mem::replace(&mut launched, true) {
                device.collect(&mut Vec::new())?;
            }
            device.sample(&batch.sample_params())?;
            tokens.extend((0..self.streams as u32).map(|number| DEFERRED_TOKEN | number));
        }
        match self.device.pipelined() {
            Some(device) if launched => device.collect(&mut Vec::new()),
            Some(_) | None => Ok(()),
        }
    }

    /// An arbitrary token, different between streams.
    fn token(&self, stream: usize, at: usize) -> u32 {
        ((at * 7919 + stream * 104_729) % self.device.vocab()) as u32
    }

    fn sequence(&self, stream: usize, start: usize, len: usize, sample: bool) -> SeqStep {
        // Interleaved, as for streams that grow together.
        let block = |index: usize| (index * self.streams + stream) as BlockId;
        let sample = sample.then(|| SampleParams {
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            key: RngKey { seed: 0, stream: stream as u64 },
            position: 0,
            penalised: Vec::new(),
            bias: Vec::new(),
            mask: None,
        });
        SeqStep { len, start, blocks: (0..self.per_stream).map(block).collect(), sample }
    }
}
