//! What the tests of several crates share.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod server;
