//! What the pages ask, as JSON. Texts go out as data only; the pages put them in as text, never as markup.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Query, State as Extract};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use longhand_proto::{DocumentId, RunId};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Served;
use super::catalogue::{BUCKET_MS, Bucket, Catalogue, Line};
use crate::hand::{self, Extent, Which};
use crate::service::Coordinator;
use crate::store::{State, StoreError};

/// Documents of one page of a list.
const PAGE: usize = 50;
/// Documents in a short list, and points of a plot.
const SHORT: usize = 8;
const POINTS: u64 = 120;

#[derive(Debug)]
pub(super) struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let status = match error {
            StoreError::NotFound { .. } => StatusCode::NOT_FOUND,
            StoreError::Unreachable(_) => StatusCode::SERVICE_UNAVAILABLE,
            StoreError::Full(_) | StoreError::Refused(_) | StoreError::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(status, error.to_string())
    }
}

type Answer = Result<Json<Value>, Refusal>;
type Here = Extract<Arc<Served>>;

impl Served {
    fn behind(&self) -> Result<&Coordinator, Refusal> {
        self.site.coordinator.as_ref().ok_or_else(|| Refusal(StatusCode::NOT_FOUND, "a worker has no runs".into()))
    }
}

fn wrong(error: impl ToString) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, error.to_string())
}

fn run_id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(wrong)
}

pub(super) async fn runs(Extract(site): Here) -> Answer {
    let store = site.behind()?.store();
    let mut found = Vec::new();
    for run in store.runs().await?.into_iter().rev() {
        let counts = store.counts(&run.id).await?;
        found.push(json!({ "id": run.id, "created_ms": run.created_ms, "paused": run.paused, "counts": counts }));
    }
    Ok(Json(json!({ "runs": found, "version": longhand_proto::build() })))
}

pub(super) async fn run(Extract(site): Here, Path(run): Path<String>) -> Answer {
    let store = site.behind()?.store();
    let id = run_id(&run)?;
    let Some(run) = store.run(&id).await? else {
        return Err(Refusal(StatusCode::NOT_FOUND, format!("there is no run {id}")));
    };
    let counts = store.counts(&id).await?;
    let catalogue = site.catalogues.of(&id).await;
    let mut catalogue = catalogue.lock().await;
    let complete = catalogue.refresh(store.as_ref(), &id).await?;
    let now = store.now_ms().await?;
    let mut told = overview(&catalogue, now);
    told["run"] = json!({
        "id": run.id, "created_ms": run.created_ms, "paused": run.paused, "seed": run.seed,
        "recipe_hash": run.recipe_hash, "model": run.terms.model, "priority": run.terms.priority,
    });
    told["counts"] = json!(counts);
    told["complete"] = json!(complete);
    told["now_ms"] = json!(now);
    Ok(Json(told))
}

fn overview(catalogue: &Catalogue, now: u64) -> Value {
    let mut reasons: BTreeMap<(State, &str), (u64, &str)> = BTreeMap::new();
    let (mut words, mut generated, mut wasted, mut left) = (0, 0, 0, 0.0);
    let (mut scores, mut lengths) = ([0_u64; 10], Vec::new());
    let (mut steps, mut planned) = (0_u64, 0_u64);
    for line in catalogue.documents() {
        generated += line.generated;
        wasted += line.wasted;
        words += u64::from(if line.state == State::Accepted { line.words } else { 0 });
        if line.steps > 0 {
            (steps, planned) = (steps + u64::from(line.steps), planned + 1);
        }
        if matches!(line.state, State::Rejected | State::Failed) {
            let (count, message) = reasons.entry((line.state, &line.reason)).or_default();
            *count += 1;
            *message = &line.message;
        }
        if let (Some(score), Some(target)) = (line.score, line.target) {
            scores[(score as usize / 10).min(9)] += 1;
            // Enough to see the shape.
            if lengths.len() < 2_000 {
                lengths.push((target, line.words, line.state));
            }
        }
    }
    let mean = if planned > 0 { steps as f64 / planned as f64 } else { 0.0 };
    let unfinished = || catalogue.documents().filter(|line| !line.state.is_terminal());
    for line in unfinished() {
        left += (if line.steps > 0 { f64::from(line.steps) } else { mean }) - f64::from(line.sections);
    }
    let mut causes: Vec<Value> = (reasons.into_iter())
        .map(|((state, reason), (count, message))| {
            json!({ "state": state, "reason": reason, "count": count, "message": message })
        })
        .collect();
    causes.sort_by_key(|cause| std::cmp::Reverse(cause["count"].as_u64()));
    let mut slowest: Vec<&Line> = catalogue.documents().filter(|line| line.spent_ms > 0).collect();
    slowest.sort_by_key(|line| std::cmp::Reverse(line.spent_ms));
    let mut oldest: Vec<&Line> = unfinished().filter(|line| line.begun_ms.is_some()).collect();
    oldest.sort_by_key(|line| line.begun_ms);
    let sections: u64 = catalogue.documents().map(|line| u64::from(line.sections)).sum();
    slowest.truncate(SHORT);
    oldest.truncate(SHORT);
    json!({
        "words": words,
        "tokens": {
            "generated": generated, "wasted": wasted, "cached": catalogue.cached, "computed": catalogue.computed,
        },
        "plot": plot(catalogue, now),
        "scores": scores,
        "lengths": lengths,
        "causes": causes,
        "slowest": slowest,
        "oldest": oldest,
        "sections": sections,
        "sections_left": left.max(0.0).round(),
    })
}

/// At most [`POINTS`] stretches from the first text to now.
fn plot(catalogue: &Catalogue, now: u64) -> Value {
    let Some((&first, _)) = catalogue.plot.first_key_value() else {
        return json!({ "step_ms": BUCKET_MS, "points": [] });
    };
    let last = catalogue.plot.last_key_value().map_or(first, |(&last, _)| last);
    // The stretch that still runs would look like a fall; a run that ended an hour ago shows its own time, not the hour after.
    let whole = (now / BUCKET_MS).saturating_sub(1).max(first);
    let last = if whole <= last + 6 { whole } else { last };
    let width = (last - first + 1).div_ceil(POINTS);
    let mut points = vec![Bucket::default(); ((last - first) / width + 1) as usize];
    for (&at, bucket) in &catalogue.plot {
        if let Some(point) = points.get_mut(((at - first) / width) as usize) {
            point.words += bucket.words;
            point.tokens += bucket.tokens;
        }
    }
    json!({ "from_ms": first * BUCKET_MS, "step_ms": width * BUCKET_MS, "points": points })
}

/// What a list shows. Empty fields select all.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wanted {
    state: String,
    reason: String,
    worker: String,
    q: String,
    min: Option<u32>,
    max: Option<u32>,
    sort: String,
    page: usize,
}

pub(super) async fn documents(Extract(site): Here, Path(run): Path<String>, Query(wanted): Query<Wanted>) -> Answer {
    let store = site.behind()?.store();
    let id = run_id(&run)?;
    let catalogue = site.catalogues.of(&id).await;
    let mut catalogue = catalogue.lock().await;
    let complete = catalogue.refresh(store.as_ref(), &id).await?;
    let state = (!wanted.state.is_empty()).then(|| wanted.state.parse::<State>()).transpose().map_err(wrong)?;
    let q = wanted.q.trim().to_lowercase();
    let fits = |line: &&Line| {
        state.is_none_or(|state| line.state == state)
            && (wanted.reason.is_empty() || line.reason == wanted.reason)
            && (wanted.worker.is_empty() || line.worker == wanted.worker)
            && wanted.min.is_none_or(|min| line.words >= min)
            && wanted.max.is_none_or(|max| line.words <= max)
            && (q.is_empty()
                || line.id.to_string().starts_with(&q)
                || [&line.name, &line.title, &line.message].iter().any(|text| text.to_lowercase().contains(&q)))
    };
    let mut found: Vec<&Line> = catalogue.documents().filter(fits).collect();
    match wanted.sort.as_str() {
        "words" => found.sort_by_key(|line| std::cmp::Reverse(line.words)),
        "time" => found.sort_by_key(|line| std::cmp::Reverse(line.spent_ms)),
        "changed" => found.sort_by_key(|line| std::cmp::Reverse(line.changed_ms)),
        "score" => found.sort_by(|a, b| a.score.unwrap_or(101.0).total_cmp(&b.score.unwrap_or(101.0))),
        _ => {}
    }
    let total = found.len();
    let page = wanted.page.min(total.saturating_sub(1) / PAGE);
    let items: Vec<&Line> = found.into_iter().skip(page * PAGE).take(PAGE).collect();
    let mut reasons: Vec<&str> = catalogue.documents().map(|line| line.reason.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    Ok(Json(json!({
        "total": total, "page": page, "pages": total.div_ceil(PAGE).max(1), "items": items, "complete": complete,
        "reasons": reasons.into_iter().filter(|reason| !reason.is_empty()).collect::<Vec<_>>(),
    })))
}

pub(super) async fn document(Extract(site): Here, Path((run, id)): Path<(String, String)>) -> Answer {
    let store = site.behind()?.store();
    let id: DocumentId = id.parse().map_err(wrong)?;
    let record = hand::find(store.as_ref(), &run_id(&run)?, id).await?;
    let attempts = store.attempts(id).await?;
    let history = store.history(id).await?;
    let body: Value = serde_json::from_str(&record.body).map_err(wrong)?;
    let lease = record
        .lease
        .as_ref()
        .map(|lease| json!({ "worker": lease.worker, "granted_ms": lease.granted_ms, "progress": lease.progress }));
    let history: Vec<Value> = (history.iter())
        .map(|past| json!({ "version": past.version, "state": past.state, "reason": past.reason }))
        .collect();
    let attempts: Vec<Value> = (attempts.iter())
        .map(|it| {
            json!({ "worker": it.worker, "granted_ms": it.granted_ms, "ended_ms": it.ended_ms, "end": it.end,
                    "detail": it.detail })
        })
        .collect();
    Ok(Json(json!({
        "id": record.id, "seq": record.seq, "state": record.state, "reason": record.reason,
        "counters": record.counters, "lease": lease, "flushed": record.flushed, "changed_ms": record.changed_ms,
        "now_ms": store.now_ms().await?, "body": body, "attempts": attempts, "history": history,
    })))
}

/// What to take up again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requeue {
    #[serde(default)]
    document: Option<String>,
    /// All that this rule rejected.
    #[serde(default)]
    rejected: Option<String>,
    /// All that failed.
    #[serde(default)]
    failed: bool,
    /// From 1.
    #[serde(default)]
    from_section: Option<usize>,
    #[serde(default)]
    dry_run: bool,
}

pub(super) async fn requeue(Extract(site): Here, Path(run): Path<String>, Json(asked): Json<Requeue>) -> Answer {
    let coordinator = site.behind()?;
    let run = run_id(&run)?;
    let which = match (asked.document, asked.rejected, asked.failed) {
        (Some(id), None, false) => Which::One(id.parse().map_err(wrong)?),
        (None, Some(rule), false) => Which::Rejected { rule },
        (None, None, true) => Which::Failed,
        _ => return Err(wrong("want one of `document`, `rejected` and `failed`")),
    };
    let extent = match asked.from_section.map(|section| section.checked_sub(1)) {
        None => Extent::AsNeeded,
        Some(Some(index)) => Extent::From(index),
        Some(None) => return Err(wrong("sections are counted from 1")),
    };
    let (mut documents, mut redone, mut skipped, mut after) = (0, 0, Vec::new(), None);
    loop {
        let done = hand::requeue(coordinator.store().as_ref(), &run, &which, extent, after, asked.dry_run).await?;
        (documents, redone) = (documents + done.documents, redone + done.redone);
        skipped.extend(done.skipped);
        if !asked.dry_run {
            coordinator.metrics().requeued(done.documents);
            coordinator.wake(done.documents as usize);
        }
        after = done.next;
        if after.is_none() {
            break;
        }
    }
    if let (Which::One(_), Some((_, reason))) = (&which, skipped.first()) {
        return Err(Refusal(StatusCode::CONFLICT, reason.clone()));
    }
    if !asked.dry_run {
        tracing::info!(%run, documents, "requeued by hand, on the dashboard");
    }
    Ok(Json(json!({ "documents": documents, "redone": redone, "skipped": skipped.len() })))
}

/// What to end: one document, or all of the run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancel {
    #[serde(default)]
    document: Option<String>,
}

pub(super) async fn cancel(Extract(site): Here, Path(run): Path<String>, Json(asked): Json<Cancel>) -> Answer {
    let coordinator = site.behind()?;
    let run = run_id(&run)?;
    let store = coordinator.store().as_ref();
    let mut documents = 0;
    match asked.document {
        Some(id) => {
            let done = hand::cancel(store, &run, id.parse().map_err(wrong)?).await?;
            done.map_err(|reason| Refusal(StatusCode::CONFLICT, reason))?;
            documents = 1;
        }
        None => loop {
            let (done, more) = hand::cancel_page(store, &run).await?;
            documents += done;
            if !more {
                break;
            }
        },
    }
    tracing::info!(%run, documents, "cancelled by hand, on the dashboard");
    coordinator.wake(0);
    Ok(Json(json!({ "documents": documents })))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pause {
    paused: bool,
}

pub(super) async fn pause(Extract(site): Here, Path(run): Path<String>, Json(asked): Json<Pause>) -> Answer {
    let coordinator = site.behind()?;
    let run = coordinator.store().pause(&run_id(&run)?, asked.paused).await?;
    tracing::info!(run = %run.id, paused = asked.paused, "paused or resumed by hand, on the dashboard");
    let waiting = coordinator.store().counts(&run.id).await?.ready;
    coordinator.wake(waiting as usize);
    Ok(Json(json!({ "paused": run.paused })))
}
