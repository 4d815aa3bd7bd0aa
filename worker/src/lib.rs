//! A worker: a pull loop ([`client`]) that leases tasks from a coordinator, and the decoding engine ([`engine`]) that runs
//! them on a [`device`].

pub mod client;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod engine;
pub mod model;
pub mod selftest;
pub mod throughput;
