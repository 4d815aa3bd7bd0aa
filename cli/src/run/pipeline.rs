//! The parts of a run in one process: coordinator, sweeper, and one worker that talks to it by gRPC through a pipe in memory.

use std::sync::Arc;
use std::time::Duration;

use longhand_command::exit::{Failure, Result};
use longhand_coordinator::control::rpc::{self, Coordinator, ServiceOptions};
use longhand_coordinator::control::sweeper::{self, SweeperOptions};
use longhand_coordinator::http::HttpConfig;
use longhand_coordinator::store::Store;
use longhand_proto::WorkerId;
use longhand_worker::client::failover_channel::{Credentials, FailoverChannel};
use longhand_worker::client::{Metrics, Price, Worker, WorkerError, WorkerOptions, WorkerReport};
use longhand_worker::engine::Engine;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::pipe;

/// Options of the parts.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) worker: WorkerId,
    pub(crate) slots: Option<u32>,
    pub(crate) price: Price,
    pub(crate) lease: Duration,
    /// Include prompts and texts in traces.
    pub(crate) trace_content: bool,
}

/// The running parts. If dropped, the worker ends at once; [`Pipeline::stop`] stops it in order.
#[derive(Debug)]
pub(crate) struct Pipeline {
    id: WorkerId,
    metrics: Arc<Metrics>,
    coordinator: Coordinator,
    worker: JoinHandle<Result<WorkerReport, WorkerError>>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    sweeper: JoinHandle<()>,
    stop_worker: CancellationToken,
    stop_rest: CancellationToken,
}

impl Pipeline {
    /// Starts the parts over a store and an engine.
    pub(crate) async fn start(store: Arc<dyn Store>, engine: Arc<dyn Engine>, options: Options) -> Result<Self> {
        let (lease, trace_content) = (options.lease, options.trace_content);
        let service = ServiceOptions { lease, trace_content, ..ServiceOptions::default() };
        let coordinator = Coordinator::new(store, service);
        let (stop_worker, stop_rest) = (CancellationToken::new(), CancellationToken::new());
        let (channel, incoming) = pipe::open().map_err(Failure::refused)?;
        let stopped = stop_rest.clone().cancelled_owned();
        let server = tokio::spawn(rpc::serve_on(incoming, coordinator.clone(), None, stopped));
        let sweeper = tokio::spawn(sweeper::run(coordinator.clone(), SweeperOptions::default(), stop_rest.clone()));

        let link = FailoverChannel::from_channels(vec![channel], Credentials::default());
        let link = link.map_err(Failure::refused)?;
        let id = options.worker.clone();
        let worker = WorkerOptions { slots: options.slots, price: options.price, ..WorkerOptions::new(options.worker) };
        let worker = Worker::new(link, engine, worker);
        let metrics = Arc::new(worker.metrics());
        let worker = tokio::spawn(worker.run(stop_worker.clone()));
        Ok(Self { id, metrics, coordinator, worker, server, sweeper, stop_worker, stop_rest })
    }

    /// The coordinator's counters.
    pub(crate) fn metrics(&self) -> &longhand_coordinator::control::metrics::Metrics {
        self.coordinator.metrics()
    }

    /// What the HTTP server shows.
    pub(crate) fn site(&self) -> HttpConfig {
        let metrics = Arc::clone(&self.metrics);
        HttpConfig {
            coordinator: Some(self.coordinator.clone()),
            embedded_worker: Some(self.id.clone()),
            metric_sources: vec![Arc::new(move || metrics.gather())],
            ..HttpConfig::default()
        }
    }

    /// Set while the store rejects the results of the worker.
    pub(crate) fn store_health(&self) -> watch::Receiver<Option<String>> {
        self.coordinator.store_health()
    }

    /// Resolves with the reason when a part ends on its own.
    pub(crate) async fn failed(&mut self) -> String {
        tokio::select! {
            ended = &mut self.worker => match ended {
                Ok(Ok(_)) => "the worker ended unexpectedly".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => format!("the worker crashed: {error}"),
            },
            ended = &mut self.server => match ended {
                Ok(Ok(())) => "the coordinator ended unexpectedly".to_owned(),
                Ok(Err(error)) => format!("the coordinator failed: {error}"),
                Err(error) => format!("the coordinator crashed: {error}"),
            },
        }
    }

    /// Stops the worker, which releases its documents, then the other parts.
    pub(crate) async fn stop(mut self) -> Result<WorkerReport> {
        self.stop_worker.cancel();
        let report = (&mut self.worker).await;
        self.stop_rest.cancel();
        for (part, ended) in
            [("sweeper", (&mut self.sweeper).await.err()), ("coordinator", (&mut self.server).await.err())]
        {
            if let Some(error) = ended {
                tracing::warn!(%error, "the {part} crashed");
            }
        }
        match report {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(error)) => Err(Failure::stopped(error)),
            Err(error) => Err(Failure::stopped(format!("the worker crashed: {error}"))),
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        self.worker.abort();
        self.stop_rest.cancel();
    }
}
