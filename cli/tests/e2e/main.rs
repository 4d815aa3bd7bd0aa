//! Tests that run the `longhand` program as a user does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archive;
mod bad_input;
mod browser;
mod cancel;
mod closed_output;
mod cluster;
mod collector;
mod compose;
mod corpus_folder;
mod crash;
mod dashboard;
mod eval;
mod examples;
mod export;
mod filter;
mod fleet;
mod flood;
mod fuzz;
mod gpu;
mod half_open;
mod import_select;
mod metrics;
mod model_pull;
mod object_store;
mod observability;
mod program;
mod push;
mod remote;
mod resume;
mod run_life;
mod security;
mod sessions;
mod stop_and_resume;
mod traces;
mod worker_exit;
