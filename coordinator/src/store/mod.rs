//! Where documents are stored. A store knows a document's envelope (who may write it, where it waits) and keeps its body
//! as opaque JSON; what a document *is* stands in [`crate::domain::document`].
//!
//! Both implementations pass one conformance suite (`tests/store/`). The contract:
//!
//! - A document has at most one live lease, and a [`LeaseStore::commit`] that names another lease changes nothing.
//! - Every call may be repeated with the same arguments and then has the outcome of the first.
//! - A lease lives until it is committed, swept or revoked: one that expired may still be renewed or committed while no
//!   sweep has seen it, for nobody else can hold its document.
//! - Time is the store's own: Redis `TIME`, or the clock that the SQLite store was opened with.
//! - Errors, losses and releases are counted apart. Only a loss can be counted by a sweep, only a commit counts errors.
//! - Submitted ids end as exactly one of accepted, rejected, failed, cancelled.

mod attempt;
mod audit_log;
pub(crate) mod cas;
mod document;
mod ended;
mod envelope;
mod error;
mod fair_share;
mod lease;
mod open;
mod record;
mod redis;
mod run;
mod source;
mod sqlite;
mod worker;

use async_trait::async_trait;
use longhand_proto::RunId;

pub use self::attempt::{Attempt, AttemptEnd};
pub use self::audit_log::{AUDIT_LOG_ENTRIES, Action, ActionKind, AuditLog};
pub use self::document::{CompareAndSwap, DocumentStore, NewDocument, Revision, Submitted, Swapped};
pub use self::ended::EndedDocument;
pub use self::envelope::{Envelope, EnvelopeChange};
pub use self::error::{Result, StoreError};
pub use self::lease::{Commit, Committed, LeaseQuery, LeaseStore, Lookup, Next, Renewal, Renewed, SweepLimits, Swept};
pub use self::open::open;
pub use self::record::{Counters, LeaseGrant, Record, UnreadableDocument};
pub use self::redis::{RedisOptions, RedisStore, RedisTls, scripts};
pub use self::run::{Counts, Run, RunPolicy, RunStore};
pub use self::source::{Filter, Page, Source};
pub use self::sqlite::SqliteStore;
pub use self::worker::{WORKER_TTL_MS, WorkerRecord, WorkerStore};

/// Indexes compared with the documents they index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Documents that were looked at.
    pub documents: u64,
    /// One sentence each; empty if all agrees.
    pub mismatches: Vec<String>,
    /// Mismatches that were repaired by rebuilding the index.
    pub repaired: u64,
}

/// All that a store does.
#[async_trait]
pub trait Store: Source + RunStore + DocumentStore + LeaseStore + WorkerStore + AuditLog {
    /// Compares every index with the documents, and rebuilds those that differ if `repair`.
    async fn audit(&self, run: &RunId, repair: bool) -> Result<Audit>;
    /// The store's clock, Unix milliseconds.
    async fn now_ms(&self) -> Result<u64>;
}
