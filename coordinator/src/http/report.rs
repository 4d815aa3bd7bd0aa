//! The report of a run, computed from the store. `longhand report` computes it from an export.

use std::sync::Arc;

use axum::extract::{Path, State as Extract};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, TryStreamExt, stream};
use longhand_proto::DocumentId;

use super::error::{ApiError, run_id};
use super::state::AppState;
use crate::corpus::{grouped, plural};
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::report::{Report, dashboard_html};
use crate::store::StoreError;

/// Most documents that are measured, which takes seconds of one core; of more an evenly spaced sample.
const MAX_MEASURED: usize = 1_000;
/// Documents in memory at a time.
const BATCH: usize = 32;

pub(super) async fn report(
    Extract(state): Extract<Arc<AppState>>,
    Path(run): Path<String>,
) -> Result<Response, ApiError> {
    let (id, coordinator) = (run_id(&run)?, state.coordinator()?);
    let store = coordinator.store();
    let run = store.run(&id).await?.ok_or(StoreError::NotFound { kind: "run", name: id.to_string() })?;
    let recipe = Recipe::from_toml(&run.recipe).map_err(|error| StoreError::Refused(error.to_string()))?;
    let busy = || ApiError(StatusCode::SERVICE_UNAVAILABLE, "another report is being computed; retry".into());
    let _guard = state.report_lock.try_lock().map_err(|_| busy())?;
    let handle = coordinator.run_stats().refreshed(store, &id).await?;
    let has_verdict = |state| matches!(state, State::Accepted | State::Rejected);
    let all: Vec<DocumentId> = {
        let stats = handle.read();
        stats.documents().filter(|document| has_verdict(document.state)).map(|document| document.id).collect()
    };
    let step = all.len().div_ceil(MAX_MEASURED).max(1);
    let sample: Vec<DocumentId> = all.iter().copied().step_by(step).collect();
    let mut report = Report::new(id.to_string(), recipe);
    let mut unreadable = 0;
    for batch in sample.chunks(BATCH) {
        let calls: Vec<_> = batch.iter().map(|id| store.get(*id)).collect();
        let records: Vec<_> = stream::iter(calls).buffered(BATCH).try_collect().await?;
        let measured = tokio::task::spawn_blocking(move || {
            let mut unreadable = 0;
            for record in records.into_iter().flatten() {
                match record.document() {
                    // One that was requeued since has no whole text.
                    Ok(document) => {
                        if let Some(assembled) = document.assembled() {
                            report.add(record.id, &assembled);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(document = %record.id, %error, "the stored document cannot be read");
                        unreadable += 1;
                    }
                }
            }
            (report, unreadable)
        });
        let failed: u64;
        (report, failed) = measured.await.map_err(|error| StoreError::Other(format!("the report failed: {error}")))?;
        unreadable += failed;
    }
    let mut notes = Vec::new();
    if step > 1 {
        notes.push(format!(
            "Measured on an evenly spaced sample: {} of {}. `longhand report` on an export measures all.",
            grouped(sample.len() as u64),
            plural(all.len() as u64, "document")
        ));
    }
    if unreadable > 0 {
        notes.push(format!("{} could not be read from the store and are not counted.", plural(unreadable, "document")));
    }
    let page = dashboard_html(&report, &format!("/runs/{id}"), &notes);
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response())
}
