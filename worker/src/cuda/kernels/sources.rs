//! The files of kernels, as text.

use crate::cuda::gpu::Source;

macro_rules! source {
    ($name:literal) => {
        Source { name: $name, text: include_str!($name) }
    };
}

pub(super) static DECODE: Source = source!("decode.cu");
pub(super) static DEQUANTISE: Source = source!("dequantise.cu");
pub(super) static EMBED: Source = source!("embed.cu");
pub(super) static NORM: Source = source!("norm.cu");
pub(super) static PREFILL: Source = source!("prefill.cu");
pub(super) static QUANTISE: Source = source!("quantise.cu");
pub(super) static ROPE: Source = source!("rope.cu");
pub(super) static SAMPLE: Source = source!("sample.cu");
pub(super) static SILU: Source = source!("silu.cu");

/// All files of kernels.
pub static SOURCES: [&Source; 9] = [&DECODE, &DEQUANTISE, &EMBED, &NORM, &PREFILL, &QUANTISE, &ROPE, &SAMPLE, &SILU];

static CHOOSER: Source = source!("chooser.cuh");
static COMMON: Source = source!("common.cuh");
static FP8: Source = source!("fp8.cuh");
static KV: Source = source!("kv.cuh");

/// What they include.
pub static HEADERS: [&Source; 4] = [&CHOOSER, &COMMON, &FP8, &KV];
