//! Ends of workers and coordinators: stopped, rejected, or failed.

use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::Counters;
use longhand_proto::{PROTOCOL, WorkerId, v1};
use longhand_worker::client::{WorkerError, WorkerOptions};
use longhand_worker::engine::mock::MockOptions;
use tonic::Code;

use crate::harness::{Harness, RawClient, document, mock, within};

fn slow() -> MockOptions {
    MockOptions { slots: 4, tokens_per_second: 1_000.0, ..Default::default() }
}

#[tokio::test]
async fn a_worker_that_is_stopped_releases_its_leases_without_loss() {
    let harness = Harness::start(4).await;
    let leaving = harness.worker(mock(slow()));
    harness.until(|records| records.iter().all(|it| it.lease.as_ref().is_some_and(|it| it.progress >= 20))).await;
    let report = leaving.stop().await;
    assert_eq!((report.released, report.lost, report.failed), (4, 0, 0));
    for record in harness.records().await {
        assert_eq!(record.state, State::Ready);
        assert_eq!(record.counters, Counters { releases: 1, ..Counters::default() }, "a release is free");
        assert!(record.checkpoint.is_some_and(|it| it.tokens.len() >= 20), "its tokens are saved");
    }

    let successor = harness.worker(mock(MockOptions::default()));
    harness.finished().await;
    successor.stop().await;
    assert_eq!(harness.counts().await.accepted, 4);
}

#[tokio::test]
async fn a_worker_without_work_stops_at_once() {
    let harness = Harness::start(0).await;
    let worker = harness.worker(mock(MockOptions::default()));
    let peer = RawClient::of(&harness);
    peer.lease("meanwhile", 1, Duration::ZERO).await;
    let begin = tokio::time::Instant::now();
    worker.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5), "it should not wait for the long poll");
}

#[tokio::test]
async fn a_worker_whose_engine_fails_exits_with_an_error_and_its_documents_continue_elsewhere() {
    let harness = Harness::start(4).await;
    let engine = mock(slow());
    let worker = harness.worker(engine.clone());
    harness.until(|records| records.iter().all(|it| it.lease.as_ref().is_some_and(|it| it.progress >= 20))).await;
    engine.kill();
    let error = worker.end().await.expect_err("it must not look like success");
    assert!(
        matches!(&error, WorkerError::EngineDead(reason) if reason.contains("killed by an injected fault")),
        "{error}"
    );
    for record in harness.records().await {
        assert_eq!((record.state, record.counters.errors, record.counters.losses), (State::Ready, 0, 0));
    }

    let successor = harness.worker(mock(MockOptions::default()));
    harness.finished().await;
    successor.stop().await;
    assert_eq!(harness.counts().await.accepted, 4);
}

#[tokio::test]
async fn a_worker_gives_up_on_a_coordinator_that_is_unreachable() {
    let mut harness = Harness::start(1).await;
    let mut options = WorkerOptions::new(WorkerId::mint("test"));
    options.give_up = Duration::from_millis(100);
    harness.stop().await;
    let error = harness
        .start_worker(mock(MockOptions::default()), options)
        .end()
        .await
        .expect_err("no coordinator is listening");
    assert!(matches!(error, WorkerError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_coordinator_that_is_stopped_answers_waiting_requests_at_once() {
    let mut harness = Harness::start(0).await;
    let peer = RawClient::of(&harness);
    let begin = tokio::time::Instant::now();
    let waiting = tokio::spawn(async move { peer.lease("waits", 1, Duration::from_secs(20)).await });
    let warm = RawClient::of(&harness);
    warm.lease("connected", 1, Duration::ZERO).await;
    harness.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    waiting.abort();
}

#[tokio::test]
async fn a_worker_of_another_protocol_is_rejected_with_both_versions_and_the_remedy() {
    let harness = Harness::start(1).await;
    let mut client = RawClient::of(&harness).client;
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
async fn a_section_that_is_being_submitted_is_kept_when_the_worker_stops() {
    let harness = Harness::start(2).await;
    let worker = harness.worker(mock(MockOptions { slots: 2, ..Default::default() }));
    harness.until(|records| records.iter().any(|it| !document(it).sections().is_empty())).await;
    worker.stop().await;
    for record in harness.records().await {
        let written = document(&record).sections().len() as u64;
        assert_eq!(harness.completed(record.id, "section").await, (0..written).collect::<Vec<_>>());
        assert_eq!((record.counters.errors, record.counters.losses), (0, 0));
        assert!(record.lease.is_none(), "no lease is left");
    }
}
