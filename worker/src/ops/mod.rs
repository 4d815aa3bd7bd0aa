//! Arithmetic that all devices share, and that each of them must reproduce: rotary positions, powers of two, number formats,
//! sampling. It knows neither models nor devices.

pub(crate) mod bf16;
pub(crate) mod exp2;
pub(crate) mod fp8;
pub(crate) mod rope;
pub mod sampler;
pub(crate) mod vector;
