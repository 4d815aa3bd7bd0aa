//! Ended documents are taken up again: all that failed, or all that one rule rejected.

use longhand_coordinator::control::admin::{Extent, Requeued, Which, requeue};
use longhand_coordinator::control::submit::{RunSpec, submit};
use longhand_coordinator::domain::instruction::BadRow;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, RunPolicy};
use longhand_worker::engine::mock::{Faults, MockOptions};

use crate::sandbox::{Sandbox, document, mock, run_id};

async fn with(faults: Faults, documents: usize) -> Sandbox {
    let sandbox = Sandbox::start(documents).await;
    let worker = sandbox.worker(mock(MockOptions { faults, ..Default::default() }));
    sandbox.finished().await;
    worker.retire().await;
    sandbox
}

async fn take_up(sandbox: &Sandbox, which: Which, dry_run: bool) -> Requeued {
    requeue(sandbox.store.as_ref(), &run_id(), &which, Extent::AsNeeded, None, dry_run).await.unwrap()
}

/// A worker that fails in no way writes what waits.
async fn mend(sandbox: &Sandbox) {
    sandbox.coordinator.wake(8);
    let worker = sandbox.worker(mock(MockOptions::default()));
    sandbox.finished().await;
    worker.retire().await;
}

#[tokio::test]
async fn all_that_failed_is_taken_up_again_but_for_rows_that_cannot_be_read() {
    let sandbox = with(Faults { error: 1.0, ..Default::default() }, 3).await;
    let bad = BadRow {
        file: "in.jsonl".into(),
        line: 9,
        key: String::new(),
        problem: "it is no JSON".into(),
        remedy: "write one object a line".into(),
        content_hash: "f00".into(),
    };
    let recipe = sandbox.recipe.clone();
    let spec = RunSpec { id: run_id(), recipe, seed: 7, candidates: 1, policy: RunPolicy::default() };
    submit(sandbox.store.as_ref(), &spec, [Err(bad)]).await.unwrap();
    assert_eq!(sandbox.counts().await.failed, 4);

    let would = take_up(&sandbox, Which::Failed, true).await;
    assert_eq!((would.documents, would.skipped.len()), (3, 1), "{would:?}");
    assert_eq!(sandbox.counts().await.failed, 4, "a dry run changes nothing");
    let done = take_up(&sandbox, Which::Failed, false).await;
    assert_eq!(done, would, "and says what would be done");
    mend(&sandbox).await;
    let counts = sandbox.counts().await;
    assert_eq!((counts.accepted, counts.failed), (3, 1));
    for record in sandbox.records().await.iter().filter(|record| record.state == State::Accepted) {
        let errors = sandbox.attempts(record.id).await.iter().filter(|it| it.end == AttemptEnd::Error).count();
        assert_eq!(errors as u32, sandbox.recipe.retry.max_errors, "the attempts before stay in the history");
        assert_eq!(sandbox.store.history(record.id).await.unwrap()[0].state, State::Failed);
    }
    assert_eq!(take_up(&sandbox, Which::Failed, false).await.documents, 0, "nothing is left to take up");
}

#[tokio::test]
async fn what_one_rule_rejected_is_written_from_a_new_plan_and_the_old_text_stays() {
    let sandbox = with(Faults { truncated: 1.0, ..Default::default() }, 2).await;
    let rejected = sandbox.records().await;
    assert!(rejected.iter().all(|it| (it.state, it.reason.as_str()) == (State::Rejected, "truncated")), "{rejected:?}");
    assert_eq!(take_up(&sandbox, Which::Rejected { rule: "length".into() }, false).await.documents, 0);

    let sections: u64 = rejected.iter().map(|record| document(record).sections().len() as u64).sum();
    let done = take_up(&sandbox, Which::Rejected { rule: "truncated".into() }, false).await;
    assert_eq!((done.documents, done.kept, done.redone), (2, 0, sections));
    mend(&sandbox).await;
    assert_eq!(sandbox.counts().await.accepted, 2);
    for before in &rejected {
        let past = sandbox.store.history(before.id).await.unwrap();
        assert_eq!((past.len(), &past[0].body), (1, &before.body));
    }
}
