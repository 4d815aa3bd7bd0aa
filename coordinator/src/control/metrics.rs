//! Metrics of a coordinator, for Prometheus. Names and labels are an interface of dashboards and alerts (METRICS.md): add,
//! do not rename. Every label has few known values, or is bounded by `LabelValues`.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use longhand_proto::clock;
use longhand_proto::task::{TaskKind, Timings, Usage};
use prometheus::proto::MetricFamily;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::control::stall::StallFinder;
use crate::domain::state::State;
use crate::store::{AttemptEnd, Next, Result, Store};

/// Buckets from an in-memory store to one on a slow disk.
const CALL_SECONDS: [f64; 12] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// Buckets from a plan of a small model to a long section on a busy large one.
const ATTEMPT_SECONDS: [f64; 14] =
    [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1_280.0];
/// Buckets from a local disk to slow object storage.
const FLUSH_SECONDS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];
/// Runs with their own series: unfinished ones first, latest first.
const MAX_RUNS: usize = 32;
/// Rules, and error classes, with their own series; the rest is counted as `other`.
const MAX_LABEL_VALUES: usize = 64;
/// The `run` label of the active runs without their own series.
const OTHER_RUNS: &str = "_others";

/// Declares [`Metrics`]: one line per series, with its constructor.
macro_rules! metrics {
    ($($field:ident: $series:ty = $make:ident($($argument:expr),+ $(,)?);)+) => {
        /// Metrics of one coordinator process. Counters of replicas are to be summed.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            rules: LabelValues,
            classes: LabelValues,
            $($field: $series,)+
        }

        impl Metrics {
            fn register() -> prometheus::Result<Self> {
                let registry = Registry::new();
                $(
                    let $field = $make($($argument),+)?;
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { registry, rules: LabelValues::default(), classes: LabelValues::default(), $($field,)+ })
            }
        }
    };
}

metrics! {
    build_info: IntGaugeVec = gauges("longhand_build_info", "Always 1; the label is the version.", &["version"]);
    store_up: IntGauge = gauge("longhand_store_up", "1 if the store answered this scrape.");
    documents: IntGaugeVec = gauges("longhand_documents", "Documents by run and state.", &["run", "state"]);
    oldest_ready: GaugeVec = float_gauges(
        "longhand_oldest_ready_seconds",
        "Time that the first submitted of the ready documents has been ready; 0 if none is ready.",
        &["run"],
    );
    stalled: IntGaugeVec = gauges(
        "longhand_run_stalled",
        "1 while the run has work and makes no progress, for this cause.",
        &["run", "cause"],
    );
    lease_seconds: Histogram =
        histogram("longhand_lease_seconds", "Time of one query for documents to lease.", &CALL_SECONDS);
    commit_seconds: Histogram =
        histogram("longhand_commit_seconds", "Time of one commit of an attempt.", &CALL_SECONDS);
    flush_seconds: Histogram =
        histogram("longhand_flush_seconds", "Time to write accepted documents to a shard.", &FLUSH_SECONDS);
    attempt_seconds: HistogramVec =
        histograms("longhand_attempt_seconds", "Time from the lease of a task to its result, by task.", "task");
    phase_seconds: HistogramVec =
        histograms("longhand_phase_seconds", "Time in the engine, by phase: queue, prefill, decode.", "phase");
    attempts: IntCounterVec =
        counters("longhand_attempts_total", "Attempts that ended, by task and end.", &["task", "end"]);
    stale: IntCounter =
        counter("longhand_stale_writes_total", "Results discarded because their lease was no longer live.");
    tokens: IntCounterVec = counters(
        "longhand_tokens_total",
        "Tokens: prompt_computed, prompt_cached, generated, and wasted (generated for a text that was discarded).",
        &["kind"],
    );
    ended: IntCounterVec =
        counters("longhand_documents_ended_total", "Documents that ended, by state.", &["state"]);
    words: IntCounter = counter("longhand_words_accepted_total", "Words of accepted documents.");
    rejected: IntCounterVec = counters("longhand_rejected_total", "Documents rejected, by rule.", &["rule"]);
    section_rejections: IntCounterVec = counters(
        "longhand_section_rejections_total",
        "Sections that a rule rejected and that were written again, by rule.",
        &["rule"],
    );
    errors: IntCounterVec =
        counters("longhand_errors_total", "Attempts that ended in an error, by class.", &["class"]);
    requeued: IntCounter = counter("longhand_requeued_total", "Documents requeued by an operator.");
    audited: IntCounter = counter("longhand_audits_total", "Audits: comparisons of a run's indexes with its documents.");
    mismatches: IntCounter = counter("longhand_audit_mismatches_total", "Differences found by audits.");
}

fn counter(name: &str, help: &str) -> prometheus::Result<IntCounter> {
    IntCounter::new(name, help)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauge(name: &str, help: &str) -> prometheus::Result<IntGauge> {
    IntGauge::new(name, help)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

fn float_gauges(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
    GaugeVec::new(Opts::new(name, help), labels)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
}

fn histograms(name: &str, help: &str, label: &str) -> prometheus::Result<HistogramVec> {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(ATTEMPT_SECONDS.to_vec()), &[label])
}

/// The first [`MAX_LABEL_VALUES`] values of a label. A lock, as all calls count; held for one look-up.
#[derive(Debug, Default)]
struct LabelValues(Mutex<HashSet<String>>);

impl LabelValues {
    fn get<'a>(&self, name: &'a str) -> &'a str {
        let mut known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if known.contains(name) || (known.len() < MAX_LABEL_VALUES && known.insert(name.to_owned())) {
            name
        } else {
            "other"
        }
    }
}

impl Metrics {
    /// All metrics, registered.
    pub(crate) fn new() -> Self {
        match Self::register() {
            Ok(metrics) => {
                metrics.init();
                metrics
            }
            Err(error) => unreachable!("metric names are constants, valid and unique: {error}"),
        }
    }

    /// Creates the series with known labels: one that appears with its first event has no rate for that event.
    fn init(&self) {
        self.build_info.with_label_values(&[longhand_proto::VERSION]).set(1);
        for kind in TaskKind::ALL {
            self.attempt_seconds.with_label_values(&[kind.as_str()]);
            for end in AttemptEnd::ALL {
                self.attempts.with_label_values(&[kind.as_str(), end.as_str()]).inc_by(0);
            }
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
        self.section_rejections.with_label_values(&["other"]).inc_by(0);
        self.errors.with_label_values(&["other"]).inc_by(0);
    }

    /// The store was queried for documents to lease.
    pub(crate) fn leased(&self, took: Duration) {
        self.lease_seconds.observe(took.as_secs_f64());
    }

    /// An attempt was committed.
    pub(crate) fn committed(&self, took: Duration, next: &Next, cost: &AttemptCost) {
        self.commit_seconds.observe(took.as_secs_f64());
        self.attempt(cost.kind, cost.end(next));
        if let Some((kind, timings)) = cost.kind.zip(cost.timings) {
            self.attempt_seconds.with_label_values(&[kind.as_str()]).observe(cost.held.as_secs_f64());
            let Timings { queue_ms, prefill_ms, decode_ms } = timings;
            for (phase, ms) in [("queue", queue_ms), ("prefill", prefill_ms), ("decode", decode_ms)] {
                self.phase_seconds.with_label_values(&[phase]).observe(Duration::from_millis(ms).as_secs_f64());
            }
        }
        let add = |kind, tokens: u32| self.tokens.with_label_values(&[kind]).inc_by(u64::from(tokens));
        add("prompt_computed", cost.usage.prompt.saturating_sub(cost.usage.cached));
        add("prompt_cached", cost.usage.cached);
        add("generated", cost.usage.generated.saturating_sub(cost.usage.resumed));
        if let Some(class) = &cost.error {
            add("wasted", cost.usage.generated);
            self.errors.with_label_values(&[self.classes.get(class)]).inc();
        }
        if let Some(rule) = &cost.rejected {
            add("wasted", cost.usage.generated);
            self.section_rejections.with_label_values(&[self.rules.get(rule)]).inc();
        }
        if let Next::End { state, reason } = next {
            self.ended(*state, reason, cost.words);
        }
    }

    /// Accepted documents were written to a shard, or there were none to write.
    pub fn flushed(&self, took: Duration) {
        self.flush_seconds.observe(took.as_secs_f64());
    }

    /// An attempt ended; without a kind if its document cannot be read.
    pub(crate) fn attempt(&self, kind: Option<TaskKind>, end: AttemptEnd) {
        let kind = kind.map_or("unknown", TaskKind::as_str);
        self.attempts.with_label_values(&[kind, end.as_str()]).inc();
    }

    /// A sweep revoked a lease.
    pub(crate) fn lost(&self, kind: Option<TaskKind>, state: State) {
        self.attempt(kind, AttemptEnd::Lost);
        if state.is_terminal() {
            self.ended(state, "", 0);
        }
    }

    /// A result was discarded because its lease is no longer live.
    pub(crate) fn stale(&self, generated: u32) {
        self.stale.inc();
        self.tokens.with_label_values(&["wasted"]).inc_by(u64::from(generated));
    }

    /// An attempt ended because its run was cancelled.
    pub(crate) fn cancelled(&self, kind: Option<TaskKind>, generated: u64) {
        self.attempt(kind, AttemptEnd::Released);
        for count in ["generated", "wasted"] {
            self.tokens.with_label_values(&[count]).inc_by(generated);
        }
    }

    fn ended(&self, state: State, reason: &str, words: u64) {
        self.ended.with_label_values(&[state.as_str()]).inc();
        match state {
            State::Accepted => self.words.inc_by(words),
            State::Rejected => self.rejected.with_label_values(&[self.rules.get(reason)]).inc(),
            State::Ready | State::Leased | State::Delayed | State::Failed | State::Cancelled => {}
        }
    }

    /// Documents were requeued by an operator.
    pub(crate) fn requeued(&self, documents: u64) {
        self.requeued.inc_by(documents);
    }

    /// A run was audited.
    pub(crate) fn audited(&self, mismatches: usize) {
        self.audited.inc();
        self.mismatches.inc_by(mismatches as u64);
    }

    /// All series, with current counts from the store. Without an answer in time those are missing, and
    /// `longhand_store_up` is 0.
    pub(crate) async fn gather(
        &self,
        store: &dyn Store,
        finder: StallFinder<'_>,
        timeout: Duration,
    ) -> Vec<MetricFamily> {
        let counted = tokio::time::timeout(timeout, self.count(store, finder)).await;
        let up = matches!(counted, Ok(Ok(())));
        if !up {
            self.documents.reset();
            self.oldest_ready.reset();
            self.stalled.reset();
        }
        self.store_up.set(i64::from(up));
        self.registry.gather()
    }

    async fn count(&self, store: &dyn Store, mut finder: StallFinder<'_>) -> Result<()> {
        let now = store.now_ms().await?;
        let mut runs = Vec::new();
        let mut known = HashSet::new();
        let active = store.active_runs().await?.into_iter().rev();
        let latest = store.latest_runs(MAX_RUNS as u32).await?;
        for run in active.chain(latest).filter(|run| known.insert(run.id.clone())) {
            let (counts, stall) = finder.counts(&run).await?;
            runs.push((run, counts, stall));
        }
        // Stable: within each group the latest stay first. Of those that ended only the latest are read: there may be thousands.
        runs.sort_by_key(|(_, counts, _)| counts.unfinished() == 0);
        let ended_from = runs.iter().position(|(_, counts, _)| counts.unfinished() == 0).unwrap_or(runs.len());
        runs.truncate(ended_from.max(MAX_RUNS));
        let mut ages = Vec::new();
        for (run, counts, _) in runs.iter().take(MAX_RUNS) {
            let since = if counts.ready == 0 { None } else { self.oldest_ready_since(store, &run.id).await? };
            ages.push(since.map_or(0.0, |ms| now.saturating_sub(ms) as f64 / 1000.0));
        }
        self.documents.reset();
        self.oldest_ready.reset();
        self.stalled.reset();
        for (index, (run, counts, stall)) in runs.iter().enumerate() {
            let name = if index < MAX_RUNS { run.id.as_str() } else { OTHER_RUNS };
            for state in State::ALL {
                self.documents.with_label_values(&[name, state.as_str()]).add(counts.of(state) as i64);
            }
            if let Some(stall) = stall {
                self.stalled.with_label_values(&[name, stall.label()]).set(1);
            }
        }
        for ((run, ..), age) in runs.iter().zip(ages) {
            self.oldest_ready.with_label_values(&[run.id.as_str()]).set(age);
        }
        Ok(())
    }

    /// Since when the first submitted of the ready documents is ready.
    async fn oldest_ready_since(&self, store: &dyn Store, run: &longhand_proto::RunId) -> Result<Option<u64>> {
        let ready = crate::store::Filter { state: Some(State::Ready), reason: None };
        let page = store.list(run, &ready, None, 1).await?;
        Ok(page.records.first().map(|record| record.changed_ms))
    }
}

/// What an attempt cost, and what it produced.
#[derive(Debug, Default)]
pub(crate) struct AttemptCost {
    /// None if the document cannot be read.
    pub(crate) kind: Option<TaskKind>,
    /// Token counts.
    pub(crate) usage: Usage,
    /// Time in the engine; none without a text.
    pub(crate) timings: Option<Timings>,
    /// Time from lease to result.
    pub(crate) held: Duration,
    /// Class of its error; its tokens are wasted.
    pub(crate) error: Option<String>,
    /// The rule that rejected its text; its tokens are wasted.
    pub(crate) rejected: Option<String>,
    /// Words of the document, if it ended.
    pub(crate) words: u64,
}

impl AttemptCost {
    /// How the attempt ended that is followed by `next`.
    pub(crate) fn end(&self, next: &Next) -> AttemptEnd {
        if self.error.is_some() { AttemptEnd::Error } else { next.attempt_end() }
    }
}

/// Measures elapsed time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(clock::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(self) -> Duration {
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
