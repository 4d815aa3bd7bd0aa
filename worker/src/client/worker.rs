//! A worker: an engine and the coordinator it writes for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::coordinator_client::CoordinatorClient;
use super::error::WorkerError;
use super::failover_channel::FailoverChannel;
use super::metrics::Metrics;
use super::options::WorkerOptions;
use super::report::{WorkerReport, WorkerSnapshot};
use super::worker_loop::{Flow, WorkerLoop};
use crate::engine::Engine;

/// A worker that is ready to run.
#[derive(Debug)]
pub struct Worker {
    client: CoordinatorClient,
    engine: Arc<dyn Engine>,
    options: WorkerOptions,
    snapshot: watch::Sender<WorkerSnapshot>,
    channel: FailoverChannel,
    waiting: watch::Sender<String>,
}

/// Why a worker has nothing to write.
#[derive(Debug, Clone)]
pub struct Waits {
    channel: FailoverChannel,
    waiting: watch::Receiver<String>,
}

impl Waits {
    /// What it waits for, in one line; none while it writes, or asks for the first time.
    pub fn reason(&self) -> Option<String> {
        if let Some((since, reason)) = self.channel.silence() {
            return (since >= SILENCE).then(|| format!("the coordinator does not answer: {reason}"));
        }
        Some(self.waiting.borrow().clone()).filter(|reason| !reason.is_empty())
    }
}

/// A silence that is nothing to speak of: a coordinator that restarts.
const SILENCE: Duration = Duration::from_secs(2);

impl Worker {
    /// Makes no call before [`Worker::run`].
    pub fn new(channel: FailoverChannel, engine: Arc<dyn Engine>, options: WorkerOptions) -> Self {
        let client = CoordinatorClient::new(channel.clone(), engine.model(), &options);
        let (snapshot, waiting) = (watch::Sender::new(WorkerSnapshot::default()), watch::Sender::default());
        Self { client, engine, options, snapshot, channel, waiting }
    }

    /// What it waits for, for as long as it lives.
    pub fn waits(&self) -> Waits {
        Waits { channel: self.channel.clone(), waiting: self.waiting.subscribe() }
    }

    /// Its metrics, for as long as it lives and after.
    pub fn metrics(&self) -> Metrics {
        Metrics::new(Arc::clone(&self.engine), self.snapshot.subscribe())
    }

    /// Works until `shutdown` is cancelled, then releases its leases within the grace time. Dropping the future ends it
    /// at once: the leases expire, and other workers continue from the last checkpoints.
    ///
    /// # Errors
    /// Ends early if the coordinator rejects the worker or does not reply for long, or if the engine stops; leases are
    /// then released if that can be done quickly.
    pub async fn run(self, shutdown: CancellationToken) -> Result<WorkerReport, WorkerError> {
        let Self { mut client, engine, options, snapshot, channel: _, waiting } = self;
        let hello = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(WorkerReport::default()),
            hello = client.hello(engine.model()) => hello?,
        };
        let lease = Duration::from_millis(hello.lease_ms);
        tracing::info!(worker = %options.worker, ?lease, "connected to coordinator {}", hello.version);
        client.clamp_timeouts(lease);
        let mut worker_loop = WorkerLoop::new(client, Arc::clone(&engine), options, lease);
        let mut dead = engine.dead();
        loop {
            let input = worker_loop.next(&shutdown, &mut dead).await;
            let flow = worker_loop.apply(input)?;
            snapshot.send_replace(worker_loop.snapshot());
            waiting.send_if_modified(|now| {
                let changed = now != worker_loop.waiting();
                if changed {
                    worker_loop.waiting().clone_into(now);
                }
                changed
            });
            match flow {
                Flow::Continue => {}
                Flow::Finished(report) => return Ok(report),
                Flow::EngineDead(reason) => {
                    worker_loop.release_all().await;
                    return Err(WorkerError::EngineDead(reason));
                }
            }
        }
    }
}
