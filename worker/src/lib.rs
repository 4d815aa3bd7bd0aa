//! A decoding engine behind a pull loop.

pub mod device;
pub mod engine;
pub mod model;
