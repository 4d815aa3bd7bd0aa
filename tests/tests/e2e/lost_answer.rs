//! A coordinator that did what it was asked, and whose answer never came.

use std::time::Duration;

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{AttemptEnd, Record};
use longhand_proto::task::{Lease, ModelInfo};
use longhand_proto::v1::coordinator_client::CoordinatorClient;
use longhand_proto::v1::operator_client::OperatorClient;
use longhand_proto::{LeaseId, PROTOCOL, v1};
use longhand_tests::proxy::{Protocol, Proxy};
use longhand_worker::client::failover_channel::{CallError, RetryPolicy};
use longhand_worker::client::{Credentials, FailoverChannel, endpoint};
use longhand_worker::engine::mock::MockOptions;
use tonic::Code;

use crate::sandbox::{Sandbox, document, mock, run_id, within, write};

const PATIENCE: RetryPolicy =
    RetryPolicy { attempt_timeout: Duration::from_secs(10), total_timeout: Duration::from_secs(30) };

/// A link of which a test cuts answers off.
struct Cut {
    proxy: Proxy,
    link: FailoverChannel,
}

impl Cut {
    fn of(sandbox: &Sandbox) -> Self {
        let proxy = Proxy::start(sandbox.address, Protocol::Grpc);
        let channel = endpoint(&format!("http://{}", proxy.address())).unwrap().connect_lazy();
        Self { proxy, link: FailoverChannel::from_channels(vec![channel], Credentials::default()).unwrap() }
    }

    /// Makes a call of which the first answer is lost.
    async fn call<T, F>(
        &self,
        call: impl Fn(longhand_worker::client::failover_channel::AuthenticatedChannel) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let before = self.proxy.cuts();
        self.proxy.cut_next_answer();
        let answer = within(self.link.call_with_retry("a call", PATIENCE, call)).await;
        assert_eq!(self.proxy.cuts(), before + 1, "the answer of this call was cut off");
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_of_a_worker_whose_answer_was_lost_is_made_again_and_done_once() {
    let sandbox = Sandbox::start(2).await;
    let cut = Cut::of(&sandbox);
    let worker = "cut-1";
    let hello = v1::HelloRequest {
        protocol: PROTOCOL,
        version: "test".into(),
        worker: worker.into(),
        model: Some(ModelInfo::default().into()),
    };
    cut.call(|wire| {
        let request = hello.clone();
        async move { CoordinatorClient::new(wire).hello(request).await }
    })
    .await
    .unwrap();

    let ask = v1::LeaseRequest {
        worker: worker.into(),
        request_id: LeaseId::mint().to_string(),
        slots: 1,
        wait_ms: 0,
        model: "mock".into(),
        weights_hash: "mock".into(),
        kinds: v1::TaskKind::known(),
    };
    let leases = cut
        .call(|wire| {
            let request = ask.clone();
            async move { CoordinatorClient::new(wire).lease(request).await }
        })
        .await
        .unwrap()
        .leases;
    assert_eq!((leases.len(), sandbox.counts().await.leased), (1, 1), "no document was leased in vain");
    let lease: Lease = leases[0].clone().try_into().unwrap();
    let id = lease.task.document;

    let checkpoint = v1::Checkpoint { tokens: vec![1, 2, 3], tokenizer_hash: "mock".into() };
    let renewals = vec![v1::Renewal { lease_id: lease.id.to_string(), progress: 3, checkpoint: Some(checkpoint) }];
    let renew = v1::RenewRequest { worker: worker.into(), renewals, vitals: None };
    let lost = cut
        .call(|wire| {
            let request = renew.clone();
            async move { CoordinatorClient::new(wire).renew(request).await }
        })
        .await
        .unwrap()
        .lost;
    assert_eq!(lost, Vec::<String>::new());
    assert_eq!(sandbox.record(id).await.checkpoint.unwrap().tokens, [1, 2, 3]);

    let complete = v1::CompleteRequest {
        worker: worker.into(),
        lease_id: lease.id.to_string(),
        result: Some(v1::complete_request::Result::Output(write(lease.task).await.into())),
        want_next: true,
        model: Some(ModelInfo::default().into()),
        kinds: v1::TaskKind::known(),
    };
    let reply = cut
        .call(|wire| {
            let request = complete.clone();
            async move { CoordinatorClient::new(wire).complete(request).await }
        })
        .await
        .unwrap();
    assert_eq!(reply.outcome(), v1::Outcome::Recorded);
    let next: Lease = reply.next.expect("the first section").try_into().unwrap();
    assert_eq!(next.task.section, 0);

    let release = v1::ReleaseRequest { worker: worker.into(), lease_id: next.id.to_string(), checkpoint: None };
    let reply = cut
        .call(|wire| {
            let request = release.clone();
            async move { CoordinatorClient::new(wire).release(request).await }
        })
        .await
        .unwrap();
    assert_eq!(reply.outcome(), v1::Outcome::Recorded);
    assert_eq!(sandbox.record(id).await.counters.releases, 1);
    let ends: Vec<_> = sandbox.attempts(id).await.iter().map(|it| it.end).collect();
    assert_eq!(ends, [AttemptEnd::Completed, AttemptEnd::Released], "each attempt stands there once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_run_is_written_over_a_link_that_loses_answers_all_the_time() {
    let sandbox = Sandbox::start(4).await;
    let cut = Cut::of(&sandbox);
    let options = longhand_worker::client::WorkerOptions::new(longhand_proto::WorkerId::mint("cut"));
    let stop = tokio_util::sync::CancellationToken::new();
    let engine = mock(MockOptions { slots: 2, ..Default::default() });
    let work = tokio::spawn(longhand_worker::client::Worker::new(cut.link.clone(), engine, options).run(stop.clone()));
    let written = |records: &[Record]| records.iter().map(|it| document(it).sections().len()).sum::<usize>();
    let mut seen = 0;
    while sandbox.counts().await.unfinished() > 0 {
        // One answer for each text: a link that loses every one of them would let nobody through.
        cut.proxy.cut_next_answer();
        let over = |records: &[Record]| records.iter().all(|it| it.state.is_terminal());
        seen = written(&sandbox.until(|records| written(records) > seen || over(records)).await);
    }
    stop.cancel();
    let report = within(work).await.unwrap().unwrap();
    assert!(cut.proxy.cuts() >= 4, "{} answers were lost", cut.proxy.cuts());
    assert_eq!((report.lost, report.failed), (0, 0), "{report:?}");
    for record in sandbox.records().await {
        let steps = document(&record).sections().len() as u64;
        assert_eq!(sandbox.completed(record.id, "section").await, (0..steps).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_asked_for_is_done_once_and_never_called_a_failure_without_a_word() {
    let sandbox = Sandbox::start(2).await;
    let cut = Cut::of(&sandbox);
    let run = run_id().to_string();
    let pause = v1::PauseRequest { run: run.clone(), paused: true };
    assert!(
        cut.call(|wire| {
            let request = pause.clone();
            async move { OperatorClient::new(wire).pause(request).await }
        })
        .await
        .unwrap()
        .paused
    );

    let id = sandbox.records().await[0].id;
    let cancel = v1::CancelRequest { run: run.clone(), document: id.to_string() };
    let told = cut
        .call(|wire| {
            let request = cancel.clone();
            async move { OperatorClient::new(wire).cancel(request).await }
        })
        .await;
    refused_with_a_word(told);
    assert_eq!(sandbox.record(id).await.state, State::Cancelled);

    let requeue = v1::RequeueRequest {
        run,
        which: Some(v1::requeue_request::Which::Document(id.to_string())),
        ..v1::RequeueRequest::default()
    };
    let told = cut
        .call(|wire| {
            let request = requeue.clone();
            async move { OperatorClient::new(wire).requeue(request).await }
        })
        .await;
    refused_with_a_word(told);
    let record = sandbox.record(id).await;
    assert_eq!((record.state, document(&record).round), (State::Ready, 1), "once, not twice");
}

/// The second try finds done what the first one did.
fn refused_with_a_word<T: std::fmt::Debug>(told: Result<T, CallError>) {
    let CallError::Refused(status) = told.unwrap_err() else { panic!("it was answered") };
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("an earlier attempt of this call got no reply and may have succeeded"),
        "{status}"
    );
}
