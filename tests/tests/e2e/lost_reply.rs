//! Calls whose reply is lost after the coordinator has executed them.

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

use crate::harness::{Harness, document, mock, run_id, within, write};

const TIMEOUT: RetryPolicy = RetryPolicy {
    attempt_timeout: Duration::from_secs(10),
    total_timeout: Duration::from_secs(30),
    refused_timeout: Duration::from_secs(30),
};

/// A connection whose replies a test drops.
struct LossyLink {
    proxy: Proxy,
    link: FailoverChannel,
}

impl LossyLink {
    fn of(harness: &Harness) -> Self {
        let proxy = Proxy::start(harness.address, Protocol::Grpc);
        let channel = endpoint(&format!("http://{}", proxy.address())).unwrap().connect_lazy();
        Self { proxy, link: FailoverChannel::from_channels(vec![channel], Credentials::default()).unwrap() }
    }

    /// Makes a call whose first reply is lost.
    async fn call<T, F>(
        &self,
        call: impl Fn(longhand_worker::client::failover_channel::AuthenticatedChannel) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        let before = self.proxy.dropped_replies();
        self.proxy.drop_next_reply();
        let answer = within(self.link.call_with_retry("a call", TIMEOUT, call)).await;
        assert_eq!(self.proxy.dropped_replies(), before + 1, "the reply of this call was dropped");
        answer
    }
}

/// Over 60 lines, because each call needs the result of the one before.
#[tokio::test(flavor = "multi_thread")]
async fn every_worker_call_whose_reply_is_lost_is_retried_and_takes_effect_once() {
    let harness = Harness::start(2).await;
    let lossy = LossyLink::of(&harness);
    let worker = "lossy-1";
    let hello = v1::HelloRequest {
        protocol: PROTOCOL,
        version: "test".into(),
        worker: worker.into(),
        model: Some(ModelInfo::default().into()),
    };
    lossy
        .call(|wire| {
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
    let leases = lossy
        .call(|wire| {
            let request = ask.clone();
            async move { CoordinatorClient::new(wire).lease(request).await }
        })
        .await
        .unwrap()
        .leases;
    assert_eq!((leases.len(), harness.counts().await.leased), (1, 1), "no second document was leased");
    let lease: Lease = leases[0].clone().try_into().unwrap();
    let id = lease.task.document;

    let checkpoint = v1::Checkpoint { tokens: vec![1, 2, 3], tokenizer_hash: "mock".into(), ..Default::default() };
    let whole = v1::Renewal {
        lease_id: lease.id.to_string(),
        progress: 3,
        checkpoint: Some(checkpoint.clone()),
        ..v1::Renewal::default()
    };
    let later = v1::Renewal {
        progress: 5,
        checkpoint: None,
        appended: Some(v1::Checkpoint { tokens: vec![4, 5], ..checkpoint }),
        from: 3,
        ..whole.clone()
    };
    for (renewal, tokens) in [(whole, &[1, 2, 3][..]), (later, &[1, 2, 3, 4, 5])] {
        let renew = v1::RenewRequest { worker: worker.into(), renewals: vec![renewal], vitals: None };
        let reply = lossy
            .call(|wire| {
                let request = renew.clone();
                async move { CoordinatorClient::new(wire).renew(request).await }
            })
            .await
            .unwrap();
        assert_eq!(reply, v1::RenewReply { appends: true, ..v1::RenewReply::default() });
        assert_eq!(harness.record(id).await.checkpoint.unwrap().tokens, tokens);
    }

    let complete = v1::CompleteRequest {
        worker: worker.into(),
        lease_id: lease.id.to_string(),
        result: Some(v1::complete_request::Result::Output(write(lease.task).await.into())),
        want_next: true,
        model: Some(ModelInfo::default().into()),
        kinds: v1::TaskKind::known(),
        cost: 0.0,
    };
    let reply = lossy
        .call(|wire| {
            let request = complete.clone();
            async move { CoordinatorClient::new(wire).complete(request).await }
        })
        .await
        .unwrap();
    assert_eq!(reply.outcome(), v1::Outcome::Recorded);
    let next: Lease = reply.next.expect("the first section").try_into().unwrap();
    assert_eq!(next.task.section, 0);

    let release = v1::ReleaseRequest {
        worker: worker.into(),
        lease_id: next.id.to_string(),
        checkpoint: None,
        cost: 0.0,
        generated: 0,
    };
    let reply = lossy
        .call(|wire| {
            let request = release.clone();
            async move { CoordinatorClient::new(wire).release(request).await }
        })
        .await
        .unwrap();
    assert_eq!(reply.outcome(), v1::Outcome::Recorded);
    assert_eq!(harness.record(id).await.counters.releases, 1);
    let ends: Vec<_> = harness.attempts(id).await.iter().map(|it| it.end).collect();
    assert_eq!(ends, [AttemptEnd::Completed, AttemptEnd::Released], "each attempt is recorded once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_completes_over_a_link_that_keeps_losing_replies() {
    let harness = Harness::start(4).await;
    let lossy = LossyLink::of(&harness);
    let options = longhand_worker::client::WorkerOptions::new(longhand_proto::WorkerId::mint("lossy"));
    let stop = tokio_util::sync::CancellationToken::new();
    let engine = mock(MockOptions { slots: 2, ..Default::default() });
    let work =
        tokio::spawn(longhand_worker::client::Worker::new(lossy.link.clone(), engine, options).run(stop.clone()));
    let written = |records: &[Record]| records.iter().map(|it| document(it).sections().len()).sum::<usize>();
    let mut seen = 0;
    while harness.counts().await.unfinished() > 0 {
        // One reply per text: without any reply there would be no progress.
        lossy.proxy.drop_next_reply();
        let over = |records: &[Record]| records.iter().all(|it| it.state.is_terminal());
        seen = written(&harness.until(|records| written(records) > seen || over(records)).await);
    }
    stop.cancel();
    let report = within(work).await.unwrap().unwrap();
    assert!(lossy.proxy.dropped_replies() >= 4, "{} replies were lost", lossy.proxy.dropped_replies());
    assert_eq!((report.lost, report.failed), (0, 0), "{report:?}");
    for record in harness.records().await {
        let steps = document(&record).sections().len() as u64;
        assert_eq!(harness.completed(record.id, "section").await, (0..steps).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn operator_calls_whose_reply_is_lost_take_effect_once_and_the_error_says_so() {
    let harness = Harness::start(2).await;
    let lossy = LossyLink::of(&harness);
    let run = run_id().to_string();
    let pause = v1::PauseRequest { run: run.clone(), paused: true };
    assert!(
        lossy
            .call(|wire| {
                let request = pause.clone();
                async move { OperatorClient::new(wire).pause(request).await }
            })
            .await
            .unwrap()
            .paused
    );

    let id = harness.records().await[0].id;
    let cancel = v1::CancelRequest { run: run.clone(), document: id.to_string() };
    let reply = lossy
        .call(|wire| {
            let request = cancel.clone();
            async move { OperatorClient::new(wire).cancel(request).await }
        })
        .await;
    assert_refused_with_hint(reply);
    assert_eq!(harness.record(id).await.state, State::Cancelled);

    let requeue = v1::RequeueRequest {
        run,
        which: Some(v1::requeue_request::Which::Document(id.to_string())),
        ..v1::RequeueRequest::default()
    };
    let reply = lossy
        .call(|wire| {
            let request = requeue.clone();
            async move { OperatorClient::new(wire).requeue(request).await }
        })
        .await;
    assert_refused_with_hint(reply);
    let record = harness.record(id).await;
    assert_eq!((record.state, document(&record).round), (State::Ready, 1), "once, not twice");
}

/// The retry fails because the first try took effect.
fn assert_refused_with_hint<T: std::fmt::Debug>(reply: Result<T, CallError>) {
    let CallError::Refused(status) = reply.unwrap_err() else { panic!("it was answered") };
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("an earlier attempt of this call got no reply and may have succeeded"),
        "{status}"
    );
}
