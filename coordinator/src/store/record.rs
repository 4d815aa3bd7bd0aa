//! What a store keeps: runs, documents, attempts, and how many documents wait where.

use std::str::FromStr;

use longhand_proto::task::{Checkpoint, WorkerStatus};
use longhand_proto::{DocumentId, LeaseId, RunId, WorkerId};
use serde::{Deserialize, Serialize};

use crate::domain::state::{State, UnknownWord};

/// One submission: fixed when it is created, but for its being paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub id: RunId,
    /// The recipe as used, TOML, with its templates inlined.
    pub recipe: String,
    pub recipe_hash: String,
    pub seed: u64,
    pub created_ms: u64,
    pub terms: Terms,
    /// Nothing of it is leased out; what is in work may be finished.
    pub paused: bool,
}

/// How a run shares the workers with others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Terms {
    /// Runs of a higher number go first; equal ones share.
    pub priority: u32,
    /// Name or weights hash of the model that must write it; empty for any.
    pub model: String,
    /// Name or weights hash of the model that must judge it; empty for the one that writes.
    pub judge: String,
    /// Most documents that are begun and not at an end; 0 for no bound. An open document's text waits in the store.
    pub max_open: u32,
}

impl Terms {
    /// True if a worker with this model may write the run.
    pub fn fits(&self, name: &str, weights_hash: &str) -> bool {
        self.model.is_empty() || self.model == name || self.model == weights_hash
    }

    /// True if only a judge's model may take the documents that wait for a vote, and a worker with this model has it.
    pub fn judges(&self, name: &str, weights_hash: &str) -> bool {
        !self.judge.is_empty() && (self.judge == name || self.judge == weights_hash)
    }
}

/// A document as it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    pub id: DocumentId,
    /// JSON of a [`crate::domain::document::Document`].
    pub body: String,
    /// Set if the row was bad: the document starts as failed for this reason (the error's class).
    pub failed: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Submitted {
    pub inserted: u64,
    /// Already known, left as they were.
    pub existing: u64,
}

/// How often a document was given back, and why. The three never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Attempts of the current task that ended in an error.
    pub errors: u32,
    /// Leases that ran out on the current task: the worker died or hung.
    pub losses: u32,
    /// Leases given back by a draining worker. Free.
    pub releases: u32,
}

/// A live lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub id: LeaseId,
    pub worker: WorkerId,
    pub granted_ms: u64,
    pub expires_ms: u64,
    /// Last progress number that the worker reported, and when it last grew.
    pub progress: u64,
    pub progress_ms: u64,
}

/// A stored document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: DocumentId,
    pub run: RunId,
    pub state: State,
    /// Rule of a rejected, error class of a failed document; else empty.
    pub reason: String,
    /// Grows by one with every change but a renewal, from 1.
    pub version: u64,
    /// Place in the order of submission, from 0.
    pub seq: u64,
    /// Place in the order of latest changes, from 1: every change but a renewal moves it to the end, see
    /// [`Store::changed`](super::Store::changed).
    pub mark: u64,
    /// When that change was.
    pub changed_ms: u64,
    /// True once any task of it was leased: open documents are leased before new ones.
    pub open: bool,
    /// Its next task is for the model of [`Terms::judge`].
    pub judge: bool,
    /// Time from which a delayed document is ready.
    pub due_ms: u64,
    pub counters: Counters,
    pub lease: Option<Grant>,
    pub checkpoint: Option<Checkpoint>,
    pub body: String,
    /// Accepted and written to a shard that the manifest names.
    pub flushed: bool,
}

/// How one lease of one task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    Completed,
    Error,
    Lost,
    /// Given back by a draining worker, or taken back by hand.
    Released,
}

impl AttemptEnd {
    pub const ALL: [Self; 4] = [Self::Completed, Self::Error, Self::Lost, Self::Released];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Lost => "lost",
            Self::Released => "released",
        }
    }
}

impl FromStr for AttemptEnd {
    type Err = UnknownWord;

    fn from_str(word: &str) -> std::result::Result<Self, UnknownWord> {
        let known = Self::ALL.into_iter().find(|end| end.as_str() == word);
        known.ok_or_else(|| UnknownWord { kind: "end of an attempt", word: word.to_owned() })
    }
}

/// One lease of one task, after it ended. Kept for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub lease: LeaseId,
    pub worker: WorkerId,
    pub granted_ms: u64,
    pub ended_ms: u64,
    pub end: AttemptEnd,
    /// JSON object of what the coordinator knows (task kind, section, usage, finish reason, error); `{}` for a lost one,
    /// `{"revoked": state}` for one that a [`Swap`](super::Swap) took back.
    pub detail: serde_json::Value,
}

/// What a document was before it was taken up again by hand. Kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The version that it had.
    pub version: u64,
    pub state: State,
    pub reason: String,
    pub body: String,
}

/// A worker as it last spoke.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub worker: WorkerId,
    pub report: WorkerStatus,
    /// When that was.
    pub seen_ms: u64,
    /// A person asked it to drain.
    pub drain: bool,
}

/// What a person did to a run, or to a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    pub at_ms: u64,
    /// Name of the token's holder, and the address that it came from.
    pub who: String,
    pub what: Deed,
    /// Documents that it changed.
    #[serde(default)]
    pub documents: u64,
    /// The one document, or the worker that it was done to; else in words which documents were meant.
    #[serde(default)]
    pub about: String,
}

/// What there is to do by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    Pause,
    Resume,
    Cancel,
    Requeue,
    Drain,
}

/// Documents by state, kept by the store as it goes: constant time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
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

    pub const fn total(&self) -> u64 {
        self.unfinished() + self.accepted + self.rejected + self.failed + self.cancelled
    }
}
