//! Sums, histograms and a plot of a run, computed from its stats. Values are JSON as the HTTP API returns it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::cost::Cost;
use super::document_summary::DocumentSummary;
use super::stats::{BUCKET_MS, Bucket, RunStats};
use crate::domain::state::State;

/// Documents in a list of the slowest or oldest.
const TOP: usize = 8;
/// Points of a plot.
const POINTS: u64 = 120;
/// Most documents of the plot of lengths; of more an evenly spaced sample.
const DOTS: usize = 1_000;
/// Interval of the speed that is shown.
const MINUTE_MS: u64 = 60_000;
/// Interval of the speed that the remaining time is computed from: sections end in waves.
const RECENT_MS: u64 = 10 * MINUTE_MS;
/// Sections in a minute from which on that minute alone determines the remaining time.
const ENOUGH_SECTIONS: f64 = 10.0;

/// Cost and remaining time of a run, for the list of runs and the run's own page.
fn summary(stats: &RunStats, now: u64, paused: bool) -> Value {
    let (mut words, mut sections, mut steps, mut planned) = (0, 0, 0_u64, 0_u64);
    let [mut accepted, mut open, mut dropped, mut wasted] = [0; 4];
    let mut discarded: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut cost, mut documents) = (Cost::default(), 0);
    for document in stats.documents() {
        let tokens = match document.state {
            State::Accepted => &mut accepted,
            State::Rejected | State::Failed | State::Cancelled => &mut dropped,
            State::Ready | State::Leased | State::Delayed => &mut open,
        };
        let thrown_away: u64 = document.discarded.values().sum();
        *tokens += document.generated.saturating_sub(thrown_away);
        cost.add(document.state, document.cost);
        documents += u64::from(document.state == State::Accepted);
        wasted += thrown_away;
        for (cause, tokens) in &document.discarded {
            *discarded.entry(cause).or_default() += tokens;
        }
        words += u64::from(if document.state == State::Accepted { document.words } else { 0 });
        sections += u64::from(document.sections);
        if document.steps > 0 {
            (steps, planned) = (steps + u64::from(document.steps), planned + 1);
        }
    }
    // A document without a plan counts as many sections as others have on average.
    let mean = if planned > 0 { steps as f64 / planned as f64 } else { 0.0 };
    let expected = |document: &DocumentSummary| if document.steps > 0 { f64::from(document.steps) } else { mean };
    let unfinished = stats.documents().filter(|document| !document.state.is_terminal());
    let left: f64 = unfinished.map(|document| (expected(document) - f64::from(document.sections)).max(0.0)).sum();
    let last = rate(stats, now, MINUTE_MS);
    // Where sections end rarely, a minute is too short to measure a speed.
    let often = last.sections * MINUTE_MS as f64 >= ENOUGH_SECTIONS;
    let recent = if often { last.sections } else { rate(stats, now, RECENT_MS).sections };
    let eta_ms = (left >= 1.0 && !paused && recent > 0.0).then(|| (left / recent).round());
    let scores: Vec<f64> = accepted_documents(stats).filter_map(|document| document.score).collect();
    json!({
        "words": words,
        "mean_words": (documents > 0).then(|| words as f64 / documents as f64),
        "mean_score": (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64),
        "worked_ms": stats.worked_ms.map(|(first, last)| last.saturating_sub(first)),
        "tokens": {
            "accepted": accepted, "open": open, "dropped": dropped, "wasted": wasted,
            "cached": stats.cached, "computed": stats.computed,
        },
        "discarded": discarded,
        "tokens_per_word": (words > 0).then(|| (accepted + open + dropped + wasted) as f64 / words as f64),
        "cost": cost.of(documents, words),
        "words_per_minute": last.words * MINUTE_MS as f64,
        "tokens_per_second": last.tokens * 1000.0,
        "sections": sections,
        "sections_left": left.round(),
        "eta_ms": eta_ms,
        "complete": stats.complete,
        "listed": stats.documents().count(),
    })
}

fn accepted_documents(stats: &RunStats) -> impl Iterator<Item = &DocumentSummary> {
    stats.documents().filter(|document| document.state == State::Accepted)
}

/// Per millisecond.
#[derive(Debug, Default)]
struct Rate {
    words: f64,
    tokens: f64,
    sections: f64,
}

/// Over the last `span_ms`, or since the first text if that is later.
fn rate(stats: &RunStats, now: u64, span_ms: u64) -> Rate {
    let Some((&first, _)) = stats.plot.first_key_value() else { return Rate::default() };
    let from = (now.saturating_sub(span_ms) / BUCKET_MS).max(first);
    let mut sum = Bucket::default();
    for bucket in stats.plot.range(from..).map(|(_, bucket)| bucket) {
        sum.words += bucket.words;
        sum.tokens += bucket.tokens;
        sum.sections += bucket.sections;
    }
    let span = now.saturating_sub(from * BUCKET_MS).max(BUCKET_MS) as f64;
    Rate { words: sum.words as f64 / span, tokens: sum.tokens as f64 / span, sections: sum.sections as f64 / span }
}

/// The summary with causes, as `longhand watch` shows it.
pub(super) fn figures(stats: &RunStats, now: u64, paused: bool) -> Value {
    let mut summary = summary(stats, now, paused);
    summary["rejected"] = causes(stats, State::Rejected);
    summary["failed"] = causes(stats, State::Failed);
    summary["faults"] = error_classes(stats);
    summary
}

/// Figures of an earlier time, of which the speed says nothing now.
pub(super) fn without_speed(mut figures: Value) -> Value {
    figures["words_per_minute"] = json!(0.0);
    figures["tokens_per_second"] = json!(0.0);
    figures["eta_ms"] = Value::Null;
    figures
}

/// Everything else that a run's own page shows.
pub(crate) fn details(stats: &RunStats, now: u64) -> Value {
    let mut slowest: Vec<&DocumentSummary> = stats.documents().filter(|document| document.spent_ms > 0).collect();
    slowest.sort_by_key(|document| std::cmp::Reverse(document.spent_ms));
    let unfinished = stats.documents().filter(|document| !document.state.is_terminal());
    let mut oldest: Vec<&DocumentSummary> = unfinished.filter(|document| document.begun_ms.is_some()).collect();
    oldest.sort_by_key(|document| document.begun_ms);
    slowest.truncate(TOP);
    oldest.truncate(TOP);
    let mut scores = [0_u64; 10];
    for score in stats.documents().filter_map(|document| document.score) {
        scores[(score as usize / 10).min(9)] += 1;
    }
    json!({
        "models": stats.models,
        "plot": plot(stats, now),
        "scores": scores,
        "lengths": lengths(stats),
        "rejected": causes(stats, State::Rejected),
        "failed": causes(stats, State::Failed),
        "faults": error_classes(stats),
        "slowest": slowest,
        "oldest": oldest,
    })
}

/// Documents of a state by reason, each with one message as an example.
fn causes(stats: &RunStats, state: State) -> Value {
    let mut reasons: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for document in stats.documents().filter(|document| document.state == state) {
        let (count, message) = reasons.entry(&document.reason).or_default();
        (*count, *message) = (*count + 1, &document.message);
    }
    let mut causes: Vec<_> = reasons.into_iter().collect();
    causes.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let rows =
        causes.iter().map(|(reason, (count, message))| json!({ "reason": reason, "count": count, "message": message }));
    rows.collect()
}

/// Documents by the error classes of their attempts, whatever their state.
fn error_classes(stats: &RunStats) -> Value {
    let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
    for class in stats.documents().flat_map(|document| &document.faults) {
        *classes.entry(class).or_default() += 1;
    }
    let mut classes: Vec<_> = classes.into_iter().collect();
    classes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    classes.iter().map(|(class, count)| json!({ "error": class, "count": count })).collect()
}

/// Words requested and written of finished documents, and whether each was accepted.
fn lengths(stats: &RunStats) -> Value {
    let finished: Vec<&DocumentSummary> = stats.documents().filter(|document| document.score.is_some()).collect();
    let step = finished.len().div_ceil(DOTS).max(1);
    let dots = finished.iter().step_by(step);
    let dots = dots.map(|it| json!([it.target, it.words, u8::from(it.state == State::Accepted)]));
    json!({ "dots": dots.collect::<Vec<_>>(), "documents": finished.len() })
}

/// At most [`POINTS`] equal intervals from the first text to now.
fn plot(stats: &RunStats, now: u64) -> Value {
    let Some((&first, _)) = stats.plot.first_key_value() else {
        return json!({ "from_ms": now, "step_ms": BUCKET_MS, "points": [] });
    };
    let last = stats.plot.last_key_value().map_or(first, |(&last, _)| last);
    // The current bucket is incomplete and would look like a drop. A run that ended long ago is plotted up to its end, not to now.
    let whole = (now / BUCKET_MS).saturating_sub(1).max(first);
    let last = if whole <= last + 6 { whole } else { last };
    let width = (last - first + 1).div_ceil(POINTS);
    let mut points = vec![Bucket::default(); ((last - first) / width + 1) as usize];
    for (&time, bucket) in &stats.plot {
        if let Some(point) = points.get_mut(((time - first) / width) as usize) {
            point.words += bucket.words;
            point.tokens += bucket.tokens;
        }
    }
    json!({ "from_ms": first * BUCKET_MS, "step_ms": width * BUCKET_MS, "points": points })
}
