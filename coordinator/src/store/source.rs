//! What an export reads of a store.

use std::fmt::Debug;

use async_trait::async_trait;
use longhand_proto::{DocumentId, RunId};

use super::attempt::Attempt;
use super::error::{Result, StoreError};
use super::record::Record;
use super::run::Run;
use crate::domain::state::State;

/// Which documents to list. Empty fields select all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// Documents in this state.
    pub state: Option<State>,
    /// Exact reason; needs `state`.
    pub reason: Option<String>,
}

impl Filter {
    /// # Errors
    /// [`StoreError::Refused`] for a reason without a state: no store has an index for it.
    pub(super) fn check(&self) -> Result<()> {
        match self {
            Self { state: None, reason: Some(reason) } => Err(StoreError::Refused(format!(
                "invalid filter: reason {reason:?} without a state: name the state too"
            ))),
            Self { .. } => Ok(()),
        }
    }
}

/// One page of a listing, in order of submission.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The documents of this page.
    pub records: Vec<Record>,
    /// Pass as `after` for the next page; none at the end.
    pub next: Option<u64>,
}

/// What an export reads of a store. Another process may offer it over the wire.
#[async_trait]
pub trait Source: Send + Sync + Debug {
    /// The run, if there is one of this id.
    async fn run(&self, id: &RunId) -> Result<Option<Run>>;
    /// Attempts of the document, in the order in which they ended.
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
