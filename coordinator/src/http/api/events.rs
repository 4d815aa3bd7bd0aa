//! Server-sent events: a page is notified of changes, then requests its data as usual. An open page costs one poll of the
//! store a second.

use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use longhand_proto::RunId;
use serde::Deserialize;

use super::runs::LATEST_RUNS;
use crate::http::error::{ApiError, SharedState, run_id};
use crate::http::guard::Access;
use crate::http::state::AppState;
use crate::store::Result;

/// Interval of polls for changes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// Polls without a change after which a page is notified anyway: progress of unfinished sections is no change of a record.
const MAX_QUIET_POLLS: u32 = 3;

/// The run whose changes are reported; all runs and workers if none.
#[derive(Debug, Deserialize)]
pub(super) struct Scope {
    run: Option<String>,
}

/// The event stream.
pub(super) async fn events(
    Extract(state): SharedState,
    Extension(access): Extension<Access>,
    Query(scope): Query<Scope>,
) -> Result<Response, ApiError> {
    let run = scope.run.as_deref().map(run_id).transpose()?;
    state.coordinator()?;
    let Ok(permit) = Arc::clone(&state.streams).try_acquire_owned() else {
        return Err(ApiError(StatusCode::SERVICE_UNAVAILABLE, "too many open pages; this one polls".into()));
    };
    let watcher = ChangeWatcher { state, access, run, last: None, quiet: 0 };
    let events = stream::unfold((watcher, permit), |(mut watcher, permit)| async move {
        watcher.changed().await?;
        // Browsers ignore an event without data.
        Some((Ok::<_, Infallible>(Event::default().event("change").data("new")), (watcher, permit)))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response())
}

struct ChangeWatcher {
    state: Arc<AppState>,
    access: Access,
    run: Option<RunId>,
    last: Option<u64>,
    quiet: u32,
}

impl ChangeWatcher {
    /// Waits for a change; none when the server shuts down, or the page may see no more.
    async fn changed(&mut self) -> Option<()> {
        loop {
            self.state.shutdown.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await?;
            if !self.access.is_valid() {
                return None;
            }
            let now = self.state.shutdown.run_until_cancelled(self.fingerprint()).await?;
            // The page gets the error with its next request.
            let now = now.unwrap_or_else(|error| {
                tracing::debug!(%error, "polling for changes failed");
                None
            });
            self.quiet += 1;
            if now != self.last || self.quiet >= MAX_QUIET_POLLS {
                (self.last, self.quiet) = (now, 0);
                return Some(());
            }
        }
    }

    /// A hash that differs after a change.
    async fn fingerprint(&self) -> Result<Option<u64>> {
        let Some(coordinator) = &self.state.config.coordinator else { return Ok(None) };
        let store = coordinator.store();
        let mut hash = DefaultHasher::new();
        match &self.run {
            Some(run) => {
                let handle = coordinator.run_stats().refreshed(store, run).await?;
                let paused = store.run(run).await?.map(|run| run.paused);
                (handle.read().change_seq, paused).hash(&mut hash);
            }
            None => {
                let latest = store.latest_runs(LATEST_RUNS).await?;
                for run in store.active_runs().await?.into_iter().chain(latest) {
                    let counts = store.counts(&run.id).await?;
                    (run.id.as_str(), run.paused, format!("{counts:?}")).hash(&mut hash);
                }
            }
        }
        Ok(Some(hash.finish()))
    }
}
