//! From instructions to verdicts.

use std::sync::Arc;
use std::time::Duration;

use longhand_coordinator::control::submit::{RunSpec, submit};
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, Filter, NewDocument, RunPolicy};
use longhand_proto::task::{Failure, TaskKind};
use longhand_proto::{DocumentId, RunId};
use longhand_worker::engine::mock::{Faults, MockEngine, MockOptions};

use crate::sandbox::{Peer, Picky, Sandbox, document, instruction, mock, quick_recipe, run_id, within, write};

/// Every document has all its sections, in order, each written once.
async fn assert_whole(sandbox: &Sandbox) {
    for record in sandbox.records().await {
        let document = document(&record);
        let steps = document.plan().expect("a plan").steps.len() as u64;
        assert!(steps >= 2, "the test should have several sections");
        assert_eq!(sandbox.completed(record.id, "plan").await, [0]);
        assert_eq!(sandbox.completed(record.id, "section").await, (0..steps).collect::<Vec<_>>());
        assert!(document.sections().iter().all(|section| !section.text.is_empty()));
    }
}

#[tokio::test]
async fn eight_documents_are_written_by_two_workers_and_all_accepted() {
    let sandbox = Sandbox::start(8).await;
    let engine = || mock(MockOptions { slots: 4, tokens_per_second: 20_000.0, ..Default::default() });
    let (one, two) = (sandbox.worker(engine()), sandbox.worker(engine()));
    sandbox.finished().await;
    let (one, two) = (one.retire().await, two.retire().await);

    assert_eq!(sandbox.counts().await.accepted, 8, "{:?}", sandbox.counts().await);
    assert_whole(&sandbox).await;
    assert!(one.completed > 0 && two.completed > 0, "both should work: {one:?} {two:?}");
    let sections: usize = sandbox.records().await.iter().map(|it| document(it).sections().len()).sum();
    assert_eq!((one.completed + two.completed) as usize, 8 + sections);
    // The worker that wrote a section writes the next: its prefix cache holds the text so far.
    assert_eq!((one.continued + two.continued) as usize, sections);
    assert_eq!((one.lost + one.failed, two.lost + two.failed), (0, 0));
}

#[tokio::test]
async fn an_error_is_tried_again_a_bounded_number_of_times_and_never_becomes_a_text() {
    let sandbox = Sandbox::start(3).await;
    let worker =
        sandbox.worker(mock(MockOptions { faults: Faults { error: 1.0, ..Default::default() }, ..Default::default() }));
    for record in sandbox.finished().await {
        assert_eq!((record.state, record.reason.as_str()), (State::Failed, "mock_error"));
        assert!(document(&record).sections().is_empty());
        let attempts = sandbox.attempts(record.id).await;
        assert_eq!(attempts.len() as u32, sandbox.recipe.retry.max_errors);
        assert!(attempts.iter().all(|it| it.end == AttemptEnd::Error && it.detail["error"]["class"] == "mock_error"));
    }
    worker.retire().await;
}

#[tokio::test]
async fn a_document_that_met_errors_on_its_way_is_whole_when_it_is_accepted() {
    let sandbox = Sandbox::start(12).await;
    let faults = Faults { error: 0.15, bad_plan: 0.2, truncated: 0.1, repetition: 0.1, ..Default::default() };
    let worker = sandbox.worker(mock(MockOptions { faults, ..Default::default() }));
    let mut retried = 0;
    for record in sandbox.finished().await {
        let document = document(&record);
        let attempts = sandbox.attempts(record.id).await;
        retried += attempts.iter().filter(|it| it.end == AttemptEnd::Error).count();
        assert!(document.sections().iter().all(|section| !section.text.contains("told to fail")));
        if record.state == State::Accepted {
            let steps = document.plan().unwrap().steps.len() as u64;
            assert_eq!(sandbox.completed(record.id, "section").await, (0..steps).collect::<Vec<_>>());
        }
    }
    assert!(retried > 0, "the test should have met errors");
    assert!(sandbox.counts().await.accepted > 0, "{:?}", sandbox.counts().await);
    worker.retire().await;
}

#[tokio::test]
async fn a_document_too_long_for_the_model_fails_alone_and_at_once() {
    let sandbox = Sandbox::start(4).await;
    let refuses = sandbox.records().await[2].id;
    let message = "the prompt has 9,000 tokens and the context 8,192".to_owned();
    let failure = Failure { class: "context_too_small".into(), message, permanent: true };
    let worker = sandbox.worker(Arc::new(Picky { inner: MockEngine::new(MockOptions::default()), refuses, failure }));
    sandbox.finished().await;
    let counts = sandbox.counts().await;
    assert_eq!((counts.accepted, counts.failed), (3, 1));
    assert_eq!(sandbox.record(refuses).await.reason, "context_too_small");
    assert_eq!(sandbox.attempts(refuses).await.len(), 1, "another try cannot mend it");
    assert_eq!(worker.retire().await.failed, 1);
}

#[tokio::test]
async fn a_stored_document_that_cannot_be_read_fails_with_its_reason_and_holds_nobody_up() {
    let sandbox = Sandbox::start(1).await;
    let id = DocumentId::from_bytes([9; 16]);
    let damaged = NewDocument { id, body: "{\"written\":\"by another version\"}".into(), failed: None };
    sandbox.store.submit(&run_id(), &[damaged]).await.unwrap();
    let worker = sandbox.worker(mock(MockOptions::default()));
    sandbox.finished().await;
    let record = sandbox.record(id).await;
    assert_eq!((record.state, record.reason.as_str()), (State::Failed, "unreadable_document"));
    assert_eq!(sandbox.counts().await.accepted, 1);
    worker.retire().await;
}

#[tokio::test]
async fn a_coordinator_that_restarts_costs_no_text() {
    let mut sandbox = Sandbox::start(4).await;
    let worker = sandbox.worker(mock(MockOptions { slots: 4, tokens_per_second: 10_000.0, ..Default::default() }));
    for sections in 1..=3 {
        sandbox.until(|records| records.iter().any(|it| document(it).sections().len() >= sections)).await;
        sandbox.restart().await;
    }
    sandbox.finished().await;
    let report = worker.retire().await;
    assert_eq!(sandbox.counts().await.accepted, 4);
    assert_whole(&sandbox).await;
    assert_eq!((report.lost, report.released, report.failed), (0, 0, 0));
}

#[tokio::test]
async fn submitting_the_same_rows_twice_changes_nothing() {
    let sandbox = Sandbox::start(3).await;
    let before = sandbox.records().await;
    let report = sandbox.submit(5).await;
    assert_eq!((report.inserted, report.existing, report.bad_rows), (2, 3, 0));
    assert_eq!(sandbox.records().await[..3], before);
}

/// Whoever has a small model write and a large one judge must find neither the other's work done.
#[tokio::test]
async fn texts_are_the_writers_and_votes_the_judges() {
    let sandbox = Sandbox::start(0).await;
    let run: RunId = "judged".parse().unwrap();
    let mut recipe = quick_recipe();
    recipe.judge.votes = 2;
    let policy = RunPolicy { model: "mock".into(), judge: "judge".into(), ..RunPolicy::default() };
    let spec = RunSpec { id: run.clone(), recipe, seed: 7, candidates: 1, policy };
    let rows = (0..4).map(|number| instruction(number, 1_500)).map(Ok);
    submit(sandbox.store.as_ref(), &spec, rows).await.unwrap();
    sandbox.coordinator.wake(4);
    let engine = |model: &str| mock(MockOptions { model: model.into(), ..Default::default() });
    let (writer, judge) = (sandbox.worker(engine("mock")), sandbox.worker(engine("judge")));
    ended(&sandbox, &run).await;
    let (writer, judge) = (writer.retire().await, judge.retire().await);
    assert_eq!(sandbox.store.counts(&run).await.unwrap().accepted, 4);
    assert_eq!(judge.completed, 8, "two votes for each");
    assert_eq!((writer.lost + writer.failed, judge.lost + judge.failed), (0, 0));
    for record in sandbox.store.list(&run, &Filter::default(), None, 9).await.unwrap().records {
        let document = document(&record);
        assert_eq!(document.model.as_ref().unwrap().name, "mock");
        assert!(document.votes().len() == 2 && document.votes().iter().all(|vote| vote.model == "judge"));
    }
}

/// As while a fleet is updated. A worker that cannot read a task would let its lease run out, and that would be held
/// against the document.
#[tokio::test]
async fn a_worker_that_knows_no_summaries_is_given_none_and_another_one_goes_on() {
    let sandbox = Sandbox::start(0).await;
    let run: RunId = "long".parse().unwrap();
    let mut recipe = quick_recipe();
    (recipe.rolling.max_words, recipe.rolling.keep_words) = (300, 100);
    let spec = RunSpec { id: run.clone(), recipe, seed: 7, candidates: 1, policy: RunPolicy::default() };
    submit(sandbox.store.as_ref(), &spec, [Ok(instruction(0, 1_500))].into_iter()).await.unwrap();
    let older = Peer::older(&sandbox);
    let mut next = Some(older.take().await);
    let id = next.as_ref().unwrap().task.document;
    while let Some(lease) = next {
        next = older.complete(lease.id, write(lease.task).await).await.1;
    }
    assert_eq!(document(&sandbox.record(id).await).current().0, TaskKind::Summary);
    assert_eq!(older.lease("again", 1, Duration::ZERO).await, []);
    let record = sandbox.record(id).await;
    assert_eq!((record.state, record.counters.losses), (State::Delayed, 0));

    sandbox.advance(Duration::from_secs(60));
    let worker = sandbox.worker(mock(MockOptions::default()));
    ended(&sandbox, &run).await;
    assert_eq!(worker.retire().await.lost, 0);
    assert_eq!(sandbox.store.counts(&run).await.unwrap().accepted, 1);
    assert!(sandbox.completed(id, "summary").await.len() >= 2);
}

async fn ended(sandbox: &Sandbox, run: &RunId) {
    let mut changes = sandbox.coordinator.changes();
    within(async {
        while sandbox.store.counts(run).await.unwrap().unfinished() > 0 {
            changes.changed().await.unwrap();
        }
    })
    .await;
}

/// 12,000 words through a window of 4,096 tokens, which the double keeps to: it refuses what does not fit.
#[tokio::test]
async fn a_text_longer_than_the_window_is_written_with_summaries_and_not_without() {
    const WINDOW: u32 = 4_096;
    let sandbox = Sandbox::start(0).await;
    let runs: [RunId; 2] = ["rolling", "without"].map(|id| id.parse().unwrap());
    for (id, max_words) in runs.iter().zip([1_500, 0]) {
        let mut recipe = quick_recipe();
        let rolling = &mut recipe.rolling;
        (rolling.max_words, rolling.keep_words, rolling.summary_words, rolling.plan_steps) = (max_words, 500, 150, 4);
        let spec = RunSpec { id: id.clone(), recipe, seed: 7, candidates: 1, policy: RunPolicy::default() };
        submit(sandbox.store.as_ref(), &spec, [Ok(instruction(0, 12_000))]).await.unwrap();
    }
    sandbox.coordinator.wake(2);
    let worker = sandbox.worker(mock(MockOptions { context: WINDOW, ..Default::default() }));
    let mut records = Vec::new();
    for run in &runs {
        ended(&sandbox, run).await;
        records.extend(sandbox.store.list(run, &Filter::default(), None, 9).await.unwrap().records);
    }
    worker.retire().await;
    let [rolled, without] = &records[..] else { panic!("{} documents", records.len()) };

    let text = document(rolled);
    let sections = text.sections();
    let words: u32 = sections.iter().map(|section| section.words).sum();
    assert_eq!(rolled.state, State::Accepted, "{}", rolled.reason);
    assert!(words >= 12_000, "{words}");
    assert!(sections.iter().all(|section| section.usage.prompt + section.words <= WINDOW));
    let each_once = |count: usize| (0..count as u64).collect::<Vec<_>>();
    assert_eq!(sections.len(), text.plan().unwrap().steps.len());
    assert_eq!(sandbox.completed(rolled.id, "section").await, each_once(sections.len()));
    let covered: Vec<u32> = text.summaries.iter().map(|summary| summary.sections).collect();
    assert!(covered.len() >= 5 && covered.is_sorted(), "{covered:?} of {}", sections.len());
    assert_eq!(sandbox.completed(rolled.id, "summary").await, each_once(covered.len()));

    assert_eq!((without.state, without.reason.as_str()), (State::Failed, "context_too_small"));
    assert!(document(without).sections().len() < sections.len(), "it got as far as the window reaches");
}
