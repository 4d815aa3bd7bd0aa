//! A run in figures: sums, histograms and a plot, walked out of its catalogue.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::catalogue::{BUCKET_MS, Bucket, Catalogue, Catalogues};
use super::line::Line;
use crate::domain::state::State;
use crate::store::{Result, Run, Store};

/// Documents in a short list, points of a plot and bars of a histogram.
const SHORT: usize = 8;
const POINTS: u64 = 120;
const BARS: usize = 16;
/// Speed is that of the last minute, the time to go that of the last ten: sections end in waves.
const MINUTE: u64 = 60_000;
const RECENT_MS: u64 = 10 * MINUTE;
/// Sections that tell a speed.
const ENOUGH: f64 = 10.0;

/// What a run has cost and when it may be done: shown in the list of runs too.
pub(crate) fn summary(catalogue: &Catalogue, now: u64, paused: bool) -> Value {
    let (mut words, mut sections, mut steps, mut planned) = (0, 0, 0_u64, 0_u64);
    let [mut accepted, mut open, mut dropped, mut wasted] = [0; 4];
    for line in catalogue.documents() {
        let into = match line.state {
            State::Accepted => &mut accepted,
            State::Rejected | State::Failed | State::Cancelled => &mut dropped,
            State::Ready | State::Leased | State::Delayed => &mut open,
        };
        *into += line.kept;
        wasted += line.generated.saturating_sub(line.kept);
        words += u64::from(if line.state == State::Accepted { line.words } else { 0 });
        sections += u64::from(line.sections);
        if line.steps > 0 {
            (steps, planned) = (steps + u64::from(line.steps), planned + 1);
        }
    }
    // A document without a plan is taken to want as many sections as others.
    let mean = if planned > 0 { steps as f64 / planned as f64 } else { 0.0 };
    let wanted = |line: &Line| if line.steps > 0 { f64::from(line.steps) } else { mean };
    let unfinished = catalogue.documents().filter(|line| !line.state.is_terminal());
    let left: f64 = unfinished.map(|line| (wanted(line) - f64::from(line.sections)).max(0.0)).sum();
    let last = rate(catalogue, now, MINUTE);
    // A minute is enough where sections end often; where they do not, or did not for long, the ten say more.
    let often = last.sections * MINUTE as f64 >= ENOUGH;
    let recent = if often { last.sections } else { rate(catalogue, now, RECENT_MS).sections };
    let eta_ms = (left >= 1.0 && !paused && recent > 0.0).then(|| (left / recent).round());
    json!({
        "words": words,
        "tokens": {
            "accepted": accepted, "open": open, "dropped": dropped, "wasted": wasted,
            "cached": catalogue.cached, "computed": catalogue.computed,
        },
        "words_per_minute": last.words * MINUTE as f64,
        "tokens_per_second": last.tokens * 1000.0,
        "sections": sections,
        "sections_left": left.round(),
        "eta_ms": eta_ms,
        "complete": catalogue.complete,
        "listed": catalogue.documents().count(),
    })
}

/// Per millisecond.
#[derive(Debug, Default)]
struct Rate {
    words: f64,
    tokens: f64,
    sections: f64,
}

/// Over the last `span_ms`, or since the first text if that is later.
fn rate(catalogue: &Catalogue, now: u64, span_ms: u64) -> Rate {
    let Some((&first, _)) = catalogue.plot.first_key_value() else { return Rate::default() };
    let from = (now.saturating_sub(span_ms) / BUCKET_MS).max(first);
    let mut sum = Bucket::default();
    for bucket in catalogue.plot.range(from..).map(|(_, bucket)| bucket) {
        sum.words += bucket.words;
        sum.tokens += bucket.tokens;
        sum.sections += bucket.sections;
    }
    let span = now.saturating_sub(from * BUCKET_MS).max(BUCKET_MS) as f64;
    Rate { words: sum.words as f64 / span, tokens: sum.tokens as f64 / span, sections: sum.sections as f64 / span }
}

/// What a terminal shows of a run.
///
/// # Errors
/// The store failed.
pub(crate) async fn figures(catalogues: &Catalogues, store: &Arc<dyn Store>, run: &Run) -> Result<Value> {
    let shelf = catalogues.look(store, &run.id).await?;
    let now = store.now_ms().await?;
    let catalogue = shelf.read();
    let mut told = summary(&catalogue, now, run.paused);
    told["rejected"] = causes(&catalogue, State::Rejected);
    told["failed"] = causes(&catalogue, State::Failed);
    told["faults"] = faults(&catalogue);
    Ok(told)
}

/// All else that a run's own page shows.
pub(crate) fn details(catalogue: &Catalogue, now: u64) -> Value {
    let mut slowest: Vec<&Line> = catalogue.documents().filter(|line| line.spent_ms > 0).collect();
    slowest.sort_by_key(|line| std::cmp::Reverse(line.spent_ms));
    let unfinished = catalogue.documents().filter(|line| !line.state.is_terminal());
    let mut oldest: Vec<&Line> = unfinished.filter(|line| line.begun_ms.is_some()).collect();
    oldest.sort_by_key(|line| line.begun_ms);
    slowest.truncate(SHORT);
    oldest.truncate(SHORT);
    let mut scores = [0_u64; 10];
    for score in catalogue.documents().filter_map(|line| line.score) {
        scores[(score as usize / 10).min(9)] += 1;
    }
    json!({
        "plot": plot(catalogue, now),
        "scores": scores,
        "lengths": lengths(catalogue),
        "rejected": causes(catalogue, State::Rejected),
        "failed": causes(catalogue, State::Failed),
        "faults": faults(catalogue),
        "slowest": slowest,
        "oldest": oldest,
    })
}

/// Documents of a state by their reason, each with one message as an example.
fn causes(catalogue: &Catalogue, state: State) -> Value {
    let mut reasons: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for line in catalogue.documents().filter(|line| line.state == state) {
        let (count, message) = reasons.entry(&line.reason).or_default();
        (*count, *message) = (*count + 1, &line.message);
    }
    let mut causes: Vec<_> = reasons.into_iter().collect();
    causes.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let shown =
        causes.iter().map(|(reason, (count, message))| json!({ "reason": reason, "count": count, "message": message }));
    shown.collect()
}

/// Documents by the errors that any of their attempts ended in, whatever became of them.
fn faults(catalogue: &Catalogue) -> Value {
    let mut classes: BTreeMap<&str, u64> = BTreeMap::new();
    for class in catalogue.documents().flat_map(|line| &line.faults) {
        *classes.entry(class).or_default() += 1;
    }
    let mut classes: Vec<_> = classes.into_iter().collect();
    classes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    classes.iter().map(|(class, count)| json!({ "error": class, "count": count })).collect()
}

/// Ended documents by words asked for, and by words written, in the same steps.
fn lengths(catalogue: &Catalogue) -> Value {
    let ended = || catalogue.documents().filter(|line| line.score.is_some());
    let longest = ended().map(|line| line.words.max(line.target.unwrap_or(0))).max().unwrap_or(0);
    let step = round_up(u64::from(longest).div_ceil(BARS as u64)).max(1);
    let bars = u64::from(longest).div_ceil(step).max(1) as usize;
    let (mut asked, mut written) = (vec![0_u64; bars], vec![0_u64; bars]);
    let place = |words: u32| (u64::from(words.saturating_sub(1)) / step) as usize;
    for line in ended() {
        asked[place(line.target.unwrap_or(0))] += 1;
        written[place(line.words)] += 1;
    }
    json!({ "step": step, "asked": asked, "written": written, "documents": ended().count() })
}

/// To 1, 2 or 5 times a power of ten.
fn round_up(number: u64) -> u64 {
    let mut power = 1;
    while power * 10 <= number {
        power *= 10;
    }
    [1, 2, 5, 10].map(|times| times * power).into_iter().find(|&round| round >= number).unwrap_or(number)
}

/// At most [`POINTS`] stretches from the first text to now.
fn plot(catalogue: &Catalogue, now: u64) -> Value {
    let Some((&first, _)) = catalogue.plot.first_key_value() else {
        return json!({ "from_ms": now, "step_ms": BUCKET_MS, "points": [] });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_a_histogram_are_round() {
        for (number, round) in [(0, 1), (1, 1), (3, 5), (11, 20), (186, 200), (500, 500), (501, 1_000)] {
            assert_eq!(round_up(number), round, "{number}");
        }
    }
}
