//! What machines ask: is it alive, can it work, what are its numbers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use prometheus::{Encoder, TextEncoder};

use super::Served;

/// Longest time that the store may take to be called ready, and to count for a scrape.
const STORE: Duration = Duration::from_secs(5);

/// The process answers.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// It is not about to stop, and the store answers too.
pub(super) async fn ready(State(served): State<Arc<Served>>) -> Response {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if served.site.stopping.is_cancelled() {
        return unready("stopping\n".into());
    }
    let Some(coordinator) = &served.site.coordinator else { return "ok\n".into_response() };
    match tokio::time::timeout(STORE, coordinator.store().now_ms()).await {
        Ok(Ok(_)) => "ok\n".into_response(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            unready("the store does not answer\n".into())
        }
        Err(_) => unready(format!("the store did not answer within {} s\n", STORE.as_secs())),
    }
}

/// All series, in Prometheus's text format. Without the store those of the process are shown all the same: a scrape that
/// fails when something is wrong tells nothing when it matters.
pub(super) async fn metrics(State(served): State<Arc<Served>>) -> Response {
    let mut families = Vec::new();
    if let Some(coordinator) = &served.site.coordinator {
        families = coordinator.metrics().gather(coordinator.store().as_ref(), STORE).await;
    }
    for numbers in &served.site.numbers {
        families.extend(numbers());
    }
    let mut text = Vec::new();
    match TextEncoder::new().encode(&families, &mut text) {
        Ok(()) => ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "numbers cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
