//! `longhand bench engine`: tokens per second of the engine.

use std::path::{Path, PathBuf};

use clap::Args;
use longhand_proto::clock;
use longhand_worker::cpu::{CpuDevice, CpuOptions};
use longhand_worker::device::{BLOCK_TOKENS, Device};
use longhand_worker::meter::Meter;
use longhand_worker::model::Model;
use serde::{Deserialize, Serialize};

use super::compare::{self, Comparison};
use super::peer::Peer;
use super::shape::{DEFAULT, Shape};
use crate::exit::{Code, Failure, Result};
use crate::output;

const HELP: &str = "\
Examples:
  longhand bench engine --model model.gguf
  longhand bench engine --model model.gguf --shape 16x128+128 --shape 8x3500+64
  longhand bench engine --model model.gguf --peer build/bin --peer-model model.Q4_0.gguf

A shape STREAMSxPROMPT+TOKENS is read (all prompts) and written (all streams together). With --peer, each shape is done
by a fresh process of this program and by llama.cpp's `llama-batched-bench` in turn, --rounds times; the table shows
medians, and the median of the ratios of each round. `make bench` builds that peer and calls this.

Exit codes:
  0    measured
  1    a measurement failed
  2    nothing was started: wrong usage, model or peer of no use";

/// Tokens of one step, as a worker has them.
const BATCH_TOKENS: usize = 512;

#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub(crate) struct EngineBench {
    /// Model: a GGUF file, or a Hugging Face folder with safetensors
    #[arg(long, value_name = "PATH", env = "LONGHAND_MODEL")]
    model: PathBuf,

    /// Threads that compute [default: the cores this process may use]
    #[arg(long, value_name = "N", env = "LONGHAND_THREADS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// What to measure; may be given several times [default: reading 512, writing in 1 to 32 streams, 3,500 of context]
    #[arg(long, value_name = "STREAMSxPROMPT+TOKENS")]
    shape: Vec<Shape>,

    /// Folder with llama.cpp's programs, to measure in turn with this one
    #[arg(long, value_name = "DIR")]
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

    /// Print one JSON object per shape
    #[arg(long)]
    pub(crate) json: bool,
}

/// What one process measured of one shape.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Speed {
    /// Tokens read per second.
    pub(crate) prefill: f64,
    /// Tokens written per second, in all streams together.
    pub(crate) decode: f64,
}

impl EngineBench {
    pub(crate) async fn run(self) -> Result<Code> {
        // Nothing here waits for anything but the processor.
        let done = tokio::task::spawn_blocking(move || self.measure()).await;
        done.map_err(|e| Failure::stopped(format!("the measurement crashed: {e}")))?
    }

    fn measure(&self) -> Result<Code> {
        let shapes: &[Shape] = if self.shape.is_empty() { &DEFAULT } else { &self.shape };
        match &self.peer {
            None => self.alone(shapes)?,
            Some(folder) => self.in_turn(shapes, folder)?,
        }
        Ok(Code::Ok)
    }

    fn alone(&self, shapes: &[Shape]) -> Result<()> {
        let model = Model::open(&self.model).map_err(Failure::refused)?;
        let blocks = |shape: &Shape| shape.streams * (shape.prompt + shape.tokens).div_ceil(BLOCK_TOKENS);
        let options = CpuOptions {
            threads: self.threads.map(|threads| threads as usize),
            kv_blocks: shapes.iter().map(blocks).max().unwrap_or(1),
            max_batch_tokens: BATCH_TOKENS,
        };
        let mut device = CpuDevice::load(&model, &options).map_err(Failure::refused)?;
        if !self.json {
            output::line(&format!("{} on {}", self.model.display(), device.name()))?;
        }
        for &shape in shapes {
            let speed = speed(&mut device, shape)?;
            if self.json {
                output::json(&speed)?;
            } else {
                let Speed { prefill, decode } = speed;
                output::line(&format!(
                    "{:>14}  read {prefill:7.0} tok/s  write {decode:7.0} tok/s",
                    shape.to_string()
                ))?;
            }
        }
        Ok(())
    }

    fn in_turn(&self, shapes: &[Shape], folder: &Path) -> Result<()> {
        let threads = match self.threads {
            Some(threads) => threads as usize,
            None => super::machine::Machine::here().cores,
        };
        let peer = Peer::find(folder, self.peer_model.as_ref().unwrap_or(&self.model), threads)?;
        let us = compare::Us::new(&self.model, threads)?;
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
    let mut meter = Meter::new(device, shape.streams, shape.prompt + shape.tokens).map_err(Failure::stopped)?;
    // What is allocated at the first step is there from then on.
    meter.read(BLOCK_TOKENS.min(shape.prompt)).map_err(Failure::stopped)?;
    let begin = clock::now();
    meter.read(shape.prompt).map_err(Failure::stopped)?;
    let read = begin.elapsed().as_secs_f64();
    let begin = clock::now();
    meter.write(shape.prompt..shape.prompt + shape.tokens).map_err(Failure::stopped)?;
    let written = begin.elapsed().as_secs_f64();
    Ok(Speed {
        prefill: (shape.streams * shape.prompt) as f64 / read,
        decode: (shape.streams * shape.tokens) as f64 / written,
    })
}
