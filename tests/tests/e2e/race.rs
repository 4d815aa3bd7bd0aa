//! Races: two coordinators over one Redis; operator actions at the same time as a result.

use std::sync::Arc;
use std::time::Duration;

use longhand_coordinator::control::admin::{self, RewriteScope, Selector};
use longhand_coordinator::control::cancel;
use longhand_coordinator::control::rpc::{Coordinator, ServiceOptions, serve};
use longhand_coordinator::control::sweeper::{SweeperOptions, sweep};
use longhand_coordinator::domain::document::Progress;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, RedisOptions, Store, open};
use longhand_proto::WorkerId;
use longhand_proto::v1::Outcome;
use longhand_tests::server::{Kind, Server};
use longhand_worker::client::{Credentials, FailoverChannel, Worker, WorkerOptions, endpoint};
use longhand_worker::engine::mock::MockOptions;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::harness::{Harness, RawClient, document, mock, run_id, within, write};

/// Leases expire all the time, both coordinators revoke them, and workers complete at both.
#[tokio::test(flavor = "multi_thread")]
async fn two_coordinators_that_sweep_and_complete_the_same_documents_do_everything_once() {
    let server = Server::start(Kind::Redis);
    let store: Arc<dyn Store> = open(&server.url(), RedisOptions::default()).await.unwrap();
    let lease = Duration::from_millis(150);
    let stop = CancellationToken::new();
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let coordinator = Coordinator::new(Arc::clone(&store), ServiceOptions { lease, ..ServiceOptions::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        replicas.push((listener.local_addr().unwrap(), coordinator.clone()));
        tokio::spawn(serve(listener, coordinator.clone(), stop.clone().cancelled_owned()));
        let stop = stop.clone();
        tokio::spawn(async move {
            let options = SweeperOptions { max_losses: Some(1_000_000), ..SweeperOptions::default() };
            while !stop.is_cancelled() {
                sweep(&coordinator, &options).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    let harness = Harness::over(Arc::clone(&store), replicas[0].1.clone(), replicas[0].0);
    harness.submit(12).await;
    let mut workers = Vec::new();
    for (address, _) in replicas.iter().cycle().take(4) {
        let channel = endpoint(&format!("http://{address}")).unwrap().connect_lazy();
        let link = FailoverChannel::from_channels(vec![channel], Credentials::default()).unwrap();
        let options = WorkerOptions::new(WorkerId::mint("test"));
        // A section takes about as long as a lease, so some worker is always late.
        let engine = mock(MockOptions { slots: 4, tokens_per_second: 2_000.0, ..Default::default() });
        workers.push(tokio::spawn(Worker::new(link, engine, options).run(stop.clone())));
    }
    // A worker that leases documents and makes no other call.
    let silent = RawClient::of(&harness);
    for number in 0..20 {
        silent.lease(&format!("silent {number}"), 1, Duration::from_millis(50)).await;
    }
    let records = harness.finished().await;
    stop.cancel();
    for worker in workers {
        within(worker).await.unwrap().unwrap();
    }
    let mut lost = 0;
    for record in &records {
        assert_eq!(record.state, State::Accepted);
        let steps = document(record).sections().len() as u64;
        assert_eq!(harness.completed(record.id, "plan").await, [0]);
        assert_eq!(harness.completed(record.id, "section").await, (0..steps).collect::<Vec<_>>());
        lost += harness.attempts(record.id).await.iter().filter(|it| it.end == AttemptEnd::Lost).count();
    }
    assert!(lost > 0, "some leases should have expired");
    let audit = store.audit(&run_id(), false).await.unwrap();
    assert_eq!(audit.mismatches, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_concurrent_with_a_result_keeps_the_whole_result_or_none() {
    let harness = Harness::start(40).await;
    let peer = RawClient::of(&harness);
    let (run, mut kept) = (run_id(), [0, 0]);
    for _ in 0..40 {
        let plan = peer.take().await;
        let id = plan.task.document;
        let (_, section) = peer.complete(plan.id, write(plan.task).await).await;
        let section = section.expect("the first section");
        let output = write(section.task).await;
        let (outcome, cancelled) =
            tokio::join!(peer.complete(section.id, output), cancel::cancel(harness.store.as_ref(), &run, id));
        cancelled.unwrap().unwrap();
        let record = harness.record(id).await;
        assert_eq!((record.state, &record.lease), (State::Cancelled, &None));
        let sections = document(&record).sections().len();
        assert_eq!(
            sections,
            usize::from(outcome.0 == Outcome::Recorded),
            "a result is kept if and only if it was recorded"
        );
        assert_eq!(harness.completed(id, "section").await.len(), sections);
        assert!(matches!(document(&record).progress, Progress::Cancelled { .. }));
        kept[sections] += 1;
        // The worker's next lease is no longer live.
        if let Some(next) = outcome.1 {
            let late = peer.complete(next.id, write(next.task).await).await;
            assert_eq!(late.0, Outcome::Stale);
        }
    }
    assert_eq!(kept[0] + kept[1], 40, "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeue_concurrent_with_the_last_result_sees_a_finished_document_or_none() {
    let harness = Harness::start(20).await;
    let peer = RawClient::of(&harness);
    let (run, mut rounds) = (run_id(), [0, 0]);
    for _ in 0..20 {
        let mut lease = peer.take().await;
        let id = lease.task.document;
        let steps = loop {
            let (_, next) = peer.complete(lease.id, write(lease.task).await).await;
            lease = next.expect("the next section");
            let record = harness.record(id).await;
            let now = document(&record);
            let steps = now.plan().unwrap().steps.len();
            if now.sections().len() + 1 == steps {
                break steps;
            }
        };
        let output = write(lease.task).await;
        let selector = Selector::Document(id);
        let (outcome, requeued) = tokio::join!(
            peer.complete(lease.id, output),
            admin::requeue(harness.store.as_ref(), &run, &selector, RewriteScope::AsNeeded, None, false)
        );
        assert_eq!(outcome.0, Outcome::Recorded, "a document in progress is not requeued");
        let was_requeued = requeued.unwrap().documents == 1;
        let record = harness.record(id).await;
        let now = document(&record);
        rounds[usize::from(was_requeued)] += 1;
        if was_requeued {
            assert_eq!((record.state, now.round), (State::Ready, 1));
            let past = harness.store.history(id).await.unwrap();
            assert_eq!(past.len(), 1);
            let before: longhand_coordinator::domain::document::Document = serde_json::from_str(&past[0].body).unwrap();
            assert_eq!(before.sections().len(), steps, "the text that was accepted stays in the history");
            cancel::cancel(harness.store.as_ref(), &run_id(), id).await.unwrap().unwrap();
        } else {
            assert_eq!((record.state, now.round, now.sections().len()), (State::Accepted, 0, steps));
        }
    }
    assert_eq!(rounds[0] + rounds[1], 20, "{rounds:?}");
}
