//! Comparing kernels with their references.

use crate::cuda::gpu::{Gpu, GpuError};

/// Why a kernel failed its check.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum CheckError {
    /// A call failed.
    #[error(transparent)]
    Gpu(#[from] GpuError),
    /// A number is too far from the reference's.
    #[error("{what}: number {index} is {got}, its reference gives {want}")]
    Mismatch { what: String, index: usize, got: f32, want: f32 },
    /// Something else is wrong.
    #[error("{0}")]
    Failed(String),
}

/// What a check gives.
pub type CheckResult = Result<(), CheckError>;

/// A kernel by name, and its check.
pub type Check = (&'static str, fn(&dyn Gpu) -> CheckResult);

/// Compares: each number may be `absolute` off, or that share of itself that `relative` says. NaN is close to nothing.
pub(crate) fn assert_close(what: &str, got: &[f32], want: &[f32], absolute: f32, relative: f32) -> CheckResult {
    if got.len() != want.len() {
        return Err(CheckError::Failed(format!("{what}: {} numbers, not {}", got.len(), want.len())));
    }
    for (index, (&got, &want)) in got.iter().zip(want).enumerate() {
        let close = (got - want).abs() <= absolute + relative * want.abs();
        if !close {
            return Err(CheckError::Mismatch { what: what.to_owned(), index, got, want });
        }
    }
    Ok(())
}

/// What rounding to bf16 may do to a number.
pub(crate) const BF16: f32 = 1.0 / 256.0;

/// bf16 numbers in float32.
pub(crate) fn to_f32(numbers: &[half::bf16]) -> Vec<f32> {
    numbers.iter().map(|x| x.to_f32()).collect()
}

/// Runs a check on the processor, with closed pages behind all memory and then before it. For tests.
#[cfg(test)]
pub(crate) fn on_host(check: fn(&dyn Gpu) -> CheckResult) {
    let library = super::host::library().unwrap_or_else(|error| panic!("{error}"));
    let open = || crate::cuda::host::Host::open(&library, 1 << 30).unwrap();
    for gpu in [open(), open().guard_before()] {
        check(&gpu).unwrap_or_else(|error| panic!("{error}"));
    }
}
