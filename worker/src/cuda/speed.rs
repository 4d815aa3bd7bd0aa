//! How fast a GPU copies and multiplies, against what one such card was measured to do.

use std::fmt;
use std::time::Duration;

use half::bf16;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::gpu::{Buffer, Epilogue, Gemm, Gpu, GpuError, OperandType};

/// Of an H100 with 80 GB: bytes read and written by a big copy on the card, and operations of a bf16 gemm.
const COPY: f64 = 3.0e12;
const GEMM: f64 = 798e12;
/// Bytes copied: many times what any cache holds.
const BYTES: usize = 1 << 30;
/// Rows, inputs and outputs of the gemm.
const SIDE: usize = 8192;
/// Times that each is measured; the median counts.
const ROUNDS: usize = 9;

/// One speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    what: &'static str,
    /// A second.
    amount: f64,
    unit: &'static str,
    scale: f64,
    /// Of the H100 that was measured.
    ceiling: f64,
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, amount, unit, scale, ceiling } = self;
        let share = amount / ceiling * 100.0;
        write!(f, "{what}: {:.2} {unit} ({share:.0} % of the {:.2} of an H100)", amount / scale, ceiling / scale)
    }
}

/// Copies on the card and multiplies, for about a second.
pub fn measure(gpu: &dyn Gpu) -> Result<[Speed; 2], GpuError> {
    Ok([copy(gpu)?, gemm(gpu)?])
}

fn median(mut one: impl FnMut() -> Result<Duration, GpuError>) -> Result<f64, GpuError> {
    one()?;
    let mut times = (0..ROUNDS).map(|_| one()).collect::<Result<Vec<_>, _>>()?;
    times.sort_unstable();
    Ok(times[ROUNDS / 2].as_secs_f64())
}

fn copy(gpu: &dyn Gpu) -> Result<Speed, GpuError> {
    let (from, to) = (Buffer::<u8>::new(gpu, BYTES)?, Buffer::<u8>::new(gpu, BYTES)?);
    let seconds = median(|| gpu.time(&mut || gpu.copy(to.ptr(), from.ptr(), BYTES)))?;
    Ok(Speed { what: "copy", amount: 2.0 * BYTES as f64 / seconds, unit: "TB/s", scale: 1e12, ceiling: COPY })
}

fn gemm(gpu: &dyn Gpu) -> Result<Speed, GpuError> {
    // TestRng: a product of zeros is faster than any other.
    let mut rng = SmallRng::seed_from_u64(1);
    let numbers: Vec<bf16> = (0..SIDE * SIDE).map(|_| bf16::from_f32(rng.random_range(-1.0..1.0))).collect();
    let (weight, input) = (Buffer::from_slice(gpu, &numbers)?, Buffer::from_slice(gpu, &numbers)?);
    let output = Buffer::<bf16>::new(gpu, SIDE * SIDE)?;
    let gemm = Gemm {
        rows: SIDE,
        outputs: SIDE,
        inputs: SIDE,
        operands: OperandType::Bf16,
        weight: weight.ptr(),
        input: input.ptr(),
        output: output.ptr(),
        epilogue: Epilogue::Bf16,
    };
    let seconds = median(|| gpu.time(&mut || gpu.gemm(&gemm)))?;
    let operations = 2.0 * (SIDE as f64).powi(3);
    let amount = operations / seconds;
    Ok(Speed { what: "bf16 product", amount, unit: "TFLOP/s", scale: 1e12, ceiling: GEMM })
}
