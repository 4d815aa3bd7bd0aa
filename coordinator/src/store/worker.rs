//! Workers: what each last reported, and which are asked to drain.

use async_trait::async_trait;
use longhand_proto::WorkerId;
use longhand_proto::task::WorkerStatus;

use super::error::Result;

/// A worker without a heartbeat for so long is forgotten, milliseconds: each start of one has an id of its own.
pub const WORKER_TTL_MS: u64 = 3_600_000;

/// A worker at its latest heartbeat.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerRecord {
    /// Id of this start of the worker.
    pub worker: WorkerId,
    /// What it reported of itself.
    pub report: WorkerStatus,
    /// Time of the heartbeat, Unix milliseconds.
    pub seen_ms: u64,
    /// An operator asked it to drain.
    pub drain: bool,
}

/// Workers of a store.
#[async_trait]
pub trait WorkerStore: Send + Sync {
    /// Keeps what a worker reports of itself, so that every replica knows all workers; true if it is asked to drain.
    async fn heartbeat(&self, worker: &WorkerId, report: &WorkerStatus) -> Result<bool>;
    /// The workers with a heartbeat within [`WORKER_TTL_MS`], by their ids.
    async fn workers(&self) -> Result<Vec<WorkerRecord>>;
    /// Asks a worker to drain: the answer to its next heartbeat says so.
    ///
    /// # Errors
    /// [`StoreError::NotFound`](super::StoreError::NotFound) without a heartbeat of this worker within
    /// [`WORKER_TTL_MS`].
    async fn drain(&self, worker: &WorkerId) -> Result<()>;
}
