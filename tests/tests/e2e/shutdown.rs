//! How things end: asked to, refused, or because something died.

use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::Counters;
use longhand_proto::{PROTOCOL, WorkerId, v1};
use longhand_worker::client::{WorkerError, WorkerOptions};
use longhand_worker::engine::mock::MockOptions;
use tonic::Code;

use crate::sandbox::{Peer, Sandbox, document, mock, within};

fn slow() -> MockOptions {
    MockOptions { slots: 4, tokens_per_second: 1_000.0, ..Default::default() }
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_hands_its_work_back_and_costs_nothing() {
    let sandbox = Sandbox::start(4).await;
    let leaver = sandbox.worker(mock(slow()));
    sandbox.until(|records| records.iter().all(|it| it.lease.as_ref().is_some_and(|it| it.progress >= 20))).await;
    let report = leaver.retire().await;
    assert_eq!((report.released, report.lost, report.failed), (4, 0, 0));
    for record in sandbox.records().await {
        assert_eq!(record.state, State::Ready);
        assert_eq!(record.counters, Counters { releases: 1, ..Counters::default() }, "a release is free");
        assert!(record.checkpoint.is_some_and(|it| it.tokens.len() >= 20), "its tokens are handed in");
    }

    let heir = sandbox.worker(mock(MockOptions::default()));
    sandbox.finished().await;
    heir.retire().await;
    assert_eq!(sandbox.counts().await.accepted, 4);
}

#[tokio::test]
async fn a_worker_without_work_stops_at_once() {
    let sandbox = Sandbox::start(0).await;
    let worker = sandbox.worker(mock(MockOptions::default()));
    let peer = Peer::of(&sandbox);
    peer.lease("meanwhile", 1, Duration::ZERO).await;
    let begin = tokio::time::Instant::now();
    worker.retire().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "it should not sit out its wait for work");
}

#[tokio::test]
async fn a_worker_whose_engine_died_ends_with_an_error_and_its_documents_go_on_elsewhere() {
    let sandbox = Sandbox::start(4).await;
    let engine = mock(slow());
    let worker = sandbox.worker(engine.clone());
    sandbox.until(|records| records.iter().all(|it| it.lease.as_ref().is_some_and(|it| it.progress >= 20))).await;
    engine.kill();
    let error = worker.end().await.expect_err("it must not look like success");
    assert!(matches!(&error, WorkerError::EngineDead(reason) if reason.contains("told to die")), "{error}");
    for record in sandbox.records().await {
        assert_eq!((record.state, record.counters.errors, record.counters.losses), (State::Ready, 0, 0));
    }

    let heir = sandbox.worker(mock(MockOptions::default()));
    sandbox.finished().await;
    heir.retire().await;
    assert_eq!(sandbox.counts().await.accepted, 4);
}

#[tokio::test]
async fn a_worker_does_not_wait_for_ever_for_a_coordinator_that_is_gone() {
    let mut sandbox = Sandbox::start(1).await;
    let mut options = WorkerOptions::new(WorkerId::mint("test"));
    options.give_up = Duration::from_millis(100);
    sandbox.stop().await;
    let error = sandbox.hire(mock(MockOptions::default()), options).end().await.expect_err("nobody is there");
    assert!(matches!(error, WorkerError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_coordinator_that_is_asked_to_stop_does_not_sit_out_waiting_requests() {
    let mut sandbox = Sandbox::start(0).await;
    let peer = Peer::of(&sandbox);
    let begin = tokio::time::Instant::now();
    let waiting = tokio::spawn(async move { peer.lease("waits", 1, Duration::from_secs(20)).await });
    let warm = Peer::of(&sandbox);
    warm.lease("connected", 1, Duration::ZERO).await;
    sandbox.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    waiting.abort();
}

#[tokio::test]
async fn a_worker_of_another_protocol_is_refused_with_both_numbers_and_the_remedy() {
    let sandbox = Sandbox::start(1).await;
    let mut client = Peer::of(&sandbox).client;
    for (protocol, remedy) in [(PROTOCOL + 1, "update the coordinator"), (PROTOCOL - 1, "update the worker")] {
        let request = v1::HelloRequest {
            protocol,
            version: "9.9.9".into(),
            worker: "other".into(),
            model: Some(v1::ModelInfo::default()),
        };
        let status = within(client.hello(request)).await.expect_err("they would misread each other");
        assert_eq!(status.code(), Code::FailedPrecondition);
        for part in [format!("protocol {protocol}"), format!("protocol {PROTOCOL}"), "9.9.9".into(), remedy.into()] {
            assert!(status.message().contains(&part), "{part:?} is not in {:?}", status.message());
        }
    }
}

#[tokio::test]
async fn a_section_that_was_being_handed_in_is_kept_when_the_worker_stops() {
    let sandbox = Sandbox::start(2).await;
    let worker = sandbox.worker(mock(MockOptions { slots: 2, ..Default::default() }));
    sandbox.until(|records| records.iter().any(|it| !document(it).sections().is_empty())).await;
    worker.retire().await;
    for record in sandbox.records().await {
        let written = document(&record).sections().len() as u64;
        assert_eq!(sandbox.completed(record.id, "section").await, (0..written).collect::<Vec<_>>());
        assert_eq!((record.counters.errors, record.counters.losses), (0, 0));
        assert!(record.lease.is_none(), "no lease is left to run out");
    }
}
