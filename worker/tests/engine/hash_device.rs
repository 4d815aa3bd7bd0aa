//! A device and a tokenizer made of nothing but hashes. The device keeps one number per position in paged memory and reads
//! all earlier ones through the block table for every token, so a wrong table, a block allocated twice, or a prefix that was
//! not the same shows as another text.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use llguidance::toktrie::{ApproximateTokEnv, TokEnv};
use longhand_proto::task::{Message, ModelInfo};
use longhand_worker::device::{
    BLOCK_TOKENS, DEFERRED_TOKEN, Device, DeviceError, PipelinedDevice, SampleParams, Sampled, StepBatch,
};
use longhand_worker::engine::tokenizer_adapter::TokenizerAdapter;
use longhand_worker::ops::sampler::Sampler;

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

impl TokenizerAdapter for Bytes {
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

/// How and when the device fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Lost {
        step: usize,
    },
    Step {
        step: usize,
    },
    /// From this step on so many steps fail.
    Faults {
        step: usize,
        steps: usize,
    },
    Panic {
        step: usize,
    },
    /// In the first step that samples two rows, the logits of the second are not numbers.
    NotNumbers,
}

#[derive(Debug)]
pub(crate) struct HashDevice {
    kv: Vec<[u64; BLOCK_TOKENS]>,
    budget: usize,
    steps: usize,
    fault: Option<Fault>,
    /// Each step waits for one; once closed, steps do not wait.
    gate: Option<Receiver<()>>,
    sampler: Sampler,
    /// Some tokens lead back to themselves.
    looping: bool,
    /// Whether it is pipelined, and how many deferred tokens it was given.
    pipelined: bool,
    deferred: Arc<AtomicUsize>,
    /// Of the launched step's sequences, with their last tokens.
    states: Vec<(u64, u32)>,
    sampled_tokens: Vec<Sampled>,
    collected: bool,
}

impl HashDevice {
    pub(crate) fn new(blocks: usize, budget: usize) -> Self {
        let kv = vec![[0; BLOCK_TOKENS]; blocks];
        Self {
            kv,
            budget,
            steps: 0,
            fault: None,
            gate: None,
            sampler: Sampler::default(),
            looping: false,
            pipelined: false,
            deferred: Arc::default(),
            states: Vec::new(),
            sampled_tokens: Vec::new(),
            collected: true,
        }
    }

    pub(crate) fn with_pipeline(mut self, pipelined: bool) -> Self {
        self.pipelined = pipelined;
        self
    }

    /// Makes it write `xyzxyz` for ever once it has written one of these letters.
    pub(crate) fn looping(mut self) -> Self {
        self.looping = true;
        self
    }

    /// How many deferred tokens it was given.
    pub(crate) fn deferred(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.deferred)
    }

    pub(crate) fn fault(mut self, fault: Fault) -> Self {
        self.fault = Some(fault);
        self
    }

    /// Makes the device wait before each step until the sender sends, or is dropped.
    pub(crate) fn gated(mut self) -> (Self, Sender<()>) {
        let (open, gate) = channel();
        self.gate = Some(gate);
        (self, open)
    }

    fn run_row(&mut self, step: &longhand_worker::device::SeqStep, tokens: &[u32]) -> u64 {
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

    /// Bytes that make words, sometimes the end of a sentence or of the text.
    fn logit(state: u64, token: u32) -> f32 {
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

    fn step(&mut self, batch: &StepBatch, sampled: &mut Vec<Sampled>) -> Result<(), DeviceError> {
        self.launch(batch)?;
        self.sample(&batch.sample_params())?;
        self.collect(sampled)
    }

    fn logits(&mut self, _: &StepBatch) -> Result<Vec<f32>, DeviceError> {
        Err(DeviceError::Step("the hash device has no logits to show".into()))
    }

    fn pipelined(&mut self) -> Option<&mut dyn PipelinedDevice> {
        if self.pipelined { Some(self) } else { None }
    }
}

impl PipelinedDevice for HashDevice {
    fn launch(&mut self, batch: &StepBatch) -> Result<(), DeviceError> {
        if let Some(gate) = &self.gate {
            // A closed gate does not block.
            gate.recv().ok();
        }
        self.steps += 1;
        match self.fault {
            Some(Fault::Lost { step }) if step == self.steps => return Err(DeviceError::Lost("unplugged".into())),
            Some(Fault::Step { step }) if step == self.steps => return Err(DeviceError::Step("a hiccup".into())),
            Some(Fault::Faults { step, steps }) if (step..step + steps).contains(&self.steps) => {
                return Err(DeviceError::Fault("out of order".into()));
            }
            Some(Fault::Panic { step }) if step == self.steps => panic!("a broken kernel"),
            Some(
                Fault::Lost { .. }
                | Fault::Step { .. }
                | Fault::Faults { .. }
                | Fault::Panic { .. }
                | Fault::NotNumbers,
            )
            | None => {}
        }
        assert!(batch.tokens.len() <= self.budget, "{} tokens are over the budget", batch.tokens.len());
        let known = |token: &u32| {
            if token & DEFERRED_TOKEN == 0 {
                *token
            } else {
                self.sampled_tokens[(token & !DEFERRED_TOKEN) as usize].unwrap_or(u32::MAX)
            }
        };
        let tokens: Vec<u32> = batch.tokens.iter().map(known).collect();
        let deferred = batch.tokens.iter().filter(|token| **token & DEFERRED_TOKEN != 0).count();
        assert!(deferred == 0 || !self.collected, "collected tokens are deferred");
        self.deferred.fetch_add(deferred, Ordering::Relaxed);
        let mut at = 0;
        self.states.clear();
        for step in &batch.sequences {
            let state = self.run_row(step, &tokens[at..at + step.len]);
            at += step.len;
            self.states.push((state, tokens[at - 1]));
        }
        assert_eq!(at, batch.tokens.len());
        Ok(())
    }

    fn sample(&mut self, rows: &[(usize, &SampleParams)]) -> Result<(), DeviceError> {
        assert!(self.collected, "the tokens sampled before were not collected");
        (self.collected, self.sampled_tokens) = (false, Vec::new());
        for (at, (index, params)) in rows.iter().enumerate() {
            let (state, last) = self.states[*index];
            let mut logits: Vec<f32> = (0..VOCAB as u32).map(|token| Self::logit(state, token)).collect();
            if self.looping && (120..=122).contains(&last) {
                logits[(120 + (last - 119) % 3) as usize] += 15.0;
            }
            if at == 1 && self.fault == Some(Fault::NotNumbers) {
                self.fault = None;
                logits[0] = f32::NAN;
            }
            self.sampled_tokens.push(self.sampler.sample(&mut logits, params));
        }
        Ok(())
    }

    fn collect(&mut self, sampled: &mut Vec<Sampled>) -> Result<(), DeviceError> {
        assert!(!self.collected, "nothing was sampled");
        self.collected = true;
        sampled.extend_from_slice(&self.sampled_tokens);
        Ok(())
    }
}
