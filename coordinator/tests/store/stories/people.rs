//! What people look at and do.

use longhand_coordinator::store::{ACTIONS, Action, Deed, FORGET_MS, StoreError};
use longhand_proto::task::WorkerStatus;

use crate::bench::*;

on_every_store!(
    every_replica_knows_the_workers_and_a_silent_one_is_forgotten,
    a_worker_that_is_to_drain_is_told_when_it_speaks,
    what_was_done_by_hand_is_kept_and_the_oldest_goes,
);

fn report(held: u32) -> WorkerStatus {
    WorkerStatus { version: "1".into(), slots: 8, held, tokens_per_second: 12.5, ..WorkerStatus::default() }
}

fn action(number: u64) -> Action {
    Action {
        at_ms: number,
        who: "anna at 10.0.0.7".into(),
        what: Deed::Requeue,
        documents: number,
        about: "\"all\"".into(),
    }
}

async fn every_replica_knows_the_workers_and_a_silent_one_is_forgotten(bench: &Bench) {
    let store = &bench.store;
    assert!(store.workers().await.unwrap().is_empty());
    for (name, held) in [("b", 1), ("a", 2), ("b", 3)] {
        assert!(!store.report(&worker(name), &report(held)).await.unwrap());
    }
    let seen = store.workers().await.unwrap();
    let now = store.now_ms().await.unwrap();
    assert_eq!(
        seen.iter().map(|seen| (seen.worker.as_str(), seen.report.held)).collect::<Vec<_>>(),
        [("a", 2), ("b", 3)]
    );
    assert_eq!(seen[0].report, report(2));
    assert!(seen[0].seen_ms <= now && seen[0].seen_ms + MINUTE > now);

    bench.pass(FORGET_MS / 2);
    store.report(&worker("a"), &report(4)).await.unwrap();
    bench.pass(FORGET_MS / 2 + MINUTE);
    let seen = store.workers().await.unwrap();
    assert_eq!(seen.iter().map(|seen| seen.worker.as_str()).collect::<Vec<_>>(), ["a"]);
}

async fn a_worker_that_is_to_drain_is_told_when_it_speaks(bench: &Bench) {
    let store = &bench.store;
    let nobody = store.drain(&worker("a")).await.unwrap_err();
    assert!(matches!(&nobody, StoreError::NotFound { kind: "worker", name } if name == "a"), "{nobody}");
    store.report(&worker("a"), &report(1)).await.unwrap();
    store.report(&worker("b"), &report(1)).await.unwrap();
    store.drain(&worker("a")).await.unwrap();
    store.drain(&worker("a")).await.unwrap();
    assert!(store.report(&worker("a"), &report(1)).await.unwrap());
    assert!(!store.report(&worker("b"), &report(1)).await.unwrap());
    let seen = store.workers().await.unwrap();
    assert_eq!(seen.iter().map(|seen| seen.drain).collect::<Vec<_>>(), [true, false]);
    bench.pass(FORGET_MS + MINUTE);
    let gone = store.drain(&worker("b")).await.unwrap_err();
    assert!(matches!(gone, StoreError::NotFound { kind: "worker", .. }), "{gone}");
}

async fn what_was_done_by_hand_is_kept_and_the_oldest_goes(bench: &Bench) {
    let store = &bench.store;
    let (run, other) = (bench.run("r", 1).await, bench.run("other", 1).await);
    assert!(store.actions(Some(&run), 10).await.unwrap().is_empty());
    for number in 1..=3 {
        store.record(Some(&run), &action(number)).await.unwrap();
    }
    let drained = Action { what: Deed::Drain, ..action(9) };
    store.record(None, &drained).await.unwrap();
    assert_eq!(store.actions(Some(&run), 2).await.unwrap(), [action(3), action(2)]);
    assert!(store.actions(Some(&run), 0).await.unwrap().is_empty());
    assert!(store.actions(Some(&other), 10).await.unwrap().is_empty());
    assert_eq!(store.actions(None, 10).await.unwrap(), [drained]);
    let nowhere = store.record(Some(&"nowhere".parse().unwrap()), &action(1)).await.unwrap_err();
    assert!(matches!(nowhere, StoreError::NotFound { kind: "run", .. }), "{nowhere}");

    for number in 4..u64::from(ACTIONS) + 3 {
        store.record(Some(&run), &action(number)).await.unwrap();
    }
    let kept = store.actions(Some(&run), 2 * ACTIONS).await.unwrap();
    assert_eq!(kept.len(), ACTIONS as usize);
    assert_eq!(kept.last(), Some(&action(3)));
    bench.assert_sound(&run).await;
}
