//! The audit log: what operators did to runs and workers.

use async_trait::async_trait;
use longhand_proto::RunId;
use serde::{Deserialize, Serialize};

use super::error::Result;

/// Entries kept of each run, and of all workers together; the oldest are removed.
pub const AUDIT_LOG_ENTRIES: u32 = 1_000;

/// What an operator did to a run, or to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// Name of the token's holder, and the address that the call came from.
    pub who: String,
    /// What was done.
    pub what: ActionKind,
    /// Documents that it changed.
    #[serde(default)]
    pub documents: u64,
    /// Id of the one document or worker that it was done to; else a description of the documents that were selected.
    #[serde(default)]
    pub about: String,
}

/// Kinds of operator actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// A run was paused.
    Pause,
    /// A paused run was resumed.
    Resume,
    /// Documents were cancelled.
    Cancel,
    /// Documents were requeued.
    Requeue,
    /// A worker was asked to drain.
    Drain,
}

/// The audit log of a store.
#[async_trait]
pub trait AuditLog: Send + Sync {
    /// Appends an entry to the log of a run, or of the workers if none. A repeated call appends it again.
    async fn append_audit(&self, run: Option<&RunId>, action: &Action) -> Result<()>;
    /// Entries of a run, or of the workers if none: the latest first, at most `limit`.
    async fn audit_log(&self, run: Option<&RunId>, limit: u32) -> Result<Vec<Action>>;
}
