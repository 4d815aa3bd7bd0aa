//! What a worker has done since its start, and what it holds now.

use std::time::Instant;

/// Totals of a worker since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerReport {
    /// Tasks whose text was recorded.
    pub completed: u64,
    /// Tasks whose failure was recorded.
    pub failed: u64,
    /// Leases released before their task ended.
    pub released: u64,
    /// Leases that the coordinator took away, or whose result it rejected as stale: the text was discarded.
    pub lost: u64,
    /// Tasks started as the continuation of the previous one on the same slot.
    pub continued: u64,
}

/// A worker's state between two inputs of its loop.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorkerSnapshot {
    /// Totals since the start.
    pub report: WorkerReport,
    /// Leases held.
    pub held: u32,
    /// When the oldest unsaved document was last checkpointed, or leased; none if no document is being written.
    pub unsaved_since: Option<Instant>,
}
