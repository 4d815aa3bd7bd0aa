//! A worker: a pull loop ([`client`]) that leases tasks from a coordinator, and the decoding engine ([`engine`]) that runs
//! them on a [`device`].
//!
//! A module may use those in the lines above its own, never one below or beside it:
//!
//! ```text
//! http_body           bodies of HTTP responses, within bounds
//! device              the trait that the engine drives, and its plain data
//! ops, throughput     arithmetic that devices share; the speed of a device
//! model               files on disk: configuration, weights, tokenizer, chat template
//! reference           the plain implementation that devices are held against, in tests and in `longhand selftest`
//! cpu, cuda           devices
//! engine, selftest    scheduling and decoding; whether a device computes what it should
//! client              the pull loop
//! ```

pub mod client;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod engine;
pub mod http_body;
pub mod model;
pub mod ops;
pub mod reference;
pub mod selftest;
pub mod throughput;
