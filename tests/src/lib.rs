//! Test support that several crates share: Redis servers, fail-over set-ups, a fault-injecting proxy, spoiled inputs.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

pub mod cluster;
pub mod proxy;
pub mod sentinel;
pub mod server;
pub mod spoil;
