//! Everything that changes documents: submission, gRPC services, sweeper, operator actions; with metrics and traces.

pub mod admin;
pub mod cancel;
pub mod metrics;
pub mod rpc;
pub mod stall;
pub mod submit;
pub mod sweeper;
pub mod trace;
pub mod wire;
