//! What the commands of `longhand` and its benchmarks share: exit codes, output, sizes, and the device that computes.

pub mod byte_size;
pub mod device;
pub mod engine;
pub mod exit;
pub mod memory;
pub mod output;
pub mod store_url;
pub mod terminal;
