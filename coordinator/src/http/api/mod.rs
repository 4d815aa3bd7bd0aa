//! The JSON API of the dashboard. Texts are data; the pages insert them as text nodes, never as markup.

mod documents;
mod events;
mod requeue;
mod runs;
mod workers;

use std::sync::Arc;

use axum::extract::{Extension, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use longhand_proto::RunId;
use serde_json::{Value, json};

use super::AppState;
use crate::control::rpc::{Coordinator, Principal};
use crate::store::{Action, Store, StoreError};

/// Most actions that a page shows.
const MAX_ACTIONS: u32 = 50;
/// Actions of the same kind by the same person within this time are shown as one: a large requeue is logged page by page.
const MERGE_WITHIN_MS: u64 = 60_000;

pub(super) fn routes() -> Router<Arc<AppState>> {
    Router::new()
        .route("/api/site", get(site))
        .route("/api/events", get(events::events))
        .route("/api/workers", get(workers::workers))
        .route("/api/workers/{worker}/drain", post(workers::drain))
        .route("/api/runs", get(runs::runs))
        .route("/api/runs/{run}", get(runs::run))
        .route("/api/runs/{run}/pause", post(runs::pause))
        .route("/api/runs/{run}/cancel", post(runs::cancel))
        .route("/api/runs/{run}/requeue", post(requeue::requeue))
        .route("/api/runs/{run}/documents", get(documents::documents))
        .route("/api/runs/{run}/documents/{document}", get(documents::document))
        .route("/api/runs/{run}/documents/{document}/past/{number}", get(documents::revision))
}

/// An error response: status and message.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) StatusCode, pub(super) String);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
            StoreError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Full(_) | StoreError::Refused(_) | StoreError::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

type ApiResult = Result<Json<Value>, ApiError>;
type SharedState = Extract<Arc<AppState>>;
type Caller = Extension<Principal>;

impl AppState {
    /// The coordinator, or the error of a worker's port.
    pub(super) fn coordinator(&self) -> Result<&Coordinator, ApiError> {
        self.config
            .coordinator
            .as_ref()
            .ok_or_else(|| ApiError(StatusCode::NOT_FOUND, "this port is of a worker, which has no runs".into()))
    }
}

fn bad_request(error: impl ToString) -> ApiError {
    ApiError(StatusCode::BAD_REQUEST, error.to_string())
}

fn conflict(reason: String) -> ApiError {
    ApiError(StatusCode::CONFLICT, reason)
}

pub(super) fn run_id(text: &str) -> Result<RunId, ApiError> {
    text.parse().map_err(bad_request)
}

/// Version, user and settings, for every page.
async fn site(Extract(state): SharedState, Extension(who): Caller) -> ApiResult {
    Ok(Json(json!({
        "version": longhand_proto::build(),
        "who": who.name,
        "log_in": state.config.tokens.is_some(),
        "trace_url": state.config.trace_url,
    })))
}

/// The latest actions, merged where they are pages of one operation.
async fn actions(store: &dyn Store, run: Option<&RunId>) -> Result<Vec<Action>, StoreError> {
    let mut merged: Vec<Action> = Vec::new();
    for action in store.audit_log(run, crate::store::AUDIT_LOG_ENTRIES).await? {
        let full = merged.len() == MAX_ACTIONS as usize;
        match merged.last_mut() {
            Some(last)
                if last.documents > 1
                    && (last.what, &last.who, &last.about) == (action.what, &action.who, &action.about)
                    && last.at_ms.saturating_sub(action.at_ms) <= MERGE_WITHIN_MS =>
            {
                last.documents += action.documents;
                last.at_ms = action.at_ms;
            }
            Some(_) if full => break,
            Some(_) | None => merged.push(action),
        }
    }
    Ok(merged)
}
