//! Error responses, and what the handlers of the JSON API take and return.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use longhand_proto::RunId;
use serde_json::{Value, json};

use super::state::AppState;
use crate::control::rpc::{Coordinator, Principal};
use crate::store::StoreError;

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

pub(super) type ApiResult = Result<Json<Value>, ApiError>;
pub(super) type SharedState = Extract<Arc<AppState>>;
pub(super) type Caller = Extension<Principal>;

impl AppState {
    /// The coordinator, or the error of a worker's port.
    pub(super) fn coordinator(&self) -> Result<&Coordinator, ApiError> {
        self.config
            .coordinator
            .as_ref()
            .ok_or_else(|| ApiError(StatusCode::NOT_FOUND, "this port is of a worker, which has no runs".into()))
    }
}

pub(super) fn bad_request(error: impl ToString) -> ApiError {
    ApiError(StatusCode::BAD_REQUEST, error.to_string())
}

pub(super) fn conflict(reason: String) -> ApiError {
    ApiError(StatusCode::CONFLICT, reason)
}

pub(super) fn run_id(text: &str) -> Result<RunId, ApiError> {
    text.parse().map_err(bad_request)
}
