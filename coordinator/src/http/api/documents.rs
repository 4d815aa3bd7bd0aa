//! A run's documents, page by page, and one document with all that is known of it.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use longhand_proto::DocumentId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Here, Refusal, actions, run_id, wrong};
use crate::control::admin;
use crate::run_stats::{Filter, Line};
use crate::store::{Attempt, Revision, StoreError};

/// Documents of one page of a list.
const PAGE: usize = 50;
/// Workers and causes that a list offers to choose from.
const CHOICES: usize = 200;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Place {
    sort: Order,
    page: usize,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    #[default]
    Submitted,
    Changed,
    /// The longest time in work first.
    Time,
    /// The longest text first, or the shortest.
    Words,
    Shortest,
    /// The worst length score first.
    Score,
    /// The most attempts that brought nothing first.
    Tries,
}

pub(super) async fn documents(
    Extract(site): Here,
    Path(run): Path<String>,
    Query(filter): Query<Filter>,
    Query(place): Query<Place>,
) -> Answer {
    let store = site.behind()?.store();
    let id = run_id(&run)?;
    if store.run(&id).await?.is_none() {
        return Err(StoreError::NotFound { kind: "run", name: id.to_string() }.into());
    }
    let shelf = site.behind()?.run_stats().look(store, &id).await?;
    let (catalogue, filter) = (shelf.read(), filter.ready());
    let mut found: Vec<&Line> = catalogue.documents().filter(|line| filter.fits(line)).collect();
    match place.sort {
        Order::Submitted => {}
        Order::Changed => found.sort_by_key(|line| Reverse(line.changed_ms)),
        Order::Time => found.sort_by_key(|line| Reverse(line.spent_ms)),
        Order::Words => found.sort_by_key(|line| Reverse(line.words)),
        Order::Shortest => found.sort_by_key(|line| line.words),
        Order::Score => found.sort_by(|a, b| a.score.unwrap_or(101.0).total_cmp(&b.score.unwrap_or(101.0))),
        Order::Tries => found.sort_by_key(|line| Reverse(line.tries)),
    }
    let total = found.len();
    let page = place.page.min(total.saturating_sub(1) / PAGE);
    let items = &found[page * PAGE..total.min((page + 1) * PAGE)];
    let choices = |of: fn(&Line) -> &str| -> Vec<&str> {
        let all: BTreeSet<&str> = catalogue.documents().map(of).filter(|text| !text.is_empty()).collect();
        all.into_iter().take(CHOICES).collect()
    };
    let errors: BTreeSet<&str> =
        catalogue.documents().flat_map(|line| &line.faults).map(String::as_str).take(CHOICES).collect();
    Ok(Json(json!({
        "total": total, "page": page, "pages": total.div_ceil(PAGE).max(1), "items": items,
        "reasons": choices(|line| &line.reason), "workers": choices(|line| &line.worker), "errors": errors,
        "complete": catalogue.complete, "listed": catalogue.documents().count(), "read": catalogue.read,
    })))
}

pub(super) async fn document(Extract(site): Here, Path((run, id)): Path<(String, String)>) -> Answer {
    let store = site.behind()?.store();
    let (run, id): (_, DocumentId) = (run_id(&run)?, id.parse().map_err(wrong)?);
    let record = admin::find(store.as_ref(), &run, id).await?;
    let attempts = store.attempts(id).await?;
    let history = store.history(id).await?;
    let mut actions = actions(store.as_ref(), Some(&run)).await?;
    actions.retain(|action| action.about == id.to_string());
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
        "attempts": attempts.iter().map(shown_attempt).collect::<Vec<_>>(),
        "history": history.iter().map(shown_past).collect::<Vec<_>>(),
        "actions": actions,
    })))
}

/// What the document was before it was taken up again for the `number`th time, from 0.
pub(super) async fn past(Extract(site): Here, Path((run, id, number)): Path<(String, String, usize)>) -> Answer {
    let store = site.behind()?.store();
    let record = admin::find(store.as_ref(), &run_id(&run)?, id.parse().map_err(wrong)?).await?;
    let history = store.history(record.id).await?;
    let missing =
        || StoreError::NotFound { kind: "earlier round", name: format!("{number} of document {}", record.id) };
    let past = history.get(number).ok_or_else(missing)?;
    Ok(Json(json!({ "state": past.state, "reason": past.reason, "body": body(&past.body)? })))
}

/// Seeds have more digits than a page's numbers: they go as text.
fn body(json: &str) -> Result<Value, Refusal> {
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

/// Without its lease's id: whoever knows a live one may complete it.
fn shown_attempt(attempt: &Attempt) -> Value {
    json!({ "worker": attempt.worker, "granted_ms": attempt.granted_ms, "ended_ms": attempt.ended_ms,
            "end": attempt.end, "detail": attempt.detail })
}

fn shown_past(past: &Revision) -> Value {
    let body: Value = serde_json::from_str(&past.body).unwrap_or_default();
    let sections = body.pointer("/progress/sections").and_then(Value::as_array);
    let words: u64 = sections.into_iter().flatten().filter_map(|section| section["words"].as_u64()).sum();
    json!({ "version": past.version, "state": past.state, "reason": past.reason,
            "sections": sections.map_or(0, Vec::len), "words": words, "round": body["round"] })
}
