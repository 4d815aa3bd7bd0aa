//! What is remembered of each attempt.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, Next, StoreError};
use longhand_proto::{DocumentId, LeaseId};
use serde_json::json;

use crate::fixture::*;

on_every_store!(
    every_attempt_keeps_its_worker_times_and_detail,
    an_attempt_cannot_end_in_a_state_that_goes_on,
    the_attempts_of_an_unknown_document_are_an_error,
);

async fn every_attempt_keeps_its_worker_times_and_detail(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    let granted = record.lease.unwrap();
    fixture.pass(MINUTE);
    let detail =
        json!({ "kind": "section", "error": { "message": "a \"quoted\"\nline, 中文, \u{1}" }, "n": [1, 2.5, null] });
    let mut failed = commit(lease, ended(State::Failed, "context_too_small"));
    failed.detail = detail.clone();
    fixture.store.commit(&failed).await.unwrap();

    let attempts = fixture.store.attempts(record.id).await.unwrap();
    assert_eq!(attempts.len(), 1);
    let attempt = &attempts[0];
    assert_eq!((attempt.lease, &attempt.worker, attempt.end), (lease, &worker("w"), AttemptEnd::Error));
    assert_eq!(attempt.granted_ms, granted.granted_ms);
    assert!(attempt.ended_ms >= granted.granted_ms + MINUTE);
    assert_eq!(attempt.detail, detail);
}

async fn an_attempt_cannot_end_in_a_state_that_goes_on(fixture: &Fixture) {
    fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    for state in [State::Ready, State::Leased, State::Delayed] {
        let refused = fixture.store.commit(&commit(lease, ended(state, ""))).await;
        assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    }
    assert_eq!(fixture.get(record.id).await, record);
    fixture.commit(lease, Next::Continue { lease: Some(LeaseId::mint()) }).await;
}

async fn the_attempts_of_an_unknown_document_are_an_error(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    assert_eq!(fixture.store.attempts(document(&run, 0)).await.unwrap(), []);
    let unknown = DocumentId::derive(&run, "never submitted", 0);
    let error = fixture.store.attempts(unknown).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no such document: {unknown}"));
}
