//! A run that is cancelled while workers write it.

use std::time::Duration;

use longhand_coordinator::control::cancel::cancel_page;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::AttemptEnd;
use longhand_proto::v1::{self, Outcome};
use longhand_worker::engine::mock::MockOptions;

use crate::harness::{Harness, RawClient, document, mock, run_id, within, write};

async fn cancel(harness: &Harness) -> v1::CancelReply {
    let request = v1::CancelRequest { run: run_id().to_string(), document: String::new() };
    let mut client = v1::operator_client::OperatorClient::new(harness.channel());
    within(client.cancel(request)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_stop_decoding_and_say_what_they_wrote() {
    let harness = Harness::start(30).await;
    let engine = mock(MockOptions { slots: 4, tokens_per_second: 300.0, ..Default::default() });
    let worker = harness.worker(engine);
    harness.until(|records| records.iter().any(|it| it.lease.as_ref().is_some_and(|lease| lease.progress > 20))).await;
    let reply = cancel(&harness).await;
    assert_eq!(reply.documents + reply.remaining, 30);
    // Its sweeper does the rest; here the workers alone end what they hold.
    let records = harness.finished().await;
    assert!(records.iter().all(|record| record.state == State::Cancelled), "{records:?}");
    let report = worker.stop().await;
    assert_eq!(report.lost, 0, "{report:?}");
    let mut wasted = 0;
    for record in &records {
        let attempts = harness.attempts(record.id).await;
        wasted += attempts.iter().filter(|it| it.detail["revoked"] == "cancelled").count();
        assert!(attempts.iter().all(|it| it.end != AttemptEnd::Lost));
        assert_eq!(harness.completed(record.id, "section").await.len(), document(record).sections().len());
    }
    assert!((1..=4).contains(&wasted), "one attempt for each slot: {wasted}");
}

#[tokio::test]
async fn a_result_that_comes_after_is_not_taken_and_its_tokens_are_wasted() {
    let harness = Harness::start(2).await;
    let peer = RawClient::of(&harness);
    let (late, silent) = (peer.take().await, peer.take().await);
    peer.renew(silent.id, 17, vec![1; 17]).await;
    let reply = cancel(&harness).await;
    assert_eq!((reply.documents, reply.remaining, reply.more), (0, 2, true), "their workers may still speak");
    assert!(peer.lease("more", 1, Duration::ZERO).await.is_empty());

    let id = late.task.document;
    let output = write(late.task).await;
    let generated = output.usage.generated;
    for _ in 0..2 {
        assert_eq!(peer.complete(late.id, output.clone()).await, (Outcome::Stale, None));
    }
    let attempts = harness.attempts(id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        (attempts[0].end, attempts[0].detail["usage"]["generated"].as_u64()),
        (AttemptEnd::Released, Some(generated.into()))
    );
    assert_eq!(harness.record(id).await.state, State::Cancelled);

    // Of a worker that says nothing, what it said last counts.
    let id = silent.task.document;
    assert_eq!(cancel_page(harness.store.as_ref(), &run_id(), 0).await.unwrap(), 0, "its lease is fresh");
    harness.advance(harness.coordinator.options().lease);
    assert_eq!(cancel_page(harness.store.as_ref(), &run_id(), 0).await.unwrap(), 1);
    let attempts = harness.attempts(id).await;
    assert_eq!(attempts[0].detail["usage"]["generated"], 17);
    assert_eq!(peer.renew(silent.id, 18, vec![1; 18]).await, [silent.id.to_string()]);
    assert_eq!(cancel(&harness).await.remaining, 0);
    assert!(!harness.store.run(&run_id()).await.unwrap().unwrap().cancelling);
}
