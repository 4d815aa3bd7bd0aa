//! The device that computes a model: the CPU, or a GPU.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use longhand_worker::cpu::{CpuDevice, CpuOptions, kv_block_bytes};
use longhand_worker::cuda::gpu::Gpu;
use longhand_worker::cuda::profile::Profile;
use longhand_worker::cuda::{self, CudaDevice, CudaOptions, KvFormat, KvMemory, WeightFormat};
use longhand_worker::device::{BLOCK_TOKENS, Device};
use longhand_worker::model::{Model, ModelConfig};

use crate::byte_size::ByteSize;
use crate::exit::{Failure, Result};
use crate::memory;
use crate::output;

/// Tokens in one step on the CPU: prompts are prefilled in chunks of about this size, so that the other documents get
/// their tokens in between.
const CPU_BATCH_TOKENS: usize = 512;
/// Default number of documents that the CPU writes at the same time.
const CPU_SEQUENCES: usize = 16;
/// The same for a GPU, which is fast only with large batches.
const CUDA_SEQUENCES: usize = 256;
/// Prompt tokens in one step on a GPU, in addition to one token per active document.
const CUDA_CHUNK: usize = 1024;

/// The device asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU, or the CPU where there is none.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU with this number.
    Cuda(u32),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| invalid(text)),
            _ => Err(invalid(text)),
        }
    }
}

fn invalid(text: &str) -> String {
    format!("invalid device {text:?}: expected auto, cpu, cuda, or cuda:N for GPU number N, counted from 0")
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

/// Data types of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KvDtype {
    /// 16-bit brain floating point
    Bf16,
    /// Half the memory, so twice as many concurrent documents, at slightly lower precision
    Fp8,
}

/// Data types of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WeightDtype {
    /// 16-bit brain floating point
    Bf16,
    /// Half the memory and up to twice the speed, at lower precision; needs compute capability 8.9 or higher
    Fp8,
}

impl WeightDtype {
    /// The engine's name for the type.
    pub fn format(self) -> WeightFormat {
        match self {
            Self::Bf16 => WeightFormat::Bf16,
            Self::Fp8 => WeightFormat::Fp8,
        }
    }
}

/// The device, and how the model lies on it.
#[derive(Debug, Clone, Args)]
pub struct DeviceArgs {
    /// Device to compute on: auto (a GPU if there is one), cpu, cuda, or cuda:N for GPU number N
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Auto, env = "LONGHAND_DEVICE")]
    pub device: DeviceChoice,

    /// Compute threads on the CPU [default: the cores available to this process]
    #[arg(long, value_name = "N", env = "LONGHAND_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,

    /// Fraction of the GPU's memory to use, weights included
    #[arg(long, value_name = "FRACTION", default_value_t = 0.9, env = "LONGHAND_GPU_MEMORY_UTILIZATION", value_parser = fraction)]
    pub gpu_memory_utilization: f64,

    /// Data type of the KV cache on a GPU
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = KvDtype::Bf16, env = "LONGHAND_KV_CACHE_DTYPE")]
    pub kv_cache_dtype: KvDtype,

    /// Data type of the layers' weights on a GPU
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = WeightDtype::Bf16, env = "LONGHAND_WEIGHT_DTYPE")]
    pub weight_dtype: WeightDtype,

    /// On a GPU, launch kernels one by one instead of replaying CUDA graphs: slower, for debugging
    #[arg(long, env = "LONGHAND_EAGER")]
    pub eager: bool,

    /// On a GPU, make results bit-identical regardless of the batch; prefill is slower. The CPU always does this
    #[arg(long, env = "LONGHAND_DETERMINISTIC")]
    pub deterministic: bool,
}

fn fraction(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(fraction) if (0.01..=1.0).contains(&fraction) => Ok(fraction),
        _ => Err(format!("invalid fraction {text:?}: expected a number above 0 and at most 1, such as 0.9")),
    }
}

/// Where the weights of a model come from.
#[derive(Debug, Clone, Copy)]
pub enum WeightSource<'a> {
    /// The files of the model.
    Model(&'a Model),
    /// Random numbers, in the shape of a model.
    Random(&'a ModelConfig),
}

impl WeightSource<'_> {
    fn config(&self) -> &ModelConfig {
        match self {
            Self::Model(model) => model.config(),
            Self::Random(config) => config,
        }
    }
}

/// How much memory the KV cache gets.
#[derive(Debug, Clone, Copy)]
pub enum KvSize {
    /// The default of the device.
    Default,
    /// A number of bytes.
    Bytes(ByteSize),
    /// A number of blocks of [`BLOCK_TOKENS`] tokens.
    Blocks(usize),
}

/// A device with a model loaded.
#[derive(Debug)]
pub struct OpenDevice {
    /// The device, ready to compute.
    pub device: Box<dyn Device>,
    /// Concurrent documents that it was set up for.
    pub sequences: usize,
    /// False for the CPU.
    pub is_gpu: bool,
    /// Times of the kernels, if they are measured.
    pub profile: Option<Profile>,
}

impl DeviceArgs {
    /// The CPU, with this number of threads.
    pub fn cpu(threads: usize) -> Self {
        Self {
            device: DeviceChoice::Cpu,
            threads: u32::try_from(threads).ok(),
            gpu_memory_utilization: 0.9,
            kv_cache_dtype: KvDtype::Bf16,
            weight_dtype: WeightDtype::Bf16,
            eager: false,
            deterministic: false,
        }
    }

    /// The GPU that is asked for; none for the CPU.
    ///
    /// # Errors
    /// A GPU is asked for by number and cannot be used.
    pub fn gpu(&self) -> Result<Option<Box<dyn Gpu>>> {
        match self.device {
            DeviceChoice::Cpu => Ok(None),
            DeviceChoice::Cuda(ordinal) => cuda::open(ordinal).map(Some).map_err(Failure::refused),
            DeviceChoice::Auto => match cuda::open(0) {
                Ok(gpu) => Ok(Some(gpu)),
                Err(reason) => {
                    output::note(&format!("no usable GPU, computing on the CPU: {}", reason.in_short()));
                    Ok(None)
                }
            },
        }
    }

    /// Loads a model onto the device. Takes seconds to minutes.
    ///
    /// # Errors
    /// The device cannot be used, or cannot hold the model.
    pub fn open(
        &self,
        weights: WeightSource<'_>,
        kv: KvSize,
        sequences: Option<usize>,
        profiled: bool,
    ) -> Result<OpenDevice> {
        match self.gpu()? {
            Some(gpu) => self.on_gpu(gpu, weights, kv, sequences.unwrap_or(CUDA_SEQUENCES), profiled),
            None => self.on_cpu(weights, kv, sequences.unwrap_or(CPU_SEQUENCES)),
        }
    }

    fn on_gpu(
        &self,
        gpu: Box<dyn Gpu>,
        weights: WeightSource<'_>,
        kv: KvSize,
        sequences: usize,
        profiled: bool,
    ) -> Result<OpenDevice> {
        let profile = profiled.then(Profile::default);
        let gpu = match &profile {
            Some(profile) => profile.around(gpu),
            None => gpu,
        };
        let options = CudaOptions {
            kv_memory: match kv {
                KvSize::Default => KvMemory::Share(self.gpu_memory_utilization),
                KvSize::Bytes(bytes) => KvMemory::Bytes(bytes.0),
                KvSize::Blocks(blocks) => KvMemory::Blocks(blocks),
            },
            kv_format: match self.kv_cache_dtype {
                KvDtype::Bf16 => KvFormat::Bf16,
                KvDtype::Fp8 => KvFormat::Fp8,
            },
            weight_format: self.weight_dtype.format(),
            max_sequences: sequences,
            max_batch_tokens: CUDA_CHUNK + sequences,
            deterministic: self.deterministic,
            graphs: !profiled && !self.eager,
        };
        let device = match weights {
            WeightSource::Model(model) => CudaDevice::load(gpu, model, &options),
            WeightSource::Random(config) => CudaDevice::random(gpu, config, &options),
        };
        Ok(OpenDevice { device: Box::new(device.map_err(Failure::refused)?), sequences, is_gpu: true, profile })
    }

    fn on_cpu(&self, weights: WeightSource<'_>, kv: KvSize, sequences: usize) -> Result<OpenDevice> {
        let WeightSource::Model(model) = weights else {
            return Err(Failure::refused(
                "random weights are supported on GPUs only; for the CPU, make a model with `longhand bench random-model`",
            ));
        };
        let kv_blocks = match kv {
            KvSize::Blocks(blocks) => blocks,
            KvSize::Default => cpu_blocks(weights.config(), None, sequences)?,
            KvSize::Bytes(bytes) => cpu_blocks(weights.config(), Some(bytes.0), sequences)?,
        };
        let options = CpuOptions {
            threads: self.threads.map(|threads| threads as usize),
            kv_blocks,
            max_batch_tokens: CPU_BATCH_TOKENS,
        };
        let device = CpuDevice::load(model, &options).map_err(Failure::refused)?;
        Ok(OpenDevice { device: Box::new(device), sequences, is_gpu: false, profile: None })
    }
}

/// KV blocks on the CPU: as many as the sequences need, or as fit the given bytes.
fn cpu_blocks(config: &ModelConfig, bytes: Option<u64>, sequences: usize) -> Result<usize> {
    let block = kv_block_bytes(config) as u64;
    let blocks_each = config.context.div_ceil(BLOCK_TOKENS) as u64;
    let bytes = bytes.unwrap_or_else(|| memory::default_kv(sequences as u64 * blocks_each * block));
    match usize::try_from(bytes / block) {
        Ok(blocks) if blocks > 0 => Ok(blocks),
        _ => Err(Failure::refused(format!(
            "--kv-memory: {bytes} bytes cannot hold {BLOCK_TOKENS} tokens of this model; give at least {} MiB",
            (blocks_each * block).div_ceil(1 << 20)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_parsed_as_it_is_displayed() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(0), DeviceChoice::Cuda(7)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "CPU", "cpu:0"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
        assert!(fraction("0.9").is_ok() && fraction("1").is_ok());
        for text in ["0", "-1", "90", "nan", "x"] {
            assert!(fraction(text).is_err(), "{text}");
        }
    }
}
