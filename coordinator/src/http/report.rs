//! The report of a run, from what the rules measured. `longhand report` computes it from an export.

use std::sync::{Arc, PoisonError};

use axum::extract::{Path, State as Extract};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, run_id};
use super::measured_runs::Wanted;
use super::state::AppState;
use crate::corpus::{grouped, plural};
use crate::domain::state::State;
use crate::report::dashboard_html;
use crate::store::StoreError;

/// Most documents that are measured; of more a sample that stays the same while the run grows.
const MAX_MEASURED: usize = 10_000;

pub(super) async fn report(
    Extract(state): Extract<Arc<AppState>>,
    Path(run): Path<String>,
) -> Result<Response, ApiError> {
    let (id, coordinator) = (run_id(&run)?, state.coordinator()?);
    let store = coordinator.store();
    let run = store.run(&id).await?.ok_or(StoreError::NotFound { kind: "run", name: id.to_string() })?;
    let handle = coordinator.run_stats().refreshed(store, &id).await?;
    let has_verdict = |state| matches!(state, State::Accepted | State::Rejected);
    let all: Vec<Wanted> = {
        let stats = handle.read();
        let ended = stats.documents().filter(|document| has_verdict(document.state) && document.steps > 0);
        ended.map(|document| (document.id, document.generated)).collect()
    };
    let (total, step) = (all.len(), all.len().div_ceil(MAX_MEASURED).next_power_of_two());
    let in_sample =
        |(id, _): &Wanted| usize::from(u16::from_be_bytes([id.as_bytes()[0], id.as_bytes()[1]])) % step == 0;
    let sample: Vec<Wanted> = all.into_iter().filter(in_sample).collect();
    let wanted = sample.len();
    let measured = state.reports.measure(store, &run, sample).await?;
    let report = measured.report.lock().unwrap_or_else(PoisonError::into_inner);
    let (done, mut notes) = (measured.known(), Vec::new());
    if step > 1 {
        notes.push(format!(
            "Measured on a sample: {} of {}. `longhand report` on an export measures all.",
            grouped(wanted as u64),
            plural(total as u64, "document")
        ));
    }
    if done < wanted {
        let (done, wanted) = (grouped(done as u64), plural(wanted as u64, "document"));
        notes.push(format!("Measured so far: {done} of {wanted}. The page is loaded again as more are."));
    }
    let page = dashboard_html(&report, &id, done < wanted, state.config.read_only, &notes);
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response())
}
