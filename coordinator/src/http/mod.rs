//! The HTTP port: `/metrics`, `/healthz`, `/readyz`, and on a coordinator the dashboard and its JSON API.
//!
//! `listener` accepts connections, `guard` authenticates requests, `api` serves the data of the pages.

mod api;
mod assets;
mod error;
mod guard;
mod health;
mod listener;
mod report;
mod session;
mod state;
mod trace_url;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;

use listener::Peer;
pub use listener::{Pem, PemError};
use state::AppState;
pub use state::{HttpConfig, MetricSource};
pub use trace_url::TraceUrl;

/// Time for responses in flight after shutdown. Event streams end at once.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Most event streams at a time; further pages poll.
const MAX_STREAMS: usize = 256;

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
