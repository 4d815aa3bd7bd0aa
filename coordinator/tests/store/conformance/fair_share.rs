//! Several runs, and how they share the workers.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{CompareAndSwap, Next, RunPolicy, StoreError, Swapped};
use longhand_proto::LeaseId;

use crate::fixture::*;

on_every_store!(
    a_paused_run_leases_nothing_and_accepts_commits,
    equal_runs_share_the_workers,
    a_run_of_a_higher_priority_goes_first,
    a_run_is_written_by_the_model_that_it_asks_for,
    votes_are_for_the_judge_alone,
    a_document_for_the_judge_needs_no_lease_before,
    no_more_documents_are_open_than_the_run_allows,
    a_run_that_does_not_exist_cannot_be_paused,
);

async fn a_paused_run_leases_nothing_and_accepts_commits(fixture: &Fixture) {
    let run = fixture.run("r", 3).await;
    let (_, lease) = fixture.lease_one().await;
    for _ in 0..2 {
        assert!(fixture.store.pause(&run, true).await.unwrap().paused);
        assert_eq!(fixture.lease("w", "paused", 9).await, []);
    }
    fixture.commit(lease, Next::Continue { lease: None }).await;
    assert_eq!(fixture.lease("w", "paused", 9).await, [], "open documents wait too");
    assert!(fixture.store.run(&run).await.unwrap().expect("the run").paused);

    assert!(!fixture.store.pause(&run, false).await.unwrap().paused);
    assert_eq!(fixture.lease("w", "resumed", 9).await.len(), 3);
    assert!(!fixture.store.runs().await.unwrap()[0].paused);
}

async fn equal_runs_share_the_workers(fixture: &Fixture) {
    let (a, b) = (fixture.run("a", 9).await, fixture.run("b", 9).await);
    let leased = async |run| fixture.store.counts(run).await.unwrap().leased;
    assert_eq!(fixture.lease("w", "q1", 4).await.len(), 4);
    assert_eq!((leased(&a).await, leased(&b).await), (2, 2));
    assert_eq!(fixture.lease("w", "q2", 1).await[0].run, a, "the older one gets the odd one");
    assert_eq!(fixture.lease("w", "q3", 1).await[0].run, b);
    fixture.store.pause(&a, true).await.unwrap();
    assert_eq!(fixture.lease("w", "q4", 4).await.len(), 4, "no slot stays empty while a run waits");
    assert_eq!((leased(&a).await, leased(&b).await), (3, 7));
}

async fn a_run_of_a_higher_priority_goes_first(fixture: &Fixture) {
    fixture.run("a", 2).await;
    let urgent = fixture.run_on("b", 2, RunPolicy { priority: 5, ..RunPolicy::default() }).await;
    let leased = fixture.lease("w", "q", 3).await;
    assert_eq!(leased.iter().filter(|record| record.run == urgent).count(), 2);
    assert_eq!(leased.len(), 3);
}

async fn a_run_is_written_by_the_model_that_it_asks_for(fixture: &Fixture) {
    for (name, model) in [("named", "small"), ("hashed", "w1"), ("other", "large")] {
        fixture.run_on(name, 1, RunPolicy { model: model.into(), ..RunPolicy::default() }).await;
    }
    let leased = fixture.lease("w", "q", 9).await;
    let mut runs: Vec<&str> = leased.iter().map(|record| record.run.as_str()).collect();
    runs.sort_unstable();
    assert_eq!(runs, ["hashed", "named"]);
    let mut large = query("v", "q", 9);
    large.model = "large".into();
    assert_eq!(fixture.store.lease(&large).await.unwrap().len(), 1);
}

async fn votes_are_for_the_judge_alone(fixture: &Fixture) {
    let policy = RunPolicy { model: "small".into(), judge: "large".into(), max_open: 2, ..RunPolicy::default() };
    let run = fixture.run_on("r", 3, policy).await;
    let judge = async |request: &str| {
        let mut query = query("judge", request, 9);
        query.model = "large".into();
        fixture.store.lease(&query).await.unwrap()
    };
    assert_eq!(judge("q0").await, [], "nothing is written yet");
    let first = document(&run, 0);
    let leased = fixture.lease("w", "q1", 1).await;
    fixture.commit(lease_of(&leased[0]), Next::Judge { lease: None }).await;
    assert!(fixture.get(first).await.judge);
    assert_eq!(
        ids(&fixture.lease("w", "q2", 9).await),
        [document(&run, 1)],
        "the writer continues, as far as is allowed"
    );

    // However a vote ends, the next one is the judge's.
    let held = judge("q1").await;
    assert_eq!(ids(&held), [first]);
    fixture.commit(lease_of(&held[0]), Next::Release).await;
    let held = judge("q2").await;
    fixture.commit(lease_of(&held[0]), Next::Retry { delay_ms: MINUTE }).await;
    fixture.pass(2 * MINUTE);
    assert_eq!(fixture.lease("w", "q3", 9).await, []);
    assert_eq!(ids(&judge("q3").await), [first]);
    fixture.pass(2 * TTL);
    fixture.sweep().await;
    assert_eq!(ids(&fixture.lease("w", "q4", 9).await), [document(&run, 1)]);
    let held = judge("q4").await;
    assert_eq!(ids(&held), [first]);
    fixture.assert_sound(&run).await;

    // The next vote may be leased at once, and the document stays for the judge after that lease too.
    let next = LeaseId::mint();
    fixture.commit(lease_of(&held[0]), Next::Judge { lease: Some(next) }).await;
    fixture.commit(next, Next::Release).await;
    let held = judge("q5").await;
    assert_eq!(ids(&held), [first]);
    fixture.end(lease_of(&held[0]), State::Accepted).await;
    let record = fixture.get(first).await;
    assert!(!record.judge);
    let swap = CompareAndSwap {
        document: first,
        version: record.version,
        state: State::Ready,
        reason: String::new(),
        judge: true,
        body: None,
    };
    assert_eq!(fixture.store.swap(&swap).await.unwrap(), Swapped::Done);
    assert_eq!(ids(&judge("q6").await), [first], "requeued for the judge");
    fixture.assert_sound(&run).await;
}

/// One that was restored from an export and then requeued for its votes.
async fn a_document_for_the_judge_needs_no_lease_before(fixture: &Fixture) {
    let policy = RunPolicy { model: "small".into(), judge: "large".into(), ..RunPolicy::default() };
    let run = fixture.run_on("r", 2, policy).await;
    let swap = CompareAndSwap {
        document: document(&run, 1),
        version: 1,
        state: State::Ready,
        reason: String::new(),
        judge: true,
        body: None,
    };
    assert_eq!(fixture.store.swap(&swap).await.unwrap(), Swapped::Done);
    let mut judge = query("judge", "q", 9);
    judge.model = "large".into();
    assert_eq!(ids(&fixture.store.lease(&judge).await.unwrap()), [document(&run, 1)]);
    fixture.assert_sound(&run).await;
}

async fn no_more_documents_are_open_than_the_run_allows(fixture: &Fixture) {
    let run = fixture.run_on("r", 5, RunPolicy { max_open: 2, ..RunPolicy::default() }).await;
    let leased = fixture.lease("w", "q1", 9).await;
    assert_eq!(ids(&leased), [document(&run, 0), document(&run, 1)]);
    assert_eq!(fixture.lease("w", "q2", 9).await, []);
    fixture.commit(lease_of(&leased[0]), Next::Continue { lease: None }).await;
    fixture.commit(lease_of(&leased[1]), Next::Retry { delay_ms: TTL }).await;
    let again = fixture.lease("w", "q3", 9).await;
    assert_eq!(ids(&again), [document(&run, 0)], "the one that is open, and none besides");
    fixture.end(lease_of(&again[0]), State::Accepted).await;
    assert_eq!(ids(&fixture.lease("w", "q4", 9).await), [document(&run, 2)], "an end makes room");
    fixture.pass(2 * TTL);
    assert_eq!(
        ids(&fixture.lease("w", "q5", 9).await),
        [document(&run, 1)],
        "what was delayed never gave up its place"
    );
}

async fn a_run_that_does_not_exist_cannot_be_paused(fixture: &Fixture) {
    let refused = fixture.store.pause(&run("unknown"), true).await;
    assert!(matches!(refused, Err(StoreError::NotFound { kind: "run", .. })), "{refused:?}");
}
