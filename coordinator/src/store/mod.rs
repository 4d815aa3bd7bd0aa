//! Where documents live. A store knows a document's envelope (who may write it, where it waits) and keeps its body as
//! opaque JSON; what a document *is* stands in [`crate::domain::document`].
//!
//! Both implementations pass one conformance suite (`tests/store/`). The contract:
//!
//! - A document has at most one live lease, and a [`Store::commit`] that names another lease changes nothing.
//! - Every call may be repeated with the same arguments and then has the outcome of the first.
//! - A lease lives until it is committed, swept or revoked: one that ran out may still be renewed or committed while no
//!   sweep has seen it, for nobody else can hold its document.
//! - Time is the store's own: Redis `TIME`, or the clock that the SQLite store was opened with.
//! - Errors, losses and releases are counted apart. Only a loss can be counted by a sweep, only a commit counts errors.
//! - Submitted ids end as exactly one of accepted, rejected, failed, cancelled.

pub(crate) mod cas;
mod open;
mod record;
mod redis;
mod share;
mod sqlite;

use std::fmt::Debug;

use async_trait::async_trait;
use longhand_proto::task::{Checkpoint, WorkerStatus};
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};

use crate::domain::state::State;

pub use self::open::open;
pub use self::record::{
    Action, Attempt, AttemptEnd, Counters, Counts, Deed, Grant, NewDocument, Past, Record, Run, Seen, Submitted, Terms,
};
pub use self::redis::{RedisOptions, RedisStore, RedisTls, raw};
pub use self::sqlite::SqliteStore;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseQuery {
    pub worker: WorkerId,
    /// Repeating it returns the leases that its first use was given, as far as they live, and no others. A use that was
    /// given nothing does not count. Kept for `ttl_ms`.
    pub request_id: String,
    /// Most documents to lease.
    pub slots: u32,
    pub ttl_ms: u64,
    /// Name and weights hash of the worker's model: a run may ask for one, see [`Terms::model`].
    pub model: String,
    pub weights_hash: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    pub lease: LeaseId,
    pub progress: u64,
    /// Replaces the stored checkpoint if set.
    pub checkpoint: Option<Checkpoint>,
}

/// What becomes of a document whose attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ready for any worker, or leased at once to the worker that asks for it with this new lease id.
    Continue { lease: Option<LeaseId> },
    /// The same for the run's judge, where [`Terms::judge`] names one: its next task is a vote, and stays for the judge
    /// through retries, releases and losses.
    Judge { lease: Option<LeaseId> },
    /// Ready after `delay_ms`: an error that another try may mend.
    Retry { delay_ms: u64 },
    /// Ready again with its checkpoint: the worker drains.
    Release,
    /// A terminal state and its reason.
    End { state: State, reason: String },
}

impl Next {
    /// How the attempt that leads here ended.
    pub const fn attempt_end(&self) -> AttemptEnd {
        match self {
            Self::Continue { .. } | Self::Judge { .. } => AttemptEnd::Completed,
            Self::Retry { .. } | Self::End { state: State::Failed, .. } => AttemptEnd::Error,
            Self::Release => AttemptEnd::Released,
            Self::End { .. } => AttemptEnd::Completed,
        }
    }
}

/// The end of an attempt, written in one atomic step.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    pub lease: LeaseId,
    /// New body; none leaves it as it is.
    pub body: Option<String>,
    /// New checkpoint. A commit of [`Next::Release`] keeps the stored one when this is none; all others clear it.
    pub checkpoint: Option<Checkpoint>,
    pub next: Next,
    /// Detail of the attempt, see [`Attempt::detail`].
    pub detail: serde_json::Value,
    /// Time to live of the lease in [`Next::Continue`].
    pub ttl_ms: u64,
}

/// Answer to a [`Commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Written now. The next lease, if one was asked for.
    Done(Option<Grant>),
    /// This lease was committed before; the lease given then, if it still lives.
    Repeated(Option<Grant>),
    /// The lease is not live: nothing was changed.
    Stale,
}

/// What a lease id means to the store at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Live: the document it is for.
    Live(Box<Record>),
    /// Its attempt was committed as the document's last one; the document as it is now.
    Committed(Box<Record>),
    Stale,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SweepLimits {
    /// Losses of one task after which the document fails with reason `poison`.
    pub max_losses: u32,
    /// A lease without progress for this long is taken away even if renewed.
    pub no_progress_ms: u64,
    /// Most documents to touch in one call.
    pub batch: u32,
}

/// A lease that a sweep took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    pub run: RunId,
    pub document: DocumentId,
    pub lease: Grant,
    /// The state after: ready, or failed by poison.
    pub state: State,
}

/// Replaces an unfinished or finished document by hand (requeue, cancel), whatever lease it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swap {
    pub document: DocumentId,
    /// Refused with [`Swapped::Changed`] if the version is another one by now.
    pub version: u64,
    /// Ready or a terminal state. A live lease is revoked, counters, checkpoint and flush mark are cleared. A document
    /// that leaves its end keeps what it was, see [`Store::history`].
    pub state: State,
    /// Kept for a terminal state only.
    pub reason: String,
    /// Ready for the judge, as by [`Next::Judge`].
    pub judge: bool,
    pub body: Option<String>,
}

impl Swap {
    /// Tells a repeated swap from another one that was made of the same version.
    fn fingerprint(&self) -> [u8; 16] {
        let mut hash = blake3::Hasher::new_derive_key("longhand swap v1");
        hash.update(self.document.as_bytes()).update(&self.version.to_le_bytes());
        hash.update(&[u8::from(self.judge)]);
        for part in [Some(self.state.as_str()), Some(&self.reason), self.body.as_deref()] {
            hash.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hash.update(part.unwrap_or_default().as_bytes());
        }
        let mut bytes = [0; 16];
        hash.finalize_xof().fill(&mut bytes);
        bytes
    }

    /// The reason as it is stored.
    fn kept_reason(&self) -> &str {
        if self.state.is_terminal() { &self.reason } else { "" }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swapped {
    Done,
    Changed,
}

/// Which documents to list. Empty fields select all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    pub state: Option<State>,
    /// Exact reason; needs `state`.
    pub reason: Option<String>,
}

/// One page of a listing, in order of submission.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    pub records: Vec<Record>,
    /// Pass as `after` to go on; none at the end.
    pub next: Option<u64>,
}

/// Indexes compared with the documents they index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    pub documents: u64,
    /// One sentence each; empty if all agrees.
    pub mismatches: Vec<String>,
    /// Mismatches that were repaired by rebuilding the index.
    pub repaired: u64,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be reached or did not answer in time; the outcome of the call is unknown.
    #[error("store unreachable: {0}")]
    Unreachable(String),
    /// The store has no room to write: nothing was changed.
    #[error("store is full: {0}")]
    Full(String),
    /// The store holds what this version cannot read, or is set up so that it would lose data.
    #[error("store refused: {0}")]
    Refused(String),
    #[error("no such {kind}: {name}")]
    NotFound { kind: &'static str, name: String },
    /// Any other answer of the store's.
    #[error("store: {0}")]
    Other(String),
}

pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    fn no_run(id: &RunId) -> Self {
        Self::NotFound { kind: "run", name: id.to_string() }
    }

    fn no_worker(id: &WorkerId) -> Self {
        Self::NotFound { kind: "worker", name: id.to_string() }
    }

    fn no_document(id: DocumentId) -> Self {
        Self::NotFound { kind: "document", name: id.to_string() }
    }
}

/// Calls that no state of the store could satisfy.
fn check_commit(commit: &Commit) -> Result<()> {
    match &commit.next {
        Next::End { state, .. } if !state.is_terminal() => Err(StoreError::Refused(format!(
            "lease {} cannot end its document as {}: want accepted, rejected, failed or cancelled",
            commit.lease,
            state.as_str()
        ))),
        Next::Continue { .. } | Next::Judge { .. } | Next::Retry { .. } | Next::Release | Next::End { .. } => Ok(()),
    }
}

fn check_swap(swap: &Swap) -> Result<()> {
    if swap.state == State::Ready || swap.state.is_terminal() {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "document {} cannot be put to {} by hand: want ready, accepted, rejected, failed or cancelled",
        swap.document,
        swap.state.as_str()
    )))
}

fn check_filter(filter: &Filter) -> Result<()> {
    match filter {
        Filter { state: None, reason: Some(reason) } => {
            Err(StoreError::Refused(format!("cannot list by reason {reason:?} alone: name the state too")))
        }
        Filter { .. } => Ok(()),
    }
}

/// A time ahead of `now_ms`, within what both stores can count exactly.
fn later(now_ms: u64, delay_ms: u64) -> u64 {
    now_ms.saturating_add(delay_ms).min(LAST_MS)
}

/// A worker that said nothing for so long is forgotten: each start of one has an id of its own.
pub const FORGET_MS: u64 = 3_600_000;
/// Actions kept of each run, and of all workers together; the oldest go.
pub const ACTIONS: u32 = 1_000;

/// The largest number that Lua counts exactly.
const LAST_MS: u64 = (1 << 53) - 1;

/// What an export reads of a store. Another process may offer it over the wire.
#[async_trait]
pub trait Source: Send + Sync + Debug {
    async fn run(&self, id: &RunId) -> Result<Option<Run>>;
    /// In the order in which they ended.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the document.
    async fn attempts(&self, document: DocumentId) -> Result<Vec<Attempt>>;
    /// Documents with `seq > after` (from the first if none), at most `limit`.
    async fn list(&self, run: &RunId, filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page>;
    /// Accepted documents that no shard holds yet, in order of submission.
    async fn unflushed(&self, run: &RunId, limit: u32) -> Result<Vec<Record>>;
    /// Marks accepted documents as held by a shard. Ids of documents in another state are ignored and returned.
    async fn mark_flushed(&self, run: &RunId, documents: &[DocumentId]) -> Result<Vec<DocumentId>>;
}

#[async_trait]
pub trait Store: Source {
    /// Creates the run, or returns the one that has this id already (the caller compares recipe and seed).
    async fn create_run(&self, run: &Run) -> Result<Run>;
    /// Oldest first.
    async fn runs(&self) -> Result<Vec<Run>>;
    /// While a run is paused nothing of it is leased; leases that live go on. Returns the run as it is now.
    async fn pause(&self, run: &RunId, paused: bool) -> Result<Run>;

    /// Adds the documents that are not there yet.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the run, here and wherever a run is named.
    async fn submit(&self, run: &RunId, documents: &[NewDocument]) -> Result<Submitted>;

    /// Leases up to `slots` ready documents. Runs that are paused or ask for other models are passed over; of the others
    /// those of the highest priority come first, and among equals the one with the fewest documents in work, then the
    /// oldest. Of a run the open documents come first, then new ones as far as [`Terms::max_open`] allows, each in order
    /// of submission; before them, for a worker with the judge's model, those that wait for the judge. Delayed documents that are due become ready when their run is looked at. Each leased document's
    /// [`Record::lease`] is set.
    async fn lease(&self, query: &LeaseQuery) -> Result<Vec<Record>>;
    /// Extends live leases to now + `ttl_ms`; returns those that are not live. The checkpoint is stored in the same step.
    /// Progress never shrinks.
    async fn renew(&self, renewals: &[Renewal], ttl_ms: u64) -> Result<Vec<LeaseId>>;
    async fn lookup(&self, lease: LeaseId) -> Result<Lookup>;
    /// Counters: `Continue` and `End` clear errors and losses (a new task begins), `Retry` adds an error, `Release` a
    /// release. Adds the [`Attempt`].
    async fn commit(&self, commit: &Commit) -> Result<Committed>;
    /// Takes away leases that ran out or make no progress, re-checking each inside the atomic step: one more loss,
    /// and ready again (checkpoint kept) or failed by poison.
    async fn sweep(&self, limits: &SweepLimits) -> Result<Vec<Swept>>;

    /// # Errors
    /// [`StoreError::NotFound`] without the document, [`StoreError::Refused`] for another target state.
    async fn swap(&self, swap: &Swap) -> Result<Swapped>;
    async fn get(&self, document: DocumentId) -> Result<Option<Record>>;
    /// What the document was at each end that a swap took it from, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the document.
    async fn history(&self, document: DocumentId) -> Result<Vec<Past>>;
    /// Documents with `mark > after`, those that changed longest ago first, at most `limit`: who remembers the last mark
    /// that it saw is told each change since, or the last of several of one document.
    async fn changed(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<Record>>;
    async fn counts(&self, run: &RunId) -> Result<Counts>;

    /// Keeps what a worker says of itself, so that every replica knows all workers; true if it is asked to drain.
    async fn report(&self, worker: &WorkerId, report: &WorkerStatus) -> Result<bool>;
    /// The workers that spoke within [`FORGET_MS`], by their ids.
    async fn workers(&self) -> Result<Vec<Seen>>;
    /// Asks a worker to drain: it is told when it next speaks.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if no such worker spoke within [`FORGET_MS`].
    async fn drain(&self, worker: &WorkerId) -> Result<()>;
    /// Keeps what was done by hand to a run, or to workers if none. Once more if repeated: it is a diary, not a fact.
    async fn record(&self, run: Option<&RunId>, action: &Action) -> Result<()>;
    /// The latest first.
    async fn actions(&self, run: Option<&RunId>, limit: u32) -> Result<Vec<Action>>;

    /// Compares every index with the documents, and rebuilds those that differ if `repair`.
    async fn audit(&self, run: &RunId, repair: bool) -> Result<Audit>;
    /// The store's clock, Unix milliseconds.
    async fn now_ms(&self) -> Result<u64>;
}
