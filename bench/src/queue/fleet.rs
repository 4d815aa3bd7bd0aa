//! A coordinator on a free port, and simulated workers that call it over gRPC.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use longhand_command::exit::{Failure, Result};
use longhand_coordinator::control::rpc::{Coordinator, ServiceOptions, serve};
use longhand_coordinator::store::Store;
use longhand_proto::task::ModelInfo;
use longhand_proto::v1::complete_request::Result as Answer;
use longhand_proto::v1::coordinator_client::CoordinatorClient;
use longhand_proto::{LeaseId, MAX_MESSAGE_BYTES, WorkerId, clock, rng, v1};
use longhand_worker::client::failover_channel::{AuthenticatedChannel, CallError, RetryPolicy};
use longhand_worker::client::{Credentials, FailoverChannel, endpoint};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::load::Load;
use crate::redis_server::RedisServer;

const PATIENCE: RetryPolicy = RetryPolicy {
    attempt_timeout: Duration::from_secs(60),
    total_timeout: Duration::from_secs(120),
    refused_timeout: Duration::from_secs(120),
};

/// A running coordinator and its workers.
#[derive(Debug)]
pub(super) struct Fleet {
    coordinator: Coordinator,
    workers: Vec<(WorkerId, FailoverChannel)>,
    stop: CancellationToken,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
}

/// The measurement of a fleet.
#[derive(Debug)]
pub(super) struct FleetResult {
    cycles: u64,
    took: Duration,
    /// Latency of each lease call that returned documents.
    pub(super) leases: Vec<Duration>,
}

impl FleetResult {
    /// Cycles per second.
    pub(super) fn rate(&self) -> f64 {
        self.cycles as f64 / self.took.as_secs_f64()
    }
}

/// Raises the limit of open files: this process holds both ends of each worker's connection.
fn raise_file_limit(workers: u32) -> Result<()> {
    let want = 2 * libc::rlim_t::from(workers) + 256;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call writes to `limit` and nothing else.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    if known && limit.rlim_cur >= want {
        return Ok(());
    }
    limit.rlim_cur = want;
    // SAFETY: the call reads `limit` and nothing else.
    if known && limit.rlim_max >= want && unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0 {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "{workers} workers need {want} open files: run `ulimit -n {want}`, or use fewer --workers"
    )))
}

impl Fleet {
    /// Starts a coordinator over the server, with connections for its workers.
    pub(super) async fn start(server: &RedisServer, workers: u32) -> Result<Self> {
        raise_file_limit(workers)?;
        let store: Arc<dyn Store> = Arc::new(server.store().await.map_err(Failure::refused)?);
        // The rate limit per connection is not measured.
        let options = ServiceOptions { calls_per_second: 1_000_000, ..ServiceOptions::default() };
        let coordinator = Coordinator::new(store, options);
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(Failure::refused)?;
        let url = format!("http://{}", listener.local_addr().map_err(Failure::refused)?);
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, coordinator.clone(), stop.clone().cancelled_owned()));
        let link = || -> Result<(WorkerId, FailoverChannel)> {
            let channel = endpoint(&url).map_err(Failure::refused)?.connect_lazy();
            Ok((
                WorkerId::mint("bench"),
                FailoverChannel::from_channels(vec![channel], Credentials::default()).map_err(Failure::refused)?,
            ))
        };
        let workers = (0..workers).map(|_| link()).collect::<Result<_>>()?;
        Ok(Self { coordinator, workers, stop, server })
    }

    /// The store of the coordinator.
    pub(super) fn store(&self) -> &dyn Store {
        self.coordinator.store().as_ref()
    }

    /// Processes all documents, at full speed or at `rate` cycles per second.
    pub(super) async fn work(&self, load: &Load, slots: u32, rate: Option<f64>) -> Result<FleetResult> {
        let remaining =
            Remaining { documents: AtomicU64::new(u64::from(load.documents)), none: CancellationToken::new() };
        let begin = clock::now();
        let works = self.workers.iter().map(|(worker, link)| {
            let pause = rate.map(|rate| Duration::from_secs_f64(self.workers.len() as f64 * 2.0 / rate));
            Simulated { worker, link, load, slots: if rate.is_some() { 1 } else { slots }, pause }.work(&remaining)
        });
        let leases = try_join_all(works).await?.concat();
        Ok(FleetResult { cycles: 2 * u64::from(load.documents), took: clock::now() - begin, leases })
    }

    /// Stops the coordinator.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        drop(self.workers);
        if let Err(error) = self.server.await {
            tracing::warn!(%error, "the coordinator crashed");
        }
    }
}

/// Documents that have not ended.
struct Remaining {
    documents: AtomicU64,
    none: CancellationToken,
}

struct Simulated<'a> {
    worker: &'a WorkerId,
    link: &'a FailoverChannel,
    load: &'a Load,
    slots: u32,
    /// Mean time between two leases.
    pause: Option<Duration>,
}

impl Simulated<'_> {
    async fn work(self, remaining: &Remaining) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        loop {
            if let Some(pause) = self.pause {
                remaining.none.run_until_cancelled(tokio::time::sleep(rng::around(pause))).await;
            }
            let begin = clock::now();
            let Some(leases) = remaining.none.run_until_cancelled(self.lease()).await else { return Ok(times) };
            let leases = leases?;
            if !leases.is_empty() {
                times.push(clock::now() - begin);
            }
            for lease in leases {
                let next = self.complete(lease.lease_id, self.load.plan.clone()).await?;
                let section = next.ok_or_else(|| Failure::stopped("a plan has no section"))?;
                self.complete(section.lease_id, self.load.section.clone()).await?;
                if remaining.documents.fetch_sub(1, Ordering::Relaxed) == 1 {
                    remaining.none.cancel();
                }
            }
        }
    }

    async fn lease(&self) -> Result<Vec<v1::Lease>> {
        let request = v1::LeaseRequest {
            worker: self.worker.to_string(),
            request_id: LeaseId::mint().to_string(),
            slots: self.slots,
            wait_ms: 20_000,
            model: "bench".into(),
            weights_hash: "bench".into(),
            kinds: v1::TaskKind::known(),
        };
        let call = |wire| {
            let request = request.clone();
            async move { client(wire).lease(request).await }
        };
        Ok(self.link.call_with_retry("lease", PATIENCE, call).await.map_err(failed)?.leases)
    }

    async fn complete(&self, lease_id: String, output: longhand_proto::task::Output) -> Result<Option<v1::Lease>> {
        let request = v1::CompleteRequest {
            worker: self.worker.to_string(),
            lease_id,
            result: Some(Answer::Output(output.into())),
            want_next: true,
            model: Some(ModelInfo::default().into()),
            kinds: v1::TaskKind::known(),
            cost: 0.0,
        };
        let call = |wire| {
            let request = request.clone();
            async move { client(wire).complete(request).await }
        };
        let reply = self.link.call_with_retry("complete", PATIENCE, call).await.map_err(failed)?;
        if reply.outcome() != v1::Outcome::Recorded {
            return Err(Failure::stopped(
                "a lease was lost: this machine is too slow for so many workers; use fewer --workers",
            ));
        }
        Ok(reply.next)
    }
}

fn client(wire: AuthenticatedChannel) -> CoordinatorClient<AuthenticatedChannel> {
    CoordinatorClient::new(wire)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn failed(error: CallError) -> Failure {
    Failure::stopped(format!("a call failed: {}", error.status().message()))
}
