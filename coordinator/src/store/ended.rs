//! Documents that ended, with all that a store keeps of them: what an archived run is made of.

use longhand_proto::DocumentId;
use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::document::Revision;
use super::record::Record;
use crate::domain::state::State;

/// A document that ended, whole. What only a document under way has (lease, checkpoint, back-off) is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedDocument {
    /// Id of the document.
    pub id: DocumentId,
    /// A terminal state.
    pub state: State,
    /// See [`Record::reason`].
    pub reason: String,
    /// See [`Record::version`].
    pub version: u64,
    /// See [`Record::open`].
    pub open: bool,
    /// See [`Record::flushed`].
    pub flushed: bool,
    /// See [`Record::body`].
    pub body: String,
    /// Its attempts, in the order in which they ended.
    pub attempts: Vec<Attempt>,
    /// What it was before each requeue, oldest first.
    pub history: Vec<Revision>,
}

impl EndedDocument {
    /// None if the document has not ended.
    pub fn of(record: &Record, attempts: Vec<Attempt>, history: Vec<Revision>) -> Option<Self> {
        record.state.is_terminal().then(|| Self {
            id: record.id,
            state: record.state,
            reason: record.reason.clone(),
            version: record.version,
            open: record.open,
            flushed: record.flushed,
            body: record.body.clone(),
            attempts,
            history,
        })
    }
}
