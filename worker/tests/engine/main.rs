//! The engine: what a text may not depend on, what it must obey, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bounds;
mod cuda;
mod fake;
mod faults;
mod grammar;
mod invariance;
mod mock;
mod openai;
mod real;
mod reuse;
mod spans;
mod tasks;
