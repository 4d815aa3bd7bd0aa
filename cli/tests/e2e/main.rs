//! Tests that run the `longhand` program as its users do.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archive;
mod bad_input;
mod browser;
mod choose;
mod cluster;
mod collector;
mod crash;
mod dashboard;
mod evaluate;
mod examples;
mod export;
mod fleet;
mod gpu;
mod half_open;
mod numbers;
mod objects;
mod observability;
mod program;
mod remote;
mod resume;
mod security;
mod stop_and_go;
mod supply;
mod traces;
mod worker_ends;
