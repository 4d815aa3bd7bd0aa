//! What coordinator and worker share: the gRPC protocol, the domain types that it carries, and the few functions on which
//! both sides must agree (word counting, ids, time).
//!
//! Protobuf messages ([`v1`]) are used in the coordinator's `control::rpc` and the worker's `client` only; all other code
//! uses [`task`].

/// Generated from `proto/longhand/v1/*.proto`.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    clippy::all,
    clippy::restriction,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("longhand.v1");
}

pub mod clock;
mod convert;
pub mod id;
pub mod number;
pub mod rng;
mod sampling;
pub mod task;
pub mod template;
pub mod trace;
pub mod wire;
pub mod words;

pub use convert::WireError;
pub use id::{DocumentId, LeaseId, RunId, WorkerId};

/// Protocol version. Raised when old and new sides would misread each other; the handshake rejects any other number.
pub const PROTOCOL: u32 = 1;
/// Metadata key with which every call states [`PROTOCOL`]: a client that fails over to another replica makes no new
/// handshake.
pub const PROTOCOL_HEADER: &str = "longhand-protocol";
/// Metadata key of a `RESOURCE_EXHAUSTED` status: milliseconds to wait before the retry. gRPC's standard key.
pub const RETRY_HEADER: &str = "grpc-retry-pushback-ms";
/// Version of the program. Handshakes and records state [`build`].
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

static BUILD: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Version and commit of the running program, such as `0.1.0 (1a2b3c4d5e6f)`; the version alone if no commit was set.
pub fn build() -> &'static str {
    BUILD.get().map_or(VERSION, String::as_str)
}

/// Sets the commit that the program was built from. Only the first call has an effect.
pub fn set_build(commit: &str) {
    if !commit.is_empty() {
        BUILD.get_or_init(|| format!("{VERSION} ({commit})"));
    }
}

/// gRPC message limit of both sides: a 32,000-word prompt has about 200 kB, and an instruction of 5 MB is rejected when
/// it is read.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
