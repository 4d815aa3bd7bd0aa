//! The progress of a run, read from the store and the engine; nothing is counted separately.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longhand_coordinator::domain::document::Document;
use longhand_coordinator::domain::state::State;
use longhand_coordinator::store::{self, Counts, Filter, Record, Store};
use longhand_proto::{DocumentId, RunId, clock};
use longhand_worker::engine::Engine;

use crate::display::Snapshot;

/// Speed is the mean over this window: sections start and end in waves.
const WINDOW: Duration = Duration::from_secs(15);
/// Documents per page when listing the store.
const PAGE: u32 = 64;
/// Sections that must have been written before the remaining time is estimated.
const MIN_SECTIONS: u64 = 3;

/// Sections of a document as last seen.
#[derive(Debug, Clone, Copy)]
struct Open {
    written: u64,
    steps: Option<u64>,
}

/// Tracks one run.
#[derive(Debug)]
pub(crate) struct ProgressTracker {
    store: Arc<dyn Store>,
    engine: Arc<dyn Engine>,
    run: RunId,
    started: Instant,
    /// Tokens that the engine had generated for earlier runs.
    before: u64,
    open: HashMap<DocumentId, Open>,
    sections: u64,
    /// Sum and number of the plan lengths seen: their mean stands for documents without a plan.
    steps: (u64, u64),
    speed: VecDeque<(Instant, u64)>,
}

impl ProgressTracker {
    /// Reads what earlier processes left open, so that only new sections count as written.
    pub(crate) async fn start(store: Arc<dyn Store>, engine: Arc<dyn Engine>, run: RunId) -> store::Result<Self> {
        let (started, before) = (clock::now(), engine.stats().generated_tokens);
        let mut tracker = Self {
            store,
            engine,
            run,
            started,
            before,
            open: HashMap::new(),
            sections: 0,
            steps: (0, 0),
            speed: VecDeque::from([(started, before)]),
        };
        for state in [State::Ready, State::Delayed, State::Leased] {
            tracker.update(state).await?;
        }
        tracker.sections = 0;
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
        let counts = self.store.counts(&self.run).await?;
        let seen = self.update(State::Leased).await?;
        self.close_ended(&seen).await?;
        let stats = self.engine.stats();
        let left = self.open.values().filter_map(|open| Some(open.steps? - open.written)).sum();
        Ok(Snapshot {
            counts,
            sections: self.sections,
            sections_left: left,
            running: stats.running,
            tokens_per_second: self.tokens_per_second(stats.generated_tokens),
            prefix_hit_rate: fraction(stats.cached_tokens, stats.prompt_tokens),
            elapsed_s: self.elapsed().as_secs(),
            eta_s: self.eta(&counts, left),
        })
    }

    /// Updates every started document in one state, and returns their ids.
    async fn update(&mut self, state: State) -> store::Result<HashSet<DocumentId>> {
        let mut seen = HashSet::new();
        let filter = Filter { state: Some(state), reason: None };
        let mut after = None;
        loop {
            let page = self.store.list(&self.run, &filter, after, PAGE).await?;
            for record in &page.records {
                // Listing order is not leasing order, so started documents may come anywhere: skip, do not stop.
                if record.open {
                    self.record(record);
                    seen.insert(record.id);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(seen);
            }
        }
    }

    /// Documents that are not leased any more are read once more, for their last sections.
    async fn close_ended(&mut self, seen: &HashSet<DocumentId>) -> store::Result<()> {
        let gone: Vec<DocumentId> = self.open.keys().filter(|id| !seen.contains(id)).copied().collect();
        for id in gone {
            match self.store.get(id).await? {
                Some(record) => {
                    self.record(&record);
                    if record.state.is_terminal() {
                        self.open.remove(&id);
                    }
                }
                None => drop(self.open.remove(&id)),
            }
        }
        Ok(())
    }

    fn record(&mut self, record: &Record) {
        // The coordinator reports bodies that cannot be parsed.
        let Ok(document) = record.document() else { return };
        let written = document.sections().len() as u64;
        let steps = document.plan().map(|plan| plan.steps.len() as u64);
        let before = self.open.insert(record.id, Open { written, steps });
        self.sections += written.saturating_sub(before.map_or(0, |open| open.written));
        if let (Some(steps), None) = (steps, before.and_then(|open| open.steps)) {
            self.steps = (self.steps.0 + steps, self.steps.1 + 1);
        }
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

    /// Remaining sections at the speed so far; a document without a plan counts with the mean of the others.
    fn eta(&self, counts: &Counts, left: u64) -> Option<u64> {
        let (sum, plans) = self.steps;
        if self.sections < MIN_SECTIONS || plans == 0 || counts.unfinished() == 0 {
            return None;
        }
        let planned = self.open.values().filter(|open| open.steps.is_some()).count() as u64;
        let unplanned = counts.unfinished().saturating_sub(planned);
        let sections = left as f64 + unplanned as f64 * sum as f64 / plans as f64;
        Some((sections * self.elapsed().as_secs_f64() / self.sections as f64).round() as u64)
    }
}

/// A part of a whole; none if the whole is empty.
fn fraction(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
