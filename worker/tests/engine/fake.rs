//! A device and a codec made of nothing but hashes. The device keeps one number per position in paged memory and reads
//! all earlier ones through the block table for every token, so a wrong table, a block given twice, or a prefix that was
//! not the same shows as another text.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use llguidance::toktrie::{ApproximateTokEnv, TokEnv};
use longhand_proto::task::{Message, ModelInfo};
use longhand_worker::device::{BLOCK_TOKENS, Device, DeviceError, StepBatch};
use longhand_worker::engine::codec::Codec;
use longhand_worker::engine::sampler::Sampler;

/// One token a byte, and a few special ones; the last ends a text.
#[derive(Debug)]
pub(crate) struct Bytes {
    bytes: Vec<u8>,
    pub(crate) context: u32,
}

pub(crate) const VOCAB: usize = 262;
pub(crate) const EOS: u32 = 261;

impl Bytes {
    pub(crate) fn new(context: u32) -> Self {
        Self { bytes: (0..=255).collect(), context }
    }
}

impl Codec for Bytes {
    fn info(&self) -> ModelInfo {
        ModelInfo { tokenizer_hash: "bytes".into(), context: self.context, ..ModelInfo::default() }
    }

    fn prompt(&self, messages: &[Message]) -> Result<Vec<u32>, String> {
        Ok(messages.iter().flat_map(|it| it.content.bytes().map(u32::from)).collect())
    }

    fn token_bytes(&self, token: u32) -> &[u8] {
        self.bytes.get(token as usize..=token as usize).unwrap_or_default()
    }

    fn eos(&self) -> &[u32] {
        &[EOS]
    }

    fn is_special(&self, token: u32) -> bool {
        token > 255
    }

    fn tok_env(&self) -> TokEnv {
        Arc::new(ApproximateTokEnv::single_byte())
    }
}

/// What the device does wrong, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Lost { step: usize },
    Step { step: usize },
    Panic { step: usize },
}

#[derive(Debug)]
pub(crate) struct HashDevice {
    kv: Vec<[u64; BLOCK_TOKENS]>,
    budget: usize,
    steps: usize,
    fault: Option<Fault>,
    /// Each step takes one; closed, the device runs freely.
    gate: Option<Receiver<()>>,
    sampler: Sampler,
}

impl HashDevice {
    pub(crate) fn new(blocks: usize, budget: usize) -> Self {
        let kv = vec![[0; BLOCK_TOKENS]; blocks];
        Self { kv, budget, steps: 0, fault: None, gate: None, sampler: Sampler::default() }
    }

    pub(crate) fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Makes the device wait before each step until the sender says so, or is dropped.
    pub(crate) fn gated(mut self) -> (Self, Sender<()>) {
        let (open, gate) = channel();
        self.gate = Some(gate);
        (self, open)
    }

    fn put(&mut self, step: &longhand_worker::device::SeqStep, tokens: &[u32]) -> u64 {
        let mut state = 0;
        for (offset, token) in tokens.iter().enumerate() {
            let position = step.start + offset;
            let seen = (0..position).fold(0_u64, |sum, at| {
                let value = self.kv[step.blocks[at / BLOCK_TOKENS] as usize][at % BLOCK_TOKENS];
                mix(sum ^ value)
            });
            state = mix(seen ^ mix(u64::from(*token)) ^ position as u64);
            self.kv[step.blocks[position / BLOCK_TOKENS] as usize][position % BLOCK_TOKENS] = state;
        }
        state
    }

    /// Bytes that make words, now and then a sentence end or the end.
    fn score(state: u64, token: u32) -> f32 {
        let noise = (mix(state ^ u64::from(token)) >> 40) as f32 / (1 << 24) as f32 * 4.0;
        let likely = match token {
            97..=122 => 3.0,
            32 => 5.5,
            46 => 3.5,
            10 => 1.0,
            EOS => 3.0,
            48..=57 | 65..=90 => 1.0,
            _ => -2.0,
        };
        likely + noise
    }
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) ^ (x >> 31)
}

impl Device for HashDevice {
    fn name(&self) -> String {
        "hash".into()
    }

    fn kv_blocks(&self) -> usize {
        self.kv.len()
    }

    fn max_batch_tokens(&self) -> usize {
        self.budget
    }

    fn vocab(&self) -> usize {
        VOCAB
    }

    fn step(&mut self, batch: &StepBatch, sampled: &mut Vec<u32>) -> Result<(), DeviceError> {
        if let Some(gate) = &self.gate {
            // A closed gate is an open one.
            gate.recv().ok();
        }
        self.steps += 1;
        match self.fault {
            Some(Fault::Lost { step }) if step == self.steps => return Err(DeviceError::Lost("unplugged".into())),
            Some(Fault::Step { step }) if step == self.steps => return Err(DeviceError::Step("a hiccup".into())),
            Some(Fault::Panic { step }) if step == self.steps => panic!("a broken kernel"),
            Some(Fault::Lost { .. } | Fault::Step { .. } | Fault::Panic { .. }) | None => {}
        }
        assert!(batch.tokens.len() <= self.budget, "{} tokens are over the budget", batch.tokens.len());
        let mut at = 0;
        for step in &batch.sequences {
            let state = self.put(step, &batch.tokens[at..at + step.len]);
            at += step.len;
            if let Some(params) = &step.sample {
                let mut logits: Vec<f32> = (0..VOCAB as u32).map(|token| Self::score(state, token)).collect();
                sampled.push(self.sampler.sample(&mut logits, params).map_err(|e| DeviceError::Step(e.to_string()))?);
            }
        }
        assert_eq!(at, batch.tokens.len());
        Ok(())
    }

    fn logits(&mut self, _: &StepBatch) -> Result<Vec<f32>, DeviceError> {
        Err(DeviceError::Step("the hash device has no logits to show".into()))
    }
}
