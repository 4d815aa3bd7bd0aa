//! A run that is cancelled: nothing of it is leased, and nothing of it is accepted.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{
    AttemptEnd, Commit, Committed, Lookup, Next, Renewal, Renewed, RunPolicy, StoreError,
};
use longhand_proto::LeaseId;
use serde_json::json;

use crate::fixture::*;

on_every_store!(
    a_cancelled_run_leases_nothing_and_takes_no_result,
    a_lease_is_ended_as_cancelled_with_what_its_worker_reports,
    what_was_answered_before_is_answered_again,
    cancelling_ends_with_the_last_document,
    a_run_that_does_not_exist_cannot_be_cancelled,
);

fn renewal(lease: LeaseId) -> Renewal {
    Renewal { lease, progress: 5, checkpoint: Some(checkpoint(&[1, 2])), from: 0 }
}

async fn a_cancelled_run_leases_nothing_and_takes_no_result(fixture: &Fixture) {
    let run = fixture.run("r", 3).await;
    let (record, lease) = fixture.lease_one().await;
    for _ in 0..2 {
        fixture.store.cancel(&run).await.unwrap();
    }
    assert!(fixture.store.run(&run).await.unwrap().unwrap().cancelling);
    let before = fixture.get(record.id).await;
    assert_eq!(fixture.lease("w", "more", 3).await, []);
    let accepted = ended(State::Accepted, "");
    for next in [accepted, Next::Continue { lease: Some(LeaseId::mint()) }, Next::Retry { delay_ms: 1 }, Next::Release]
    {
        assert_eq!(fixture.commit(lease, next).await, Committed::Cancelling);
    }
    let renewed = fixture.store.renew(&[renewal(lease)], TTL).await.unwrap();
    assert_eq!(renewed, Renewed { cancelled: vec![lease], ..Renewed::default() });
    assert_eq!(fixture.get(record.id).await, before, "nothing was changed");
    assert!(matches!(fixture.store.lookup(lease).await.unwrap(), Lookup::Live(_)));

    // Another run is served as before.
    fixture.run_on("other", 1, RunPolicy::default()).await;
    assert_eq!(fixture.lease("w", "others", 3).await.len(), 1);
    fixture.pass(2 * TTL);
    assert_eq!(fixture.sweep().await.len(), 2, "a lease that nobody ended expires");
    assert_eq!(fixture.lease("w", "swept", 3).await.len(), 1, "only the other run's document is leased again");
    fixture.assert_sound(&run).await;
}

async fn a_lease_is_ended_as_cancelled_with_what_its_worker_reports(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    fixture.store.cancel(&run).await.unwrap();
    let detail = json!({ "revoked": "cancelled", "usage": { "generated": 7 } });
    let commit = Commit { detail: detail.clone(), ..commit(lease, ended(State::Cancelled, "")) };
    assert_eq!(fixture.store.commit(&commit).await.unwrap(), Committed::Done(None));
    assert_eq!(fixture.store.commit(&commit).await.unwrap(), Committed::Repeated(None));
    let attempts = fixture.store.attempts(record.id).await.unwrap();
    assert_eq!((attempts.len(), attempts[0].end, &attempts[0].detail), (1, AttemptEnd::Released, &detail));
    let renewed = fixture.store.renew(&[renewal(lease)], TTL).await.unwrap();
    assert_eq!(
        renewed,
        Renewed { cancelled: vec![lease], ..Renewed::default() },
        "its worker hears why it has no lease"
    );
    assert_eq!(fixture.get(record.id).await.state, State::Cancelled);
    fixture.assert_sound(&run).await;
}

async fn what_was_answered_before_is_answered_again(fixture: &Fixture) {
    let run = fixture.run("r", 2).await;
    let (_, done) = fixture.lease_one().await;
    fixture.end(done, State::Accepted).await;
    let (_, open) = fixture.lease_one().await;
    let next = LeaseId::mint();
    let first = fixture.commit(open, Next::Continue { lease: Some(next) }).await;
    assert!(matches!(first, Committed::Done(Some(_))));
    fixture.store.cancel(&run).await.unwrap();
    assert_eq!(fixture.commit(done, ended(State::Accepted, "")).await, Committed::Repeated(None));
    let again = fixture.commit(open, Next::Continue { lease: Some(next) }).await;
    assert!(matches!(again, Committed::Repeated(Some(grant)) if grant.id == next));
    assert_eq!(fixture.store.counts(&run).await.unwrap().accepted, 1);
}

async fn cancelling_ends_with_the_last_document(fixture: &Fixture) {
    let run = fixture.run("r", 1).await;
    let (record, lease) = fixture.lease_one().await;
    fixture.store.cancel(&run).await.unwrap();
    assert!(!fixture.store.finish_cancel(&run).await.unwrap(), "one is leased");
    fixture.end(lease, State::Cancelled).await;
    for _ in 0..2 {
        assert!(fixture.store.finish_cancel(&run).await.unwrap());
        assert!(!fixture.store.run(&run).await.unwrap().unwrap().cancelling);
    }
    let requeue = longhand_coordinator::store::CompareAndSwap {
        document: record.id,
        version: fixture.get(record.id).await.version,
        state: State::Ready,
        reason: String::new(),
        judge: false,
        body: None,
    };
    fixture.store.swap(&requeue).await.unwrap();
    assert_eq!(fixture.lease("w", "again", 1).await.len(), 1);
}

async fn a_run_that_does_not_exist_cannot_be_cancelled(fixture: &Fixture) {
    for cancelled in [fixture.store.cancel(&run("r")).await, fixture.store.finish_cancel(&run("r")).await.map(drop)] {
        assert!(matches!(cancelled, Err(StoreError::NotFound { kind: "run", .. })));
    }
}
