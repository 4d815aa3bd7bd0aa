//! All runs, the figures of one run, and operations on a whole run.

use axum::Json;
use axum::extract::{Extension, Path, State as Extract};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::actions::actions;
use crate::control::stall::Stall;
use crate::domain::recipe::Recipe;
use crate::http::error::{ApiError, ApiResult, Caller, SharedState, bad_request, conflict, run_id};
use crate::run_stats::{MAX_SUMMARIES, current_figures, details};
use crate::store::{Counts, Run};

/// Most runs in the list with a summary; the others show counts only.
const MAX_SUMMARISED: usize = 8;
/// Latest runs in the list, beside all that are active.
pub(super) const LATEST_RUNS: u32 = 100;

/// All runs.
pub(super) async fn runs(Extract(state): SharedState) -> ApiResult {
    let coordinator = state.coordinator()?;
    let store = coordinator.store();
    let (mut runs, mut finder): (Vec<(Run, Counts, Value)>, _) = (Vec::new(), coordinator.stall_finder());
    // One more than is shown, to know whether there are more.
    let mut latest = store.latest_runs(LATEST_RUNS + 1).await?;
    let more = latest.len() > LATEST_RUNS as usize;
    latest.truncate(LATEST_RUNS as usize);
    let mut active = store.active_runs().await?;
    active.retain(|run| !latest.iter().any(|shown| shown.id == run.id));
    for run in latest.into_iter().chain(active) {
        let (counts, stall) = finder.counts(&run).await?;
        let stall = stall_json(&run, stall.as_ref());
        runs.push((run, counts, stall));
    }
    // Unfinished runs first, then the latest.
    runs.sort_by_key(|(run, counts, _)| (counts.unfinished() == 0, std::cmp::Reverse(run.created_ms)));
    let (now, mut room) = (store.now_ms().await?, MAX_SUMMARIES as u64 / 2);
    let summarised = runs.iter().take(MAX_SUMMARISED).take_while(|(_, counts, _)| {
        let fits = counts.total() <= room;
        room = room.saturating_sub(counts.total());
        fits
    });
    let summaries = summarised.map(|(run, ..)| current_figures(coordinator.run_stats(), store, run));
    let mut summaries = futures::future::try_join_all(summaries).await?.into_iter();
    let rows: Vec<_> = (runs.iter())
        .map(|(run, counts, stall)| {
            json!({ "id": run.id, "created_ms": run.created_ms, "paused": run.paused, "cancelling": run.cancelling, "counts": counts, "stall": stall,
                    "summary": summaries.next() })
        })
        .collect();
    Ok(Json(json!({ "runs": rows, "more": more, "now_ms": now })))
}

/// Why the run makes no progress; null while it does.
fn stall_json(run: &Run, stall: Option<&Stall>) -> Value {
    stall.map_or(Value::Null, |stall| json!({ "cause": stall.label(), "message": stall.message(&run.id) }))
}

/// One run.
pub(super) async fn run(Extract(state): SharedState, Path(run): Path<String>) -> ApiResult {
    let coordinator = state.coordinator()?;
    let store = coordinator.store();
    let id = run_id(&run)?;
    let Some(run) = store.run(&id).await? else {
        return Err(ApiError(StatusCode::NOT_FOUND, format!("no run {id}")));
    };
    let handle = coordinator.run_stats().refreshed(store, &id).await?;
    let (counts, stall) = coordinator.stall_finder().counts(&run).await?;
    let stall = stall_json(&run, stall.as_ref());
    let actions = actions(store.as_ref(), Some(&id)).await?;
    let now = store.now_ms().await?;
    let summary = current_figures(coordinator.run_stats(), store, &run).await?;
    let details = details(&handle.read(), now);
    Ok(Json(json!({
        "run": {
            "id": run.id, "created_ms": run.created_ms, "paused": run.paused,
            "cancelling": run.cancelling, "seed": run.seed.to_string(),
            "recipe": Recipe::from_toml(&run.recipe).map_or_else(|_| String::new(), |recipe| recipe.name),
            "recipe_hash": run.recipe_hash, "model": run.policy.model, "priority": run.policy.priority,
        },
        "counts": counts, "stall": stall, "summary": summary, "details": details, "actions": actions, "now_ms": now,
    })))
}

/// The new value.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    paused: bool,
}

/// Pauses or resumes a run.
pub(super) async fn pause(
    Extract(state): SharedState,
    Extension(who): Caller,
    Path(run): Path<String>,
    Json(request): Json<Pause>,
) -> ApiResult {
    let run = state.coordinator()?.pause(&who, &run_id(&run)?, request.paused).await?;
    Ok(Json(json!({ "paused": run.paused })))
}

/// What to cancel: one document, or all unfinished ones of the run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    #[serde(default)]
    document: Option<String>,
}

/// Cancels a document or all unfinished documents of a run.
pub(super) async fn cancel(
    Extract(state): SharedState,
    Extension(who): Caller,
    Path(run): Path<String>,
    Json(request): Json<Cancel>,
) -> ApiResult {
    let coordinator = state.coordinator()?;
    let run = run_id(&run)?;
    if let Some(id) = request.document {
        coordinator.cancel(&who, &run, id.parse().map_err(bad_request)?).await?.map_err(conflict)?;
        return Ok(Json(json!({ "documents": 1 })));
    }
    // What is left is ended in the background, and counts as cancelled here: nothing else can become of it.
    let (ended, remaining) = coordinator.cancel_run(&who, &run).await?;
    Ok(Json(json!({ "documents": ended + remaining })))
}
