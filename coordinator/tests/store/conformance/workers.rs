//! Workers: heartbeats and drains.

use longhand_coordinator::store::{StoreError, WORKER_TTL_MS};
use longhand_proto::task::WorkerStatus;

use crate::fixture::*;

on_every_store!(
    every_replica_knows_the_workers_and_a_silent_one_is_removed,
    a_worker_that_is_to_drain_learns_it_at_its_heartbeat,
);

fn report(held: u32) -> WorkerStatus {
    WorkerStatus { version: "1".into(), slots: 8, held, tokens_per_second: 12.5, ..WorkerStatus::default() }
}

async fn every_replica_knows_the_workers_and_a_silent_one_is_removed(fixture: &Fixture) {
    let store = &fixture.store;
    assert!(store.workers().await.unwrap().is_empty());
    for (name, held) in [("b", 1), ("a", 2), ("b", 3)] {
        assert!(!store.heartbeat(&worker(name), &report(held)).await.unwrap());
    }
    let seen = store.workers().await.unwrap();
    let now = store.now_ms().await.unwrap();
    assert_eq!(
        seen.iter().map(|seen| (seen.worker.as_str(), seen.report.held)).collect::<Vec<_>>(),
        [("a", 2), ("b", 3)]
    );
    assert_eq!(seen[0].report, report(2));
    assert!(seen[0].seen_ms <= now && seen[0].seen_ms + MINUTE > now);

    fixture.pass(WORKER_TTL_MS / 2);
    store.heartbeat(&worker("a"), &report(4)).await.unwrap();
    fixture.pass(WORKER_TTL_MS / 2 + MINUTE);
    let seen = store.workers().await.unwrap();
    assert_eq!(seen.iter().map(|seen| seen.worker.as_str()).collect::<Vec<_>>(), ["a"]);
}

async fn a_worker_that_is_to_drain_learns_it_at_its_heartbeat(fixture: &Fixture) {
    let store = &fixture.store;
    let nobody = store.drain(&worker("a")).await.unwrap_err();
    assert!(matches!(&nobody, StoreError::NotFound { kind: "worker", name } if name == "a"), "{nobody}");
    store.heartbeat(&worker("a"), &report(1)).await.unwrap();
    store.heartbeat(&worker("b"), &report(1)).await.unwrap();
    store.drain(&worker("a")).await.unwrap();
    store.drain(&worker("a")).await.unwrap();
    assert!(store.heartbeat(&worker("a"), &report(1)).await.unwrap());
    assert!(!store.heartbeat(&worker("b"), &report(1)).await.unwrap());
    let seen = store.workers().await.unwrap();
    assert_eq!(seen.iter().map(|seen| seen.drain).collect::<Vec<_>>(), [true, false]);
    fixture.pass(WORKER_TTL_MS + MINUTE);
    let gone = store.drain(&worker("b")).await.unwrap_err();
    assert!(matches!(gone, StoreError::NotFound { kind: "worker", .. }), "{gone}");
}
