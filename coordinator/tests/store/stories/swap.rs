//! Requeue and cancel: what a person does to a document.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    AttemptEnd, Committed, Counters, Lookup, Next, Past, Record, Renewal, StoreError, Swap, Swapped,
};
use longhand_proto::DocumentId;
use serde_json::json;

use crate::bench::*;

on_every_store!(
    a_document_cancelled_while_a_worker_writes_it_stays_cancelled,
    a_change_that_came_first_is_seen,
    a_repeated_swap_is_answered_as_the_first_time,
    a_requeued_document_begins_anew_and_keeps_its_history,
    a_document_cannot_be_put_into_a_state_that_needs_a_worker,
);

fn put(record: &Record, state: State, reason: &str) -> Swap {
    Swap { document: record.id, version: record.version, state, reason: reason.into(), judge: false, body: None }
}

async fn a_document_cancelled_while_a_worker_writes_it_stays_cancelled(bench: &Bench) {
    let run = bench.run("r", 1).await;
    let (record, lease) = bench.lease_one().await;
    let renewal = Renewal { lease, progress: 1, checkpoint: Some(checkpoint(&[1])) };
    bench.store.renew(&[renewal], TTL).await.unwrap();
    let cancel = put(&record, State::Cancelled, "by hand");
    assert_eq!(bench.store.swap(&cancel).await.unwrap(), Swapped::Done);

    assert_eq!(bench.commit(lease, ended(State::Accepted, "")).await, Committed::Stale);
    assert_eq!(bench.store.lookup(lease).await.unwrap(), Lookup::Stale);
    let after = bench.get(record.id).await;
    assert_eq!((after.state, after.reason.as_str(), &after.lease), (State::Cancelled, "by hand", &None));
    assert_eq!((after.checkpoint, after.body), (None, record.body));
    let attempts = bench.store.attempts(record.id).await.unwrap();
    assert_eq!((attempts[0].end, &attempts[0].detail), (AttemptEnd::Released, &json!({ "revoked": "cancelled" })));
    bench.pass(2 * TTL);
    assert_eq!(bench.sweep().await, []);
    bench.assert_sound(&run).await;
}

async fn a_change_that_came_first_is_seen(bench: &Bench) {
    bench.run("r", 1).await;
    let (record, lease) = bench.lease_one().await;
    bench.end(lease, State::Accepted).await;
    let accepted = bench.get(record.id).await;
    assert_eq!(bench.store.swap(&put(&record, State::Cancelled, "")).await.unwrap(), Swapped::Changed);
    assert_eq!(bench.get(record.id).await, accepted);
}

async fn a_repeated_swap_is_answered_as_the_first_time(bench: &Bench) {
    bench.run("r", 1).await;
    let record = bench.get(document(&run("r"), 0)).await;
    let mut cancel = put(&record, State::Cancelled, "");
    cancel.body = Some("cancelled".into());
    assert_eq!(bench.store.swap(&cancel).await.unwrap(), Swapped::Done);
    let after = bench.get(record.id).await;
    assert_eq!(bench.store.swap(&cancel).await.unwrap(), Swapped::Done);
    assert_eq!(bench.get(record.id).await, after, "done once");
    let other = Swap { reason: "another".into(), ..cancel.clone() };
    assert_eq!(bench.store.swap(&other).await.unwrap(), Swapped::Changed);
    bench.store.swap(&put(&after, State::Ready, "")).await.unwrap();
    assert_eq!(bench.store.swap(&cancel).await.unwrap(), Swapped::Changed);
}

async fn a_requeued_document_begins_anew_and_keeps_its_history(bench: &Bench) {
    let run = bench.run("r", 1).await;
    let (record, lease) = bench.lease_one().await;
    bench.commit(lease, Next::Release).await;
    let (_, lease) = bench.lease_one().await;
    bench.end(lease, State::Accepted).await;
    bench.store.mark_flushed(&run, &[record.id]).await.unwrap();

    let accepted = bench.get(record.id).await;
    let mut requeue = put(&accepted, State::Ready, "the reason of a ready document is not kept");
    requeue.body = Some("planning".into());
    assert_eq!(bench.store.swap(&requeue).await.unwrap(), Swapped::Done);
    assert_eq!(bench.store.swap(&requeue).await.unwrap(), Swapped::Done);
    let past = Past { version: accepted.version, state: State::Accepted, reason: String::new(), body: accepted.body };
    assert_eq!(bench.store.history(record.id).await.unwrap(), [past], "the old text, once");
    let ready = bench.get(record.id).await;
    assert_eq!((ready.state, ready.reason.as_str(), ready.body.as_str()), (State::Ready, "", "planning"));
    assert_eq!((ready.counters, ready.flushed, ready.version), (Counters::default(), false, accepted.version + 1));
    assert_eq!(bench.commit(lease, Next::Release).await, Committed::Repeated(None), "that attempt did end");

    let (_, lease) = bench.lease_one().await;
    bench.end(lease, State::Accepted).await;
    assert_eq!(ids(&bench.store.unflushed(&run, 9).await.unwrap()), [record.id], "its new text needs a shard too");
    assert_eq!(bench.store.attempts(record.id).await.unwrap().len(), 3);
    bench.assert_sound(&run).await;
}

async fn a_document_cannot_be_put_into_a_state_that_needs_a_worker(bench: &Bench) {
    let run = bench.run("r", 1).await;
    let record = bench.get(document(&run, 0)).await;
    for state in [State::Leased, State::Delayed] {
        let refused = bench.store.swap(&put(&record, state, "")).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    let unknown = DocumentId::derive(&run, "never submitted", 0);
    let swap = Swap { document: unknown, ..put(&record, State::Ready, "") };
    assert!(matches!(bench.store.swap(&swap).await, Err(StoreError::NotFound { kind: "document", .. })));
}
