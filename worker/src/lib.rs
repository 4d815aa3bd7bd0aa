//! A decoding engine behind a pull loop.
//!
//! Modules depend on those to the left and above, never the other way round:
//!
//! ```text
//! device ◀── ops ◀── model ◀── reference ◀── cpu, cuda ◀── engine ◀── client
//!    ▲                             ▲             ▲
//!    └── meter                     └── selftest ─┘
//! ```
//!
//! `device` is the trait that the engine drives and its plain data; `ops` is the arithmetic that devices share; `reference` is
//! the plain implementation that the devices are held against, in tests and in `longhand selftest`.

pub mod client;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod engine;
pub mod meter;
pub mod model;
pub mod ops;
pub mod reference;
pub mod selftest;
