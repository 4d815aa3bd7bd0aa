//! A stored document.

use longhand_proto::task::Checkpoint;
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};
use serde::{Deserialize, Serialize};

use crate::domain::document::Document;
use crate::domain::state::State;

/// The largest number that Lua counts exactly: no store keeps a later time.
pub(super) const LAST_MS: u64 = (1 << 53) - 1;

/// A time ahead of `now_ms`, within what both stores can count exactly.
pub(super) fn later(now_ms: u64, delay_ms: u64) -> u64 {
    now_ms.saturating_add(delay_ms).min(LAST_MS)
}

/// How often a document was given back, and why. The three are never added up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Attempts of the current task that ended in an error.
    pub errors: u32,
    /// Leases of the current task that were lost: the worker died or hung.
    pub losses: u32,
    /// Leases given back by a draining worker. No limit applies to them.
    pub releases: u32,
}

/// A live lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGrant {
    /// The lease: names the right to write the document.
    pub id: LeaseId,
    /// The worker that holds it.
    pub worker: WorkerId,
    /// When it was granted, Unix milliseconds.
    pub granted_ms: u64,
    /// When it expires unless it is renewed, Unix milliseconds.
    pub expires_ms: u64,
    /// Highest progress number that the worker reported.
    pub progress: u64,
    /// When that number last grew, Unix milliseconds.
    pub progress_ms: u64,
}

impl LeaseGrant {
    /// A lease that is granted at `now_ms` for `ttl_ms`.
    pub fn new(id: LeaseId, worker: WorkerId, now_ms: u64, ttl_ms: u64) -> Self {
        let expires_ms = later(now_ms, ttl_ms);
        Self { id, worker, granted_ms: now_ms, expires_ms, progress: 0, progress_ms: now_ms }
    }
}

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Id of the document.
    pub id: DocumentId,
    /// The run that it belongs to.
    pub run: RunId,
    /// Where it waits, or how it ended.
    pub state: State,
    /// Rule of a rejected, error class of a failed document; else empty.
    pub reason: String,
    /// Grows by one with every change except a renewal, from 1.
    pub version: u64,
    /// Place in the order of submission, from 0.
    pub seq: u64,
    /// Place in the order of the run's latest changes, from 1: every change except a renewal moves the document to the
    /// end, see [`DocumentStore::changed`](super::DocumentStore::changed).
    pub change_seq: u64,
    /// Time of that change, Unix milliseconds.
    pub changed_ms: u64,
    /// True once any task of it was leased: open documents are leased before new ones.
    pub open: bool,
    /// Its next task is for the model of [`RunPolicy::judge`](super::RunPolicy::judge).
    pub judge: bool,
    /// Time from which a delayed document is ready, Unix milliseconds; else 0.
    pub due_ms: u64,
    /// Errors, losses and releases so far.
    pub counters: Counters,
    /// The live lease: set iff the document is leased.
    pub lease: Option<LeaseGrant>,
    /// What the current task's worker generated so far.
    pub checkpoint: Option<Checkpoint>,
    /// JSON of the document, see [`Record::document`].
    pub body: String,
    /// Accepted and written to a shard that the manifest names.
    pub flushed: bool,
}

impl Record {
    /// The document in the body, as it was last written. Where a sweep failed it the body does not say so.
    ///
    /// # Errors
    /// The body was written by a version whose documents this one cannot read.
    pub fn document(&self) -> Result<Document, UnreadableDocument> {
        serde_json::from_str(&self.body).map_err(|problem| UnreadableDocument { problem })
    }
}

/// A stored document that this version cannot read.
#[derive(Debug, thiserror::Error)]
#[error("the stored document cannot be read by version {version}: {problem}; use the version that wrote it", version = longhand_proto::VERSION)]
pub struct UnreadableDocument {
    /// What the JSON reader found, and where.
    problem: serde_json::Error,
}
