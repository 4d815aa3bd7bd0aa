//! Whole runs, from instructions to verdicts.

use std::sync::Arc;
use std::time::Duration;

use longhand_coordinator::control::submit::{RunSpec, submit};
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, Filter, NewDocument, RunPolicy};
use longhand_proto::task::{Failure, TaskKind};
use longhand_proto::{DocumentId, RunId};
use longhand_worker::engine::mock::{Faults, MockEngine, MockOptions};

use crate::harness::{
    Harness, RawClient, RejectingEngine, document, instruction, mock, quick_recipe, run_id, within, write,
};

/// Every document has all its sections, in order, each written once.
async fn assert_whole(harness: &Harness) {
    for record in harness.records().await {
        let document = document(&record);
        let steps = document.plan().expect("a plan").steps.len() as u64;
        assert!(steps >= 2, "the test should have several sections");
        assert_eq!(harness.completed(record.id, "plan").await, [0]);
        assert_eq!(harness.completed(record.id, "section").await, (0..steps).collect::<Vec<_>>());
        assert!(document.sections().iter().all(|section| !section.text.is_empty()));
    }
}

#[tokio::test]
async fn eight_documents_are_written_by_two_workers_and_all_accepted() {
    let harness = Harness::start(8).await;
    let engine = || mock(MockOptions { slots: 4, tokens_per_second: 20_000.0, ..Default::default() });
    let (one, two) = (harness.worker(engine()), harness.worker(engine()));
    harness.finished().await;
    let (one, two) = (one.stop().await, two.stop().await);

    assert_eq!(harness.counts().await.accepted, 8, "{:?}", harness.counts().await);
    assert_whole(&harness).await;
    assert!(one.completed > 0 && two.completed > 0, "both should work: {one:?} {two:?}");
    let sections: usize = harness.records().await.iter().map(|it| document(it).sections().len()).sum();
    assert_eq!((one.completed + two.completed) as usize, 8 + sections);
    // The worker that wrote a section writes the next: its prefix cache holds the text so far.
    assert_eq!((one.continued + two.continued) as usize, sections);
    assert_eq!((one.lost + one.failed, two.lost + two.failed), (0, 0));
}

#[tokio::test]
async fn an_error_is_tried_again_a_bounded_number_of_times_and_never_becomes_a_text() {
    let harness = Harness::start(3).await;
    let worker =
        harness.worker(mock(MockOptions { faults: Faults { error: 1.0, ..Default::default() }, ..Default::default() }));
    for record in harness.finished().await {
        assert_eq!((record.state, record.reason.as_str()), (State::Failed, "mock_error"));
        assert!(document(&record).sections().is_empty());
        let attempts = harness.attempts(record.id).await;
        assert_eq!(attempts.len() as u32, harness.recipe.retry.max_errors);
        assert!(attempts.iter().all(|it| it.end == AttemptEnd::Error && it.detail["error"]["class"] == "mock_error"));
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_document_with_errors_on_the_way_is_complete_when_it_is_accepted() {
    let harness = Harness::start(12).await;
    let faults = Faults { error: 0.15, bad_plan: 0.2, truncated: 0.1, repetition: 0.1, ..Default::default() };
    let worker = harness.worker(mock(MockOptions { faults, ..Default::default() }));
    let mut retried = 0;
    for record in harness.finished().await {
        let document = document(&record);
        let attempts = harness.attempts(record.id).await;
        retried += attempts.iter().filter(|it| it.end == AttemptEnd::Error).count();
        assert!(document.sections().iter().all(|section| !section.text.contains("injected mock engine error")));
        if record.state == State::Accepted {
            let steps = document.plan().unwrap().steps.len() as u64;
            assert_eq!(harness.completed(record.id, "section").await, (0..steps).collect::<Vec<_>>());
        }
    }
    assert!(retried > 0, "the test should have met errors");
    assert!(harness.counts().await.accepted > 0, "{:?}", harness.counts().await);
    worker.stop().await;
}

#[tokio::test]
async fn a_document_too_long_for_the_model_fails_alone_and_at_once() {
    let harness = Harness::start(4).await;
    let rejects = harness.records().await[2].id;
    let message = "the prompt has 9,000 tokens and the context 8,192".to_owned();
    let failure = Failure { class: "context_too_small".into(), message, permanent: true };
    let worker =
        harness.worker(Arc::new(RejectingEngine { inner: MockEngine::new(MockOptions::default()), rejects, failure }));
    harness.finished().await;
    let counts = harness.counts().await;
    assert_eq!((counts.accepted, counts.failed), (3, 1));
    assert_eq!(harness.record(rejects).await.reason, "context_too_small");
    assert_eq!(harness.attempts(rejects).await.len(), 1, "a retry cannot succeed");
    assert_eq!(worker.stop().await.failed, 1);
}

#[tokio::test]
async fn a_stored_document_that_cannot_be_read_fails_with_its_reason_and_blocks_no_other() {
    let harness = Harness::start(1).await;
    let id = DocumentId::from_bytes([9; 16]);
    let damaged = NewDocument { id, body: "{\"written\":\"by another version\"}".into(), failed: None };
    harness.store.submit(&run_id(), &[damaged]).await.unwrap();
    let worker = harness.worker(mock(MockOptions::default()));
    harness.finished().await;
    let record = harness.record(id).await;
    assert_eq!((record.state, record.reason.as_str()), (State::Failed, "unreadable_document"));
    assert_eq!(harness.counts().await.accepted, 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_restart_of_the_coordinator_loses_no_text() {
    let mut harness = Harness::start(4).await;
    let worker = harness.worker(mock(MockOptions { slots: 4, tokens_per_second: 10_000.0, ..Default::default() }));
    for sections in 1..=3 {
        harness.until(|records| records.iter().any(|it| document(it).sections().len() >= sections)).await;
        harness.restart().await;
    }
    harness.finished().await;
    let report = worker.stop().await;
    assert_eq!(harness.counts().await.accepted, 4);
    assert_whole(&harness).await;
    assert_eq!((report.lost, report.released, report.failed), (0, 0, 0));
}

#[tokio::test]
async fn submitting_the_same_rows_twice_changes_nothing() {
    let harness = Harness::start(3).await;
    let before = harness.records().await;
    let report = harness.submit(5).await;
    assert_eq!((report.inserted, report.existing, report.bad_rows), (2, 3, 0));
    assert_eq!(harness.records().await[..3], before);
}

/// A run with a small model for texts and a large one for votes: neither does the work of the other.
#[tokio::test]
async fn texts_are_written_by_the_writer_and_votes_given_by_the_judge() {
    let harness = Harness::start(0).await;
    let run: RunId = "judged".parse().unwrap();
    let mut recipe = quick_recipe();
    recipe.judge.votes = 2;
    let policy = RunPolicy { model: "mock".into(), judge: "judge".into(), ..RunPolicy::default() };
    let spec = RunSpec { id: run.clone(), recipe, seed: 7, candidates: 1, policy };
    let rows = (0..4).map(|number| instruction(number, 1_500)).map(Ok);
    submit(harness.store.as_ref(), &spec, rows).await.unwrap();
    harness.coordinator.wake(4);
    let engine = |model: &str| mock(MockOptions { model: model.into(), ..Default::default() });
    let (writer, judge) = (harness.worker(engine("mock")), harness.worker(engine("judge")));
    ended(&harness, &run).await;
    let (writer, judge) = (writer.stop().await, judge.stop().await);
    assert_eq!(harness.store.counts(&run).await.unwrap().accepted, 4);
    assert_eq!(judge.completed, 8, "two votes for each");
    assert_eq!((writer.lost + writer.failed, judge.lost + judge.failed), (0, 0));
    for record in harness.store.list(&run, &Filter::default(), None, 9).await.unwrap().records {
        let document = document(&record);
        assert_eq!(document.model.as_ref().unwrap().name, "mock");
        assert!(document.votes().len() == 2 && document.votes().iter().all(|vote| vote.model == "judge"));
    }
}

/// As during a rolling update. A worker that cannot read a task would let its lease expire, which counts as a loss of the
/// document.
#[tokio::test]
async fn a_worker_without_support_for_summaries_gets_none_and_another_continues() {
    let harness = Harness::start(0).await;
    let run: RunId = "long".parse().unwrap();
    let mut recipe = quick_recipe();
    (recipe.rolling.max_words, recipe.rolling.keep_words) = (300, 100);
    let spec = RunSpec { id: run.clone(), recipe, seed: 7, candidates: 1, policy: RunPolicy::default() };
    submit(harness.store.as_ref(), &spec, [Ok(instruction(0, 1_500))].into_iter()).await.unwrap();
    let older = RawClient::older(&harness);
    let mut next = Some(older.take().await);
    let id = next.as_ref().unwrap().task.document;
    while let Some(lease) = next {
        next = older.complete(lease.id, write(lease.task).await).await.1;
    }
    assert_eq!(document(&harness.record(id).await).current().0, TaskKind::Summary);
    assert_eq!(older.lease("again", 1, Duration::ZERO).await, []);
    assert_eq!(older.lease("once more", 1, Duration::ZERO).await, []);
    let record = harness.record(id).await;
    assert_eq!((record.state, record.counters.losses, record.counters.errors), (State::Ready, 0, 0));
    assert_eq!(record.counters.releases, 1, "it was given to the older worker once and never again");

    let worker = harness.worker(mock(MockOptions::default()));
    ended(&harness, &run).await;
    assert_eq!(worker.stop().await.lost, 0);
    assert_eq!(harness.store.counts(&run).await.unwrap().accepted, 1);
    assert!(harness.completed(id, "summary").await.len() >= 2);
}

async fn ended(harness: &Harness, run: &RunId) {
    let mut changes = harness.coordinator.changes();
    within(async {
        while harness.store.counts(run).await.unwrap().unfinished() > 0 {
            changes.changed().await.unwrap();
        }
    })
    .await;
}

/// 12,000 words with a context of 4,096 tokens, which the mock enforces.
#[tokio::test]
async fn a_text_longer_than_the_context_is_written_with_summaries_and_not_without() {
    const WINDOW: u32 = 4_096;
    let harness = Harness::start(0).await;
    let runs: [RunId; 2] = ["rolling", "without"].map(|id| id.parse().unwrap());
    for (id, max_words) in runs.iter().zip([1_500, 0]) {
        let mut recipe = quick_recipe();
        let rolling = &mut recipe.rolling;
        (rolling.max_words, rolling.keep_words, rolling.summary_words, rolling.plan_steps) = (max_words, 500, 150, 4);
        let spec = RunSpec { id: id.clone(), recipe, seed: 7, candidates: 1, policy: RunPolicy::default() };
        submit(harness.store.as_ref(), &spec, [Ok(instruction(0, 12_000))]).await.unwrap();
    }
    harness.coordinator.wake(2);
    let worker = harness.worker(mock(MockOptions { context: WINDOW, ..Default::default() }));
    let mut records = Vec::new();
    for run in &runs {
        ended(&harness, run).await;
        records.extend(harness.store.list(run, &Filter::default(), None, 9).await.unwrap().records);
    }
    worker.stop().await;
    let [rolled, without] = &records[..] else { panic!("{} documents", records.len()) };

    let text = document(rolled);
    let sections = text.sections();
    let words: u32 = sections.iter().map(|section| section.words).sum();
    assert_eq!(rolled.state, State::Accepted, "{}", rolled.reason);
    assert!(words >= 12_000, "{words}");
    assert!(sections.iter().all(|section| section.usage.prompt + section.words <= WINDOW));
    let each_once = |count: usize| (0..count as u64).collect::<Vec<_>>();
    assert_eq!(sections.len(), text.plan().unwrap().steps.len());
    assert_eq!(harness.completed(rolled.id, "section").await, each_once(sections.len()));
    let covered: Vec<u32> = text.summaries.iter().map(|summary| summary.sections).collect();
    assert!(covered.len() >= 5 && covered.is_sorted(), "{covered:?} of {}", sections.len());
    assert_eq!(harness.completed(rolled.id, "summary").await, each_once(covered.len()));

    assert_eq!((without.state, without.reason.as_str()), (State::Failed, "context_too_small"));
    assert!(document(without).sections().len() < sections.len(), "it stopped where the context ended");
}
