//! What the dashboard knows of a run: one line for each document, in memory, brought up to date by what changed since the last
//! look. Filters, sums and plots are walks over these lines: 100,000 of them take milliseconds. Loaded when somebody looks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use longhand_proto::{DocumentId, RunId, clock};
use serde::Serialize;
use tokio::sync::Mutex;

use crate::document::{Document, Progress, Verdict};
use crate::filter::score_length;
use crate::store::{Attempt, AttemptEnd, Record, Result, State, Store};

/// Documents read in one call to the store.
const PAGE: u32 = 128;
/// One look reads at most this long; the next goes on where it ended.
const LOOK: Duration = Duration::from_millis(1_500);
/// Runs kept in memory; the one looked at longest ago goes.
const RUNS: usize = 16;
/// Width of the finest part of a plot.
pub(super) const BUCKET_MS: u64 = 10_000;
/// Characters of an instruction or an error in a list.
const TITLE: usize = 140;

/// One document as a list shows it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    pub(super) id: DocumentId,
    pub(super) seq: u64,
    pub(super) name: String,
    pub(super) title: String,
    pub(super) state: State,
    pub(super) reason: String,
    /// Error or verdict in words.
    pub(super) message: String,
    pub(super) worker: String,
    pub(super) words: u32,
    pub(super) target: Option<u32>,
    pub(super) score: Option<f64>,
    pub(super) sections: u32,
    pub(super) steps: u32,
    pub(super) attempts: u32,
    /// Attempts that brought nothing.
    pub(super) tries: u32,
    pub(super) spent_ms: u64,
    pub(super) begun_ms: Option<u64>,
    pub(super) changed_ms: u64,
    pub(super) generated: u64,
    pub(super) wasted: u64,
}

/// What was written in one stretch of time.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Bucket {
    pub(super) words: u64,
    pub(super) tokens: u64,
}

#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) lines: Vec<Option<Line>>,
    pub(super) plot: BTreeMap<u64, Bucket>,
    pub(super) cached: u64,
    pub(super) computed: u64,
    mark: u64,
}

impl Catalogue {
    /// Reads what changed; false if there is more than one look takes.
    pub(super) async fn refresh(&mut self, store: &dyn Store, run: &RunId) -> Result<bool> {
        let until = clock::now() + LOOK;
        loop {
            let changed = store.changed(run, self.mark, PAGE).await?;
            let last = changed.len() < PAGE as usize;
            for record in changed {
                // A document that nobody leased has no attempts; there may be 100,000 of them.
                let attempts = if record.open { store.attempts(record.id).await? } else { Vec::new() };
                self.mark = record.mark;
                self.take(&record, &attempts);
            }
            if last {
                return Ok(true);
            }
            if clock::now() >= until {
                return Ok(false);
            }
        }
    }

    pub(super) fn documents(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().flatten()
    }

    fn take(&mut self, record: &Record, attempts: &[Attempt]) {
        let at = record.seq as usize;
        if self.lines.len() <= at {
            self.lines.resize(at + 1, None);
        }
        let seen = self.lines[at].as_ref().map_or(0, |line| line.attempts as usize);
        for attempt in attempts.iter().skip(seen) {
            let number = |pointer| attempt.detail.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
            let bucket = self.plot.entry(attempt.ended_ms / BUCKET_MS).or_default();
            bucket.tokens += number("/usage/generated").saturating_sub(number("/usage/resumed"));
            bucket.words += number("/words");
            self.cached += number("/usage/cached");
            self.computed += number("/usage/prompt").saturating_sub(number("/usage/cached"));
        }
        self.lines[at] = Some(line(record, attempts));
    }
}

fn line(record: &Record, attempts: &[Attempt]) -> Line {
    let document: Option<Document> = serde_json::from_str(&record.body).ok();
    let document = document.as_ref();
    let sections = document.map_or(&[][..], Document::sections);
    let words = sections.iter().map(|section| section.words).sum();
    let target = document.and_then(|document| {
        let planned = document.plan().map(|plan| plan.steps.iter().map(|step| step.words).sum());
        document.instruction.required_words.or(planned)
    });
    let message = match document.map(|document| &document.progress) {
        Some(Progress::Failed { message, .. }) => message.as_str(),
        Some(Progress::Finished { verdict: Verdict::Rejected { detail, .. }, .. }) => detail.as_str(),
        _ => "",
    };
    let generated =
        |attempt: &Attempt| attempt.detail.pointer("/usage/generated").and_then(|it| it.as_u64()).unwrap_or(0);
    let failed = |attempt: &&Attempt| attempt.end != AttemptEnd::Completed;
    Line {
        id: record.id,
        seq: record.seq,
        name: document.and_then(|it| it.instruction.id.clone()).unwrap_or_default(),
        title: document.map_or_else(String::new, |it| short(&it.instruction.text())),
        state: record.state,
        reason: record.reason.clone(),
        message: short(message),
        worker: (record.lease.as_ref().map(|lease| lease.worker.to_string()))
            .or_else(|| attempts.last().map(|attempt| attempt.worker.to_string()))
            .unwrap_or_default(),
        words,
        target,
        score: target.filter(|_| record.state.is_terminal() && words > 0).map(|target| score_length(target, words)),
        sections: sections.len() as u32,
        steps: document.and_then(Document::plan).map_or(0, |plan| plan.steps.len() as u32),
        attempts: attempts.len() as u32,
        tries: attempts.iter().filter(failed).count() as u32,
        spent_ms: attempts.iter().map(|attempt| attempt.ended_ms.saturating_sub(attempt.granted_ms)).sum(),
        begun_ms: attempts.first().map(|attempt| attempt.granted_ms),
        changed_ms: record.changed_ms,
        generated: attempts.iter().map(generated).sum(),
        wasted: attempts.iter().filter(failed).map(generated).sum(),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(TITLE) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

type Shared = Arc<Mutex<Catalogue>>;

/// The runs that somebody looked at.
#[derive(Debug, Default)]
pub(super) struct Catalogues {
    runs: Mutex<HashMap<RunId, (Shared, u64)>>,
}

impl Catalogues {
    pub(super) async fn of(&self, run: &RunId) -> Shared {
        let mut runs = self.runs.lock().await;
        if runs.len() >= RUNS && !runs.contains_key(run) {
            let oldest = runs.iter().min_by_key(|(_, (_, seen))| *seen).map(|(run, _)| run.clone());
            oldest.and_then(|run| runs.remove(&run));
        }
        let (catalogue, seen) = runs.entry(run.clone()).or_default();
        *seen = clock::unix_ms();
        Arc::clone(catalogue)
    }
}
