//! Workers as of their last heartbeat, and the drain operation.

use axum::Json;
use axum::extract::{Extension, Path, State as Extract};
use longhand_proto::WorkerId;
use serde_json::{Value, json};

use super::actions::actions;
use crate::http::error::{ApiResult, Caller, SharedState, bad_request, conflict};

/// Most workers on the page.
const MAX_WORKERS: usize = 1_000;

/// All workers, and the runs with leased documents.
pub(super) async fn workers(Extract(state): SharedState) -> ApiResult {
    let store = state.coordinator()?.store();
    let workers = store.workers().await?;
    let rows: Vec<Value> = (workers.iter().take(MAX_WORKERS))
        .map(|seen| {
            let embedded = state.config.embedded_worker.as_ref() == Some(&seen.worker);
            json!({ "id": seen.worker, "vitals": seen.report, "seen_ms": seen.seen_ms, "drain": seen.drain,
                    "inside": embedded })
        })
        .collect();
    let mut runs = Vec::new();
    for run in store.active_runs().await? {
        if store.counts(&run.id).await?.leased > 0 {
            runs.push(run.id);
        }
    }
    Ok(Json(json!({
        "workers": rows, "total": workers.len(), "now_ms": store.now_ms().await?, "runs": runs,
        "lease_ms": state.coordinator()?.options().lease.as_millis() as u64,
        "actions": actions(store.as_ref(), None).await?,
    })))
}

/// Asks a worker to release its tasks and exit.
pub(super) async fn drain(
    Extract(state): SharedState,
    Extension(who): Caller,
    Path(worker): Path<String>,
) -> ApiResult {
    let worker: WorkerId = worker.parse().map_err(bad_request)?;
    if state.config.embedded_worker.as_ref() == Some(&worker) {
        return Err(conflict(
            "cannot drain the worker of `longhand run`: pause the run, or stop the program with Ctrl-C".into(),
        ));
    }
    state.coordinator()?.drain(&who, &worker).await?;
    Ok(Json(json!({ "drain": worker })))
}
