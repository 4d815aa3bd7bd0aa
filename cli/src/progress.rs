//! How far a run is: read from the store and the engine now and then, never counted on the side.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use longhand_coordinator::document::Document;
use longhand_coordinator::store::{self, Counts, Filter, Record, State, Store};
use longhand_proto::{DocumentId, RunId, clock};
use longhand_worker::engine::Engine;
use serde::Serialize;

/// Speed is the mean over this long: sections start and end in waves.
const WINDOW: Duration = Duration::from_secs(15);
/// Documents looked at in one call to the store.
const PAGE: u32 = 64;
/// Sections that must have been written before a time is foretold.
const ENOUGH: u64 = 3;

/// The run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Snapshot {
    pub(crate) counts: Counts,
    /// Sections written since this process started.
    pub(crate) sections: u64,
    /// Sections that the plans of open documents still ask for.
    pub(crate) sections_left: u64,
    /// Documents that the engine writes now.
    pub(crate) running: u32,
    pub(crate) tokens_per_second: f64,
    /// Share of prompt tokens that were found in the prefix cache.
    pub(crate) prefix_hit_rate: Option<f64>,
    pub(crate) elapsed_s: u64,
    pub(crate) eta_s: Option<u64>,
}

/// Sections of a document as last seen.
#[derive(Debug, Clone, Copy)]
struct Open {
    written: u64,
    steps: Option<u64>,
}

/// Looks at one run from time to time.
#[derive(Debug)]
pub(crate) struct Watcher {
    store: Arc<dyn Store>,
    engine: Arc<dyn Engine>,
    run: RunId,
    started: Instant,
    open: HashMap<DocumentId, Open>,
    sections: u64,
    /// Sum and number of the plans seen: what a document without one is taken to ask for.
    steps: (u64, u64),
    speed: VecDeque<(Instant, u64)>,
}

impl Watcher {
    /// Begins with what earlier processes left open, so that only what is new counts as written.
    pub(crate) async fn start(store: Arc<dyn Store>, engine: Arc<dyn Engine>, run: RunId) -> store::Result<Self> {
        let started = clock::now();
        let mut watcher = Self {
            store,
            engine,
            run,
            started,
            open: HashMap::new(),
            sections: 0,
            steps: (0, 0),
            speed: VecDeque::from([(started, 0)]),
        };
        for state in [State::Ready, State::Delayed, State::Leased] {
            watcher.see(state).await?;
        }
        watcher.sections = 0;
        Ok(watcher)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        clock::now().duration_since(self.started)
    }

    /// Tokens that this process has generated.
    pub(crate) fn generated(&self) -> u64 {
        self.engine.stats().generated_tokens
    }

    /// Reads how far the run is now.
    pub(crate) async fn look(&mut self) -> store::Result<Snapshot> {
        let counts = self.store.counts(&self.run).await?;
        let seen = self.see(State::Leased).await?;
        self.close_ended(&seen).await?;
        let stats = self.engine.stats();
        let left = self.open.values().filter_map(|open| Some(open.steps? - open.written)).sum();
        Ok(Snapshot {
            counts,
            sections: self.sections,
            sections_left: left,
            running: stats.running,
            tokens_per_second: self.tokens_per_second(stats.generated_tokens),
            prefix_hit_rate: share(stats.cached_tokens, stats.prompt_tokens),
            elapsed_s: self.elapsed().as_secs(),
            eta_s: self.eta(&counts, left),
        })
    }

    /// Takes in every begun document of one state, and says which they are.
    async fn see(&mut self, state: State) -> store::Result<HashSet<DocumentId>> {
        let mut seen = HashSet::new();
        let filter = Filter { state: Some(state), reason: None };
        let mut after = None;
        loop {
            let page = self.store.list(&self.run, &filter, after, PAGE).await?;
            for record in &page.records {
                // Open documents come first in the order of leasing, not of listing: skip, do not stop.
                if record.open {
                    self.note(record);
                    seen.insert(record.id);
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(seen);
            }
        }
    }

    /// Documents that are not in work any more are read once more: those that ended, for their last sections.
    async fn close_ended(&mut self, seen: &HashSet<DocumentId>) -> store::Result<()> {
        let gone: Vec<DocumentId> = self.open.keys().filter(|id| !seen.contains(id)).copied().collect();
        for id in gone {
            match self.store.get(id).await? {
                Some(record) => {
                    self.note(&record);
                    if record.state.is_terminal() {
                        self.open.remove(&id);
                    }
                }
                None => drop(self.open.remove(&id)),
            }
        }
        Ok(())
    }

    fn note(&mut self, record: &Record) {
        // A body of another version is the coordinator's to complain about.
        let Ok(document) = serde_json::from_str::<Document>(&record.body) else { return };
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

    /// Sections left at the speed so far; a document without a plan is taken to ask for as many as the others do.
    fn eta(&self, counts: &Counts, left: u64) -> Option<u64> {
        let (sum, plans) = self.steps;
        if self.sections < ENOUGH || plans == 0 || counts.unfinished() == 0 {
            return None;
        }
        let planned = self.open.values().filter(|open| open.steps.is_some()).count() as u64;
        let unplanned = counts.unfinished().saturating_sub(planned);
        let sections = left as f64 + unplanned as f64 * sum as f64 / plans as f64;
        Some((sections * self.elapsed().as_secs_f64() / self.sections as f64).round() as u64)
    }
}

/// A part of a whole; none where there is no whole.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
