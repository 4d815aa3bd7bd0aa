//! Random inputs of checks.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Random inputs by seed.
#[derive(Debug)]
pub(crate) struct TestRng(StdRng);

impl TestRng {
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
