//! Documents: submitted, read, followed, and changed by an operator.

use async_trait::async_trait;
use longhand_proto::{DocumentId, RunId};
use serde::{Deserialize, Serialize};

use super::error::{Result, StoreError};
use super::record::Record;
use crate::domain::state::State;

/// A document as it is submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDocument {
    /// Id of the document.
    pub id: DocumentId,
    /// JSON of a [`crate::domain::document::Document`].
    pub body: String,
    /// Set if the row was bad: the document starts as failed for this reason (the error's class).
    pub failed: Option<String>,
}

/// What a submission added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Submitted {
    /// Documents that were added.
    pub inserted: u64,
    /// Documents that were already there, left as they were.
    pub existing: u64,
}

/// Replaces an unfinished or finished document (requeue, cancel), whatever lease it has, if it still has a given version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompareAndSwap {
    /// The document to change.
    pub document: DocumentId,
    /// The version that it must have: else [`Swapped::Changed`].
    pub version: u64,
    /// Ready or a terminal state. A live lease is revoked, counters, checkpoint and flush mark are cleared. A document
    /// that leaves a terminal state keeps what it was, see [`DocumentStore::history`].
    pub state: State,
    /// Kept for a terminal state only.
    pub reason: String,
    /// Ready for the judge, as by [`Next::Judge`](super::Next::Judge).
    pub judge: bool,
    /// The new body; none leaves it as it is.
    pub body: Option<String>,
}

impl CompareAndSwap {
    /// Distinguishes a repeated swap from another one of the same version.
    pub(super) fn fingerprint(&self) -> [u8; 16] {
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
    pub(super) fn stored_reason(&self) -> &str {
        if self.state.is_terminal() { &self.reason } else { "" }
    }

    /// # Errors
    /// [`StoreError::Refused`] for a state that needs a worker or a back-off.
    pub(super) fn check(&self) -> Result<()> {
        if self.state == State::Ready || self.state.is_terminal() {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "invalid state {} for document {}: expected ready, accepted, rejected, failed or cancelled",
            self.state.as_str(),
            self.document
        )))
    }
}

/// Answer to a [`CompareAndSwap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swapped {
    /// Written, now or by an equal call before.
    Done,
    /// The document has another version: nothing was changed.
    Changed,
}

/// What a document was before it was requeued. Kept for ever.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// The version that it had.
    pub version: u64,
    /// Its terminal state.
    pub state: State,
    /// The reason of that state.
    pub reason: String,
    /// Its body.
    pub body: String,
}

/// Documents of a store. Lists are read with [`Source`](super::Source).
#[async_trait]
pub trait DocumentStore: Send + Sync {
    /// Adds the documents that are not there yet.
    async fn submit(&self, run: &RunId, documents: &[NewDocument]) -> Result<Submitted>;
    /// The document, if there is one of this id.
    async fn get(&self, document: DocumentId) -> Result<Option<Record>>;
    /// Changes a document that still has the version named.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the document, [`StoreError::Refused`] for another target state.
    async fn swap(&self, swap: &CompareAndSwap) -> Result<Swapped>;
    /// What the document was at each end that a swap took it from, oldest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without the document.
    async fn history(&self, document: DocumentId) -> Result<Vec<Revision>>;
    /// Documents with `change_seq > after`, those that changed longest ago first, at most `limit`. A caller that passes
    /// the last number it saw gets each change since, or the last of several changes of one document.
    async fn changed(&self, run: &RunId, after: u64, limit: u32) -> Result<Vec<Record>>;
}
