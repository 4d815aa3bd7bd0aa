//! Tests that run the `longhand` program as its users do.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bad_input;
mod browser;
mod choose;
mod cluster;
mod collector;
mod crash;
mod dashboard;
mod examples;
mod export;
mod fleet;
mod gpu;
mod numbers;
mod observability;
mod program;
mod remote;
mod security;
mod stop_and_go;
mod supply;
mod traces;
