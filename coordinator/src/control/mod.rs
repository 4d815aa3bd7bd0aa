//! What moves documents: submission, the gRPC services, the sweeper, what an operator does.

pub mod admin;
pub mod metrics;
pub mod rpc;
pub mod submit;
pub mod sweeper;
pub mod trace;
