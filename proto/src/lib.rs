//! The vocabulary that coordinator and worker share: the wire protocol, the domain types it carries, and the few
//! pure functions both sides must agree on (word counting, hashing, time).
//!
//! Wire types stop at the coordinator's `service` and the worker's `client`; everything further in uses [`task`].

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

pub mod chance;
pub mod clock;
mod convert;
pub mod id;
pub mod task;
pub mod trace;
pub mod words;

pub use convert::WireError;
pub use id::{DocumentId, LeaseId, RunId, WorkerId};

/// Raised whenever old and new sides would misread each other; the handshake refuses a different number.
pub const PROTOCOL: u32 = 1;
/// Metadata key under which every call states [`PROTOCOL`]: a client that moves to another replica says hello to none.
pub const PROTOCOL_HEADER: &str = "longhand-protocol";
/// Metadata key that goes with `RESOURCE_EXHAUSTED`: milliseconds to wait before asking again. gRPC's own word for it.
pub const RETRY_HEADER: &str = "grpc-retry-pushback-ms";
/// Version of the program. What a handshake and a record state is [`build`].
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

static BUILD: std::sync::OnceLock<String> = std::sync::OnceLock::new();

/// Version and commit of the program that runs, such as `0.1.0 (1a2b3c4d5e6f)`; the version alone in a library's tests.
pub fn build() -> &'static str {
    BUILD.get().map_or(VERSION, String::as_str)
}

/// States the commit that the program was built of, once, before anything else.
pub fn state_build(commit: &str) {
    if !commit.is_empty() {
        BUILD.get_or_init(|| format!("{VERSION} ({commit})"));
    }
}
/// gRPC message limit on both ends: a 32,000-word prompt is about 200 kB, a 5 MB instruction is refused at the border.
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
