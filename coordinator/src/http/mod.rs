//! HTTP for people and for Prometheus: `/metrics`, `/healthz`, `/readyz`, and with a coordinator behind it the dashboard.
//!
//! `guard` stands before every page; `listener` brings the connections in; `api` answers what the pages ask, out of the
//! `catalogue` of `line`s where it is about many documents.

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

/// Time that answers in flight get when the server is asked to stop. Streams of events end at once.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Pages that are told of changes at the same time; others ask now and then.
const STREAMS: usize = 256;

/// Gives series as they are when it is called.
pub type Numbers = Arc<dyn Fn() -> Vec<MetricFamily> + Send + Sync>;

/// What is served.
#[derive(Clone, Default)]
pub struct Site {
    /// Whose documents the dashboard shows; none for a worker, which has numbers only.
    pub coordinator: Option<Coordinator>,
    /// Series beside the coordinator's own.
    pub numbers: Vec<Numbers>,
    /// None lets everybody in who can reach the port.
    pub tokens: Option<Tokens>,
    /// Cancelled once the process was asked to stop: from then on it is not ready.
    pub stopping: CancellationToken,
    /// Where a trace is looked at.
    pub trace_url: Option<TraceUrl>,
    /// The worker that lives in this process, and ends with it only.
    pub inside: Option<WorkerId>,
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Site").field("coordinator", &self.coordinator).finish_non_exhaustive()
    }
}

/// What the answers are made of.
#[derive(Debug)]
struct Served {
    site: Site,
    streams: Arc<Semaphore>,
    /// Held by the one report that is made at a time.
    report: Mutex<()>,
    stop: CancellationToken,
}

/// Serves until `shutdown` is cancelled.
///
/// # Errors
/// Certificate and key cannot be used.
pub async fn serve(
    listener: TcpListener,
    site: Site,
    pem: Option<Pem>,
    shutdown: CancellationToken,
) -> Result<(), PemError> {
    let secure = pem.is_some();
    let guard = Arc::new(guard::Guard::new(site.tokens.clone(), secure));
    let site = Arc::new(Served {
        site,
        streams: Arc::new(Semaphore::new(STREAMS)),
        report: Mutex::default(),
        stop: shutdown.clone(),
    });
    let open = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::ready))
        .with_state(Arc::clone(&site))
        .route("/assets/{name}", get(assets::file))
        .route("/login", get(assets::login).post(guard::log_in))
        .with_state(Arc::clone(&guard));
    let closed = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/", get(assets::page))
        .route("/runs/{*rest}", get(assets::page))
        .route("/workers", get(assets::page))
        .route("/report/{run}", get(report::report))
        .merge(api::routes())
        .with_state(site)
        .route("/logout", post(guard::log_out))
        .with_state(Arc::clone(&guard))
        .layer(from_fn_with_state(guard, guard::admit));
    let router = open.merge(closed).layer(from_fn(guard::dress)).into_make_service_with_connect_info::<Peer>();
    let stopped = shutdown.clone().cancelled_owned();
    let served = async {
        match pem {
            None => axum::serve(listener, router).with_graceful_shutdown(stopped).await,
            Some(pem) => {
                let listener = listener::TlsListener::new(listener, &pem)?;
                axum::serve(listener, router).with_graceful_shutdown(stopped).await
            }
        }
        // It never ends with an error: a connection that fails is its own affair.
        .unwrap_or_else(|error| tracing::warn!(%error, "the HTTP server ended"));
        Ok(())
    };
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(STOP_WITHIN).await;
    };
    tokio::select! {
        ended = served => ended,
        () = late => Ok(()),
    }
}
