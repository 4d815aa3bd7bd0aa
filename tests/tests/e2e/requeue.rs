//! Requeueing ended documents: all that failed, or all that one rule rejected.

use longhand_coordinator::control::admin::{Requeued, RewriteScope, Selector, requeue};
use longhand_coordinator::control::submit::{RunSpec, submit};
use longhand_coordinator::domain::instruction::BadRow;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, RunPolicy};
use longhand_worker::engine::mock::{Faults, MockOptions};

use crate::harness::{Harness, document, mock, run_id};

async fn with(faults: Faults, documents: usize) -> Harness {
    let harness = Harness::start(documents).await;
    let worker = harness.worker(mock(MockOptions { faults, ..Default::default() }));
    harness.finished().await;
    worker.stop().await;
    harness
}

async fn requeue_page(harness: &Harness, selector: Selector, dry_run: bool) -> Requeued {
    requeue(harness.store.as_ref(), &run_id(), &selector, RewriteScope::AsNeeded, None, dry_run).await.unwrap()
}

/// A worker without faults writes all ready documents.
async fn write_waiting(harness: &Harness) {
    harness.coordinator.wake(8);
    let worker = harness.worker(mock(MockOptions::default()));
    harness.finished().await;
    worker.stop().await;
}

#[tokio::test]
async fn all_failed_documents_are_requeued_except_bad_rows() {
    let harness = with(Faults { error: 1.0, ..Default::default() }, 3).await;
    let bad = BadRow {
        file: "in.jsonl".into(),
        line: 9,
        key: String::new(),
        problem: "invalid JSON".into(),
        remedy: "write one object per line".into(),
        content_hash: "f00".into(),
    };
    let recipe = harness.recipe.clone();
    let spec = RunSpec { id: run_id(), recipe, seed: 7, candidates: 1, policy: RunPolicy::default() };
    submit(harness.store.as_ref(), &spec, [Err(bad)]).await.unwrap();
    assert_eq!(harness.counts().await.failed, 4);

    let would = requeue_page(&harness, Selector::Failed, true).await;
    assert_eq!((would.documents, would.skipped.len()), (3, 1), "{would:?}");
    assert_eq!(harness.counts().await.failed, 4, "a dry run changes nothing");
    let done = requeue_page(&harness, Selector::Failed, false).await;
    assert_eq!(done, would, "and returns what would be done");
    write_waiting(&harness).await;
    let counts = harness.counts().await;
    assert_eq!((counts.accepted, counts.failed), (3, 1));
    for record in harness.records().await.iter().filter(|record| record.state == State::Accepted) {
        let errors = harness.attempts(record.id).await.iter().filter(|it| it.end == AttemptEnd::Error).count();
        assert_eq!(errors as u32, harness.recipe.retry.max_errors, "the attempts before stay in the history");
        assert_eq!(harness.store.history(record.id).await.unwrap()[0].state, State::Failed);
    }
    assert_eq!(requeue_page(&harness, Selector::Failed, false).await.documents, 0, "nothing is left to requeue");
}

#[tokio::test]
async fn documents_that_a_rule_rejected_get_a_new_plan_and_the_old_text_stays_in_the_history() {
    let harness = with(Faults { truncated: 1.0, ..Default::default() }, 2).await;
    let rejected = harness.records().await;
    assert!(rejected.iter().all(|it| (it.state, it.reason.as_str()) == (State::Rejected, "truncated")), "{rejected:?}");
    assert_eq!(requeue_page(&harness, Selector::Rejected { rule: "score_length".into() }, false).await.documents, 0);

    let sections: u64 = rejected.iter().map(|record| document(record).sections().len() as u64).sum();
    let done = requeue_page(&harness, Selector::Rejected { rule: "truncated".into() }, false).await;
    assert_eq!((done.documents, done.kept, done.redone), (2, 0, sections));
    write_waiting(&harness).await;
    assert_eq!(harness.counts().await.accepted, 2);
    for before in &rejected {
        let past = harness.store.history(before.id).await.unwrap();
        assert_eq!((past.len(), &past[0].body), (1, &before.body));
    }
}
