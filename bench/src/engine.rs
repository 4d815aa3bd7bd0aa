//! `longhand bench engine`: tokens per second of the engine.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use longhand_command::device::{DeviceArgs, KvSize, OpenDevice, WeightSource};
use longhand_command::exit::{Code, Failure, Result};
use longhand_command::output;
use longhand_proto::clock;
use longhand_worker::device::{BLOCK_TOKENS, Device};
use longhand_worker::model::Model;
use longhand_worker::throughput::ThroughputMeter;
use serde::Serialize;

use crate::compare::Comparison;
use crate::contender::Speed;
use crate::llama_cpp::LlamaCpp;
use crate::longhand_engine::LonghandEngine;
use crate::machine::Machine;
use crate::results::publish;
use crate::shape::{DEFAULT, Shape};

const HELP: &str = "\
Examples:
  longhand bench engine --model model.gguf
  longhand bench engine --model model.gguf --shape 16x128+128 --shape 8x3500+64
  longhand bench engine --model model.gguf --peer build/bin \\
    --peer-model model.Q4_0.gguf
  longhand bench engine --device cuda \\
    --model-config examples/shapes/llama-3.1-8b.json --load-format dummy \\
    --shape 64x1024+128

A shape is STREAMSxPROMPT+TOKENS: prefill of all prompts, then decoding of all streams together. With --peer, each shape is \
measured by a new process of this program and by llama.cpp's `llama-batched-bench` in turn, --rounds times; the table shows \
medians, and the median of the ratios within each round. `make bench` builds llama.cpp and runs this command. With \
--profile, the GPU kernels are timed one by one, which slows down the total.

Exit codes:
  0    measured
  1    a measurement failed
  2    nothing was started: invalid arguments, model or peer";

/// What to measure.
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct EngineBench {
    /// Model: a GGUF file, or a Hugging Face folder with safetensors
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL", required_unless_present = "model_config")]
    model: Option<PathBuf>,

    /// Measure the model architecture of this Hugging Face config.json, on a GPU
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "peer"], requires = "load_format")]
    model_config: Option<PathBuf>,

    /// Source of the weights: auto (the model), or dummy (random numbers)
    #[arg(long, value_enum, value_name = "FORMAT")]
    load_format: Option<LoadFormat>,

    #[command(flatten)]
    device: DeviceArgs,

    /// Shape to measure; may be repeated [default: prefill of 512, decoding in 1 to 32 streams, context of 3,500]
    #[arg(long, value_name = "STREAMSxPROMPT+TOKENS")]
    shape: Vec<Shape>,

    /// Folder with llama.cpp's programs, to compare with
    #[arg(long, value_name = "DIR", requires = "model")]
    peer: Option<PathBuf>,

    /// Model for llama.cpp [default: the same file]
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_model: Option<PathBuf>,

    /// Number of times that each side measures each shape
    #[arg(long, value_name = "N", default_value_t = 5, requires = "peer", value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// Number of other threads to keep busy during the measurement
    #[arg(long, value_name = "N", default_value_t = 0, requires = "peer", value_parser = clap::value_parser!(u32).range(0..=64))]
    busy: u32,

    /// Save all measurements to this file (JSON)
    #[arg(long, value_name = "FILE", requires = "peer")]
    report: Option<PathBuf>,

    /// Profile the decoding of the last shape kernel by kernel (GPU only)
    #[arg(long, conflicts_with = "peer")]
    profile: bool,

    /// Print one JSON object per shape
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LoadFormat {
    Auto,
    Dummy,
}

/// One line of the output.
#[derive(Debug, Serialize)]
struct Measured {
    shape: String,
    #[serde(flatten)]
    speed: Speed,
}

impl EngineBench {
    /// Runs the benchmark.
    pub(crate) async fn run(self) -> Result<Code> {
        // Compute only: off the runtime's threads.
        let done = tokio::task::spawn_blocking(move || self.measure()).await;
        done.map_err(|e| Failure::stopped(format!("the benchmark crashed: {e}")))?
    }

    fn measure(&self) -> Result<Code> {
        let shapes: &[Shape] = if self.shape.is_empty() { &DEFAULT } else { &self.shape };
        match (&self.peer, &self.model) {
            (Some(folder), Some(model)) => self.compare(shapes, folder, model),
            _ => self.measure_alone(shapes),
        }
    }

    fn measure_alone(&self, shapes: &[Shape]) -> Result<Code> {
        let blocks = |shape: &Shape| shape.streams * (shape.prompt + shape.tokens).div_ceil(BLOCK_TOKENS);
        let kv = KvSize::Blocks(shapes.iter().map(blocks).max().unwrap_or(1));
        let streams = shapes.iter().map(|shape| shape.streams).max();
        let (what, OpenDevice { mut device, profile, .. }) = match (&self.model_config, &self.model) {
            (Some(file), _) => {
                let config = Model::shape(file).map_err(Failure::refused)?;
                if self.load_format != Some(LoadFormat::Dummy) {
                    return Err(Failure::refused("--model-config has no weights: add --load-format dummy"));
                }
                (file, self.device.open(WeightSource::Random(&config), kv, streams, self.profile)?)
            }
            (None, Some(path)) => {
                let model = Model::open(path).map_err(Failure::refused)?;
                let dummy = self.load_format == Some(LoadFormat::Dummy);
                let weights = if dummy { WeightSource::Random(model.config()) } else { WeightSource::Model(&model) };
                (path, self.device.open(weights, kv, streams, self.profile)?)
            }
            (None, None) => return Err(Failure::refused("no model given: use --model PATH or --model-config FILE")),
        };
        if !self.json {
            output::line(&format!("{} on {}", what.display(), device.name()))?;
        }
        for &shape in shapes {
            let speed = speed(&mut *device, shape)?;
            if self.json {
                output::json(&Measured { shape: shape.to_string(), speed })?;
            } else {
                let Speed { prefill, decode } = speed;
                output::line(&format!(
                    "{:>14}  prefill {prefill:7.0} tok/s  decode {decode:7.0} tok/s",
                    shape.to_string()
                ))?;
            }
        }
        if self.profile
            && let Some(&shape) = shapes.last()
        {
            let profile = profile.ok_or_else(|| Failure::refused("--profile needs a GPU: add --device cuda"))?;
            profile.clear();
            let mut meter = ThroughputMeter::new(&mut *device, shape.streams, shape.prompt + shape.tokens)
                .map_err(Failure::stopped)?;
            let steps = shape.tokens.min(8);
            meter.decode(shape.prompt..shape.prompt + steps).map_err(Failure::stopped)?;
            output::line(profile.table(steps).trim_end())?;
        }
        Ok(Code::Ok)
    }

    fn compare(&self, shapes: &[Shape], folder: &Path, model: &Path) -> Result<Code> {
        let threads = match self.device.threads {
            Some(threads) => threads as usize,
            None => Machine::here().cores,
        };
        let peer = LlamaCpp::find(folder, self.peer_model.as_deref().unwrap_or(model), threads)?;
        let longhand = LonghandEngine::new(model, threads)?;
        let comparison = Comparison::run(&longhand, &peer, shapes, self.rounds, self.busy)?;
        publish(self.json, self.report.as_deref(), &comparison, || comparison.table())
    }
}

fn speed(device: &mut dyn Device, shape: Shape) -> Result<Speed> {
    let mut meter =
        ThroughputMeter::new(device, shape.streams, shape.prompt + shape.tokens).map_err(Failure::stopped)?;
    // Warm-up: the first step allocates.
    meter.prefill(BLOCK_TOKENS.min(shape.prompt)).map_err(Failure::stopped)?;
    let begin = clock::now();
    meter.prefill(shape.prompt).map_err(Failure::stopped)?;
    let read = begin.elapsed().as_secs_f64();
    let begin = clock::now();
    meter.decode(shape.prompt..shape.prompt + shape.tokens).map_err(Failure::stopped)?;
    let written = begin.elapsed().as_secs_f64();
    Ok(Speed {
        prefill: (shape.streams * shape.prompt) as f64 / read,
        decode: (shape.streams * shape.tokens) as f64 / written,
    })
}
