//! The CPU device: weights repacked at load for the instruction set found at run time, a paged KV pool in bf16, and a
//! thread pool for work of a few microseconds.

mod activations;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod blocks;
mod buffer;
mod forward;
mod gate_up;
mod isa;
mod kv;
mod layer_attention;
mod matmul;
mod matrix;
mod mixture;
mod norm;
mod partition;
mod plan;
mod pool;
mod projection;
mod qk_rope;
#[cfg(test)]
mod test_inputs;
mod weights;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::thread::available_parallelism;

use self::forward::{Forward, HEAD_ROWS};
use self::isa::Isa;
use self::kv::KvPool;
use self::pool::Pool;
use self::weights::Weights;
use crate::device::{BLOCK_TOKENS, Device, DeviceError, Sampled, StepBatch};
use crate::model::{Model, ModelConfig, ModelError};
use crate::ops::sampler::Sampler;
use crate::ops::vector::LANES;

/// How the device is set up.
#[derive(Debug, Clone)]
pub struct CpuOptions {
    /// Threads that decode, the caller's included; none: one per core that this process may use.
    pub threads: Option<usize>,
    /// Blocks in the KV pool, [`kv_block_bytes`] each. Memory is taken when a block is first written.
    pub kv_blocks: usize,
    /// Most tokens of one step.
    pub max_batch_tokens: usize,
}

/// A model that cannot be loaded on this device.
#[derive(Debug, thiserror::Error)]
pub enum CpuError {
    /// A weight cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The system gives no more threads.
    #[error("cannot start {threads} threads: {source}; use fewer with --threads")]
    Threads { threads: usize, source: std::io::Error },
    /// The KV pool does not fit into memory.
    #[error("no memory for {blocks} KV blocks: {source}; use fewer")]
    Memory { blocks: usize, source: std::io::Error },
    /// An option has a value that no device can have.
    #[error("{0}")]
    Options(&'static str),
}

/// Bytes of one block of the KV pool over all layers.
pub fn kv_block_bytes(config: &ModelConfig) -> usize {
    config.layers * config.kv_heads * kv::kv_block_words(kv::padded(config.head_dim)) * size_of::<u32>()
}

/// A [`Device`] on the processor's cores.
#[derive(Debug)]
pub struct CpuDevice {
    forward: Forward,
    max_batch_tokens: usize,
    /// `[HEAD_ROWS][vocab]`
    logits: Vec<f32>,
    samplers: Vec<Sampler>,
}

impl CpuDevice {
    /// Repacks all weights. The model's files are not needed afterwards.
    pub fn load(model: &Model, options: &CpuOptions) -> Result<Self, CpuError> {
        Self::load_for(model, options, Isa::best())
    }

    /// The same on any instruction set that the processor has, by the name that [`Device::name`] shows, for comparing
    /// them; none if it has no such.
    #[doc(hidden)]
    pub fn load_on(model: &Model, options: &CpuOptions, isa: &str) -> Option<Result<Self, CpuError>> {
        let isa = Isa::all().into_iter().find(|found| found.to_string() == isa)?;
        Some(Self::load_for(model, options, isa))
    }

    fn load_for(model: &Model, options: &CpuOptions, isa: Isa) -> Result<Self, CpuError> {
        if options.kv_blocks == 0 || options.max_batch_tokens == 0 || options.threads == Some(0) {
            return Err(CpuError::Options("threads, KV blocks and tokens of a batch must each be at least 1"));
        }
        let threads = options.threads.unwrap_or_else(|| available_parallelism().map_or(1, Into::into));
        let mut pool = Pool::new(threads).map_err(|source| CpuError::Threads { threads, source })?;
        let weights = Weights::load(model, &mut pool)?;
        let config = model.config().clone();
        let kv = KvPool::new(config.layers, options.kv_blocks, config.kv_heads, config.head_dim)
            .map_err(|source| CpuError::Memory { blocks: options.kv_blocks, source })?;
        let forward = Forward::new(config, isa, pool, weights, kv, options.max_batch_tokens);
        Ok(Self { forward, max_batch_tokens: options.max_batch_tokens, logits: Vec::new(), samplers: Vec::new() })
    }

    fn run(&mut self, batch: &StepBatch) -> Result<(), DeviceError> {
        batch.check(self.max_batch_tokens, self.vocab(), self.kv_blocks())?;
        self.forward.layers(batch);
        Ok(())
    }
}

impl Device for CpuDevice {
    fn name(&self) -> String {
        let threads = self.forward.pool.threads();
        format!("cpu ({}, {threads} thread{})", self.forward.isa, if threads == 1 { "" } else { "s" })
    }

    fn kv_blocks(&self) -> usize {
        self.forward.kv.blocks
    }

    fn max_batch_tokens(&self) -> usize {
        self.max_batch_tokens
    }

    fn vocab(&self) -> usize {
        self.forward.config.vocab
    }

    fn step(&mut self, batch: &StepBatch, sampled: &mut Vec<Sampled>) -> Result<(), DeviceError> {
        self.run(batch)?;
        let mut rows = Vec::new();
        let mut end = 0;
        for sequence in &batch.sequences {
            end += sequence.len;
            if let Some(sample) = &sequence.sample {
                rows.push((end - 1, sample));
            }
        }
        let vocab = self.vocab();
        for chunk in rows.chunks(HEAD_ROWS) {
            let count = chunk.len();
            self.logits.resize(self.logits.len().max(count * vocab), 0.0);
            self.samplers.resize_with(self.samplers.len().max(count), Sampler::default);
            let indices: Vec<usize> = chunk.iter().map(|(row, _)| *row).collect();
            self.forward.logits(&indices, &mut self.logits[..count * vocab]);
            let mut chosen: Vec<Sampled> = vec![Ok(0); count];
            let (logits, samplers) = (buffer::Shared::new(&mut self.logits), buffer::Shared::new(&mut self.samplers));
            let out = buffer::Shared::new(&mut chosen);
            self.forward.pool.run(count, &|at| {
                // SAFETY: chunk `at` alone has these.
                let (logits, sampler, out) =
                    unsafe { (logits.part(at * vocab, vocab), samplers.part(at, 1), out.part(at, 1)) };
                out[0] = sampler[0].sample(logits, chunk[at].1);
            });
            sampled.append(&mut chosen);
        }
        Ok(())
    }

    fn logits(&mut self, batch: &StepBatch) -> Result<Vec<f32>, DeviceError> {
        self.run(batch)?;
        let vocab = self.vocab();
        let rows: Vec<usize> = (0..batch.tokens.len()).collect();
        let mut out = vec![0.0; rows.len() * vocab];
        for (rows, out) in rows.chunks(HEAD_ROWS).zip(out.chunks_mut(HEAD_ROWS * vocab)) {
            self.forward.logits(rows, out);
        }
        Ok(out)
    }
}

const _: () = assert!(BLOCK_TOKENS == LANES, "attention puts the positions of a block in the lanes");
