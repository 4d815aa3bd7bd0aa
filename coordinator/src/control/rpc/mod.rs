//! The coordinator as workers see it: gRPC over a store. It keeps nothing that the store does not hold, so any number
//! of replicas may serve one store, and any of them may die at any time.
//!
//! `gate` stands before all calls, with `auth` and `pace`; `rpc` and `operator` convert, call, convert; `lease` waits for
//! work; `complete` ends attempts; `render` turns a stored document into a task; `given` remembers what was given out;
//! `deed` does what people ask, here and on the dashboard.

mod auth;
mod complete;
mod deed;
mod error;
mod gate;
mod given;
mod lease;
mod operator;
mod pace;
mod recipes;
mod render;
mod rpc;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use longhand_proto::v1::coordinator_server::CoordinatorServer;
use longhand_proto::v1::operator_server::OperatorServer;
use longhand_proto::{MAX_MESSAGE_BYTES, RunId};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic::transport::{Server, ServerTlsConfig};

use crate::control::metrics::Metrics;
use crate::corpus::Archive;
use crate::run_stats::RunStatsCache;
use crate::store::{Store, StoreError};
pub(crate) use auth::Holder;
pub use auth::{Role, TokenError, Tokens, Who};
use gate::{GateLayer, Rules};
use given::Given;
use operator::Operate;
use recipes::Recipes;
use rpc::Rpc;

/// Time that calls in flight get when the server is asked to stop.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// Calls of one connection at a time: a worker has one for each slot that ends, one to ask and one to renew.
const STREAMS_PER_CONNECTION: u32 = 1_024;
/// Calls that may wait for each one that is worked on; more are answered `RESOURCE_EXHAUSTED`.
const CALLS_WAITING: usize = 4;

/// How a coordinator serves its store.
#[derive(Debug, Clone)]
pub struct ServiceOptions {
    /// Life of a lease that is not renewed.
    pub lease: Duration,
    /// Longest time a request for work is held open.
    pub max_wait: Duration,
    /// Mean time between two looks at the store while requests wait: another replica may have made work.
    pub poll: Duration,
    /// Calls that are worked on at the same time; others wait. Bounds the memory that large messages take.
    pub max_calls: usize,
    /// Traces hold prompts and texts too.
    pub trace_content: bool,
    /// Where accepted documents are kept beside the store.
    pub archive: Option<Arc<Archive>>,
    /// Calls that one connection may make, on average; it is told to wait if it makes more.
    pub calls_per_second: u32,
    /// A call that takes longer is given up, whatever it waits for: a message that does not come to its end has a place.
    pub call_within: Duration,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            max_wait: Duration::from_secs(20),
            poll: Duration::from_millis(500),
            max_calls: 256,
            trace_content: false,
            archive: None,
            calls_per_second: 1_000,
            call_within: Duration::from_secs(120),
        }
    }
}

/// Decides what each worker does next. A handle: clones share one state.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    options: ServiceOptions,
    recipes: Recipes,
    given: Given,
    calls: Semaphore,
    /// One permit for each document that became ready: wakes the request that waits with the turn.
    ready: Notify,
    /// Held by the one waiting request that looks at the store, so that a thousand idle workers cost one query.
    turn: Mutex<()>,
    metrics: Metrics,
    changes: watch::Sender<u64>,
    /// Of runs that somebody watches, here or on the dashboard.
    run_stats: RunStatsCache,
    trouble: watch::Sender<Option<String>>,
    /// Runs that the store has forgotten. Locked to look.
    lost: std::sync::Mutex<BTreeSet<RunId>>,
}

impl fmt::Debug for Coordinator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coordinator").field("store", &self.inner.store).field("options", &self.inner.options).finish()
    }
}

impl Coordinator {
    pub fn new(store: Arc<dyn Store>, options: ServiceOptions) -> Self {
        let calls = Semaphore::new(options.max_calls.max(1));
        let (recipes, given) = (Recipes::default(), Given::default());
        let (ready, turn) = (Notify::new(), Mutex::new(()));
        let (changes, trouble) = (watch::Sender::new(0), watch::Sender::new(None));
        let metrics = Metrics::new();
        let lost = std::sync::Mutex::default();
        let run_stats = RunStatsCache::default();
        let inner =
            Inner { store, options, recipes, given, calls, ready, turn, metrics, changes, run_stats, trouble, lost };
        Self { inner: Arc::new(inner) }
    }

    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    pub(crate) fn run_stats(&self) -> &RunStatsCache {
        &self.inner.run_stats
    }

    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    pub fn archive(&self) -> Option<&Archive> {
        self.inner.options.archive.as_deref()
    }

    pub fn options(&self) -> &ServiceOptions {
        &self.inner.options
    }

    /// Tells requests that wait for work that `documents` became ready: after a submission, a requeue or a sweep in
    /// this process. Without it they notice at their next look at the store.
    pub fn wake(&self, documents: usize) {
        for _ in 0..documents.min(self.inner.options.max_calls) {
            self.inner.ready.notify_one();
        }
        self.changed();
    }

    /// A number that grows with every change that this process makes to a document. For progress displays.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Set while the store cannot take what workers hand in (no room, refused); cleared by the next success. The
    /// workers go on trying: whoever runs this process decides whether to stop it.
    pub fn trouble(&self) -> watch::Receiver<Option<String>> {
        self.inner.trouble.subscribe()
    }

    /// Takes down runs that the store has forgotten; those that are there are none of them.
    pub(crate) fn note_runs(&self, lost: impl Iterator<Item = RunId>, there: &BTreeSet<RunId>) {
        let mut known = self.inner.lost.lock().unwrap_or_else(PoisonError::into_inner);
        known.extend(lost);
        known.retain(|run| !there.contains(run));
    }

    /// True if the store knew this run before, and does not any more.
    fn has_lost(&self, run: &RunId) -> bool {
        self.inner.lost.lock().unwrap_or_else(PoisonError::into_inner).contains(run)
    }

    fn changed(&self) {
        self.inner.changes.send_modify(|number| *number += 1);
    }

    /// Notes what a call to the store says about the store itself.
    fn note<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        let trouble = match &result {
            Err(error @ (StoreError::Full(_) | StoreError::Refused(_))) => Some(error.to_string()),
            Ok(_) | Err(StoreError::Unreachable(_) | StoreError::NotFound { .. } | StoreError::Other(_)) => None,
        };
        self.inner.trouble.send_if_modified(|now| {
            let changed = (result.is_ok() || trouble.is_some()) && *now != trouble;
            if changed {
                *now = trouble;
            }
            changed
        });
        result
    }
}

/// Who is let in, and whether what they say can be overheard.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// None lets everybody in.
    pub tokens: Option<Tokens>,
    pub tls: Option<ServerTlsConfig>,
}

/// Serves everybody who reaches `listener`: for one process that talks to itself, and for tests.
///
/// # Errors
/// The listener failed.
pub async fn serve(
    listener: TcpListener,
    coordinator: Coordinator,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    serve_with(listener, coordinator, Access::default(), shutdown).await
}

/// Serves workers and operators on `listener` until `shutdown` resolves: then requests that wait for work are answered
/// empty, and calls in flight get a few seconds.
///
/// # Errors
/// The listener failed, or certificate and key cannot be used.
pub async fn serve_with(
    listener: TcpListener,
    coordinator: Coordinator,
    access: Access,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    serve_on(TcpIncoming::from(listener).with_nodelay(Some(true)), coordinator, access, shutdown).await
}

/// The same over connections that somebody else accepts.
///
/// # Errors
/// As [`serve_with`].
pub async fn serve_on<I, C>(
    incoming: I,
    coordinator: Coordinator,
    access: Access,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    I: futures::Stream<Item = std::io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let closing = CancellationToken::new();
    let ServiceOptions { max_calls, calls_per_second, call_within, .. } = *coordinator.options();
    let rules = Arc::new(Rules::new(access.tokens, max_calls * (1 + CALLS_WAITING), calls_per_second));
    let workers = CoordinatorServer::new(Rpc::new(coordinator.clone(), closing.clone()))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let operators = OperatorServer::new(Operate::new(coordinator))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<CoordinatorServer<Rpc>>().await;
    health.set_serving::<OperatorServer<Operate>>().await;
    let mut server = Server::builder();
    if let Some(tls) = access.tls {
        server = server.tls_config(tls)?;
    }
    let server = server
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION))
        .timeout(call_within)
        .layer(GateLayer(rules))
        .add_service(workers)
        .add_service(operators)
        .add_service(health_service)
        .serve_with_incoming_shutdown(incoming, closing.clone().cancelled_owned());
    tokio::pin!(server);
    tokio::select! {
        biased;
        ended = &mut server => return ended,
        () = shutdown => {}
    }
    health.set_not_serving::<CoordinatorServer<Rpc>>().await;
    health.set_not_serving::<OperatorServer<Operate>>().await;
    closing.cancel();
    match tokio::time::timeout(STOP_WITHIN, server).await {
        Ok(ended) => ended,
        Err(_) => {
            tracing::warn!("calls in flight did not end within {} s", STOP_WITHIN.as_secs());
            Ok(())
        }
    }
}
