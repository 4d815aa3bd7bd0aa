//! The CUDA device: weights in bf16, a paged KV pool, and whole steps on the GPU, sampling included.
//!
//! A step, kernel by kernel. All of it lies in memory that was allocated at the start, so that it can be captured; what
//! changes from step to step (tokens, positions, block tables, sampling) is read from there, never from arguments.
//!
//! ```text
//!   tokens ──embed──▶ x                       f32  [rows][dim]: the residual stream
//!   each layer:
//!     x ──norm──▶ normed                      bf16 [rows][dim]
//!     normed ──gemm──▶ qkv                 bf16 [rows][q + k + v]
//!     qkv ──bias, head norm, rope──▶ queries  bf16 [rows][heads * head_dim], and keys and values into the pool
//!     queries ──attention──▶ attended         bf16 [rows][heads * head_dim]
//!     attended ──gemm──▶ x                 added
//!     x ──norm──▶ normed ──gemm──▶ gate_up bf16 [rows][gate + up]
//!     gate_up ──silu * up──▶ hidden ──gemm──▶ bf16 [rows][ffn], then added to x
//!   x ──last rows, norm──▶ gemm ──▶ logits f32  [samples][vocab] ──sample──▶ token ids and errors
//! ```
//!
//! Layers of steps in which each sequence has one row, as in decoding, are captured once for each size of batch and replayed.
//! Layers and sampling are launched apart, so that the layers of a step run while the engine still looks at the tokens of the
//! step before.

mod capacity;
pub mod driver;
mod forward;
pub mod gpu;
pub mod host;
pub mod kernels;
pub mod nvrtc;
mod padding;
pub mod profile;
mod sampling_inputs;
pub mod speed;
mod step_inputs;
mod weights;

use std::collections::HashMap;

use self::capacity::{Capacity, CapacityExceeded};
use self::driver::{Driver, GpuOpenError};
use self::forward::{DETERMINISTIC_ROWS, Forward};
use self::gpu::{Gpu, GpuError, Graph, Staging};
use self::sampling_inputs::SamplingInputs;
use self::step_inputs::{BatchLayout, GraphKey, StepInputs};
use self::weights::{ModelWeights, RandomWeights, WeightError, WeightSource, Weights};
use crate::device::{Device, DeviceError, PipelinedDevice, SampleParams, Sampled, StepBatch};
use crate::model::{Model, ModelConfig, ModelError};

pub use self::kernels::kv::KvFormat;
pub use self::weights::WeightFormat;

/// How much memory keys and values get.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KvMemory {
    /// What weights and steps leave of this share of the GPU's memory.
    Share(f64),
    /// So many bytes.
    Bytes(u64),
    /// So many blocks over all layers.
    Blocks(usize),
}

/// How the device is set up.
#[derive(Debug, Clone)]
pub struct CudaOptions {
    /// Memory of the KV pool.
    pub kv_memory: KvMemory,
    /// Type of keys and values.
    pub kv_format: KvFormat,
    /// Type of the layers' weights.
    pub weight_format: WeightFormat,
    /// Sequences of one step.
    pub max_sequences: usize,
    /// Most tokens of one step.
    pub max_batch_tokens: usize,
    /// Compute a row to the same bits whatever else is in the step; see [`Device::step`].
    pub deterministic: bool,
    /// Capture the steps of decoding as graphs; else they are launched kernel by kernel.
    pub graphs: bool,
}

/// A model that cannot be loaded on a GPU.
#[derive(Debug, thiserror::Error)]
pub enum CudaError {
    /// A weight cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Weights and steps do not fit; in GiB.
    #[error(
        "not enough GPU memory: {free:.1} GiB are free, weights and activations need {need:.1} GiB, and keys and values need \
         more; stop other processes on this GPU, choose another GPU (--device cuda:N) or a smaller model, or use --device cpu"
    )]
    Memory { free: f64, need: f64 },
    /// The kernels cannot run a model of this shape.
    #[error("{0}")]
    Unsupported(String),
    /// An option has a value that no device can have.
    #[error("{0}")]
    Options(&'static str),
    /// A call of the driver or its libraries failed.
    #[error("the GPU failed while the model was loaded: {0}")]
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
pub fn open(ordinal: u32) -> Result<Box<dyn Gpu>, GpuOpenError> {
    Ok(Box::new(Driver::open(ordinal, &kernels::SOURCES, &kernels::HEADERS)?))
}

/// Why no GPU can run a model of this shape; none if a new one can.
pub fn unsupported(config: &ModelConfig) -> Option<String> {
    forward::unsupported(config, WeightFormat::Bf16, gpu::FP8_GPU)
}

/// A [`Device`] on a GPU.
#[derive(Debug)]
pub struct CudaDevice {
    /// Captured graphs. They are dropped before the memory that they work on.
    graphs: HashMap<GraphKey, Box<dyn Graph>>,
    inputs: StepInputs,
    sampling: SamplingInputs,
    /// Sampled tokens come back through it.
    results: Staging,
    /// The last row of each sequence of the launched step.
    last_rows: Vec<u32>,
    /// Number of tokens that were sampled last.
    sampled: usize,
    forward: Forward,
    options: CudaOptions,
    gpu: Box<dyn Gpu>,
}

/// Memory that is left alone for what the driver needs by itself: code, captured graphs.
const RESERVE: usize = 256 << 20;
/// Blocks beyond which the index of a position no longer fits into 32 bits.
const MAX_BLOCKS: usize = 1 << 27;

impl CudaDevice {
    /// Brings a model onto the GPU. Its files are not needed afterwards.
    pub fn load(gpu: Box<dyn Gpu>, model: &Model, options: &CudaOptions) -> Result<Self, CudaError> {
        Self::build(gpu, model.config(), &mut ModelWeights::new(model), options)
    }

    /// A model of random weights in this shape, to measure with.
    pub fn random(gpu: Box<dyn Gpu>, config: &ModelConfig, options: &CudaOptions) -> Result<Self, CudaError> {
        Self::build(gpu, config, &mut RandomWeights::new(), options)
    }

    /// Gives the GPU back, for another device.
    pub fn into_gpu(self) -> Box<dyn Gpu> {
        let Self { graphs, inputs, sampling, results, last_rows: _, sampled: _, forward, options: _, gpu } = self;
        drop((graphs, inputs, sampling, results, forward));
        gpu
    }

    fn build(
        gpu: Box<dyn Gpu>,
        config: &ModelConfig,
        source: &mut dyn WeightSource,
        options: &CudaOptions,
    ) -> Result<Self, CudaError> {
        if options.max_sequences == 0 || options.max_batch_tokens == 0 {
            return Err(CudaError::Options("sequences and tokens of a step must each be at least 1"));
        }
        if let Some(what) = forward::unsupported(config, options.weight_format, gpu.properties().capability) {
            return Err(CudaError::Unsupported(what));
        }
        let padded = |rows| padded(options.deterministic, rows);
        let capacity = Capacity {
            rows: padded(options.max_batch_tokens),
            sequences: padded(options.max_sequences),
            context: config.context,
            vocab: config.vocab,
        };
        let layout = BatchLayout { group: config.heads / config.kv_heads, deterministic: options.deterministic };
        let formats = (options.weight_format, options.kv_format);
        let need = Weights::bytes(config, formats.0) + forward::scratch_bytes(config, formats.0, capacity) + RESERVE;
        let free = gpu.free_memory()?;
        let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
        if need > free {
            return Err(CudaError::Memory { free: gib(free), need: gib(need) });
        }
        let weights = Weights::load(&*gpu, config, source, formats.0)?;
        let (inputs, sampling) = (StepInputs::new(&*gpu, capacity, layout)?, SamplingInputs::new(&*gpu, capacity)?);
        let results = gpu.staging(capacity.sequences * size_of::<u32>())?;
        let mut forward = Forward::new(&*gpu, config.clone(), weights, capacity, layout, formats)?;
        forward.autotune(&*gpu, padded)?;
        let blocks = match options.kv_memory {
            KvMemory::Blocks(blocks) => blocks,
            KvMemory::Bytes(bytes) => bytes as usize / forward.block_bytes(),
            KvMemory::Share(share) => {
                let free = gpu.free_memory()?;
                let taken = gpu.properties().memory.saturating_sub(free);
                let ours = (gpu.properties().memory as f64 * share) as usize;
                ours.saturating_sub(taken).min(free.saturating_sub(RESERVE)) / forward.block_bytes()
            }
        };
        if blocks == 0 {
            return Err(CudaError::Options(
                "no memory is left for keys and values; raise --gpu-memory-utilization or --kv-memory, or choose a smaller \
                 model",
            ));
        }
        forward.allocate_kv(&*gpu, blocks.min(MAX_BLOCKS))?;
        let (graphs, last_rows, options) = (HashMap::new(), Vec::new(), options.clone());
        let mut device = Self { graphs, inputs, sampling, results, last_rows, sampled: 0, forward, options, gpu };
        device.prepare()?;
        Ok(device)
    }

    /// Does every kind of launch once, then captures the layers of decoding for all sizes of batch.
    fn prepare(&mut self) -> Result<(), CudaError> {
        let mut sizes: Vec<usize> = padding::sizes(self.options.max_sequences).map(|rows| self.padded(rows)).collect();
        sizes.dedup();
        for &rows in &sizes {
            let key = GraphKey::decoding(rows, self.options.deterministic);
            self.inputs.pack_idle(rows);
            self.inputs.upload(&*self.gpu)?;
            self.forward.layers(&*self.gpu, &self.inputs, key)?;
            // Without a sequence there is no list that could be too long.
            self.sampling.pack(&[], |_| rows).ok();
            self.sampling.upload(&*self.gpu)?;
            self.forward.sample(&*self.gpu, &self.sampling, rows, 0)?;
            self.gpu.synchronize()?;
            if self.options.graphs {
                let graph = self.gpu.capture(&mut || self.forward.layers(&*self.gpu, &self.inputs, key))?;
                self.graphs.insert(key, graph);
            }
        }
        Ok(())
    }

    fn padded(&self, rows: usize) -> usize {
        padded(self.options.deterministic, rows)
    }

    /// Copies a batch to the GPU; gives the key of its launches.
    fn upload(&mut self, batch: &StepBatch) -> Result<GraphKey, DeviceError> {
        let deterministic = self.options.deterministic;
        let key = self.inputs.pack(batch, |rows| padded(deterministic, rows));
        // There is room for the tables of all sequences.
        let key =
            key.map_err(|CapacityExceeded| DeviceError::Step("the block tables are too long for one step".into()))?;
        self.inputs.upload(&*self.gpu)?;
        Ok(key)
    }

    /// Starts sampling tokens from number `first` on; in two parts where their lists are too long for one.
    fn sample_from(&mut self, first: usize, wanted: &[(u32, &SampleParams)]) -> Result<(), DeviceError> {
        let deterministic = self.options.deterministic;
        match self.sampling.pack(wanted, |rows| padded(deterministic, rows)) {
            Ok(count) => {
                self.sampling.upload(&*self.gpu)?;
                Ok(self.forward.sample(&*self.gpu, &self.sampling, count, first)?)
            }
            Err(CapacityExceeded) if wanted.len() < 2 => {
                Err(DeviceError::Step("a sequence's biases and penalties are too long for a step".into()))
            }
            Err(CapacityExceeded) => {
                let (one, other) = wanted.split_at(wanted.len() / 2);
                self.sample_from(first, one)?;
                // The other half is written where this one is.
                self.gpu.synchronize()?;
                self.sample_from(first + one.len(), other)
            }
        }
    }
}

/// The size that so many rows are padded to.
fn padded(deterministic: bool, rows: usize) -> usize {
    if deterministic { rows.max(1).next_multiple_of(DETERMINISTIC_ROWS) } else { padding::padded(rows) }
}

impl Device for CudaDevice {
    fn name(&self) -> String {
        let gpu::DeviceProperties { name, .. } = self.gpu.properties();
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

    fn step(&mut self, batch: &StepBatch, sampled: &mut Vec<Sampled>) -> Result<(), DeviceError> {
        self.launch(batch)?;
        self.sample(&batch.sample_params())?;
        self.collect(sampled)
    }

    fn logits(&mut self, batch: &StepBatch) -> Result<Vec<f32>, DeviceError> {
        self.check(batch, 0)?;
        let key = self.upload(batch)?;
        let deterministic = self.options.deterministic;
        self.forward.layers(&*self.gpu, &self.inputs, key)?;
        Ok(self.forward.all_logits(&*self.gpu, batch.tokens.len(), |rows| padded(deterministic, rows))?)
    }

    fn pipelined(&mut self) -> Option<&mut dyn PipelinedDevice> {
        Some(self)
    }
}

impl PipelinedDevice for CudaDevice {
    fn launch(&mut self, batch: &StepBatch) -> Result<(), DeviceError> {
        self.check(batch, self.sampled)?;
        let key = self.upload(batch)?;
        match self.graphs.get(&key) {
            Some(graph) => graph.replay()?,
            None => self.forward.layers(&*self.gpu, &self.inputs, key)?,
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
        self.sampled = wanted.len();
        if !wanted.is_empty() {
            let rows: Vec<(u32, &SampleParams)> =
                wanted.iter().map(|(index, params)| (self.last_rows[*index], *params)).collect();
            self.sample_from(0, &rows)?;
            self.gpu.download(&mut self.results, self.forward.sampled(), wanted.len() * size_of::<u32>())?;
        }
        Ok(self.gpu.record_event()?)
    }

    fn collect(&mut self, sampled: &mut Vec<Sampled>) -> Result<(), DeviceError> {
        self.gpu.wait_event()?;
        let tokens = &self.results.numbers::<u32>()[..self.sampled];
        sampled.extend(tokens.iter().map(|token| kernels::sample::token_of(*token)));
        Ok(())
    }
}

impl CudaDevice {
    fn check(&self, batch: &StepBatch, sampled: usize) -> Result<(), DeviceError> {
        batch.check_after(sampled, self.max_batch_tokens(), self.vocab(), self.kv_blocks())?;
        let (sequences, max) = (batch.sequences.len(), self.options.max_sequences);
        if sequences > max {
            return Err(DeviceError::Step(format!("{sequences} sequences in one step, where {max} fit")));
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
