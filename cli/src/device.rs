//! Where a model is computed: on the processor, or on a GPU.

use std::fmt;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use longhand_worker::cpu::{CpuDevice, CpuOptions, kv_block_bytes};
use longhand_worker::cuda::gpu::Gpu;
use longhand_worker::cuda::profile::Profile;
use longhand_worker::cuda::{self, CudaDevice, CudaOptions, KvFormat, KvMemory, WeightFormat};
use longhand_worker::device::{BLOCK_TOKENS, Device};
use longhand_worker::model::{Model, ModelConfig};

use crate::args::Bytes;
use crate::exit::{Failure, Result};
use crate::memory;

/// Tokens of one step on the processor: prompts are read in chunks of about this, between which the other documents get
/// their tokens.
const CPU_BATCH_TOKENS: usize = 512;
/// Documents that the processor writes at the same time, unless told otherwise.
const CPU_SEQUENCES: usize = 16;
/// The same of a GPU, whose speed comes from many at a time.
const CUDA_SEQUENCES: usize = 256;
/// Tokens of prompts in one step on a GPU, beside one of each document in work.
const CUDA_CHUNK: usize = 1024;

/// Which device is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The first GPU, or the processor where there is none.
    Auto,
    Cpu,
    Cuda(u32),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "auto" => Ok(Self::Auto),
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", number)) => number.parse().map(Self::Cuda).map_err(|_| wrong(text)),
            _ => Err(wrong(text)),
        }
    }
}

fn wrong(text: &str) -> String {
    format!("{text:?} is no device: want auto, cpu, cuda, or cuda:N for the GPU with number N, counted from 0")
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

/// Types of keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum KvArg {
    Bf16,
    /// Half the memory, so twice the documents at a time, for a little less exact text
    Fp8,
}

/// Types of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WeightArg {
    Bf16,
    /// Half the memory and up to twice the speed, for a less exact text; from compute capability 8.9 on
    Fp8,
}

impl WeightArg {
    pub(crate) fn format(self) -> WeightFormat {
        match self {
            Self::Bf16 => WeightFormat::Bf16,
            Self::Fp8 => WeightFormat::Fp8,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceArgs {
    /// What computes: auto (a GPU if there is one), cpu, cuda, or cuda:N for the GPU with number N
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Auto, env = "LONGHAND_DEVICE")]
    pub(crate) device: DeviceChoice,

    /// Threads that compute on the processor [default: the cores this process may use]
    #[arg(long, value_name = "N", env = "LONGHAND_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,

    /// Share of the GPU's memory to use, weights included
    #[arg(long, value_name = "SHARE", default_value_t = 0.9, env = "LONGHAND_GPU_MEMORY_UTILIZATION", value_parser = share)]
    pub(crate) gpu_memory_utilization: f64,

    /// Type of keys and values on a GPU
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = KvArg::Bf16, env = "LONGHAND_KV_CACHE_DTYPE")]
    pub(crate) kv_cache_dtype: KvArg,

    /// Type of the layers' weights on a GPU
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = WeightArg::Bf16, env = "LONGHAND_WEIGHT_DTYPE")]
    pub(crate) weight_dtype: WeightArg,

    /// On a GPU, launch each kernel by itself in place of replaying recorded steps: slower, to find out where a fault lies
    #[arg(long, env = "LONGHAND_EAGER")]
    pub(crate) eager: bool,

    /// On a GPU, compute a text to the same bits whatever else runs: it reads prompts more slowly. The processor always does
    #[arg(long, env = "LONGHAND_DETERMINISTIC")]
    pub(crate) deterministic: bool,
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.01..=1.0).contains(&share) => Ok(share),
        _ => Err(format!("{text:?} is not a share: want a number above 0 and at most 1, such as 0.9")),
    }
}

/// Where the numbers of a model come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Weights<'a> {
    Model(&'a Model),
    /// Chance, in the shape of a model.
    Random(&'a ModelConfig),
}

impl Weights<'_> {
    fn config(&self) -> &ModelConfig {
        match self {
            Self::Model(model) => model.config(),
            Self::Random(config) => config,
        }
    }
}

/// How much memory keys and values get.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kv {
    /// As much as is good.
    Default,
    Bytes(Bytes),
    Blocks(usize),
}

/// A device with a model on it.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) device: Box<dyn Device>,
    /// Documents it was prepared for.
    pub(crate) sequences: usize,
    pub(crate) is_gpu: bool,
    /// Times of kernels, if they are taken.
    pub(crate) profile: Option<Profile>,
}

impl DeviceArgs {
    /// On the processor, with so many threads.
    pub(crate) fn cpu(threads: usize) -> Self {
        Self {
            device: DeviceChoice::Cpu,
            threads: u32::try_from(threads).ok(),
            gpu_memory_utilization: 0.9,
            kv_cache_dtype: KvArg::Bf16,
            weight_dtype: WeightArg::Bf16,
            eager: false,
            deterministic: false,
        }
    }

    /// The GPU that is asked for; none for the processor.
    pub(crate) fn gpu(&self) -> Result<Option<Box<dyn Gpu>>> {
        match self.device {
            DeviceChoice::Cpu => Ok(None),
            DeviceChoice::Cuda(ordinal) => cuda::open(ordinal).map(Some).map_err(Failure::refused),
            DeviceChoice::Auto => match cuda::open(0) {
                Ok(gpu) => Ok(Some(gpu)),
                Err(reason) => {
                    eprintln!("no GPU, so the processor computes: {}", reason.in_short());
                    Ok(None)
                }
            },
        }
    }

    /// Brings a model onto the device. Takes seconds to minutes.
    pub(crate) fn open(
        &self,
        weights: Weights<'_>,
        kv: Kv,
        sequences: Option<usize>,
        profiled: bool,
    ) -> Result<Opened> {
        match self.gpu()? {
            Some(gpu) => self.on_gpu(gpu, weights, kv, sequences.unwrap_or(CUDA_SEQUENCES), profiled),
            None => self.on_cpu(weights, kv, sequences.unwrap_or(CPU_SEQUENCES)),
        }
    }

    fn on_gpu(
        &self,
        gpu: Box<dyn Gpu>,
        weights: Weights<'_>,
        kv: Kv,
        sequences: usize,
        profiled: bool,
    ) -> Result<Opened> {
        let profile = profiled.then(Profile::default);
        let gpu = match &profile {
            Some(profile) => profile.around(gpu),
            None => gpu,
        };
        let options = CudaOptions {
            kv_memory: match kv {
                Kv::Default => KvMemory::Share(self.gpu_memory_utilization),
                Kv::Bytes(bytes) => KvMemory::Bytes(bytes.0),
                Kv::Blocks(blocks) => KvMemory::Blocks(blocks),
            },
            kv_format: match self.kv_cache_dtype {
                KvArg::Bf16 => KvFormat::Bf16,
                KvArg::Fp8 => KvFormat::Fp8,
            },
            weight_format: self.weight_dtype.format(),
            max_sequences: sequences,
            max_batch_tokens: CUDA_CHUNK + sequences,
            deterministic: self.deterministic,
            graphs: !profiled && !self.eager,
        };
        let device = match weights {
            Weights::Model(model) => CudaDevice::load(gpu, model, &options),
            Weights::Random(config) => CudaDevice::random(gpu, config, &options),
        };
        Ok(Opened { device: Box::new(device.map_err(Failure::refused)?), sequences, is_gpu: true, profile })
    }

    fn on_cpu(&self, weights: Weights<'_>, kv: Kv, sequences: usize) -> Result<Opened> {
        let Weights::Model(model) = weights else {
            return Err(Failure::refused(
                "random weights are for GPUs: for the processor make a model with `longhand bench random-model`",
            ));
        };
        let kv_blocks = match kv {
            Kv::Blocks(blocks) => blocks,
            Kv::Default => cpu_blocks(weights.config(), None, sequences)?,
            Kv::Bytes(bytes) => cpu_blocks(weights.config(), Some(bytes.0), sequences)?,
        };
        let options = CpuOptions {
            threads: self.threads.map(|threads| threads as usize),
            kv_blocks,
            max_batch_tokens: CPU_BATCH_TOKENS,
        };
        let device = CpuDevice::load(model, &options).map_err(Failure::refused)?;
        Ok(Opened { device: Box::new(device), sequences, is_gpu: false, profile: None })
    }
}

/// Blocks of the processor's pool: as many as the sequences need, or as the given bytes hold.
fn cpu_blocks(config: &ModelConfig, bytes: Option<u64>, sequences: usize) -> Result<usize> {
    let block = kv_block_bytes(config) as u64;
    let blocks_each = config.context.div_ceil(BLOCK_TOKENS) as u64;
    let bytes = bytes.unwrap_or_else(|| memory::default_kv(sequences as u64 * blocks_each * block));
    match usize::try_from(bytes / block) {
        Ok(blocks) if blocks > 0 => Ok(blocks),
        _ => Err(Failure::refused(format!(
            "--kv-memory: {bytes} bytes hold not even {BLOCK_TOKENS} tokens of this model; give at least {} MiB",
            (blocks_each * block).div_ceil(1 << 20)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_reads_as_it_is_written() {
        for choice in [DeviceChoice::Auto, DeviceChoice::Cpu, DeviceChoice::Cuda(0), DeviceChoice::Cuda(7)] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        for text in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda:0:1", "CPU", "cpu:0"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
        assert!(share("0.9").is_ok() && share("1").is_ok());
        for text in ["0", "-1", "90", "nan", "x"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
