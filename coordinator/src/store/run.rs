//! Runs: what was submitted, how it shares the workers, and how far it is.

use async_trait::async_trait;
use longhand_proto::RunId;
use serde::{Deserialize, Serialize};

use super::ended::EndedDocument;
use super::error::Result;
use crate::domain::state::State;

/// One submission: fixed when it is created, except that it can be paused and cancelled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Name of the run.
    pub id: RunId,
    /// The recipe as used, TOML, with its templates inlined.
    pub recipe: String,
    /// Hash of that text, hex.
    pub recipe_hash: String,
    /// Seed that all seeds of its documents are derived from.
    pub seed: u64,
    /// When it was created, Unix milliseconds.
    pub created_ms: u64,
    /// How it shares the workers with other runs.
    #[serde(rename = "terms")]
    pub policy: RunPolicy,
    /// No new leases are granted; live leases continue.
    pub paused: bool,
    /// No new leases are granted and no results are taken; the documents are being ended, see [`RunStore::cancel`].
    #[serde(default)]
    pub cancelling: bool,
}

/// How a run shares the workers with others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RunPolicy {
    /// Runs of a higher number go first; equal ones share.
    pub priority: u32,
    /// Name or weights hash of the model that must write it; empty for any.
    pub model: String,
    /// Name or weights hash of the model that must judge it; empty for the one that writes.
    pub judge: String,
    /// Most documents that are begun and not finished; 0 for no bound. An open document's text is held in the store.
    pub max_open: u32,
}

impl RunPolicy {
    /// True iff a worker with this model may write the run.
    pub fn can_write(&self, name: &str, weights_hash: &str) -> bool {
        self.model.is_empty() || self.model == name || self.model == weights_hash
    }

    /// True iff the run names a judge's model and a worker with this model has it. Only such a worker may lease the
    /// documents that wait for a vote.
    pub fn can_judge(&self, name: &str, weights_hash: &str) -> bool {
        !self.judge.is_empty() && (self.judge == name || self.judge == weights_hash)
    }
}

/// Documents by state, counted by the store at each change: reading them takes constant time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field counts the documents in the state of its name")]
pub struct Counts {
    pub ready: u64,
    pub leased: u64,
    pub delayed: u64,
    pub accepted: u64,
    pub rejected: u64,
    pub failed: u64,
    pub cancelled: u64,
}

impl Counts {
    /// Documents in this state.
    pub const fn of(&self, state: State) -> u64 {
        match state {
            State::Ready => self.ready,
            State::Leased => self.leased,
            State::Delayed => self.delayed,
            State::Accepted => self.accepted,
            State::Rejected => self.rejected,
            State::Failed => self.failed,
            State::Cancelled => self.cancelled,
        }
    }

    /// The count of this state, to be changed.
    pub const fn of_mut(&mut self, state: State) -> &mut u64 {
        match state {
            State::Ready => &mut self.ready,
            State::Leased => &mut self.leased,
            State::Delayed => &mut self.delayed,
            State::Accepted => &mut self.accepted,
            State::Rejected => &mut self.rejected,
            State::Failed => &mut self.failed,
            State::Cancelled => &mut self.cancelled,
        }
    }

    /// Documents that are not in a terminal state.
    pub const fn unfinished(&self) -> u64 {
        self.ready + self.leased + self.delayed
    }

    /// Documents in any state.
    pub const fn total(&self) -> u64 {
        self.unfinished() + self.accepted + self.rejected + self.failed + self.cancelled
    }
}

/// Runs of a store. One run is read with [`Source::run`](super::Source::run).
#[async_trait]
pub trait RunStore: Send + Sync {
    /// Creates the run, or returns the one that has this id already (the caller compares recipe and seed).
    async fn create_run(&self, run: &Run) -> Result<Run>;
    /// All runs, oldest first. The cost grows with every run there ever was: see [`RunStore::active_runs`].
    async fn runs(&self) -> Result<Vec<Run>>;
    /// The runs with documents that have not ended, oldest first; one whose last document has just ended may be among them.
    async fn active_runs(&self) -> Result<Vec<Run>>;
    /// The `limit` runs that were created last, latest first.
    async fn latest_runs(&self, limit: u32) -> Result<Vec<Run>>;
    /// Looks through all runs for active ones that their index lacks, such as those of an older build.
    async fn refresh_active(&self) -> Result<()>;
    /// Deletes up to `limit` documents of a run with all that belongs to them, and with the last ones the run. True while some
    /// are left: call it again. A run that does not exist is deleted.
    ///
    /// # Errors
    /// [`StoreError::Refused`](super::StoreError::Refused) while a document is leased: pause the run before.
    async fn delete_run(&self, run: &RunId, limit: u32) -> Result<bool>;
    /// Adds documents that ended elsewhere, with their attempts and revisions. Those that exist are left as they are. Returns the
    /// number of documents that were added.
    async fn load(&self, run: &RunId, documents: &[EndedDocument]) -> Result<u64>;
    /// While a run is paused no document of it is leased; live leases continue. Returns the run as it is now.
    ///
    /// # Errors
    /// [`StoreError::NotFound`](super::StoreError::NotFound) without the run, here and wherever a run is named.
    async fn pause(&self, run: &RunId, paused: bool) -> Result<Run>;
    /// From now on no document of the run is leased, and a commit is answered with
    /// [`Committed::Cancelling`](super::Committed::Cancelling), until [`RunStore::finish_cancel`]. Meanwhile somebody must end the
    /// documents.
    async fn cancel(&self, run: &RunId) -> Result<()>;
    /// Ends the cancelling of a run whose documents have all ended. False while some have not.
    async fn finish_cancel(&self, run: &RunId) -> Result<bool>;
    /// The highest [`Record::change_seq`](super::Record::change_seq) of the run; 0 without documents.
    async fn latest_change(&self, run: &RunId) -> Result<u64>;
    /// What [`RunStore::set_totals`] kept.
    async fn totals(&self, run: &RunId) -> Result<Option<String>>;
    /// Keeps the totals of a run that somebody counted, JSON, in place of those before. They are deleted with the run.
    async fn set_totals(&self, run: &RunId, json: &str) -> Result<()>;
    /// Documents of the run by state.
    async fn counts(&self, run: &RunId) -> Result<Counts>;
}
