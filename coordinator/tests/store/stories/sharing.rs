//! Several runs, and who of them gets the workers.

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{Next, StoreError, Swap, Swapped, Terms};
use longhand_proto::LeaseId;

use crate::bench::*;

on_every_store!(
    a_paused_run_gives_nothing_out_and_takes_what_comes_in,
    equal_runs_share_the_workers,
    a_run_of_a_higher_priority_goes_first,
    a_run_is_written_by_the_model_that_it_asks_for,
    votes_are_for_the_judge_alone,
    no_more_documents_are_open_than_the_run_allows,
    a_run_that_does_not_exist_cannot_be_paused,
);

async fn a_paused_run_gives_nothing_out_and_takes_what_comes_in(bench: &Bench) {
    let run = bench.run("r", 3).await;
    let (_, lease) = bench.lease_one().await;
    for _ in 0..2 {
        assert!(bench.store.pause(&run, true).await.unwrap().paused);
        assert_eq!(bench.lease("w", "paused", 9).await, []);
    }
    bench.commit(lease, Next::Continue { lease: None }).await;
    assert_eq!(bench.lease("w", "paused", 9).await, [], "open documents wait too");
    assert!(bench.store.run(&run).await.unwrap().expect("the run").paused);

    assert!(!bench.store.pause(&run, false).await.unwrap().paused);
    assert_eq!(bench.lease("w", "resumed", 9).await.len(), 3);
    assert!(!bench.store.runs().await.unwrap()[0].paused);
}

async fn equal_runs_share_the_workers(bench: &Bench) {
    let (a, b) = (bench.run("a", 9).await, bench.run("b", 9).await);
    let leased = async |run| bench.store.counts(run).await.unwrap().leased;
    assert_eq!(bench.lease("w", "q1", 4).await.len(), 4);
    assert_eq!((leased(&a).await, leased(&b).await), (2, 2));
    assert_eq!(bench.lease("w", "q2", 1).await[0].run, a, "the older one gets the odd one");
    assert_eq!(bench.lease("w", "q3", 1).await[0].run, b);
    bench.store.pause(&a, true).await.unwrap();
    assert_eq!(bench.lease("w", "q4", 4).await.len(), 4, "no slot stays empty while a run waits");
    assert_eq!((leased(&a).await, leased(&b).await), (3, 7));
}

async fn a_run_of_a_higher_priority_goes_first(bench: &Bench) {
    bench.run("a", 2).await;
    let urgent = bench.run_on("b", 2, Terms { priority: 5, ..Terms::default() }).await;
    let leased = bench.lease("w", "q", 3).await;
    assert_eq!(leased.iter().filter(|record| record.run == urgent).count(), 2);
    assert_eq!(leased.len(), 3);
}

async fn a_run_is_written_by_the_model_that_it_asks_for(bench: &Bench) {
    for (name, model) in [("named", "small"), ("hashed", "w1"), ("other", "large")] {
        bench.run_on(name, 1, Terms { model: model.into(), ..Terms::default() }).await;
    }
    let leased = bench.lease("w", "q", 9).await;
    let mut runs: Vec<&str> = leased.iter().map(|record| record.run.as_str()).collect();
    runs.sort_unstable();
    assert_eq!(runs, ["hashed", "named"]);
    let mut large = query("v", "q", 9);
    large.model = "large".into();
    assert_eq!(bench.store.lease(&large).await.unwrap().len(), 1);
}

async fn votes_are_for_the_judge_alone(bench: &Bench) {
    let terms = Terms { model: "small".into(), judge: "large".into(), max_open: 2, ..Terms::default() };
    let run = bench.run_on("r", 3, terms).await;
    let judge = async |request: &str| {
        let mut query = query("judge", request, 9);
        query.model = "large".into();
        bench.store.lease(&query).await.unwrap()
    };
    assert_eq!(judge("q0").await, [], "nothing is written yet");
    let first = document(&run, 0);
    let leased = bench.lease("w", "q1", 1).await;
    bench.commit(lease_of(&leased[0]), Next::Judge { lease: None }).await;
    assert!(bench.get(first).await.judge);
    assert_eq!(ids(&bench.lease("w", "q2", 9).await), [document(&run, 1)], "the writer goes on, as far as is allowed");

    // However a vote ends, the next one is the judge's.
    let held = judge("q1").await;
    assert_eq!(ids(&held), [first]);
    bench.commit(lease_of(&held[0]), Next::Release).await;
    let held = judge("q2").await;
    bench.commit(lease_of(&held[0]), Next::Retry { delay_ms: MINUTE }).await;
    bench.pass(2 * MINUTE);
    assert_eq!(bench.lease("w", "q3", 9).await, []);
    assert_eq!(ids(&judge("q3").await), [first]);
    bench.pass(2 * TTL);
    bench.sweep().await;
    assert_eq!(ids(&bench.lease("w", "q4", 9).await), [document(&run, 1)]);
    let held = judge("q4").await;
    assert_eq!(ids(&held), [first]);
    bench.assert_sound(&run).await;

    // The next vote may be given at once, and its mark outlives that lease too.
    let next = LeaseId::mint();
    bench.commit(lease_of(&held[0]), Next::Judge { lease: Some(next) }).await;
    bench.commit(next, Next::Release).await;
    let held = judge("q5").await;
    assert_eq!(ids(&held), [first]);
    bench.end(lease_of(&held[0]), State::Accepted).await;
    let record = bench.get(first).await;
    assert!(!record.judge);
    let swap = Swap {
        document: first,
        version: record.version,
        state: State::Ready,
        reason: String::new(),
        judge: true,
        body: None,
    };
    assert_eq!(bench.store.swap(&swap).await.unwrap(), Swapped::Done);
    assert_eq!(ids(&judge("q6").await), [first], "taken up again for the judge");
    bench.assert_sound(&run).await;
}

async fn no_more_documents_are_open_than_the_run_allows(bench: &Bench) {
    let run = bench.run_on("r", 5, Terms { max_open: 2, ..Terms::default() }).await;
    let leased = bench.lease("w", "q1", 9).await;
    assert_eq!(ids(&leased), [document(&run, 0), document(&run, 1)]);
    assert_eq!(bench.lease("w", "q2", 9).await, []);
    bench.commit(lease_of(&leased[0]), Next::Continue { lease: None }).await;
    bench.commit(lease_of(&leased[1]), Next::Retry { delay_ms: TTL }).await;
    let again = bench.lease("w", "q3", 9).await;
    assert_eq!(ids(&again), [document(&run, 0)], "the one that is open, and none besides");
    bench.end(lease_of(&again[0]), State::Accepted).await;
    assert_eq!(ids(&bench.lease("w", "q4", 9).await), [document(&run, 2)], "an end makes room");
    bench.pass(2 * TTL);
    assert_eq!(ids(&bench.lease("w", "q5", 9).await), [document(&run, 1)], "what was delayed never gave up its place");
}

async fn a_run_that_does_not_exist_cannot_be_paused(bench: &Bench) {
    let refused = bench.store.pause(&run("unknown"), true).await;
    assert!(matches!(refused, Err(StoreError::NotFound { kind: "run", .. })), "{refused:?}");
}
