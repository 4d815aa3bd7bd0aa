//! The JSON API of the dashboard. Texts are data; the pages insert them as text nodes, never as markup.

mod actions;
mod documents;
mod events;
mod requeue;
mod runs;
mod workers;

use std::sync::Arc;

use axum::extract::{Extension, State as Extract};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::error::{ApiResult, Caller, SharedState};
use super::guard::Access;
use super::state::AppState;

/// `read_only` leaves out what changes a run.
pub(super) fn routes(read_only: bool) -> Router<Arc<AppState>> {
    if read_only { reading() } else { reading().merge(changing()) }
}

fn changing() -> Router<Arc<AppState>> {
    Router::new()
        .route("/api/workers/{worker}/drain", post(workers::drain))
        .route("/api/runs/{run}/pause", post(runs::pause))
        .route("/api/runs/{run}/cancel", post(runs::cancel))
        .route("/api/runs/{run}/requeue", post(requeue::requeue))
}

fn reading() -> Router<Arc<AppState>> {
    Router::new()
        .route("/api/site", get(site))
        .route("/api/events", get(events::events))
        .route("/api/workers", get(workers::workers))
        .route("/api/runs", get(runs::runs))
        .route("/api/runs/{run}", get(runs::run))
        .route("/api/runs/{run}/documents", get(documents::documents))
        .route("/api/runs/{run}/documents/{document}", get(documents::document))
        .route("/api/runs/{run}/documents/{document}/text", get(documents::text))
        .route("/api/runs/{run}/documents/{document}/past/{number}", get(documents::revision))
}

/// Version, user and settings, for every page.
async fn site(Extract(state): SharedState, Extension(who): Caller, Extension(access): Extension<Access>) -> ApiResult {
    Ok(Json(json!({
        "version": longhand_proto::build(),
        "who": who.name,
        "log_in": state.config.tokens.is_some(),
        "trace_url": state.config.trace_url,
        // A finished folder has no workers.
        "finished": state.config.read_only,
        "read_only": state.config.read_only || access.is_read_only(),
    })))
}
