//! The conformance suite of the stores: one set of tests and one model, run on SQLite in memory, SQLite on disk, a real
//! redis-server, a real Valkey and a real cluster.
//!
//! The servers are started by the tests, each on a port and in a folder of its own. One that is not installed fails its
//! tests: `make test-deps` fetches both.
#![allow(clippy::unwrap_used, reason = "a store that fails where it should not ends the test")]

mod conformance;
mod fixture;
mod lost_reply;
mod model;
mod proptest;
mod redis_only;
mod sqlite_only;
mod topology;
mod torn_aof;
