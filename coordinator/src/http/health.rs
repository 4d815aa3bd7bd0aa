//! Health checks and metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use longhand_proto::clock;
use prometheus::{Encoder, TextEncoder};

use super::state::AppState;
use crate::control::rpc::gather_rejected_tokens;
use crate::store::Store;

/// Longest time for the store to answer a readiness check or a scrape.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for which an answer of the store holds: anybody may ask.
const READY_INTERVAL: Duration = Duration::from_secs(1);

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
    // Those that come while the store is asked wait for its answer.
    let mut last = state.readiness.lock().await;
    let answer = match &*last {
        Some((at, answer)) if clock::now().duration_since(*at) < READY_INTERVAL => answer.clone(),
        Some(_) | None => {
            let answer = store_answers(coordinator.store().as_ref()).await;
            *last = Some((clock::now(), answer.clone()));
            answer
        }
    };
    match answer {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => unready(reason),
    }
}

async fn store_answers(store: &dyn Store) -> Result<(), String> {
    match tokio::time::timeout(STORE_TIMEOUT, store.now_ms()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            Err("the store does not answer\n".into())
        }
        Err(_) => Err(format!("the store did not answer within {} s\n", STORE_TIMEOUT.as_secs())),
    }
}

/// All metrics in Prometheus's text format. Metrics of the process are returned even if the store is down.
pub(super) async fn metrics(State(state): State<Arc<AppState>>) -> Response {
    let mut families = Vec::new();
    if let Some(coordinator) = &state.config.coordinator {
        families =
            coordinator.metrics().gather(coordinator.store().as_ref(), coordinator.stall_finder(), STORE_TIMEOUT).await;
    }
    families.extend(gather_rejected_tokens());
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
