//! The HTTP port: `/metrics`, `/healthz`, `/readyz`, and on a coordinator the dashboard and its JSON API.
//!
//! `listener` accepts connections, `guard` authenticates requests, `api` serves the data of the pages.

mod api;
mod assets;
mod guard;
mod health;
mod listener;
mod report;
mod session;
mod trace_url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use longhand_proto::WorkerId;
use prometheus::proto::MetricFamily;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::control::rpc::{Coordinator, Tokens};
use listener::Peer;
pub use listener::{Pem, PemError};
pub use trace_url::TraceUrl;

/// Time for responses in flight after shutdown. Event streams end at once.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Most event streams at a time; further pages poll.
const MAX_STREAMS: usize = 256;

/// Returns metrics with their values at the time of the call.
pub type MetricSource = Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// What the HTTP port serves.
#[derive(Clone, Default)]
pub struct HttpConfig {
    /// The coordinator behind the dashboard; none on a worker, which serves metrics and health only.
    pub coordinator: Option<Coordinator>,
    /// Metrics beside the coordinator's own.
    pub metric_sources: Vec<MetricSource>,
    /// None lets everybody in who can reach the port.
    pub tokens: Option<Tokens>,
    /// Cancelled when shutdown begins: from then on `/readyz` fails.
    pub stopping: CancellationToken,
    /// Address of the trace viewer that pages link to.
    pub trace_url: Option<TraceUrl>,
    /// The worker of this process, which cannot be drained.
    pub embedded_worker: Option<WorkerId>,
}

impl fmt::Debug for HttpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConfig").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}

/// State shared by the request handlers.
#[derive(Debug)]
struct AppState {
    config: HttpConfig,
    /// One permit for each event stream.
    streams: Arc<Semaphore>,
    /// Held while a report is computed: one at a time.
    report_lock: Mutex<()>,
    shutdown: CancellationToken,
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// The certificate, the key or the CA is invalid.
pub async fn serve(
    listener: TcpListener,
    config: HttpConfig,
    pem: Option<Pem>,
    shutdown: CancellationToken,
) -> Result<(), PemError> {
    let secure = pem.is_some();
    let guard = Arc::new(guard::Guard::new(config.tokens.clone(), secure));
    let state = Arc::new(AppState {
        config,
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        report_lock: Mutex::default(),
        shutdown: shutdown.clone(),
    });
    let public = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .with_state(Arc::clone(&state))
        .route("/assets/{name}", get(assets::file))
        .route("/login", get(assets::login).post(guard::log_in))
        .with_state(Arc::clone(&guard));
    let protected = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/", get(assets::page))
        .route("/runs/{*rest}", get(assets::page))
        .route("/workers", get(assets::page))
        .route("/report/{run}", get(report::report))
        .merge(api::routes())
        .with_state(state)
        .route("/logout", post(guard::log_out))
        .with_state(Arc::clone(&guard))
        .layer(from_fn_with_state(guard, guard::authorize));
    let router =
        public.merge(protected).layer(from_fn(guard::security_headers)).into_make_service_with_connect_info::<Peer>();
    let stopped = shutdown.clone().cancelled_owned();
    let served = async {
        match pem {
            None => axum::serve(listener, router).with_graceful_shutdown(stopped).await,
            Some(pem) => {
                let listener = listener::TlsListener::new(listener, &pem)?;
                axum::serve(listener, router).with_graceful_shutdown(stopped).await
            }
        }
        // Errors of single connections do not end the server.
        .unwrap_or_else(|error| tracing::warn!(%error, "HTTP server stopped"));
        Ok(())
    };
    let drain_timeout = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        ended = served => ended,
        () = drain_timeout => Ok(()),
    }
}
