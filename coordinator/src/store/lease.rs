//! Leases: granted, renewed, committed, swept.

use std::collections::BTreeMap;

use async_trait::async_trait;
use longhand_proto::task::Checkpoint;
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};

use super::attempt::AttemptEnd;
use super::error::{Result, StoreError};
use super::record::{LeaseGrant, Record};
use crate::domain::state::State;

/// A worker's request for documents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseQuery {
    /// The worker that asks.
    pub worker: WorkerId,
    /// Idempotency key: repeating it returns the leases that its first use was granted, as far as they are live, and no
    /// others. A use that was granted nothing does not count. Kept for `ttl_ms`.
    pub request_id: String,
    /// Most documents to lease.
    pub slots: u32,
    /// Time to live of each lease, milliseconds.
    pub ttl_ms: u64,
    /// Name of the worker's model: a run may require one, see [`RunPolicy::model`](super::RunPolicy::model).
    pub model: String,
    /// Hash of that model's weights, which a run may require instead of the name.
    pub weights_hash: String,
    /// Runs that are passed over, as if they were paused: whoever asks does not know their recipe or their tasks.
    pub except: Vec<RunId>,
}

/// Extends one lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// The lease.
    pub lease: LeaseId,
    /// Progress number of the worker: grows while it works.
    pub progress: u64,
    /// Replaces the stored checkpoint if set; see `from`.
    pub checkpoint: Option<Checkpoint>,
    /// Unless 0, the checkpoint's tokens are those from this index on, and are appended: see [`Checkpoint::appended`].
    pub from: u32,
}

/// Answer to renewals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Renewed {
    /// Those that are not live. They stay what they were.
    pub lost: Vec<LeaseId>,
    /// Those of a run that is being cancelled, and those whose commit cancelled the document. Not extended either.
    pub cancelled: Vec<LeaseId>,
    /// Those that were extended and keep the checkpoint they had: what was to be appended does not fit.
    pub unsaved: Vec<LeaseId>,
}

/// What becomes of a document whose attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Ready for any worker, or leased at once to the worker that asks for it with this new lease id.
    Continue {
        /// Id of the next lease, if one is asked for.
        lease: Option<LeaseId>,
    },
    /// The same for the run's judge, where [`RunPolicy::judge`](super::RunPolicy::judge) names one: its next task is a
    /// vote, and stays for the judge through retries, releases and losses.
    Judge {
        /// Id of the next lease, if one is asked for.
        lease: Option<LeaseId>,
    },
    /// Delayed, then ready: an error that a retry may not meet again.
    Retry {
        /// Back-off, milliseconds.
        delay_ms: u64,
    },
    /// Ready again with its checkpoint: the worker drains.
    Release,
    /// The document ends.
    End {
        /// A terminal state.
        state: State,
        /// Rule or error class, see [`Record::reason`].
        reason: String,
    },
}

impl Next {
    /// How the attempt that leads here ended.
    pub const fn attempt_end(&self) -> AttemptEnd {
        match self {
            Self::Continue { .. } | Self::Judge { .. } => AttemptEnd::Completed,
            Self::Retry { .. } | Self::End { state: State::Failed, .. } => AttemptEnd::Error,
            Self::Release | Self::End { state: State::Cancelled, .. } => AttemptEnd::Released,
            Self::End { .. } => AttemptEnd::Completed,
        }
    }
}

/// The end of an attempt, written in one atomic step.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// The lease of the attempt: nothing is written unless it is live.
    pub lease: LeaseId,
    /// New body; none leaves it as it is.
    pub body: Option<String>,
    /// New checkpoint. A commit of [`Next::Release`] keeps the stored one when this is none; all others clear it.
    pub checkpoint: Option<Checkpoint>,
    /// What becomes of the document.
    pub next: Next,
    /// Detail of the attempt, see [`Attempt::detail`](super::Attempt::detail).
    pub detail: serde_json::Value,
    /// Time to live of the lease in [`Next::Continue`] or [`Next::Judge`], milliseconds.
    pub ttl_ms: u64,
}

impl Commit {
    /// True for the one end that a run takes while it is being cancelled.
    pub fn cancels(&self) -> bool {
        matches!(self.next, Next::End { state: State::Cancelled, .. })
    }

    /// # Errors
    /// [`StoreError::Refused`] for an end in a state that is not terminal.
    pub(super) fn check(&self) -> Result<()> {
        match &self.next {
            Next::End { state, .. } if !state.is_terminal() => Err(StoreError::Refused(format!(
                "invalid final state {} for lease {}: expected accepted, rejected, failed or cancelled",
                state.as_str(),
                self.lease
            ))),
            Next::Continue { .. } | Next::Judge { .. } | Next::Retry { .. } | Next::Release | Next::End { .. } => {
                Ok(())
            }
        }
    }
}

/// Answer to a [`Commit`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Written now. The next lease, if one was asked for.
    Done(Option<LeaseGrant>),
    /// This lease was committed before; the lease granted then, if it is still live.
    Repeated(Option<LeaseGrant>),
    /// The lease is not live: nothing was changed.
    Stale,
    /// The lease is live, but its run is being cancelled: nothing was changed. Only an end as cancelled is taken.
    Cancelling,
}

/// What a lease id means to the store at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Live: the document it is for.
    Live(Box<Record>),
    /// Its attempt was committed as the document's last one; the document as it is now.
    Committed(Box<Record>),
    /// Neither.
    Stale,
}

/// When a sweep takes a lease away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepLimits {
    /// Losses of one task after which the document fails with reason `poison`.
    pub max_losses: u32,
    /// The same for runs with a number of their own.
    pub max_losses_of: BTreeMap<RunId, u32>,
    /// A lease without progress for this long is taken away even if renewed, milliseconds.
    pub no_progress_ms: u64,
    /// Most documents to touch in one call.
    pub batch: u32,
}

impl SweepLimits {
    /// The limits for documents of one run.
    pub fn of(&self, run: &RunId) -> Self {
        let max_losses = self.max_losses_of.get(run).copied().unwrap_or(self.max_losses);
        Self { max_losses, max_losses_of: BTreeMap::new(), ..*self }
    }
}

/// A lease that a sweep took away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// Run of the document.
    pub run: RunId,
    /// The document that was leased.
    pub document: DocumentId,
    /// The lease, as it was.
    pub lease: LeaseGrant,
    /// The state after: ready, or failed by poison.
    pub state: State,
}

/// Leases of a store.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Leases up to `slots` ready documents. Runs that are paused, excepted or require other models are passed over; of the others
    /// those of the highest priority come first, and among equals the one with the fewest leased documents, then the
    /// oldest. Of a run the open documents come first, then new ones as far as
    /// [`RunPolicy::max_open`](super::RunPolicy::max_open) allows, each in order of submission; before them, for a
    /// worker with the judge's model, those that wait for the judge. Delayed documents that are due become ready before
    /// their run is asked. [`Record::lease`] of each is set.
    async fn lease(&self, query: &LeaseQuery) -> Result<Vec<Record>>;
    /// Extends live leases to now + `ttl_ms`, unless their run is being cancelled. The checkpoint is stored in the same step.
    /// Progress never shrinks.
    async fn renew(&self, renewals: &[Renewal], ttl_ms: u64) -> Result<Renewed>;
    /// What this lease id means now.
    async fn lookup(&self, lease: LeaseId) -> Result<Lookup>;
    /// Ends an attempt, if its lease is live. Counters: `Continue`, `Judge` and `End` clear errors and losses (a new task
    /// begins), `Retry` adds an error, `Release` a release. Appends an [`Attempt`](super::Attempt). While the run is being
    /// cancelled, only an end as cancelled is taken.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for an end in a state that is not terminal.
    async fn commit(&self, commit: &Commit) -> Result<Committed>;
    /// Takes away leases that expired or make no progress, re-checking each inside the atomic step: one more loss, and
    /// ready again (checkpoint kept) or failed by poison.
    async fn sweep(&self, limits: &SweepLimits) -> Result<Vec<Swept>>;
}
