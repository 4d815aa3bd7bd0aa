//! All runs, one run in figures, and what can be done to a run as a whole.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, Path, State as Extract};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Asker, Here, Refusal, actions, conflict, run_id, wrong};
use crate::http::Served;
use crate::run_stats::{LINES, details, summary};
use crate::store::{Counts, Run, Store, StoreError};

/// Runs in the list whose costs and speed are told; all others show their counts.
const TOLD: usize = 8;

pub(super) async fn runs(Extract(site): Here) -> Answer {
    let store = site.behind()?.store();
    let mut runs: Vec<(Run, Counts)> = Vec::new();
    for run in store.runs().await? {
        let counts = store.counts(&run.id).await?;
        runs.push((run, counts));
    }
    // Those that go on first, then the latest.
    runs.sort_by_key(|(run, counts)| (counts.unfinished() == 0, std::cmp::Reverse(run.created_ms)));
    let (now, mut room) = (store.now_ms().await?, LINES as u64 / 2);
    let told = runs.iter().take(TOLD).take_while(|(_, counts)| {
        let fits = counts.total() <= room;
        room = room.saturating_sub(counts.total());
        fits
    });
    let looks = told.map(|(run, _)| told_of(&site, store, run, now));
    let mut told = futures::future::try_join_all(looks).await?.into_iter();
    let found: Vec<_> = (runs.iter())
        .map(|(run, counts)| {
            json!({ "id": run.id, "created_ms": run.created_ms, "paused": run.paused, "counts": counts,
                    "summary": told.next() })
        })
        .collect();
    Ok(Json(json!({ "runs": found, "now_ms": now })))
}

async fn told_of(site: &Served, store: &Arc<dyn Store>, run: &Run, now: u64) -> Result<serde_json::Value, Refusal> {
    let shelf = site.behind()?.run_stats().look(store, &run.id).await?;
    let told = summary(&shelf.read(), now, run.paused);
    Ok(told)
}

pub(super) async fn run(Extract(site): Here, Path(run): Path<String>) -> Answer {
    let store = site.behind()?.store();
    let id = run_id(&run)?;
    let Some(run) = store.run(&id).await? else {
        return Err(Refusal(StatusCode::NOT_FOUND, format!("there is no run {id}")));
    };
    let shelf = site.behind()?.run_stats().look(store, &id).await?;
    let counts = store.counts(&id).await?;
    let actions = actions(store.as_ref(), Some(&id)).await?;
    let now = store.now_ms().await?;
    let (summary, details) = {
        let catalogue = shelf.read();
        (summary(&catalogue, now, run.paused), details(&catalogue, now))
    };
    Ok(Json(json!({
        "run": {
            "id": run.id, "created_ms": run.created_ms, "paused": run.paused, "seed": run.seed.to_string(),
            "recipe_hash": run.recipe_hash, "model": run.policy.model, "priority": run.policy.priority,
        },
        "counts": counts, "summary": summary, "details": details, "actions": actions, "now_ms": now,
    })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    paused: bool,
}

pub(super) async fn pause(
    Extract(site): Here,
    Extension(who): Asker,
    Path(run): Path<String>,
    Json(asked): Json<Pause>,
) -> Answer {
    let run = site.behind()?.pause(&who, &run_id(&run)?, asked.paused).await?;
    Ok(Json(json!({ "paused": run.paused })))
}

/// What to end: one document, or all of the run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    #[serde(default)]
    document: Option<String>,
}

pub(super) async fn cancel(
    Extract(site): Here,
    Extension(who): Asker,
    Path(run): Path<String>,
    Json(asked): Json<Cancel>,
) -> Answer {
    let coordinator = site.behind()?;
    let run = run_id(&run)?;
    if let Some(id) = asked.document {
        coordinator.cancel(&who, &run, id.parse().map_err(wrong)?).await?.map_err(conflict)?;
        return Ok(Json(json!({ "documents": 1 })));
    }
    // It goes to its end even if the browser does not wait for it.
    let coordinator = coordinator.clone();
    let cancelled = tokio::spawn(async move {
        let mut documents = 0;
        loop {
            let (done, more) = coordinator.cancel_page(&who, &run).await?;
            documents += done;
            if !more {
                return Ok::<_, StoreError>(documents);
            }
        }
    });
    let documents = cancelled.await.map_err(|error| StoreError::Other(error.to_string()))??;
    Ok(Json(json!({ "documents": documents })))
}
