//! The progress of a run in tokens, read from the store and the engine; nothing is counted separately.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{self, Filter, Record, Store};
use longhand_proto::{DocumentId, RunId, clock};
use longhand_worker::engine::Engine;

use super::estimate::{Estimate, Expected};
use crate::display::Snapshot;

/// Speed is the mean over this window: sections start and end in waves.
const WINDOW: Duration = Duration::from_secs(60);
/// With fewer tokens generated no remaining time is shown.
const FIRST_TOKENS: u64 = 1_000;
/// Documents per page when listing the store.
const PAGE: u32 = 64;

/// Tracks one run.
#[derive(Debug)]
pub(crate) struct ProgressTracker {
    store: Arc<dyn Store>,
    engine: Arc<dyn Engine>,
    run: RunId,
    started: Instant,
    /// Tokens that the engine had generated for earlier runs.
    before: u64,
    /// The latest change of the store that was read.
    change_seq: u64,
    /// Documents that have not ended.
    open: HashMap<DocumentId, Expected>,
    estimate: Estimate,
    sections: u64,
    /// Part of the documents that had ended when this process started.
    ended_before: f64,
    /// The most that was shown: a longer plan than was expected moves no bar back.
    shown: f64,
    speed: VecDeque<(Instant, u64)>,
}

impl ProgressTracker {
    /// Reads what earlier processes left open, so that only new sections count as written.
    pub(crate) async fn start(store: Arc<dyn Store>, engine: Arc<dyn Engine>, run: RunId) -> store::Result<Self> {
        let (started, before) = (clock::now(), engine.stats().generated_tokens);
        // What changes from here on is read again.
        let change_seq = store.latest_change(&run).await?;
        let counts = store.counts(&run).await?;
        let mut tracker = Self {
            store,
            engine,
            run,
            started,
            before,
            change_seq,
            open: HashMap::new(),
            estimate: Estimate::default(),
            sections: 0,
            ended_before: 1.0 - counts.unfinished() as f64 / counts.total().max(1) as f64,
            shown: 0.0,
            speed: VecDeque::from([(started, before)]),
        };
        for state in [State::Ready, State::Delayed, State::Leased] {
            tracker.list(state).await?;
        }
        Ok(tracker)
    }

    /// Time since the start of this process.
    pub(crate) fn elapsed(&self) -> Duration {
        clock::now().duration_since(self.started)
    }

    /// Tokens that this process has generated for the run.
    pub(crate) fn generated(&self) -> u64 {
        self.engine.stats().generated_tokens - self.before
    }

    /// Reads the progress now.
    pub(crate) async fn poll(&mut self) -> store::Result<Snapshot> {
        self.follow().await?;
        let counts = self.store.counts(&self.run).await?;
        let stats = self.engine.stats();
        let tokens = stats.generated_tokens - self.before;
        let speed = self.tokens_per_second(stats.generated_tokens);
        let tokens_left = match counts.unfinished() {
            0 => 0,
            _ => self.estimate.tokens_left(self.open.values(), tokens),
        };
        let done = tokens as f64 / (tokens + tokens_left).max(1) as f64;
        let done = self.ended_before + (1.0 - self.ended_before) * done;
        self.shown = if counts.unfinished() == 0 { 1.0 } else { self.shown.max(done).min(0.999) };
        // Nothing is known of the speed while the first prompts are read, nor of the length before the first plan or wish.
        let known = tokens >= FIRST_TOKENS && speed > 0.0 && tokens_left > 0 && self.estimate.is_known();
        Ok(Snapshot {
            counts,
            done: self.shown,
            tokens,
            tokens_left,
            sections: self.sections,
            sections_left: self.open.values().filter_map(Expected::sections_left).sum(),
            running: stats.running,
            tokens_per_second: speed,
            prefix_hit_rate: fraction(stats.cached_tokens, stats.prompt_tokens),
            elapsed_s: self.elapsed().as_secs(),
            eta_s: known.then(|| (tokens_left as f64 / speed).round() as u64),
        })
    }

    /// Reads all documents in one state.
    async fn list(&mut self, state: State) -> store::Result<()> {
        let filter = Filter { state: Some(state), reason: None };
        let mut after = None;
        loop {
            let page = self.store.list(&self.run, &filter, after, PAGE).await?;
            for record in &page.records {
                if let Some(expected) = expected(record) {
                    self.estimate.planned(None, &expected);
                    self.open.insert(record.id, expected);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Reads the documents that changed since the last call.
    async fn follow(&mut self) -> store::Result<()> {
        loop {
            let changed = self.store.changed(&self.run, self.change_seq, PAGE).await?;
            for record in &changed {
                self.change_seq = record.change_seq;
                self.record(record);
            }
            if changed.len() < PAGE as usize {
                return Ok(());
            }
        }
    }

    fn record(&mut self, record: &Record) {
        // The coordinator reports bodies that cannot be parsed.
        let Some(now) = expected(record) else { return };
        let before =
            if record.state.is_terminal() { self.open.remove(&record.id) } else { self.open.insert(record.id, now) };
        // One that had ended when this process started, and is written to a shard.
        let Some(before) = before.or((!record.state.is_terminal()).then_some(Expected::default())) else { return };
        self.sections += now.sections.saturating_sub(before.sections);
        self.estimate.planned(Some(&before), &now);
        self.estimate.written(&before, &now);
    }

    fn tokens_per_second(&mut self, tokens: u64) -> f64 {
        let now = clock::now();
        self.speed.push_back((now, tokens));
        while self.speed.len() > 2 && self.speed.get(1).is_some_and(|(at, _)| now.duration_since(*at) > WINDOW) {
            self.speed.pop_front();
        }
        let (at, before) = self.speed.front().copied().unwrap_or((now, tokens));
        let seconds = now.duration_since(at).as_secs_f64();
        if seconds > 0.0 { (tokens - before) as f64 / seconds } else { 0.0 }
    }
}

/// What is expected of a document; none of a body that cannot be parsed.
fn expected(record: &Record) -> Option<Expected> {
    let document = record.document().ok()?;
    let plan = document.plan();
    let sections = document.sections();
    let planned = plan.map(|plan| plan.steps.iter().map(|step| u64::from(step.words)).sum::<u64>());
    Some(Expected {
        words: planned.filter(|words| *words > 0).or(document.instruction.required_words.map(u64::from)),
        written: sections.iter().map(|section| u64::from(section.words)).sum(),
        tokens: u64::from(document.usage.generated),
        sections: sections.len() as u64,
        steps: plan.map(|plan| plan.steps.len() as u64),
    })
}

/// A part of a whole; none if the whole is empty.
fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
