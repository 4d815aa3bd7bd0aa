//! Changing a document that others may change at the same time: compare and swap, and decide again after another change.

use longhand_proto::task::TaskKind;

use super::{CompareAndSwap, Record, Result, Store, StoreError, Swapped};
use crate::domain::document::Document;
use crate::domain::state::State;

/// Tries on a document that changes between read and swap. A worker commits every few seconds at most.
const CAS_RETRIES: u32 = 16;

/// A change that was made.
pub(crate) struct Written<T> {
    /// The record that it replaced.
    pub(crate) before: Record,
    pub(crate) document: Document,
    pub(crate) state: State,
    /// What the decision returned with the document.
    pub(crate) value: T,
}

/// Decides on the document as it is and writes the decision; decides again if something else was written meanwhile.
/// `other_judge`: votes of its run are for another model than its texts.
///
/// # Errors
/// The store failed. The inner error is the decision's own, or that the document kept changing.
pub(crate) async fn cas_loop<T>(
    store: &dyn Store,
    mut record: Record,
    other_judge: bool,
    decide: impl Fn(&Record) -> Result<(Document, State, T), String>,
) -> Result<Result<Written<T>, String>> {
    for _ in 0..CAS_RETRIES {
        let (document, state, value) = match decide(&record) {
            Ok(decision) => decision,
            Err(reason) => return Ok(Err(reason)),
        };
        let body = serde_json::to_string(&document)
            .map_err(|error| StoreError::Other(format!("document {} cannot be written: {error}", record.id)))?;
        let judge = other_judge && state == State::Ready && document.current().0 == TaskKind::Judge;
        let (id, version, reason) = (record.id, record.version, String::new());
        let swap = CompareAndSwap { document: id, version, state, reason, judge, body: Some(body) };
        match store.swap(&swap).await? {
            Swapped::Done => return Ok(Ok(Written { before: record, document, state, value })),
            Swapped::Changed => match store.get(record.id).await? {
                Some(now) => record = now,
                None => break,
            },
        }
    }
    Ok(Err("concurrent updates; retry in a moment".into()))
}

/// The document as the envelope says it is: where a sweep failed it, the body does not say so yet.
pub(crate) fn read(record: &Record) -> Result<Document, String> {
    let mut document = record.document().map_err(|error| error.to_string())?;
    if record.state == State::Failed {
        document.fail(&record.reason, &format!("lease expired {} times", record.counters.losses));
    }
    Ok(document)
}
