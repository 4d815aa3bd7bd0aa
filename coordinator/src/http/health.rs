//! Health checks and metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder, TextEncoder};

use super::state::AppState;

/// Longest time for the store to answer a readiness check or a scrape.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The process is alive.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// Shutdown has not begun, and the store answers.
pub(super) async fn ready(State(state): State<Arc<AppState>>) -> Response {
    let unready = |reason: String| (StatusCode::SERVICE_UNAVAILABLE, reason).into_response();
    if state.config.stopping.is_cancelled() {
        return unready("stopping\n".into());
    }
    let Some(coordinator) = &state.config.coordinator else { return "ok\n".into_response() };
    match tokio::time::timeout(STORE_TIMEOUT, coordinator.store().now_ms()).await {
        Ok(Ok(_)) => "ok\n".into_response(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            unready("the store does not answer\n".into())
        }
        Err(_) => unready(format!("the store did not answer within {} s\n", STORE_TIMEOUT.as_secs())),
    }
}

/// All metrics in Prometheus's text format. Metrics of the process are returned even if the store is down.
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    let mut families = Vec::new();
    if let Some(coordinator) = &state.config.coordinator {
        families =
            coordinator.metrics().gather(coordinator.store().as_ref(), coordinator.stall_finder(), STORE_TIMEOUT).await;
    }
    for source in &state.config.metric_sources {
        families.extend(source());
    }
    let mut text = Vec::new();
    match TextEncoder::new().encode(&families, &mut text) {
        Ok(()) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
