//! What a coordinator counts, for Prometheus. Names and labels are a promise to dashboards and alerts (METRICS.md): add,
//! do not rename. Every label takes one of a few values that are known beforehand, or is bounded by `Names`.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use longhand_proto::clock;
use longhand_proto::task::{TaskKind, Timings, Usage};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::domain::state::State;
use crate::store::{AttemptEnd, Next, Result, Store};

/// From a store in memory to one behind a slow disk.
const CALL_SECONDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// From a plan of a small model to a long section that waits its turn on a busy one.
const ATTEMPT_SECONDS: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1_280.0];
const FLUSH_SECONDS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];
/// Runs with series of their own: those that are not at their end, the latest first.
const RUNS: usize = 32;
/// Rules and error classes with a series of their own; the rest is counted as `other`.
const NAMES: usize = 64;
/// Runs whose documents are counted in place of their own series.
const OTHERS: &str = "_others";

/// Counters of one coordinator process. Replicas are added up.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    lease_seconds: Histogram,
    commit_seconds: Histogram,
    flush_seconds: Histogram,
    attempt_seconds: HistogramVec,
    phase_seconds: HistogramVec,
    attempts: IntCounterVec,
    stale: IntCounter,
    tokens: IntCounterVec,
    ended: IntCounterVec,
    words: IntCounter,
    rejected: IntCounterVec,
    errors: IntCounterVec,
    requeued: IntCounter,
    audited: IntCounter,
    mismatches: IntCounter,
    documents: IntGaugeVec,
    oldest_ready: GaugeVec,
    store_up: IntGauge,
    rules: Names,
    classes: Names,
}

/// The first so many names that were seen: what a label may take.
#[derive(Debug, Default)]
struct Names(Mutex<HashSet<String>>);

impl Names {
    fn bound<'a>(&self, name: &'a str) -> &'a str {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.contains(name) || (known.len() < NAMES && known.insert(name.to_owned())) { name } else { "other" }
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        match Self::register() {
            Ok(metrics) => metrics,
            Err(error) => unreachable!("names of metrics are fixed, valid and used once: {error}"),
        }
    }

    fn register() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let it = Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))?;
            registry.register(Box::new(it.clone())).map(|()| it)
        };
        let counter = |name: &str, help: &str| {
            let it = IntCounter::new(name, help)?;
            registry.register(Box::new(it.clone())).map(|()| it)
        };
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let it = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(it.clone())).map(|()| it)
        };
        let histograms = |name: &str, help: &str, label: &str| {
            let options = HistogramOpts::new(name, help).buckets(ATTEMPT_SECONDS.to_vec());
            let it = HistogramVec::new(options, &[label])?;
            registry.register(Box::new(it.clone())).map(|()| it)
        };
        let build =
            IntGaugeVec::new(Opts::new("longhand_build_info", "1; the version is in the label."), &["version"])?;
        registry.register(Box::new(build.clone()))?;
        build.with_label_values(&[longhand_proto::VERSION]).set(1);
        let documents =
            IntGaugeVec::new(Opts::new("longhand_documents", "Documents by run and state."), &["run", "state"])?;
        registry.register(Box::new(documents.clone()))?;
        let oldest_ready = GaugeVec::new(
            Opts::new(
                "longhand_oldest_ready_seconds",
                "Time for which the document submitted first among the ready ones has been ready; 0 if none is.",
            ),
            &["run"],
        )?;
        registry.register(Box::new(oldest_ready.clone()))?;
        let store_up = IntGauge::new("longhand_store_up", "1 if the store answered this scrape.")?;
        registry.register(Box::new(store_up.clone()))?;
        let metrics = Self {
            lease_seconds: histogram(
                "longhand_lease_seconds",
                "Time of one look for documents to lease.",
                &CALL_SECONDS,
            )?,
            commit_seconds: histogram("longhand_commit_seconds", "Time of one commit of an attempt.", &CALL_SECONDS)?,
            flush_seconds: histogram(
                "longhand_flush_seconds",
                "Time to write accepted documents to a shard.",
                &FLUSH_SECONDS,
            )?,
            attempt_seconds: histograms(
                "longhand_attempt_seconds",
                "Time from the lease of a task to its result, by task.",
                "task",
            )?,
            phase_seconds: histograms(
                "longhand_phase_seconds",
                "Time of results inside engines, by phase: queue, prefill, decode.",
                "phase",
            )?,
            attempts: counters("longhand_attempts_total", "Attempts that ended, by task and end.", &["task", "end"])?,
            stale: counter(
                "longhand_stale_writes_total",
                "Results refused because their lease was not live any more.",
            )?,
            tokens: counters(
                "longhand_tokens_total",
                "Tokens: prompt_computed, prompt_cached, generated, and wasted (generated for a text that was not kept).",
                &["kind"],
            )?,
            ended: counters("longhand_documents_ended_total", "Documents that came to an end, by state.", &["state"])?,
            words: counter("longhand_words_accepted_total", "Words of accepted documents.")?,
            rejected: counters("longhand_rejected_total", "Documents rejected, by rule.", &["rule"])?,
            errors: counters("longhand_errors_total", "Attempts that ended in an error, by class.", &["class"])?,
            requeued: counter("longhand_requeued_total", "Documents taken up again by hand.")?,
            audited: counter("longhand_audits_total", "Comparisons of a run's indexes with its documents.")?,
            mismatches: counter("longhand_audit_mismatches_total", "Differences found by audits.")?,
            documents,
            oldest_ready,
            store_up,
            rules: Names::default(),
            classes: Names::default(),
            registry,
        };
        metrics.begin();
        Ok(metrics)
    }

    /// A series that appears with its first event would have no rate at that event.
    fn begin(&self) {
        for kind in TaskKind::ALL {
            for end in AttemptEnd::ALL {
                self.attempts.with_label_values(&[kind.as_str(), end.as_str()]).inc_by(0);
            }
        }
        for kind in TaskKind::ALL {
            self.attempt_seconds.with_label_values(&[kind.as_str()]);
        }
        for phase in ["queue", "prefill", "decode"] {
            self.phase_seconds.with_label_values(&[phase]);
        }
        for kind in ["prompt_computed", "prompt_cached", "generated", "wasted"] {
            self.tokens.with_label_values(&[kind]).inc_by(0);
        }
        for state in State::ALL.into_iter().filter(|state| state.is_terminal()) {
            self.ended.with_label_values(&[state.as_str()]).inc_by(0);
        }
        self.rejected.with_label_values(&["other"]).inc_by(0);
        self.errors.with_label_values(&["other"]).inc_by(0);
    }

    pub(crate) fn leased(&self, took: Duration) {
        self.lease_seconds.observe(took.as_secs_f64());
    }

    /// An attempt was committed.
    pub(crate) fn committed(&self, took: Duration, next: &Next, spent: &Spent) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.attempt(spent.kind, spent.end(next));
        if let Some((kind, timings)) = spent.kind.zip(spent.timings) {
            self.attempt_seconds.with_label_values(&[kind.as_str()]).observe(spent.held.as_secs_f64());
            let Timings { queue_ms, prefill_ms, decode_ms } = timings;
            for (phase, ms) in [("queue", queue_ms), ("prefill", prefill_ms), ("decode", decode_ms)] {
                self.phase_seconds.with_label_values(&[phase]).observe(Duration::from_millis(ms).as_secs_f64());
            }
        }
        let add = |kind, tokens: u32| self.tokens.with_label_values(&[kind]).inc_by(u64::from(tokens));
        add("prompt_computed", spent.usage.prompt.saturating_sub(spent.usage.cached));
        add("prompt_cached", spent.usage.cached);
        add("generated", spent.usage.generated.saturating_sub(spent.usage.resumed));
        if let Some(class) = &spent.error {
            add("wasted", spent.usage.generated);
            self.errors.with_label_values(&[self.classes.bound(class)]).inc();
        }
        if let Next::End { state, reason } = next {
            self.ended(*state, reason, spent.words);
        }
    }

    /// Accepted documents were written to a shard, or found to need none.
    pub fn flushed(&self, took: Duration) {
        self.flush_seconds.observe(took.as_secs_f64());
    }

    /// An attempt ended; of a document that cannot be read the task is not known.
    pub(crate) fn attempt(&self, kind: Option<TaskKind>, end: AttemptEnd) {
        let kind = kind.map_or("unknown", TaskKind::as_str);
        self.attempts.with_label_values(&[kind, end.as_str()]).inc();
    }

    /// A sweep took a lease away.
    pub(crate) fn lost(&self, kind: Option<TaskKind>, state: State) {
        self.attempt(kind, AttemptEnd::Lost);
        if state.is_terminal() {
            self.ended(state, "", 0);
        }
    }

    /// A result came for a lease that is not live any more: nobody will read its text.
    pub(crate) fn stale(&self, generated: u32) {
        self.stale.inc();
        self.tokens.with_label_values(&["wasted"]).inc_by(u64::from(generated));
    }

    fn ended(&self, state: State, reason: &str, words: u64) {
        self.ended.with_label_values(&[state.as_str()]).inc();
        match state {
            State::Accepted => self.words.inc_by(words),
            State::Rejected => self.rejected.with_label_values(&[self.rules.bound(reason)]).inc(),
            State::Ready | State::Leased | State::Delayed | State::Failed | State::Cancelled => {}
        }
    }

    pub(crate) fn requeued(&self, documents: u64) {
        self.requeued.inc_by(documents);
    }

    pub(crate) fn audited(&self, mismatches: usize) {
        self.audited.inc();
        self.mismatches.inc_by(mismatches as u64);
    }

    /// All series, with the store's counts as they are now. If it does not answer in time they are missing, and
    /// `longhand_store_up` says why.
    pub(crate) async fn gather(&self, store: &dyn Store, within: Duration) -> Vec<MetricFamily> {
        let counted = tokio::time::timeout(within, self.count(store)).await;
        let up = matches!(counted, Ok(Ok(())));
        if !up {
            self.documents.reset();
            self.oldest_ready.reset();
        }
        self.store_up.set(i64::from(up));
        self.registry.gather()
    }

    async fn count(&self, store: &dyn Store) -> Result<()> {
        let now = store.now_ms().await?;
        let mut runs = Vec::new();
        for run in store.runs().await?.into_iter().rev() {
            let counts = store.counts(&run.id).await?;
            runs.push((run, counts));
        }
        // Stable: the latest stay first among those with work left.
        runs.sort_by_key(|(_, counts)| counts.unfinished() == 0);
        let mut ages = Vec::new();
        for (run, counts) in runs.iter().take(RUNS) {
            let since = if counts.ready == 0 { None } else { self.next_in_turn(store, &run.id).await? };
            ages.push(since.map_or(0.0, |ms| now.saturating_sub(ms) as f64 / 1000.0));
        }
        self.documents.reset();
        self.oldest_ready.reset();
        for (place, (run, counts)) in runs.iter().enumerate() {
            let name = if place < RUNS { run.id.as_str() } else { OTHERS };
            for state in State::ALL {
                self.documents.with_label_values(&[name, state.as_str()]).add(counts.of(state) as i64);
            }
        }
        for ((run, _), age) in runs.iter().zip(ages) {
            self.oldest_ready.with_label_values(&[run.id.as_str()]).set(age);
        }
        Ok(())
    }

    /// Since when the ready document that was submitted first is ready.
    async fn next_in_turn(&self, store: &dyn Store, run: &longhand_proto::RunId) -> Result<Option<u64>> {
        let ready = crate::store::Filter { state: Some(State::Ready), reason: None };
        let page = store.list(run, &ready, None, 1).await?;
        Ok(page.records.first().map(|record| record.changed_ms))
    }
}

/// What an attempt cost and brought.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    pub(crate) kind: Option<TaskKind>,
    pub(crate) usage: Usage,
    /// Where the engine's time went; none without a text.
    pub(crate) timings: Option<Timings>,
    /// From its lease to its result.
    pub(crate) held: Duration,
    /// Class of the error that it ended in: its tokens are wasted.
    pub(crate) error: Option<String>,
    /// Words of the document, if it is at its end.
    pub(crate) words: u64,
}

impl Spent {
    /// How the attempt ended that led to `next`.
    pub(crate) fn end(&self, next: &Next) -> AttemptEnd {
        if self.error.is_some() { AttemptEnd::Error } else { next.attempt_end() }
    }
}

/// Measures from its making to [`Watch::took`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watch(std::time::Instant);

impl Watch {
    pub(crate) fn start() -> Self {
        Self(clock::now())
    }

    pub(crate) fn took(self) -> Duration {
        clock::now().duration_since(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_task_has_its_series_from_the_start() {
        let text = prometheus::TextEncoder::new().encode_to_string(&Metrics::new().registry.gather()).unwrap();
        for metric in ["longhand_attempts_total{", "longhand_attempt_seconds_count{"] {
            for kind in TaskKind::ALL {
                let label = format!("task=\"{}\"", kind.as_str());
                assert!(text.lines().any(|line| line.starts_with(metric) && line.contains(&label)), "{metric} {label}");
            }
        }
    }
}
