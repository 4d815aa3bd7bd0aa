//! Cancels documents: one, or those of a run that is being cancelled. A leased document is ended under its lease, so that its
//! attempt says how much was generated in vain.

use futures::{StreamExt, TryStreamExt, stream};
use longhand_proto::{DocumentId, RunId};
use serde_json::{Value, json};

use crate::control::admin::{emit_trace, find};
use crate::domain::document::Document;
use crate::domain::state::State;
use crate::store::cas::read;
use crate::store::{
    Commit, Committed, CompareAndSwap, Filter, LeaseGrant, Next, Record, Result, Store, StoreError, Swapped,
};

/// Documents of one page.
const PAGE: u32 = 64;
/// Documents ended at the same time: most of the time is the way to the store and back.
const CONCURRENT: usize = 16;
/// Tries on a document that changes meanwhile.
const RETRIES: u32 = 16;

/// Cancels one document. The inner error says why it cannot be cancelled.
///
/// # Errors
/// There is no such document, or the store failed.
pub async fn cancel(store: &dyn Store, run: &RunId, document: DocumentId) -> Result<Result<(), String>> {
    end(store, find(store, run, document).await?, None).await
}

/// Ends a page of a run's unfinished documents; returns their number. Leased ones come last, and only those whose lease has at
/// most `left_ms` left: until then their workers may say how much they wrote.
///
/// # Errors
/// There is no such run, or the store failed; what was done before stays done.
pub async fn cancel_page(store: &dyn Store, run: &RunId, left_ms: u64) -> Result<u64> {
    let mut ended = 0;
    for state in [State::Ready, State::Delayed] {
        let page = store.list(run, &Filter { state: Some(state), reason: None }, None, PAGE).await?;
        ended += end_all(store, page.records).await?;
    }
    if ended > 0 {
        return Ok(ended);
    }
    let (due_ms, mut after) = (store.now_ms().await? + left_ms, None);
    loop {
        let leased = Filter { state: Some(State::Leased), reason: None };
        let mut page = store.list(run, &leased, after, PAGE).await?;
        page.records.retain(|record| record.lease.as_ref().is_none_or(|grant| grant.expires_ms <= due_ms));
        ended += end_all(store, page.records).await?;
        after = page.next;
        if after.is_none() {
            return Ok(ended);
        }
    }
}

async fn end_all(store: &dyn Store, records: Vec<Record>) -> Result<u64> {
    let ends = records.into_iter().map(|record| end(store, record, None));
    let ended: Vec<_> = stream::iter(ends).buffer_unordered(CONCURRENT).try_collect().await?;
    Ok(ended.iter().filter(|ended| ended.is_ok()).count() as u64)
}

/// Ends a document as cancelled, whatever its body holds. `report` is the detail of the attempt that its worker reported; none
/// if the worker has said nothing. The inner error says why not.
///
/// # Errors
/// The store failed.
pub(super) async fn end(store: &dyn Store, mut record: Record, report: Option<Value>) -> Result<Result<(), String>> {
    let lease = report.as_ref().and(record.lease.as_ref()).map(|grant| grant.id);
    for _ in 0..RETRIES {
        let before = read(&record);
        let mut document = before.clone();
        let refused = match &mut document {
            Ok(document) => document.cancel().err().map(|refused| refused.to_string()),
            Err(problem) => Some(problem.clone()),
        };
        match refused {
            Some(refused) if record.state.is_terminal() => return Ok(Err(refused)),
            // Its envelope has not ended: it is ended without its body.
            Some(refused) => {
                tracing::warn!(document = %record.id, refused, "the document is cancelled as it is");
                document = Err(refused);
            }
            None => {}
        }
        let body = document.as_ref().ok().map(serde_json::to_string).transpose();
        let body = body.map_err(|e| StoreError::Other(format!("document {} cannot be written: {e}", record.id)))?;
        let done = match &record.lease {
            Some(grant) => {
                // What another worker does now is not what was reported.
                let report = report.clone().filter(|_| lease == Some(grant.id));
                let detail = report.unwrap_or_else(|| last_known(&record, grant, before.as_ref().ok()));
                let next = Next::End { state: State::Cancelled, reason: String::new() };
                let commit = Commit { lease: grant.id, body, checkpoint: None, next, detail, ttl_ms: 0 };
                matches!(store.commit(&commit).await?, Committed::Done(_))
            }
            None => {
                let (document, version, state) = (record.id, record.version, State::Cancelled);
                let swap = CompareAndSwap { document, version, state, reason: String::new(), judge: false, body };
                store.swap(&swap).await? == Swapped::Done
            }
        };
        if done {
            if let Ok(document) = &document {
                emit_trace(store, &record, document, State::Cancelled).await;
            }
            return Ok(Ok(()));
        }
        match store.get(record.id).await? {
            Some(now) => record = now,
            None => break,
        }
        if record.state == State::Cancelled {
            return Ok(Ok(()));
        }
    }
    Ok(Err("concurrent updates; retry in a moment".into()))
}

/// Detail of an attempt whose worker has said nothing of its end: what it said before.
fn last_known(record: &Record, grant: &LeaseGrant, document: Option<&Document>) -> Value {
    let saved = record.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.tokens.len() as u64);
    let mut detail = json!({ "revoked": "cancelled", "usage": { "generated": saved.max(grant.progress) } });
    if let Some(document) = document {
        let (kind, section) = document.current();
        detail["kind"] = json!(kind);
        detail["section"] = json!(section);
    }
    detail
}
