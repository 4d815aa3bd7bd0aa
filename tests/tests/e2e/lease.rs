//! The fence: who may write a document, and what becomes of what others write.

use std::time::Duration;

use longhand_coordinator::control::rpc::ServiceOptions;
use longhand_coordinator::control::sweeper::SweeperOptions;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::AttemptEnd;
use longhand_proto::v1::Outcome;
use longhand_worker::engine::Engine;
use longhand_worker::engine::mock::{Faults, MockOptions};

use crate::sandbox::{Peer, Sandbox, document, mock, within, write};

#[tokio::test]
async fn a_result_that_comes_after_the_lease_ran_out_is_stale_and_thrown_away() {
    let sandbox = Sandbox::start(1).await;
    let (slow, quick) = (Peer::of(&sandbox), Peer::of(&sandbox));
    let late = slow.take().await;
    let id = late.task.document;
    assert_eq!(sandbox.expire().await, 1);

    let taken = quick.take().await;
    assert_ne!(taken.id, late.id);
    let before = sandbox.record(id).await;
    assert_eq!(slow.complete(late.id, write(late.task.clone()).await).await, (Outcome::Stale, None));
    assert_eq!(sandbox.record(id).await, before, "a stale result must change nothing");

    let (outcome, next) = quick.complete(taken.id, write(taken.task).await).await;
    assert_eq!(outcome, Outcome::Recorded);
    assert_eq!(next.expect("the first section").task.section, 0);
    let ends: Vec<_> = sandbox.attempts(id).await.iter().map(|it| it.end).collect();
    assert_eq!(ends, [AttemptEnd::Lost, AttemptEnd::Completed]);
}

#[tokio::test]
async fn a_worker_cannot_complete_what_another_one_leases() {
    let sandbox = Sandbox::start(1).await;
    let (holder, thief) = (Peer::of(&sandbox), Peer::of(&sandbox));
    let lease = holder.take().await;
    let output = write(lease.task.clone()).await;
    assert_eq!(thief.complete(lease.id, output.clone()).await, (Outcome::Stale, None));
    assert_eq!(holder.complete(lease.id, output).await.0, Outcome::Recorded);
}

#[tokio::test]
async fn a_repeated_complete_is_answered_as_the_first_with_the_same_next_lease() {
    let sandbox = Sandbox::start(1).await;
    let peer = Peer::of(&sandbox);
    let lease = peer.take().await;
    let output = write(lease.task.clone()).await;
    let first = peer.complete(lease.id, output.clone()).await;
    let second = peer.complete(lease.id, output).await;
    assert_eq!(first, second);
    assert_eq!(first.0, Outcome::Recorded);
    let next = first.1.expect("the first section");
    assert_eq!(sandbox.attempts(lease.task.document).await.len(), 1, "one attempt, however often it is told");

    // The reply was lost, and the worker that repeats the call goes on with the lease it was given.
    let (outcome, after) = peer.complete(next.id, write(next.task).await).await;
    assert_eq!(outcome, Outcome::Recorded);
    assert_eq!(after.expect("the second section").task.section, 1);
}

#[tokio::test]
async fn a_repeated_lease_request_gives_the_same_leases_and_none_besides() {
    let sandbox = Sandbox::start(3).await;
    let peer = Peer::of(&sandbox);
    let first = peer.lease("request-1", 2, Duration::ZERO).await;
    assert_eq!(first.len(), 2);
    assert_eq!(peer.lease("request-1", 2, Duration::ZERO).await, first);
    assert_eq!(peer.lease("request-1", 0, Duration::ZERO).await, first, "a draining worker asks so");
    assert!(peer.lease("request-2", 0, Duration::ZERO).await.is_empty());
    assert_eq!(sandbox.counts().await.leased, 2);
}

#[tokio::test]
async fn a_waiting_request_is_woken_by_a_submission() {
    let never = Duration::from_secs(3_600);
    let options = ServiceOptions { lease: never, poll: never, ..ServiceOptions::default() };
    let sandbox = Sandbox::with(0, options).await;
    let peer = Peer::of(&sandbox);
    let (leases, _) = tokio::join!(peer.lease("request", 4, Duration::from_secs(20)), async {
        // The request must be waiting by then; if it is not, it finds the documents at its first look.
        tokio::task::yield_now().await;
        sandbox.submit(2).await
    });
    assert_eq!(leases.len(), 2);
}

#[tokio::test]
async fn the_section_of_a_killed_worker_is_resumed_from_its_checkpoint() {
    let whole = Sandbox::start(1).await;
    let worker = whole.worker(mock(MockOptions::default()));
    let expected = document(&whole.finished().await[0]);
    worker.retire().await;

    let sandbox = Sandbox::start(1).await;
    let id = sandbox.records().await[0].id;
    // With one slot it asks for no more: a request of a dead worker could be answered before its link is gone.
    let victim = sandbox.worker(mock(MockOptions { slots: 1, tokens_per_second: 2_000.0, ..Default::default() }));
    let records = sandbox
        .until(|records| {
            let saved = records[0].checkpoint.as_ref().map_or(0, |it| it.tokens.len());
            document(&records[0]).sections().len() == 1 && saved >= 20
        })
        .await;
    drop(victim);
    let saved = document(&records[0]).sections()[0].clone();
    assert_eq!(sandbox.expire().await, 1);

    let heir = sandbox.worker(mock(MockOptions::default()));
    let record = sandbox.finished().await.remove(0);
    heir.retire().await;
    assert_eq!(record.state, State::Accepted);
    let steps = expected.sections().len() as u64;
    assert_eq!(sandbox.completed(id, "section").await, (0..steps).collect::<Vec<_>>());
    let written = document(&record);
    assert_eq!(written.sections()[0], saved, "an acknowledged section must stay as it is");
    assert!(written.sections()[1].usage.resumed >= 20, "{:?}", written.sections()[1].usage);
    let texts = |document: &longhand_coordinator::domain::document::Document| {
        document.sections().iter().map(|section| section.text.clone()).collect::<Vec<_>>()
    };
    assert_eq!(texts(&written), texts(&expected), "the same text as without the crash");
}

#[tokio::test]
async fn a_lease_that_is_renewed_without_progress_is_taken_away() {
    let hour = ServiceOptions { lease: Duration::from_secs(3_600), ..ServiceOptions::default() };
    let sandbox = Sandbox::with(1, hour).await;
    let faults = Faults { stall: 1.0, ..Default::default() };
    let engine = mock(MockOptions { faults, ..Default::default() });
    let worker = sandbox.worker(engine.clone());
    let records = sandbox.until(|records| records[0].lease.as_ref().is_some_and(|it| it.progress > 0)).await;
    let stalled = records[0].lease.clone().unwrap();

    assert_eq!(sandbox.sweep().await, 0);
    sandbox.advance(SweeperOptions::default().no_progress + Duration::from_secs(1));
    assert_eq!(sandbox.sweep().await, 1);
    // The worker learns of it, drops the text, and gets the document anew.
    let records = sandbox
        .until(|records| {
            let anew = records[0].lease.as_ref().is_some_and(|it| it.id != stalled.id && it.progress > 0);
            anew && engine.stats().running == 1
        })
        .await;
    assert_eq!(records[0].counters.losses, 1);
    let report = worker.retire().await;
    assert_eq!((report.lost, report.released), (1, 1));
}

#[tokio::test]
async fn a_document_that_kills_its_workers_is_given_up_after_three() {
    let sandbox = Sandbox::start(1).await;
    let peer = Peer::of(&sandbox);
    for attempt in 1..=3 {
        assert_eq!(peer.take().await.task.attempt, attempt);
        assert_eq!(sandbox.expire().await, 1);
    }
    let record = sandbox.records().await.remove(0);
    assert_eq!((record.state, record.reason.as_str()), (State::Failed, "poison"));
    assert_eq!(sandbox.attempts(record.id).await.len(), 3, "with its history");
}

#[tokio::test]
async fn a_checkpoint_from_a_lost_lease_is_not_taken() {
    let sandbox = Sandbox::start(1).await;
    let (slow, quick) = (Peer::of(&sandbox), Peer::of(&sandbox));
    let late = slow.take().await;
    assert!(slow.renew(late.id, 2, vec![1, 2]).await.is_empty());
    assert_eq!(sandbox.expire().await, 1);
    let taken = quick.take().await;
    assert_eq!(taken.checkpoint.map(|it| it.tokens), Some(vec![1, 2]));
    assert_eq!(slow.renew(late.id, 3, vec![1, 2, 3]).await, [late.id.to_string()]);
    let record = within(sandbox.record(late.task.document)).await;
    assert_eq!(record.checkpoint.map(|it| it.tokens), Some(vec![1, 2]));
}

#[tokio::test]
async fn prompts_that_fill_many_messages_are_leased_a_message_at_a_time() {
    let sandbox = Sandbox::start(0).await;
    sandbox.submit_prompts((0..20).map(|_| 1 << 20).chain([9 << 20]).collect()).await;
    let peer = Peer::of(&sandbox);
    let mut answers = Vec::new();
    loop {
        let leases = peer.lease(&format!("request-{}", answers.len()), 64, Duration::ZERO).await;
        if leases.is_empty() && sandbox.counts().await.ready == 0 {
            break;
        }
        answers.push(leases.len());
    }
    assert_eq!(answers.iter().sum::<usize>(), 20, "{answers:?}");
    assert!(answers.iter().all(|&leases| leases <= 8), "{answers:?}");
    let records = sandbox.records().await;
    let failed: Vec<_> = records.iter().filter(|record| record.state == State::Failed).collect();
    assert_eq!(failed.len(), 1, "what fits into no message must not be tried for ever");
    assert_eq!(failed[0].reason, "prompt_too_large");
    for record in &records {
        assert_eq!((record.counters.errors, record.counters.losses), (0, 0), "going back costs a document nothing");
    }
}

#[tokio::test]
async fn a_coordinator_with_room_for_few_calls_takes_everything_in_the_end() {
    let sandbox = Sandbox::with(40, ServiceOptions { max_calls: 1, ..ServiceOptions::default() }).await;
    let worker = sandbox.worker(mock(MockOptions { slots: 40, ..Default::default() }));
    let records = sandbox.finished().await;
    assert!(records.iter().all(|record| record.state == State::Accepted));
    assert_eq!(worker.retire().await.lost, 0);
}
