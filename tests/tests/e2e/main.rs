//! End to end: the real service on a loopback port, the real worker, the real store; only the model is a double.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod lease;
mod lost_answer;
mod pipeline;
mod race;
mod requeue;
mod sandbox;
mod shutdown;
mod strangers;
mod tokens;
