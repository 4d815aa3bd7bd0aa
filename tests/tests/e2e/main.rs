//! End-to-end tests: the real services on a loopback port, the real worker, the real store; only the model is a mock.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod cancel;
mod harness;
mod hostile;
mod lease;
mod lost_reply;
mod pipeline;
mod race;
mod requeue;
mod rpc_fuzz;
mod shutdown;
mod tokens;
