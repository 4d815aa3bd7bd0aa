//! How a call of a store fails.

use longhand_proto::{DocumentId, RunId, WorkerId};

/// Why a call of a store failed.
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
    /// Nothing has this name.
    #[error("no such {kind}: {name}")]
    NotFound {
        /// "run", "document" or "worker".
        kind: &'static str,
        /// The name or id that was given.
        name: String,
    },
    /// Any other answer of the store's.
    #[error("store: {0}")]
    Other(String),
}

/// What a call of a store returns.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

impl StoreError {
    pub(super) fn no_run(id: &RunId) -> Self {
        Self::NotFound { kind: "run", name: id.to_string() }
    }

    pub(super) fn leased(id: &RunId) -> Self {
        Self::Refused(format!("documents of run {id} are leased: wait until their tasks end, or cancel the run"))
    }

    pub(super) fn no_worker(id: &WorkerId) -> Self {
        Self::NotFound { kind: "worker", name: id.to_string() }
    }

    pub(super) fn no_document(id: DocumentId) -> Self {
        Self::NotFound { kind: "document", name: id.to_string() }
    }
}
