//! Holding kernels against their slow twins.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{decode, dequantise, embed, norm, prefill, quantise, rope, sample, silu};
use crate::cuda::gpu::{Gpu, GpuError};

/// Why a kernel did not pass.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    #[error(transparent)]
    Gpu(#[from] GpuError),
    #[error("{what}: number {index} is {got}, its slow twin says {want}")]
    Apart { what: String, index: usize, got: f32, want: f32 },
    #[error("{0}")]
    Wrong(String),
}

pub type Checked = Result<(), CheckError>;

/// A kernel by name, and its check.
pub type Check = (&'static str, fn(&dyn Gpu) -> Checked);

/// All checks, of small shapes: seconds on the processor, less on a GPU.
pub const ALL: &[Check] = &[
    ("dequantise", dequantise::check),
    ("quantise", quantise::check),
    ("embed", embed::check),
    ("norm", norm::check),
    ("rope", rope::check),
    ("prefill", prefill::check),
    ("decode", decode::check),
    ("silu", silu::check),
    ("sample", sample::check),
];

/// Random inputs by seed.
#[derive(Debug)]
pub(crate) struct Chance(StdRng);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0.random_range(0..end)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.random()
    }

    pub(crate) fn float(&mut self, size: f32) -> f32 {
        self.0.random_range(-size..size)
    }

    /// Numbers between `-size` and `size`.
    pub(crate) fn floats(&mut self, count: usize, size: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(size)).collect()
    }

    pub(crate) fn bf16s(&mut self, count: usize, size: f32) -> Vec<half::bf16> {
        (0..count).map(|_| half::bf16::from_f32(self.float(size))).collect()
    }

    /// The numbers below `count` in random order.
    pub(crate) fn shuffled(&mut self, count: u32) -> Vec<u32> {
        let mut numbers: Vec<u32> = (0..count).collect();
        for at in (1..numbers.len()).rev() {
            numbers.swap(at, self.0.random_range(0..=at));
        }
        numbers
    }
}

/// Compares: each number may be `absolute` off, or that share of itself that `relative` says. NaN is near nothing.
pub(crate) fn near(what: &str, got: &[f32], want: &[f32], absolute: f32, relative: f32) -> Checked {
    if got.len() != want.len() {
        return Err(CheckError::Wrong(format!("{what}: {} numbers, not {}", got.len(), want.len())));
    }
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let close = (got - want).abs() <= absolute + relative * want.abs();
        if !close {
            return Err(CheckError::Apart { what: what.to_owned(), index, got, want });
        }
    }
    Ok(())
}

/// What rounding to bf16 may do to a number.
pub(crate) const BF16: f32 = 1.0 / 256.0;

pub(crate) fn wide(numbers: &[half::bf16]) -> Vec<f32> {
    numbers.iter().map(|x| x.to_f32()).collect()
}

/// Runs a check on the processor, with closed pages behind all memory and then before it. For tests.
#[cfg(test)]
pub(crate) fn on_host(check: fn(&dyn Gpu) -> Checked) {
    let library = super::host::library().unwrap_or_else(|error| panic!("{error}"));
    let open = || crate::cuda::host::Host::open(&library, 1 << 30).unwrap();
    for gpu in [open(), open().guard_before()] {
        check(&gpu).unwrap_or_else(|error| panic!("{error}"));
    }
}
