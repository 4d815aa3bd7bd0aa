//! A run's report, as `longhand report` makes it of a folder, out of the store.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt, stream};
use longhand_proto::DocumentId;

use super::Served;
use super::api::{Refusal, run_id};
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::report::{Report, linked};
use crate::store::StoreError;

/// Documents that are measured, of more a fair sample: seconds of one core.
const MEASURED: usize = 1_000;
/// Documents in memory at a time.
const PART: usize = 32;

pub(super) async fn report(Extract(site): Extract<Arc<Served>>, Path(run): Path<String>) -> Result<Response, Refusal> {
    let (id, store) = (run_id(&run)?, site.behind()?.store());
    let run = store.run(&id).await?.ok_or(StoreError::NotFound { kind: "run", name: id.to_string() })?;
    let recipe = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
    let busy =
        || Refusal(StatusCode::SERVICE_UNAVAILABLE, "another report is being made; ask again in a moment".into());
    let _turn = site.report.try_lock().map_err(|_| busy())?;
    let shelf = site.behind()?.run_stats().look(store, &id).await?;
    let judged = |state| matches!(state, State::Accepted | State::Rejected);
    let all: Vec<DocumentId> = shelf.read().documents().filter(|line| judged(line.state)).map(|line| line.id).collect();
    let step = all.len().div_ceil(MEASURED).max(1);
    let chosen: Vec<DocumentId> = all.iter().copied().step_by(step).collect();
    let mut report = Report::new(id.to_string(), recipe);
    for part in chosen.chunks(PART) {
        let asked: Vec<_> = part.iter().map(|id| store.get(*id)).collect();
        let records: Vec<_> = stream::iter(asked).buffered(PART).try_collect().await?;
        let measured = tokio::task::spawn_blocking(move || {
            for record in records.into_iter().flatten() {
                // One that was requeued since, or cannot be read, has nothing to measure.
                let Ok(document) = record.document() else { continue };
                if let Some(assembled) = document.assembled() {
                    report.add(record.id, &assembled);
                }
            }
            report
        });
        report = measured.await.map_err(|error| StoreError::Other(format!("the report was not made: {error}")))?;
    }
    let note = (step > 1).then(|| {
        let (some, all) = (chosen.len(), all.len());
        format!("{some} of {all} documents, evenly chosen. `longhand report` on an export measures all.")
    });
    let page = linked(&report, &format!("/runs/{id}"), note.as_deref().unwrap_or_default());
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response())
}
