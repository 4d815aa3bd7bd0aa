//! A decoding engine behind a pull loop.

pub mod client;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod engine;
pub mod meter;
pub mod model;
pub mod selftest;
