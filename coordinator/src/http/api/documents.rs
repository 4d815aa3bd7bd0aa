//! A run's documents, page by page, and one document with its attempts and revisions.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use longhand_proto::DocumentId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::actions::actions;
use crate::control::admin;
use crate::domain::document::{Document, assemble};
use crate::domain::recipe::Recipe;
use crate::domain::rule::Bound;
use crate::http::error::{ApiError, ApiResult, SharedState, bad_request, run_id};
use crate::http::state::AppState;
use crate::run_stats::{DocumentFilter, DocumentSummary};
use crate::store::{Attempt, Revision, StoreError};
use crate::text::filter;

/// Documents of one page of a list.
const PAGE: usize = 50;
/// Most workers, causes and errors offered as filter options.
const MAX_OPTIONS: usize = 200;

/// Order and page of the list.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PageQuery {
    sort: Order,
    page: usize,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Submitted,
    Changed,
    /// The longest processing time first.
    Time,
    /// The longest text first.
    Words,
    /// The shortest text first.
    Shortest,
    /// The lowest length score first.
    Score,
    /// The most failed attempts first.
    Tries,
}

/// One page of a run's documents, filtered and sorted, with the options of the filters.
pub(super) async fn documents(
    Extract(state): SharedState,
    Path(run): Path<String>,
    Query(filter): Query<DocumentFilter>,
    Query(query): Query<PageQuery>,
) -> ApiResult {
    let store = state.coordinator()?.store();
    let id = run_id(&run)?;
    if store.run(&id).await?.is_none() {
        return Err(StoreError::NotFound { kind: "run", name: id.to_string() }.into());
    }
    let handle = state.coordinator()?.run_stats().refreshed(store, &id).await?;
    let (stats, filter) = (handle.read(), filter.normalized());
    let mut found: Vec<&DocumentSummary> = stats.documents().filter(|document| filter.matches(document)).collect();
    match query.sort {
        Order::Submitted => {}
        Order::Changed => found.sort_by_key(|document| Reverse(document.changed_ms)),
        Order::Time => found.sort_by_key(|document| Reverse(document.spent_ms)),
        Order::Words => found.sort_by_key(|document| Reverse(document.words)),
        Order::Shortest => found.sort_by_key(|document| document.words),
        Order::Score => found.sort_by(|a, b| a.score.unwrap_or(101.0).total_cmp(&b.score.unwrap_or(101.0))),
        Order::Tries => found.sort_by_key(|document| Reverse(document.tries)),
    }
    let total = found.len();
    let page = query.page.min(total.saturating_sub(1) / PAGE);
    let items = &found[page * PAGE..total.min((page + 1) * PAGE)];
    let options = |of: fn(&DocumentSummary) -> &str| -> Vec<&str> {
        let all: BTreeSet<&str> = stats.documents().map(of).filter(|text| !text.is_empty()).collect();
        all.into_iter().take(MAX_OPTIONS).collect()
    };
    let errors: BTreeSet<&str> =
        stats.documents().flat_map(|document| &document.faults).map(String::as_str).take(MAX_OPTIONS).collect();
    Ok(Json(json!({
        "total": total, "page": page, "pages": total.div_ceil(PAGE).max(1), "items": items,
        "reasons": options(|document| &document.reason), "workers": options(|document| &document.worker), "errors": errors,
        "candidates": stats.documents().any(|document| document.candidate > 0), "complete": stats.complete, "listed": stats.documents().count(), "read": stats.read,
    })))
}

/// One document.
pub(super) async fn document(Extract(state): SharedState, Path((run, id)): Path<(String, String)>) -> ApiResult {
    let store = state.coordinator()?.store();
    let (run, id): (_, DocumentId) = (run_id(&run)?, id.parse().map_err(bad_request)?);
    let record = admin::find(store.as_ref(), &run, id).await?;
    let attempts = store.attempts(id).await?;
    let history = store.history(id).await?;
    let mut actions = actions(store.as_ref(), Some(&run)).await?;
    actions.retain(|action| action.about == id.to_string());
    let recipe = store.run(&run).await?.and_then(|run| Recipe::from_toml(&run.recipe).ok()).unwrap_or_default();
    let document = record.document().ok();
    let candidates = match &document {
        Some(document) => candidates(&state, document).await?,
        None => Vec::new(),
    };
    let lease = record
        .lease
        .as_ref()
        .map(|lease| json!({ "worker": lease.worker, "granted_ms": lease.granted_ms, "progress": lease.progress }));
    Ok(Json(json!({
        "id": record.id, "seq": record.seq, "state": record.state, "reason": record.reason, "due_ms": record.due_ms,
        "counters": record.counters, "lease": lease, "flushed": record.flushed, "changed_ms": record.changed_ms,
        "checkpoint_tokens": record.checkpoint.as_ref().map(|checkpoint| checkpoint.tokens.len()),
        "now_ms": store.now_ms().await?,
        "body": body(&record.body)?,
        "measures": document.as_ref().map_or_else(Vec::new, |document| measures(document, &recipe)),
        "candidates": candidates,
        "attempts": attempts.iter().map(attempt_json).collect::<Vec<_>>(),
        "history": history.iter().map(revision_json).collect::<Vec<_>>(),
        "actions": actions,
    })))
}

/// What every rule says of a finished document: value, threshold and the place that decided.
fn measures(document: &Document, recipe: &Recipe) -> Vec<Value> {
    let Some(assembled) = document.assembled() else { return Vec::new() };
    let measured = filter::measure_all(&recipe.filters, &assembled).into_iter();
    measured
        .filter_map(|it| {
            let rule = filter::all().find(|rule| rule.name == it.rule)?;
            Some(json!({ "rule": it.rule, "measures": rule.measures, "value": it.value, "threshold": it.threshold,
                         "least": rule.bound == Bound::AtLeast, "fired": it.fired, "detail": it.detail }))
        })
        .collect()
}

/// The documents of the same instruction, if there are several.
async fn candidates(state: &AppState, document: &Document) -> Result<Vec<Value>, ApiError> {
    let coordinator = state.coordinator()?;
    let handle = coordinator.run_stats().refreshed(coordinator.store(), &document.run).await?;
    let stats = handle.read();
    let most = stats.documents().map(|summary| summary.candidate).max().unwrap_or(0);
    let identity = document.instruction.identity();
    let ids: Vec<DocumentId> = (0..=most).map(|number| DocumentId::derive(&document.run, &identity, number)).collect();
    let known = stats.documents().filter(|summary| ids.contains(&summary.id));
    let row = |it: &DocumentSummary| json!({ "id": it.id, "candidate": it.candidate, "state": it.state, "words": it.words, "score": it.score });
    let rows: Vec<Value> = known.map(row).collect();
    Ok(if rows.len() > 1 { rows } else { Vec::new() })
}

/// The text of a document as a Markdown file.
pub(super) async fn text(
    Extract(state): SharedState,
    Path((run, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let store = state.coordinator()?.store();
    let record = admin::find(store.as_ref(), &run_id(&run)?, id.parse().map_err(bad_request)?).await?;
    let document = record.document().map_err(|error| StoreError::Other(error.to_string()))?;
    let name = format!("attachment; filename=\"{}.md\"", document.id);
    let headers = [(CONTENT_TYPE, "text/markdown; charset=utf-8".to_owned()), (CONTENT_DISPOSITION, name)];
    Ok((headers, assemble(document.sections()) + "\n").into_response())
}

/// The document as it was before requeue `number`, from 0.
pub(super) async fn revision(
    Extract(state): SharedState,
    Path((run, id, number)): Path<(String, String, usize)>,
) -> ApiResult {
    let store = state.coordinator()?.store();
    let record = admin::find(store.as_ref(), &run_id(&run)?, id.parse().map_err(bad_request)?).await?;
    let history = store.history(record.id).await?;
    let missing = || StoreError::NotFound { kind: "revision", name: format!("{number} of document {}", record.id) };
    let revision = history.get(number).ok_or_else(missing)?;
    Ok(Json(json!({ "state": revision.state, "reason": revision.reason, "body": body(&revision.body)? })))
}

/// The stored document with seeds as strings: JavaScript numbers have too few digits.
fn body(json: &str) -> Result<Value, ApiError> {
    let mut body: Value = serde_json::from_str(json)
        .map_err(|error| StoreError::Other(format!("the stored document cannot be read: {error}")))?;
    for pointer in ["/seed", "/progress/sections"] {
        match body.pointer_mut(pointer) {
            Some(seed @ Value::Number(_)) => *seed = Value::String(seed.to_string()),
            Some(Value::Array(sections)) => {
                for seed in sections.iter_mut().filter_map(|section| section.get_mut("seed")) {
                    *seed = Value::String(seed.to_string());
                }
            }
            Some(_) | None => {}
        }
    }
    Ok(body)
}

/// Without the lease's id: a client that knows the id of an active lease may complete it.
fn attempt_json(attempt: &Attempt) -> Value {
    json!({ "worker": attempt.worker, "granted_ms": attempt.granted_ms, "ended_ms": attempt.ended_ms,
            "end": attempt.end, "detail": attempt.detail })
}

fn revision_json(revision: &Revision) -> Value {
    let body: Value = serde_json::from_str(&revision.body).unwrap_or_default();
    let sections = body.pointer("/progress/sections").and_then(Value::as_array);
    let words: u64 = sections.into_iter().flatten().filter_map(|section| section["words"].as_u64()).sum();
    json!({ "version": revision.version, "state": revision.state, "reason": revision.reason,
            "sections": sections.map_or(0, Vec::len), "words": words, "round": body["round"] })
}
