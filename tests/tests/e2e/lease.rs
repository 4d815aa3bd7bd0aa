//! Leases as fencing: which writes to a document are accepted, and which are discarded.

use std::time::Duration;

use longhand_coordinator::control::rpc::ServiceOptions;
use longhand_coordinator::control::sweeper::{SweeperOptions, sweep};
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::AttemptEnd;
use longhand_proto::v1::Outcome;
use longhand_worker::engine::Engine;
use longhand_worker::engine::mock::{Faults, MockOptions};

use crate::harness::{Harness, RawClient, document, mock, quick_recipe, within, write};

#[tokio::test]
async fn a_result_after_the_lease_expired_is_stale_and_discarded() {
    let harness = Harness::start(1).await;
    let (slow, quick) = (RawClient::of(&harness), RawClient::of(&harness));
    let late = slow.take().await;
    let id = late.task.document;
    assert_eq!(harness.expire().await, 1);

    let taken = quick.take().await;
    assert_ne!(taken.id, late.id);
    let before = harness.record(id).await;
    assert_eq!(slow.complete(late.id, write(late.task.clone()).await).await, (Outcome::Stale, None));
    assert_eq!(harness.record(id).await, before, "a stale result must change nothing");

    let (outcome, next) = quick.complete(taken.id, write(taken.task).await).await;
    assert_eq!(outcome, Outcome::Recorded);
    assert_eq!(next.expect("the first section").task.section, 0);
    let ends: Vec<_> = harness.attempts(id).await.iter().map(|it| it.end).collect();
    assert_eq!(ends, [AttemptEnd::Lost, AttemptEnd::Completed]);
}

#[tokio::test]
async fn a_worker_cannot_complete_the_lease_of_another() {
    let harness = Harness::start(1).await;
    let (holder, other) = (RawClient::of(&harness), RawClient::of(&harness));
    let lease = holder.take().await;
    let output = write(lease.task.clone()).await;
    assert_eq!(other.complete(lease.id, output.clone()).await, (Outcome::Stale, None));
    assert_eq!(holder.complete(lease.id, output).await.0, Outcome::Recorded);
}

#[tokio::test]
async fn a_repeated_complete_is_answered_as_the_first_with_the_same_next_lease() {
    let harness = Harness::start(1).await;
    let peer = RawClient::of(&harness);
    let lease = peer.take().await;
    let output = write(lease.task.clone()).await;
    let first = peer.complete(lease.id, output.clone()).await;
    let second = peer.complete(lease.id, output).await;
    assert_eq!(first, second);
    assert_eq!(first.0, Outcome::Recorded);
    let next = first.1.expect("the first section");
    assert_eq!(harness.attempts(lease.task.document).await.len(), 1, "one attempt, however often it is reported");

    // The reply was lost, and the worker that repeats the call continues with that lease.
    let (outcome, after) = peer.complete(next.id, write(next.task).await).await;
    assert_eq!(outcome, Outcome::Recorded);
    assert_eq!(after.expect("the second section").task.section, 1);
}

#[tokio::test]
async fn a_repeated_lease_request_gives_the_same_leases_and_none_besides() {
    let harness = Harness::start(3).await;
    let peer = RawClient::of(&harness);
    let first = peer.lease("request-1", 2, Duration::ZERO).await;
    assert_eq!(first.len(), 2);
    assert_eq!(peer.lease("request-1", 2, Duration::ZERO).await, first);
    assert_eq!(peer.lease("request-1", 0, Duration::ZERO).await, first, "a draining worker asks so");
    assert!(peer.lease("request-2", 0, Duration::ZERO).await.is_empty());
    assert_eq!(harness.counts().await.leased, 2);
}

#[tokio::test]
async fn a_waiting_request_is_woken_by_a_submission() {
    let never = Duration::from_secs(3_600);
    let options = ServiceOptions { lease: never, poll: never, ..ServiceOptions::default() };
    let harness = Harness::with(0, options).await;
    let peer = RawClient::of(&harness);
    let (leases, _) = tokio::join!(peer.lease("request", 4, Duration::from_secs(20)), async {
        // The request must be waiting by then; if it is not, it finds the documents at its first look.
        tokio::task::yield_now().await;
        harness.submit(2).await
    });
    assert_eq!(leases.len(), 2);
}

#[tokio::test]
async fn the_section_of_a_killed_worker_is_resumed_from_its_checkpoint() {
    let whole = Harness::start(1).await;
    let worker = whole.worker(mock(MockOptions::default()));
    let expected = document(&whole.finished().await[0]);
    worker.stop().await;

    let harness = Harness::start(1).await;
    let id = harness.records().await[0].id;
    // With one slot it asks for no more: a request of a dead worker could be answered before its link is gone.
    let victim = harness.worker(mock(MockOptions { slots: 1, tokens_per_second: 2_000.0, ..Default::default() }));
    let records = harness
        .until(|records| {
            let saved = records[0].checkpoint.as_ref().map_or(0, |it| it.tokens.len());
            document(&records[0]).sections().len() == 1 && saved >= 20
        })
        .await;
    drop(victim);
    let saved = document(&records[0]).sections()[0].clone();
    assert_eq!(harness.expire().await, 1);

    let successor = harness.worker(mock(MockOptions::default()));
    let record = harness.finished().await.remove(0);
    successor.stop().await;
    assert_eq!(record.state, State::Accepted);
    let steps = expected.sections().len() as u64;
    assert_eq!(harness.completed(id, "section").await, (0..steps).collect::<Vec<_>>());
    let written = document(&record);
    assert_eq!(written.sections()[0], saved, "an acknowledged section must stay as it is");
    assert!(written.sections()[1].usage.resumed >= 20, "{:?}", written.sections()[1].usage);
    let texts = |document: &longhand_coordinator::domain::document::Document| {
        document.sections().iter().map(|section| section.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&written), texts(&expected), "the same text as without the crash");
}

#[tokio::test]
async fn a_lease_that_is_renewed_without_progress_is_revoked() {
    let hour = ServiceOptions { lease: Duration::from_secs(3_600), ..ServiceOptions::default() };
    let harness = Harness::with(1, hour).await;
    let faults = Faults { stall: 1.0, ..Default::default() };
    let engine = mock(MockOptions { faults, ..Default::default() });
    let worker = harness.worker(engine.clone());
    let records = harness.until(|records| records[0].lease.as_ref().is_some_and(|it| it.progress > 0)).await;
    let stalled = records[0].lease.clone().unwrap();

    assert_eq!(harness.sweep().await, 0);
    harness.advance(SweeperOptions::default().no_progress + Duration::from_secs(1));
    assert_eq!(harness.sweep().await, 1);
    // The worker learns of it, drops the text, and gets the document anew.
    let records = harness
        .until(|records| {
            let anew = records[0].lease.as_ref().is_some_and(|it| it.id != stalled.id && it.progress > 0);
            anew && engine.stats().running == 1
        })
        .await;
    assert_eq!(records[0].counters.losses, 1);
    let report = worker.stop().await;
    assert_eq!((report.lost, report.released), (1, 1));
}

#[tokio::test]
async fn a_document_that_kills_its_workers_fails_after_three() {
    let harness = Harness::start(1).await;
    let peer = RawClient::of(&harness);
    for attempt in 1..=3 {
        assert_eq!(peer.take().await.task.attempt, attempt);
        assert_eq!(harness.expire().await, 1);
    }
    let record = harness.records().await.remove(0);
    assert_eq!((record.state, record.reason.as_str()), (State::Failed, "poison"));
    assert_eq!(harness.attempts(record.id).await.len(), 3, "with its history");
}

#[tokio::test]
async fn a_recipe_says_how_many_workers_its_documents_may_kill_unless_the_coordinator_does() {
    for (by_coordinator, losses) in [(None, 2), (Some(1), 1)] {
        let mut recipe = quick_recipe();
        recipe.retry.max_losses = 2;
        let harness = Harness::with_recipe(1, recipe).await;
        let peer = RawClient::of(&harness);
        for _ in 0..losses {
            peer.take().await;
            harness.advance(Duration::from_secs(3_600));
            let options = SweeperOptions { max_losses: by_coordinator, ..SweeperOptions::default() };
            assert_eq!(sweep(&harness.coordinator, &options).await.unwrap(), 1);
        }
        let record = harness.records().await.remove(0);
        assert_eq!((record.state, record.counters.losses), (State::Failed, losses));
    }
}

#[tokio::test]
async fn a_checkpoint_of_a_lost_lease_is_discarded() {
    let harness = Harness::start(1).await;
    let (slow, quick) = (RawClient::of(&harness), RawClient::of(&harness));
    let late = slow.take().await;
    assert!(slow.renew(late.id, 2, vec![1, 2]).await.is_empty());
    assert_eq!(harness.expire().await, 1);
    let taken = quick.take().await;
    assert_eq!(taken.checkpoint.map(|it| it.tokens), Some(vec![1, 2]));
    assert_eq!(slow.renew(late.id, 3, vec![1, 2, 3]).await, [late.id.to_string()]);
    let record = within(harness.record(late.task.document)).await;
    assert_eq!(record.checkpoint.map(|it| it.tokens), Some(vec![1, 2]));
}

#[tokio::test]
async fn prompts_that_exceed_a_message_are_leased_in_several_replies() {
    let harness = Harness::start(0).await;
    harness.submit_prompts((0..20).map(|_| 1 << 20).chain([9 << 20]).collect()).await;
    let peer = RawClient::of(&harness);
    let mut answers = Vec::new();
    loop {
        let leases = peer.lease(&format!("request-{}", answers.len()), 64, Duration::ZERO).await;
        if leases.is_empty() && harness.counts().await.ready == 0 {
            break;
        }
        answers.push(leases.len());
    }
    assert_eq!(answers.iter().sum::<usize>(), 20, "{answers:?}");
    assert!(answers.iter().all(|&leases| leases <= 8), "{answers:?}");
    let records = harness.records().await;
    let failed: Vec<_> = records.iter().filter(|record| record.state == State::Failed).collect();
    assert_eq!(failed.len(), 1, "what fits into no message must not be tried for ever");
    assert_eq!(failed[0].reason, "prompt_too_large");
    for record in &records {
        assert_eq!((record.counters.errors, record.counters.losses), (0, 0), "going back costs a document nothing");
    }
}

#[tokio::test]
async fn a_coordinator_with_one_call_permit_still_processes_everything() {
    let harness = Harness::with(40, ServiceOptions { max_calls: 1, ..ServiceOptions::default() }).await;
    let worker = harness.worker(mock(MockOptions { slots: 40, ..Default::default() }));
    let records = harness.finished().await;
    assert!(records.iter().all(|record| record.state == State::Accepted));
    assert_eq!(worker.stop().await.lost, 0);
}
