//! The kernels: each file of CUDA C++ beside its launchers, its slow twin and the check that holds one against the other.
//! The checks are part of the program: `longhand selftest` runs them on the GPU that is there, the tests run them on the
//! processor (see [`host`]).
//!
//! Shapes are given outermost first. Launchers take addresses, since one allocation holds many matrices, and vouch for
//! grid, block and shared memory; the caller vouches that the memory behind the addresses is there.

pub mod check;
pub mod decode;
pub mod embed;
pub mod host;
pub mod kv;
pub mod norm;
pub mod prefill;
pub mod rope;
pub mod silu;

use super::gpu::Source;

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: include_str!($name) }
    };
}

static DECODE: Source = source!("decode.cu");
static EMBED: Source = source!("embed.cu");
static NORM: Source = source!("norm.cu");
static PREFILL: Source = source!("prefill.cu");
static ROPE: Source = source!("rope.cu");
static SILU: Source = source!("silu.cu");

/// All files of kernels.
pub static SOURCES: [&Source; 6] = [&DECODE, &EMBED, &NORM, &PREFILL, &ROPE, &SILU];

static COMMON: Source = source!("common.cuh");
static KV: Source = source!("kv.cuh");

/// What they include.
pub static HEADERS: [&Source; 2] = [&COMMON, &KV];
