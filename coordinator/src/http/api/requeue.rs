//! Requeueing: one document, or all that a filter selects.

use axum::Json;
use axum::extract::{Extension, Path, State as Extract};
use longhand_proto::{DocumentId, RunId};
use serde::Deserialize;
use serde_json::json;

use crate::control::admin::{Requeued, RewriteScope, Selector};
use crate::control::rpc::{Coordinator, Principal};
use crate::domain::state::State;
use crate::http::error::{ApiError, ApiResult, Caller, SharedState, bad_request, conflict, run_id};
use crate::run_stats::{DocumentFilter, DocumentSummary};
use crate::store::StoreError;

/// Documents of one entry of the audit log.
const PAGE: usize = 64;

/// What to requeue: one document, or all that a filter selects.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requeue {
    #[serde(default)]
    document: Option<String>,
    #[serde(default)]
    filter: Option<DocumentFilter>,
    /// With a filter: the `mark` of the response to a `dry_run`. Documents that changed since then are skipped, so that
    /// only what was confirmed is requeued.
    #[serde(default, rename = "mark")]
    change_seq: Option<u64>,
    /// First section to rewrite, from 1.
    #[serde(default)]
    from_section: Option<usize>,
    /// Rewrites that section only.
    #[serde(default)]
    only: bool,
    #[serde(default)]
    dry_run: bool,
}

/// Requeues, or with `dry_run` returns what would be requeued.
pub(super) async fn requeue(
    Extract(state): SharedState,
    Extension(who): Caller,
    Path(run): Path<String>,
    Json(request): Json<Requeue>,
) -> ApiResult {
    let coordinator = state.coordinator()?;
    let run = run_id(&run)?;
    let extent = match (request.from_section.map(|section| section.checked_sub(1)), request.only) {
        (None, false) => RewriteScope::AsNeeded,
        (Some(Some(index)), false) => RewriteScope::From(index),
        (Some(Some(index)), true) => RewriteScope::Only(index),
        (Some(None), _) => return Err(bad_request("invalid from_section 0: sections are counted from 1")),
        (None, true) => return Err(bad_request("`only` requires `from_section`")),
    };
    let done = match (request.document, request.filter) {
        (Some(id), None) => {
            let which = Selector::Document(id.parse().map_err(bad_request)?);
            let done = coordinator.requeue(&who, &run, &which, extent, None, request.dry_run).await?;
            if let Some((_, reason)) = done.skipped.first() {
                return Err(conflict(reason.clone()));
            }
            done
        }
        (None, Some(filter)) if extent == RewriteScope::AsNeeded => {
            let selection = Selected::find(coordinator, &run, filter.normalized()).await?;
            match request.change_seq {
                _ if request.dry_run => return Ok(Json(selection.to_json())),
                Some(change_seq) => selection.requeue(coordinator.clone(), who, run, change_seq).await?,
                None => {
                    return Err(bad_request(
                        "missing `mark`: send the request with `dry_run` first, then with the `mark` of its response",
                    ));
                }
            }
        }
        _ => {
            return Err(bad_request("expected either `document` or `filter`, and `from_section` only with `document`"));
        }
    };
    Ok(Json(json!({ "documents": done.documents, "redone": done.redone, "skipped": done.skipped.len() })))
}

/// The documents that a filter selects and that can be requeued.
#[derive(Debug)]
struct Selected {
    filter: DocumentFilter,
    /// Each with the number of its latest change.
    documents: Vec<(DocumentId, u64)>,
    sections_rewritten: u64,
    /// Number of the latest change in the run.
    change_seq: u64,
}

impl Selected {
    async fn find(coordinator: &Coordinator, run: &RunId, filter: DocumentFilter) -> Result<Self, ApiError> {
        let handle = coordinator.run_stats().refreshed(coordinator.store(), run).await?;
        let stats = handle.read();
        if !stats.complete {
            return Err(conflict("the run is still being loaded; retry".into()));
        }
        // Accepted documents are requeued only if the filter names that state.
        let eligible = |document: &&DocumentSummary| {
            document.can_requeue() && (document.state != State::Accepted || filter.state == Some(State::Accepted))
        };
        let found: Vec<&DocumentSummary> =
            stats.documents().filter(|document| filter.matches(document)).filter(eligible).collect();
        let documents = found.iter().map(|document| (document.id, document.change_seq)).collect();
        let sections_rewritten = found.iter().map(|document| document.sections_rewritten()).sum();
        Ok(Self { documents, sections_rewritten, change_seq: stats.change_seq, filter })
    }

    fn to_json(&self) -> serde_json::Value {
        json!({ "documents": self.documents.len(), "redone": self.sections_rewritten, "mark": self.change_seq })
    }

    /// Requeues what has not changed since `change_seq`; continues if the browser disconnects.
    async fn requeue(
        self,
        coordinator: Coordinator,
        who: Principal,
        run: RunId,
        change_seq: u64,
    ) -> Result<Requeued, ApiError> {
        let words = self.filter.to_string();
        let ids: Vec<DocumentId> =
            self.documents.into_iter().filter(|(_, changed)| *changed <= change_seq).map(|(id, _)| id).collect();
        let work = tokio::spawn(async move {
            let mut sum = Requeued::default();
            for ids in ids.chunks(PAGE) {
                let which = Selector::Documents { ids: ids.to_vec(), description: words.clone() };
                let done = coordinator.requeue(&who, &run, &which, RewriteScope::AsNeeded, None, false).await?;
                sum.documents += done.documents;
                sum.redone += done.redone;
                sum.skipped.extend(done.skipped);
            }
            Ok::<_, StoreError>(sum)
        });
        Ok(work.await.map_err(|error| StoreError::Other(format!("requeueing failed: {error}")))??)
    }
}
