//! The engine: what a text does not depend on, its limits and grammar, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod backtracking;
mod capacity;
mod cuda;
mod experts;
mod faults;
mod grammar;
mod hash_device;
mod invariance;
mod length_control;
mod mock;
mod openai;
mod prefix_cache;
mod small_model;
mod tasks;
mod trace_spans;
