//! What the tests of several crates share.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod cluster;
pub mod proxy;
pub mod sentinel;
pub mod server;
