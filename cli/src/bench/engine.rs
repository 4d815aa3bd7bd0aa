//! `longhand bench engine`: tokens per second of the engine.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use longhand_proto::clock;
use longhand_worker::device::{BLOCK_TOKENS, Device};
use longhand_worker::model::Model;
use longhand_worker::throughput::ThroughputMeter;
use serde::{Deserialize, Serialize};

use super::compare::{self, Comparison};
use super::peer::Peer;
use super::shape::{DEFAULT, Shape};
use crate::device::{DeviceArgs, Kv, Opened, Weights};
use crate::exit::{Code, Failure, Result};
use crate::output;

const HELP: &str = "\
Examples:
  longhand bench engine --model model.gguf
  longhand bench engine --model model.gguf --shape 16x128+128 --shape 8x3500+64
  longhand bench engine --model model.gguf --peer build/bin --peer-model model.Q4_0.gguf
  longhand bench engine --device cuda --config examples/shapes/llama-3.1-8b.json --load-format dummy --shape 64x1024+128

A shape STREAMSxPROMPT+TOKENS is read (all prompts) and written (all streams together). With --peer, each shape is done
by a fresh process of this program and by llama.cpp's `llama-batched-bench` in turn, --rounds times; the table shows
medians, and the median of the ratios of each round. `make bench` builds that peer and calls this. With --profile the
GPU's work is timed kernel by kernel, which slows it down as a whole.

Exit codes:
  0    measured
  1    a measurement failed
  2    nothing was started: wrong usage, model or peer of no use";

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct EngineBench {
    /// Model: a GGUF file, or a Hugging Face folder with safetensors
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL", required_unless_present = "config")]
    model: Option<PathBuf>,

    /// Measure the shape that this config.json of Hugging Face describes, on a GPU
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "peer"], requires = "load_format")]
    config: Option<PathBuf>,

    /// Where weights come from: the model, or chance
    #[arg(long, value_enum, value_name = "FORMAT")]
    load_format: Option<LoadFormat>,

    #[command(flatten)]
    device: DeviceArgs,

    /// What to measure; may be given several times [default: reading 512, writing in 1 to 32 streams, 3,500 of context]
    #[arg(long, value_name = "STREAMSxPROMPT+TOKENS")]
    shape: Vec<Shape>,

    /// Folder with llama.cpp's programs, to measure in turn with this one
    #[arg(long, value_name = "DIR", requires = "model")]
    peer: Option<PathBuf>,

    /// Model of the peer [default: the same file]
    #[arg(long, value_name = "FILE", requires = "peer")]
    peer_model: Option<PathBuf>,

    /// Times that each side measures each shape
    #[arg(long, value_name = "N", default_value_t = 5, requires = "peer", value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,

    /// Keep this many other threads busy on the machine meanwhile
    #[arg(long, value_name = "N", default_value_t = 0, requires = "peer", value_parser = clap::value_parser!(u32).range(0..=64))]
    busy: u32,

    /// Write all single measurements to this file (JSON)
    #[arg(long, value_name = "FILE", requires = "peer")]
    report: Option<PathBuf>,

    /// Time each kernel of the last shape's writing by itself, and print where the time goes (GPU only)
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

/// What one process measured of one shape.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Speed {
    /// Tokens read per second.
    pub(crate) prefill: f64,
    /// Tokens written per second, in all streams together.
    pub(crate) decode: f64,
}

/// A line of what was measured.
#[derive(Debug, Serialize)]
struct Measured {
    shape: String,
    #[serde(flatten)]
    speed: Speed,
}

impl EngineBench {
    pub(crate) async fn run(self) -> Result<Code> {
        // Nothing here waits for anything but the processor.
        let done = tokio::task::spawn_blocking(move || self.measure()).await;
        done.map_err(|e| Failure::stopped(format!("the measurement crashed: {e}")))?
    }

    fn measure(&self) -> Result<Code> {
        let shapes: &[Shape] = if self.shape.is_empty() { &DEFAULT } else { &self.shape };
        match (&self.peer, &self.model) {
            (Some(folder), Some(model)) => self.in_turn(shapes, folder, model)?,
            _ => self.alone(shapes)?,
        }
        Ok(Code::Ok)
    }

    fn alone(&self, shapes: &[Shape]) -> Result<()> {
        let blocks = |shape: &Shape| shape.streams * (shape.prompt + shape.tokens).div_ceil(BLOCK_TOKENS);
        let kv = Kv::Blocks(shapes.iter().map(blocks).max().unwrap_or(1));
        let streams = shapes.iter().map(|shape| shape.streams).max();
        let (what, Opened { mut device, profile, .. }) = match (&self.config, &self.model) {
            (Some(file), _) => {
                let config = Model::shape(file).map_err(Failure::refused)?;
                if self.load_format != Some(LoadFormat::Dummy) {
                    return Err(Failure::refused("--config has no weights: say --load-format dummy"));
                }
                (file, self.device.open(Weights::Random(&config), kv, streams, self.profile)?)
            }
            (None, Some(path)) => {
                let model = Model::open(path).map_err(Failure::refused)?;
                let dummy = self.load_format == Some(LoadFormat::Dummy);
                let weights = if dummy { Weights::Random(model.config()) } else { Weights::Model(&model) };
                (path, self.device.open(weights, kv, streams, self.profile)?)
            }
            (None, None) => return Err(Failure::refused("no model is named: give --model PATH or --config FILE")),
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
                    "{:>14}  read {prefill:7.0} tok/s  write {decode:7.0} tok/s",
                    shape.to_string()
                ))?;
            }
        }
        if self.profile
            && let Some(&shape) = shapes.last()
        {
            let profile =
                profile.ok_or_else(|| Failure::refused("--profile times the kernels of a GPU: --device cuda"))?;
            profile.clear();
            let mut meter = ThroughputMeter::new(&mut *device, shape.streams, shape.prompt + shape.tokens)
                .map_err(Failure::stopped)?;
            let steps = shape.tokens.min(8);
            meter.decode(shape.prompt..shape.prompt + steps).map_err(Failure::stopped)?;
            output::line(profile.table(steps).trim_end())?;
        }
        Ok(())
    }

    fn in_turn(&self, shapes: &[Shape], folder: &Path, model: &Path) -> Result<()> {
        let threads = match self.device.threads {
            Some(threads) => threads as usize,
            None => super::machine::Machine::here().cores,
        };
        let peer = Peer::find(folder, self.peer_model.as_deref().unwrap_or(model), threads)?;
        let us = compare::Us::new(model, threads)?;
        let comparison = Comparison::run(&us, &peer, shapes, self.rounds, self.busy)?;
        match self.json {
            true => output::json(&comparison)?,
            false => output::line(comparison.table().trim_end())?,
        }
        match &self.report {
            Some(path) => compare::save(path, &comparison),
            None => Ok(()),
        }
    }
}

fn speed(device: &mut dyn Device, shape: Shape) -> Result<Speed> {
    let mut meter =
        ThroughputMeter::new(device, shape.streams, shape.prompt + shape.tokens).map_err(Failure::stopped)?;
    // What is allocated at the first step is there from then on.
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
