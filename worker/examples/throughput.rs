//! Tokens per second of the CPU device: `cargo run --release --example throughput -- MODEL [THREADS]`. With one thread
//! times are the thread's own, so that other work on the machine counts less.
#![allow(clippy::print_stdout, reason = "prints its table")]

use std::error::Error;
use std::path::Path;

use longhand_proto::task::Sampling;
use longhand_worker::cpu::{CpuDevice, CpuOptions};
use longhand_worker::device::{BLOCK_TOKENS, Device, RngKey, SampleParams, SeqStep, StepBatch};
use longhand_worker::model::Model;

const BATCH: usize = 512;
const STREAMS: usize = 32;

struct Bench {
    device: CpuDevice,
    /// Blocks of each stream.
    per_stream: usize,
    own_time: bool,
}

/// Since some moment; of this process alone if `own`.
fn seconds(own: bool) -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let clock = if own { libc::CLOCK_PROCESS_CPUTIME_ID } else { libc::CLOCK_MONOTONIC };
    // SAFETY: the pointer is to a local of the right type.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

impl Bench {
    fn seconds(&self) -> f64 {
        seconds(self.own_time)
    }

    fn sequence(&self, stream: usize, start: usize, len: usize) -> SeqStep {
        let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
        let key = RngKey { seed: 0, stream: 0 };
        let sample = SampleParams { sampling, key, position: 0, penalised: vec![], bias: vec![], mask: None };
        // Interleaved, as streams that grow together get them.
        let blocks = (0..self.per_stream).map(|block| (block * STREAMS + stream) as u32).collect();
        SeqStep { len, start, blocks, sample: Some(sample) }
    }

    /// Seconds to read `tokens` tokens into a stream.
    fn prefill(&mut self, stream: usize, tokens: usize) -> Result<f64, Box<dyn Error>> {
        let begin = self.seconds();
        let mut out = Vec::new();
        for start in (0..tokens).step_by(BATCH) {
            let len = BATCH.min(tokens - start);
            let ids = (start..start + len).map(|at| (at * 7919 % 40_000 + 100) as u32).collect();
            self.device
                .step(&StepBatch { tokens: ids, sequences: vec![self.sequence(stream, start, len)] }, &mut out)?;
        }
        Ok(self.seconds() - begin)
    }

    /// Seconds for `steps` tokens in each of `streams` streams from `start` on.
    fn decode(&mut self, streams: usize, start: usize, steps: usize) -> Result<f64, Box<dyn Error>> {
        let begin = self.seconds();
        let mut tokens = vec![100; streams];
        for step in 0..steps {
            let sequences = (0..streams).map(|stream| self.sequence(stream, start + step, 1)).collect();
            let batch = StepBatch { tokens: std::mem::take(&mut tokens), sequences };
            self.device.step(&batch, &mut tokens)?;
        }
        Ok(self.seconds() - begin)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: throughput MODEL [THREADS]")?;
    let threads = args.next().map(|threads| threads.parse()).transpose()?;
    let begin = seconds(threads == Some(1));
    let model = Model::open(Path::new(&path))?;
    println!("open {:.3} s", seconds(threads == Some(1)) - begin);
    let per_stream = 4096 / BLOCK_TOKENS;
    let begin = seconds(threads == Some(1));
    let options = CpuOptions { threads, kv_blocks: STREAMS * per_stream, max_batch_tokens: BATCH };
    let mut bench = Bench { device: CpuDevice::load(&model, &options)?, per_stream, own_time: threads == Some(1) };
    println!("load {:.3} s, {}", seconds(threads == Some(1)) - begin, bench.device.name());
    let best = |runs: usize, work: &mut dyn FnMut() -> Result<f64, Box<dyn Error>>| -> Result<f64, Box<dyn Error>> {
        (0..runs).map(|_| work()).try_fold(f64::INFINITY, |best, time| Ok(best.min(time?)))
    };
    println!("prefill 512: {:.0} tok/s", 512.0 / best(5, &mut || bench.prefill(0, 512))?);
    for streams in [1, 2, 4, 8, 16, 32] {
        for stream in 0..streams {
            bench.prefill(stream, 128)?;
        }
        let time = best(3, &mut || bench.decode(streams, 128, 128))?;
        println!("decode 128, {streams} streams: {:.0} tok/s", streams as f64 * 128.0 / time);
    }
    let mut time = 0.0;
    for stream in 0..8 {
        time += bench.prefill(stream, 3500)?;
    }
    println!("prefill 3500: {:.0} tok/s", 8.0 * 3500.0 / time);
    for streams in [1, 8] {
        let time = best(3, &mut || bench.decode(streams, 3500, 32))?;
        println!("decode at 3500, {streams} streams: {:.0} tok/s", streams as f64 * 32.0 / time);
    }
    Ok(())
}
