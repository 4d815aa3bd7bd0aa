//! What the pages ask and do, as JSON. Texts go out as data only; the pages put them in as text, never as markup.

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

use super::Served;
use crate::control::rpc::{Coordinator, Principal};
use crate::store::{Action, Store, StoreError};

/// Actions that a page shows.
const ACTIONS: u32 = 50;
/// Actions of one kind by one person within so long are shown as one: a large requeue goes page by page.
const TOGETHER_MS: u64 = 60_000;

pub(super) fn routes() -> Router<Arc<Served>> {
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
        .route("/api/runs/{run}/documents/{document}/past/{number}", get(documents::past))
}

#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
            StoreError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Full(_) | StoreError::Refused(_) | StoreError::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

type Answer = Result<Json<Value>, Refusal>;
type Here = Extract<Arc<Served>>;
type Asker = Extension<Principal>;

impl Served {
    pub(super) fn behind(&self) -> Result<&Coordinator, Refusal> {
        self.site.coordinator.as_ref().ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "a worker has no runs".into()))
    }
}

fn wrong(error: impl ToString) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, error.to_string())
}

fn conflict(reason: String) -> Refusal {
    Refusal(StatusCode::CONFLICT, reason)
}

pub(super) fn run_id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(wrong)
}

/// What every page shows, and what its links are made of.
async fn site(Extract(served): Here, Extension(who): Asker) -> Answer {
    Ok(Json(json!({
        "version": longhand_proto::build(),
        "who": who.name,
        "log_in": served.site.tokens.is_some(),
        "trace_url": served.site.trace_url,
    })))
}

/// The latest actions, those that belong together as one.
async fn actions(store: &dyn Store, run: Option<&RunId>) -> Result<Vec<Action>, StoreError> {
    let mut shown: Vec<Action> = Vec::new();
    for action in store.audit_log(run, crate::store::AUDIT_LOG_ENTRIES).await? {
        let full = shown.len() == ACTIONS as usize;
        match shown.last_mut() {
            Some(last)
                if last.documents > 1
                    && (last.what, &last.who, &last.about) == (action.what, &action.who, &action.about)
                    && last.at_ms.saturating_sub(action.at_ms) <= TOGETHER_MS =>
            {
                last.documents += action.documents;
                last.at_ms = action.at_ms;
            }
            Some(_) if full => break,
            Some(_) | None => shown.push(action),
        }
    }
    Ok(shown)
}
