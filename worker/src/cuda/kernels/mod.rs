//! The kernels: each file of CUDA C++ beside its launchers, its reference and the check that holds one against the other.
//! The checks are part of the program: `longhand selftest` runs them on the GPU that is there, the tests run them on the
//! processor (see [`host`]).
//!
//! Shapes are given outermost first. Launchers take addresses, since one allocation holds many matrices, and vouch for
//! grid, block and shared memory; the caller vouches that the memory behind the addresses is there.

mod check;
#[cfg(test)]
mod cubin;
pub mod decode;
pub mod dequantise;
pub mod embed;
pub mod host;
pub mod kv;
pub mod norm;
pub mod prefill;
pub mod quantise;
pub mod rope;
pub mod sample;
pub mod silu;
mod sources;
mod test_rng;

pub use self::check::{Check, CheckError, CheckResult};
pub use self::sources::{HEADERS, SOURCES};

/// All checks, of small shapes: seconds on the processor, less on a GPU.
pub const CHECKS: &[Check] = &[
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
