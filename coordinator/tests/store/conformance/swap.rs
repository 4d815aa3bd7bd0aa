//! Requeue and cancel: what an operator does to a document.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    AttemptEnd, Committed, CompareAndSwap, Counters, Lookup, Next, Record, Renewal, Revision, StoreError, Swapped,
};
use longhand_proto::DocumentId;
use serde_json::json;

use crate::fixture::*;

on_every_store!(
    a_document_cancelled_while_a_worker_writes_it_stays_cancelled,
    a_change_that_came_first_is_seen,
    a_repeated_swap_is_answered_as_the_first_time,
    a_requeued_document_begins_anew_and_keeps_its_history,
    a_document_cannot_be_put_into_a_state_that_needs_a_worker,
);

fn swap_to(record: &Record, state: State, reason: &str) -> CompareAndSwap {
    CompareAndSwap {
        document: record.id,
        version: record.version,
        state,
        reason: reason.into(),
        judge: false,
        body: None,
    }
}

async fn a_document_cancelled_while_a_worker_writes_it_stays_cancelled(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    let renewal = Renewal { lease, progress: 1, checkpoint: Some(checkpoint(&[1])), from: 0 };
    fixture.store.renew(&[renewal], TTL).await.unwrap();
    let cancel = swap_to(&record, State::Cancelled, "operator");
    assert_eq!(fixture.store.swap(&cancel).await.unwrap(), Swapped::Done);

    assert_eq!(fixture.commit(lease, ended(State::Accepted, "")).await, Committed::Stale);
    assert_eq!(fixture.store.lookup(lease).await.unwrap(), Lookup::Stale);
    let after = fixture.get(record.id).await;
    assert_eq!((after.state, after.reason.as_str(), &after.lease), (State::Cancelled, "operator", &None));
    assert_eq!((after.checkpoint, after.body), (None, record.body));
    let attempts = fixture.store.attempts(record.id).await.unwrap();
    assert_eq!((attempts[0].end, &attempts[0].detail), (AttemptEnd::Released, &json!({ "revoked": "cancelled" })));
    fixture.pass(2 * TTL);
    assert_eq!(fixture.sweep().await, []);
    fixture.assert_sound(&run).await;
}

async fn a_change_that_came_first_is_seen(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    let accepted = fixture.get(record.id).await;
    assert_eq!(fixture.store.swap(&swap_to(&record, State::Cancelled, "")).await.unwrap(), Swapped::Changed);
    assert_eq!(fixture.get(record.id).await, accepted);
}

async fn a_repeated_swap_is_answered_as_the_first_time(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let record = fixture.get(document(&run("r"), 0)).await;
    let mut cancel = swap_to(&record, State::Cancelled, "");
    cancel.body = Some("cancelled".into());
    assert_eq!(fixture.store.swap(&cancel).await.unwrap(), Swapped::Done);
    let after = fixture.get(record.id).await;
    assert_eq!(fixture.store.swap(&cancel).await.unwrap(), Swapped::Done);
    assert_eq!(fixture.get(record.id).await, after, "done once");
    let other = CompareAndSwap { reason: "another".into(), ..cancel.clone() };
    assert_eq!(fixture.store.swap(&other).await.unwrap(), Swapped::Changed);
    fixture.store.swap(&swap_to(&after, State::Ready, "")).await.unwrap();
    assert_eq!(fixture.store.swap(&cancel).await.unwrap(), Swapped::Changed);
}

async fn a_requeued_document_begins_anew_and_keeps_its_history(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    fixture.commit(lease, Next::Release).await;
    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    fixture.store.mark_flushed(&run, &[record.id]).await.unwrap();

    let accepted = fixture.get(record.id).await;
    let mut requeue = swap_to(&accepted, State::Ready, "the reason of a ready document is not kept");
    requeue.body = Some("planning".into());
    assert_eq!(fixture.store.swap(&requeue).await.unwrap(), Swapped::Done);
    assert_eq!(fixture.store.swap(&requeue).await.unwrap(), Swapped::Done);
    let revision =
        Revision { version: accepted.version, state: State::Accepted, reason: String::new(), body: accepted.body };
    assert_eq!(fixture.store.history(record.id).await.unwrap(), [revision], "the old text, once");
    let ready = fixture.get(record.id).await;
    assert_eq!((ready.state, ready.reason.as_str(), ready.body.as_str()), (State::Ready, "", "planning"));
    assert_eq!((ready.counters, ready.flushed, ready.version), (Counters::default(), false, accepted.version + 1));
    assert_eq!(fixture.commit(lease, Next::Release).await, Committed::Repeated(None), "that attempt did end");

    let (_, lease) = fixture.lease_one().await;
    fixture.end(lease, State::Accepted).await;
    assert_eq!(ids(&fixture.store.unflushed(&run, 9).await.unwrap()), [record.id], "its new text needs a shard too");
    assert_eq!(fixture.store.attempts(record.id).await.unwrap().len(), 3);
    fixture.assert_sound(&run).await;
}

async fn a_document_cannot_be_put_into_a_state_that_needs_a_worker(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    let record = fixture.get(document(&run, 0)).await;
    for state in [State::Leased, State::Delayed] {
        let refused = fixture.store.swap(&swap_to(&record, state, "")).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    let unknown = DocumentId::derive(&run, "never submitted", 0);
    let swap = CompareAndSwap { document: unknown, ..swap_to(&record, State::Ready, "") };
    assert!(matches!(fixture.store.swap(&swap).await, Err(StoreError::NotFound { kind: "document", .. })));
}
