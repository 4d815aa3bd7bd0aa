//! The HTTP port: `/metrics`, `/healthz`, `/readyz`, and on a coordinator the dashboard and its JSON API.
//!
//! `connection` serves connections, `guard` authenticates requests, `api` serves the data of the pages.

mod api;
mod assets;
mod connection;
mod corpus_file;
mod error;
mod guard;
mod health;
mod measured_runs;
mod report;
mod session;
mod state;
mod trace_url;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::net::{Certificates, Limits, Listener, Protocol};
use measured_runs::MeasuredRuns;
use state::AppState;
pub use state::{HttpConfig, MetricSource};
pub use trace_url::TraceUrl;

/// Time for responses in flight after shutdown. Event streams end at once.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Most event streams at a time; further pages poll.
const MAX_STREAMS: usize = 256;

/// Serves until `shutdown` is cancelled.
pub async fn serve(listener: TcpListener, config: HttpConfig, tls: Option<Certificates>, shutdown: CancellationToken) {
    let secure = tls.is_some();
    let port = listener.local_addr().map_or(0, |address| address.port());
    let guard = Arc::new(guard::Guard::new(config.tokens.clone(), secure, port));
    let state = Arc::new(AppState {
        config,
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        readiness: Mutex::default(),
        reports: MeasuredRuns::default(),
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
        .route("/corpus/{run}/{file}", get(corpus_file::corpus))
        .merge(api::routes(state.config.read_only))
        .fallback(assets::missing)
        .with_state(state)
        .route(guard::LOG_OUT, post(guard::log_out))
        .with_state(Arc::clone(&guard))
        .layer(from_fn_with_state(Arc::clone(&guard), guard::authorize));
    let router = public
        .merge(protected)
        .layer(DefaultBodyLimit::max(guard::MAX_BODY))
        .layer(from_fn_with_state(guard, guard::respond));
    // What follows the first bytes is bounded by the header time-out: an event stream is silent on purpose.
    let listener = Listener::new(listener, tls, Protocol::Http, None, Limits::default());
    let served = connection::serve(listener, router, shutdown.clone());
    let drain_timeout = async {
        shutdown.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    tokio::select! {
        () = served => {}
        () = drain_timeout => {}
    }
}
