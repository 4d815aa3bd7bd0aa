//! The kernels: each file of CUDA C++ beside its launchers, its slow twin and the check that holds one against the other.
//! The checks are part of the program: `longhand selftest` runs them on the GPU that is there, the tests run them on the
//! processor (see [`host`]).
//!
//! Shapes are given outermost first. Launchers take addresses, since one allocation holds many matrices, and vouch for
//! grid, block and shared memory; the caller vouches that the memory behind the addresses is there.

pub mod check;
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

use super::gpu::Source;

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: include_str!($name) }
    };
}

static DECODE: Source = source!("decode.cu");
static DEQUANTISE: Source = source!("dequantise.cu");
static EMBED: Source = source!("embed.cu");
static NORM: Source = source!("norm.cu");
static PREFILL: Source = source!("prefill.cu");
static QUANTISE: Source = source!("quantise.cu");
static ROPE: Source = source!("rope.cu");
static SAMPLE: Source = source!("sample.cu");
static SILU: Source = source!("silu.cu");

/// All files of kernels.
pub static SOURCES: [&Source; 9] = [&DECODE, &DEQUANTISE, &EMBED, &NORM, &PREFILL, &QUANTISE, &ROPE, &SAMPLE, &SILU];

static COMMON: Source = source!("common.cuh");
static FP8: Source = source!("fp8.cuh");
static KV: Source = source!("kv.cuh");

/// What they include.
pub static HEADERS: [&Source; 3] = [&COMMON, &FP8, &KV];
