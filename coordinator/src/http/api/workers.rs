//! The workers as they last spoke, and the button that sends one home.

use axum::Json;
use axum::extract::{Extension, Path, State as Extract};
use longhand_proto::WorkerId;
use serde_json::{Value, json};

use super::{Answer, Asker, Here, actions, conflict, wrong};

/// Workers of one page: more would be read by nobody.
const SHOWN: usize = 1_000;

pub(super) async fn workers(Extract(site): Here) -> Answer {
    let store = site.behind()?.store();
    let workers = store.workers().await?;
    let shown: Vec<Value> = (workers.iter().take(SHOWN))
        .map(|seen| {
            let inside = site.site.inside.as_ref() == Some(&seen.worker);
            json!({ "id": seen.worker, "vitals": seen.report, "seen_ms": seen.seen_ms, "drain": seen.drain,
                    "inside": inside })
        })
        .collect();
    let mut runs = Vec::new();
    for run in store.runs().await? {
        if store.counts(&run.id).await?.leased > 0 {
            runs.push(run.id);
        }
    }
    Ok(Json(json!({
        "workers": shown, "total": workers.len(), "now_ms": store.now_ms().await?, "runs": runs,
        "lease_ms": site.behind()?.options().lease.as_millis() as u64,
        "actions": actions(store.as_ref(), None).await?,
    })))
}

pub(super) async fn drain(Extract(site): Here, Extension(who): Asker, Path(worker): Path<String>) -> Answer {
    let worker: WorkerId = worker.parse().map_err(wrong)?;
    if site.site.inside.as_ref() == Some(&worker) {
        return Err(conflict("this worker is part of `longhand run`: pause the run, or stop it with Ctrl-C".into()));
    }
    site.behind()?.drain(&who, &worker).await?;
    Ok(Json(json!({ "drain": worker })))
}
