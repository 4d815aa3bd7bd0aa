//! The CUDA device: weights in bf16, a paged KV pool, and whole steps on the GPU, sampling included.
//!
//! A step, kernel by kernel. All of it lies in memory that was allocated at the start, so that it can be recorded; what
//! changes from step to step (tokens, positions, block tables, sampling) is read from there, never from arguments.
//!
//! ```text
//!   tokens ──embed──▶ x                       f32  [rows][dim]: the residual stream
//!   each layer:
//!     x ──norm──▶ normed                      bf16 [rows][dim]
//!     normed ──product──▶ qkv                 bf16 [rows][q + k + v]
//!     qkv ──bias, head norm, rope──▶ queries  bf16 [rows][heads * head_dim], and keys and values into the pool
//!     queries ──attention──▶ attended         bf16 [rows][heads * head_dim]
//!     attended ──product──▶ x                 added
//!     x ──norm──▶ normed ──product──▶ both    bf16 [rows][gate + up]
//!     both ──silu * up──▶ hidden ──product──▶ bf16 [rows][ffn], then added to x
//!   x ──last rows, norm──▶ product ──▶ logits f32  [samples][vocab] ──sample──▶ token ids and errors
//! ```

//!
//! Layers of steps in which each sequence has one row, as in decoding, are recorded once for each size of batch and replayed.
//! Layers and choice are started apart, so that the layers of a step run while those who decide how to choose still look at
//! the tokens of the step before.

mod bucket;
pub mod driver;
mod forward;
pub mod gpu;
pub mod host;
pub mod kernels;
pub mod nvrtc;
mod packet;
pub mod profile;
pub mod speed;
mod weights;

use std::collections::HashMap;

use self::driver::{Driver, NoGpu};
use self::forward::{ALIKE_ROWS, Forward};
use self::gpu::{Gpu, GpuError, Graph, Staging};
use self::packet::{Capacity, Full, Packet, Shape, Style, Wishes};
use self::weights::{FromModel, Origin, Random, WeightError, Weights};
use crate::device::{Device, DeviceError, PipelinedDevice, SampleParams, StepBatch};
use crate::model::{Model, ModelConfig, ModelError};

pub use self::kernels::kv::KvFormat;
pub use self::weights::WeightFormat;

/// How much memory keys and values get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KvMemory {
    /// What weights and steps leave of this share of the GPU's memory.
    Share(f64),
    Bytes(u64),
    Blocks(usize),
}

#[derive(Debug, Clone)]
pub struct CudaOptions {
    pub kv_memory: KvMemory,
    pub kv_format: KvFormat,
    pub weight_format: WeightFormat,
    /// Sequences of one step.
    pub max_sequences: usize,
    /// Most tokens of one step.
    pub max_batch_tokens: usize,
    /// Compute a row to the same bits whatever else is in the step; see [`Device::step`].
    pub deterministic: bool,
    /// Record the steps of decoding; else they are launched kernel by kernel.
    pub graphs: bool,
}

/// A model that cannot be brought onto a GPU.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(
        "the GPU has {free:.1} GiB of memory free, where the model's weights and its steps need {need:.1} and keys and values \
         some more: stop what else runs on it, choose another GPU (--device cuda:N) or a smaller model, or say --device cpu"
    )]
    Memory { free: f64, need: f64 },
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    Options(&'static str),
    #[error("the GPU failed while the model was brought onto it: {0}")]
    Gpu(#[from] GpuError),
}

impl From<WeightError> for CudaError {
    fn from(error: WeightError) -> Self {
        match error {
            WeightError::Model(error) => Self::Model(error),
            WeightError::Gpu(error) => Self::Gpu(error),
        }
    }
}

/// Takes GPU `ordinal` and compiles the kernels for it: a second or two.
pub fn open(ordinal: u32) -> Result<Box<dyn Gpu>, NoGpu> {
    Ok(Box::new(Driver::open(ordinal, &kernels::SOURCES, &kernels::HEADERS)?))
}

/// A [`Device`] on a GPU.
#[derive(Debug)]
pub struct CudaDevice {
    /// Recorded steps. They go before the memory that they work on.
    graphs: HashMap<Shape, Box<dyn Graph>>,
    packet: Packet,
    wishes: Wishes,
    /// What was chosen comes back through it.
    results: Staging,
    /// The last row of each sequence of the launched step.
    last_rows: Vec<u32>,
    /// Tokens that were chosen last.
    chosen: usize,
    forward: Forward,
    options: CudaOptions,
    gpu: Box<dyn Gpu>,
}

/// Memory that is left alone for what the driver needs by itself: code, recorded steps.
const RESERVE: usize = 256 << 20;
/// Blocks beyond which a position's place no longer fits into 32 bits.
const MOST_BLOCKS: usize = 1 << 27;

impl CudaDevice {
    /// Brings a model onto the GPU. Its files are not needed afterwards.
    pub fn load(gpu: Box<dyn Gpu>, model: &Model, options: &CudaOptions) -> Result<Self, CudaError> {
        Self::build(gpu, model.config(), &mut FromModel::new(model), options)
    }

    /// A model of chance weights in this shape, to measure with.
    pub fn random(gpu: Box<dyn Gpu>, config: &ModelConfig, options: &CudaOptions) -> Result<Self, CudaError> {
        Self::build(gpu, config, &mut Random::new(), options)
    }

    /// Gives the GPU back, for another device.
    pub fn into_gpu(self) -> Box<dyn Gpu> {
        let Self { graphs, packet, wishes, results, last_rows: _, chosen: _, forward, options: _, gpu } = self;
        drop((graphs, packet, wishes, results, forward));
        gpu
    }

    fn build(
        gpu: Box<dyn Gpu>,
        config: &ModelConfig,
        from: &mut dyn Origin,
        options: &CudaOptions,
    ) -> Result<Self, CudaError> {
        if options.max_sequences == 0 || options.max_batch_tokens == 0 {
            return Err(CudaError::Options("sequences and tokens of a step must each be at least 1"));
        }
        if let Some(fault) = forward::fault(config, options.weight_format, gpu.about().capability) {
            return Err(CudaError::Unsupported(fault));
        }
        let fit = |rows| fit(options.deterministic, rows);
        let capacity = Capacity {
            rows: fit(options.max_batch_tokens),
            sequences: fit(options.max_sequences),
            context: config.context,
            vocab: config.vocab,
        };
        let style = Style { group: config.heads / config.kv_heads, alike: options.deterministic };
        let formats = (options.weight_format, options.kv_format);
        let need = Weights::bytes(config, formats.0) + forward::scratch_bytes(config, formats.0, capacity) + RESERVE;
        let free = gpu.free_memory()?;
        let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
        if need > free {
            return Err(CudaError::Memory { free: gib(free), need: gib(need) });
        }
        let weights = Weights::load(&*gpu, config, from, formats.0)?;
        let (packet, wishes) = (Packet::new(&*gpu, capacity, style)?, Wishes::new(&*gpu, capacity)?);
        let results = gpu.staging(capacity.sequences * size_of::<u32>())?;
        let mut forward = Forward::new(&*gpu, config.clone(), weights, capacity, style, formats)?;
        forward.try_products(&*gpu, fit)?;
        let blocks = match options.kv_memory {
            KvMemory::Blocks(blocks) => blocks,
            KvMemory::Bytes(bytes) => bytes as usize / forward.block_bytes(),
            KvMemory::Share(share) => {
                let free = gpu.free_memory()?;
                let taken = gpu.about().memory.saturating_sub(free);
                let ours = (gpu.about().memory as f64 * share) as usize;
                ours.saturating_sub(taken).min(free.saturating_sub(RESERVE)) / forward.block_bytes()
            }
        };
        if blocks == 0 {
            return Err(CudaError::Options(
                "no memory is left for keys and values: raise --gpu-memory-utilization or --kv-memory, or choose a smaller \
                 model",
            ));
        }
        forward.take_pool(&*gpu, blocks.min(MOST_BLOCKS))?;
        let (graphs, last_rows, options) = (HashMap::new(), Vec::new(), options.clone());
        let mut device = Self { graphs, packet, wishes, results, last_rows, chosen: 0, forward, options, gpu };
        device.prepare()?;
        Ok(device)
    }

    /// Does every kind of launch once, then records the layers of decoding for all sizes of batch.
    fn prepare(&mut self) -> Result<(), CudaError> {
        let mut sizes: Vec<usize> = bucket::all(self.options.max_sequences).map(|rows| self.fit(rows)).collect();
        sizes.dedup();
        for &rows in &sizes {
            let shape = Shape::decoding(rows, self.options.deterministic);
            self.packet.pack_idle(rows);
            self.packet.upload(&*self.gpu)?;
            self.forward.layers(&*self.gpu, &self.packet, shape)?;
            // No wish has no list that could be too long.
            self.wishes.pack(&[], |_| rows).ok();
            self.wishes.upload(&*self.gpu)?;
            self.forward.choose(&*self.gpu, &self.wishes, rows, 0)?;
            self.gpu.synchronize()?;
            if self.options.graphs {
                let graph = self.gpu.record(&mut || self.forward.layers(&*self.gpu, &self.packet, shape))?;
                self.graphs.insert(shape, graph);
            }
        }
        Ok(())
    }

    fn fit(&self, rows: usize) -> usize {
        fit(self.options.deterministic, rows)
    }

    /// Brings a batch to the GPU; gives the shape of its layers.
    fn bring(&mut self, batch: &StepBatch) -> Result<Shape, DeviceError> {
        let deterministic = self.options.deterministic;
        let shape = self.packet.pack(batch, |rows| fit(deterministic, rows));
        // There is room for the tables of all sequences.
        let shape = shape.map_err(|Full| DeviceError::Step("the block tables are too long for one step".into()))?;
        self.packet.upload(&*self.gpu)?;
        Ok(shape)
    }

    /// Starts the choice of tokens from number `first` on; in two parts where their lists are too long for one.
    fn choose_from(&mut self, first: usize, wanted: &[(u32, &SampleParams)]) -> Result<(), DeviceError> {
        let deterministic = self.options.deterministic;
        match self.wishes.pack(wanted, |rows| fit(deterministic, rows)) {
            Ok(count) => {
                self.wishes.upload(&*self.gpu)?;
                Ok(self.forward.choose(&*self.gpu, &self.wishes, count, first)?)
            }
            Err(Full) if wanted.len() < 2 => {
                Err(DeviceError::Step("a sequence's biases and penalties are too long for a step".into()))
            }
            Err(Full) => {
                let (one, other) = wanted.split_at(wanted.len() / 2);
                self.choose_from(first, one)?;
                // The other half is written where this one is.
                self.gpu.synchronize()?;
                self.choose_from(first + one.len(), other)
            }
        }
    }
}

/// The size that so many rows are filled up to.
fn fit(deterministic: bool, rows: usize) -> usize {
    if deterministic { rows.max(1).next_multiple_of(ALIKE_ROWS) } else { bucket::fit(rows) }
}

impl Device for CudaDevice {
    fn name(&self) -> String {
        let gpu::About { name, .. } = self.gpu.about();
        let weights = if self.options.weight_format == WeightFormat::Fp8 { ", fp8 weights" } else { "" };
        format!("cuda ({name}{weights}{})", if self.options.deterministic { ", deterministic" } else { "" })
    }

    fn kv_blocks(&self) -> usize {
        self.forward.blocks()
    }

    fn max_batch_tokens(&self) -> usize {
        self.options.max_batch_tokens
    }

    fn vocab(&self) -> usize {
        self.forward.vocab()
    }

    fn step(&mut self, batch: &StepBatch, sampled: &mut Vec<u32>) -> Result<(), DeviceError> {
        self.launch(batch)?;
        self.sample(&batch.sample_params())?;
        self.collect(sampled)
    }

    fn logits(&mut self, batch: &StepBatch) -> Result<Vec<f32>, DeviceError> {
        self.check(batch, 0)?;
        let shape = self.bring(batch)?;
        let deterministic = self.options.deterministic;
        self.forward.layers(&*self.gpu, &self.packet, shape)?;
        Ok(self.forward.all_logits(&*self.gpu, batch.tokens.len(), |rows| fit(deterministic, rows))?)
    }

    fn pipelined(&mut self) -> Option<&mut dyn PipelinedDevice> {
        Some(self)
    }
}

impl PipelinedDevice for CudaDevice {
    fn launch(&mut self, batch: &StepBatch) -> Result<(), DeviceError> {
        self.check(batch, self.chosen)?;
        let shape = self.bring(batch)?;
        match self.graphs.get(&shape) {
            Some(graph) => graph.replay()?,
            None => self.forward.layers(&*self.gpu, &self.packet, shape)?,
        }
        let mut end = 0;
        self.last_rows.clear();
        self.last_rows.extend(batch.sequences.iter().map(|sequence| {
            end += sequence.len as u32;
            end - 1
        }));
        Ok(())
    }

    fn sample(&mut self, wanted: &[(usize, &SampleParams)]) -> Result<(), DeviceError> {
        self.chosen = wanted.len();
        if !wanted.is_empty() {
            let rows: Vec<(u32, &SampleParams)> =
                wanted.iter().map(|(index, params)| (self.last_rows[*index], *params)).collect();
            self.choose_from(0, &rows)?;
            self.gpu.download(&mut self.results, self.forward.chosen(), wanted.len() * size_of::<u32>())?;
        }
        Ok(self.gpu.mark()?)
    }

    fn collect(&mut self, sampled: &mut Vec<u32>) -> Result<(), DeviceError> {
        self.gpu.reach_mark()?;
        for (index, token) in self.results.numbers::<u32>()[..self.chosen].iter().enumerate() {
            let token = kernels::sample::chosen(*token);
            sampled.push(token.map_err(|error| DeviceError::Step(format!("token {index} of a step: {error}")))?);
        }
        Ok(())
    }
}

impl CudaDevice {
    fn check(&self, batch: &StepBatch, chosen: usize) -> Result<(), DeviceError> {
        batch.check_after(chosen, self.max_batch_tokens(), self.vocab(), self.kv_blocks())?;
        let (sequences, most) = (batch.sequences.len(), self.options.max_sequences);
        if sequences > most {
            return Err(DeviceError::Step(format!("{sequences} sequences in one step, where {most} fit")));
        }
        let context = self.forward.context();
        match batch.sequences.iter().find(|sequence| sequence.start + sequence.len > context) {
            None => Ok(()),
            Some(sequence) => {
                let end = sequence.start + sequence.len;
                Err(DeviceError::Step(format!("{end} tokens of a sequence, where the model's context holds {context}")))
            }
        }
    }
}
