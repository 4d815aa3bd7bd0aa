//! A worker's metrics for Prometheus. Names and labels are an interface of dashboards and alerts: add, do not rename.

use std::fmt;
use std::sync::Arc;

use longhand_proto::clock;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, IntCounter, IntCounterVec, IntGauge, Opts, Registry};
use tokio::sync::watch;

use super::report::WorkerSnapshot;
use crate::engine::Engine;

/// A worker's metrics, read when they are scraped.
pub struct Metrics {
    registry: Registry,
    engine: Arc<dyn Engine>,
    snapshot: watch::Receiver<WorkerSnapshot>,
    attempts: IntCounterVec,
    continued: IntCounter,
    held: IntGauge,
    slots: IntGauge,
    checkpoint_age: Gauge,
    running: IntGauge,
    waiting: IntGauge,
    kv_blocks: IntGauge,
    kv_blocks_used: IntGauge,
    preemptions: IntCounter,
    steps: IntCounter,
    step_seconds: Counter,
    prompt: IntCounter,
    cached: IntCounter,
    generated: IntCounter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("snapshot", &*self.snapshot.borrow()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// Documents held.
    pub fn held(&self) -> u32 {
        self.snapshot.borrow().held
    }

    pub(super) fn new(engine: Arc<dyn Engine>, snapshot: watch::Receiver<WorkerSnapshot>) -> Self {
        match Self::register(engine, snapshot) {
            Ok(metrics) => metrics,
            Err(error) => unreachable!("metric names are fixed, valid and unique: {error}"),
        }
    }

    fn register(engine: Arc<dyn Engine>, snapshot: watch::Receiver<WorkerSnapshot>) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| {
            let it = IntCounter::new(name, help)?;
            registry.register(Box::new(it.clone())).map(|()| it)
        };
        let gauge = |name: &str, help: &str| {
            let it = IntGauge::new(name, help)?;
            registry.register(Box::new(it.clone())).map(|()| it)
        };
        let attempts = IntCounterVec::new(
            Opts::new("longhand_worker_attempts_total", "Attempts of this worker that ended, by outcome."),
            &["end"],
        )?;
        registry.register(Box::new(attempts.clone()))?;
        let checkpoint_age = Gauge::new(
            "longhand_worker_checkpoint_age_seconds",
            "Age of the oldest unsaved checkpoint among the documents held: what a crash now would cost.",
        )?;
        registry.register(Box::new(checkpoint_age.clone()))?;
        let step_seconds = Counter::new("longhand_engine_step_seconds_total", "Time that the device spent on steps.")?;
        registry.register(Box::new(step_seconds.clone()))?;
        Ok(Self {
            engine,
            snapshot,
            attempts,
            checkpoint_age,
            step_seconds,
            continued: counter(
                "longhand_worker_continued_total",
                "Tasks started as the continuation of the previous one on the same slot.",
            )?,
            held: gauge("longhand_worker_documents", "Documents held.")?,
            slots: gauge("longhand_worker_slots", "Documents that can be written at the same time.")?,
            running: gauge("longhand_engine_batch_size", "Sequences in the current batch.")?,
            waiting: gauge("longhand_engine_waiting", "Sequences waiting for KV memory.")?,
            kv_blocks: gauge("longhand_engine_kv_blocks", "KV cache blocks.")?,
            kv_blocks_used: gauge("longhand_engine_kv_blocks_used", "KV cache blocks in use.")?,
            preemptions: counter(
                "longhand_engine_preemptions_total",
                "Sequences preempted because KV memory ran out; they are recomputed.",
            )?,
            steps: counter("longhand_engine_steps_total", "Steps of the device.")?,
            prompt: counter("longhand_engine_prompt_tokens_total", "Prompt tokens, cached ones included.")?,
            cached: counter("longhand_engine_cached_tokens_total", "Prompt tokens found in the prefix cache.")?,
            generated: counter("longhand_engine_generated_tokens_total", "Tokens generated.")?,
            registry,
        })
    }

    /// All series as they are now.
    pub fn gather(&self) -> Vec<MetricFamily> {
        let WorkerSnapshot { report, held, unsaved_since } = *self.snapshot.borrow();
        let raise_to = |counter: &IntCounter, total: u64| counter.inc_by(total.saturating_sub(counter.get()));
        let ends = [
            ("completed", report.completed),
            ("error", report.failed),
            ("released", report.released),
            ("lost", report.lost),
        ];
        for (end, total) in ends {
            raise_to(&self.attempts.with_label_values(&[end]), total);
        }
        raise_to(&self.continued, report.continued);
        self.held.set(held.into());
        self.slots.set(self.engine.slots().into());
        let age = unsaved_since.map_or(0.0, |since| clock::now().duration_since(since).as_secs_f64());
        self.checkpoint_age.set(age);

        let stats = self.engine.stats();
        self.running.set(stats.running.into());
        self.waiting.set(stats.waiting.into());
        self.kv_blocks.set(stats.kv_blocks.into());
        self.kv_blocks_used.set(stats.kv_blocks_used.into());
        raise_to(&self.preemptions, stats.preemptions);
        raise_to(&self.steps, stats.steps);
        self.step_seconds.inc_by((stats.step_time.as_secs_f64() - self.step_seconds.get()).max(0.0));
        raise_to(&self.prompt, stats.prompt_tokens);
        raise_to(&self.cached, stats.cached_tokens);
        raise_to(&self.generated, stats.generated_tokens);
        self.registry.gather()
    }
}
