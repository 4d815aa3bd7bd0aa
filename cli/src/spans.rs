//! The way of a finished span out of the process, counted: how many ended, left, and were lost on the way. The SDK's own
//! queue drops without a word when it is full, so the bound stands here, before it.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters of the process: it has one exporter.
pub(crate) static LOSSES: LazyLock<Losses> = LazyLock::new(Losses::new);

#[derive(Debug)]
pub(crate) struct Losses {
    registry: Registry,
    exported: IntCounter,
    dropped: IntCounterVec,
}

impl Losses {
    fn new() -> Self {
        match Self::register() {
            Ok(losses) => losses,
            Err(error) => unreachable!("names of metrics are fixed, valid and used once: {error}"),
        }
    }

    fn register() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let exported = IntCounter::new("longhand_spans_exported_total", "Spans that a collector took.")?;
        let dropped = IntCounterVec::new(
            Opts::new(
                "longhand_spans_dropped_total",
                "Spans lost: queue_full (the collector is too slow), or refused (it failed or turned them away).",
            ),
            &["reason"],
        )?;
        registry.register(Box::new(exported.clone()))?;
        registry.register(Box::new(dropped.clone()))?;
        for reason in ["queue_full", "refused"] {
            dropped.with_label_values(&[reason]).inc_by(0);
        }
        Ok(Self { registry, exported, dropped })
    }

    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Spans lost so far.
    pub(crate) fn dropped(&self) -> u64 {
        ["queue_full", "refused"].iter().map(|reason| self.dropped.with_label_values(&[reason]).get()).sum()
    }
}

/// Spans that ended and have not left.
type Waiting = Arc<AtomicU64>;

/// Lets at most `room` spans wait.
#[derive(Debug)]
pub(crate) struct Bounded<P> {
    inner: P,
    waiting: Waiting,
    room: u64,
}

/// Counts what leaves.
#[derive(Debug)]
pub(crate) struct Counted<E> {
    inner: E,
    waiting: Waiting,
}

/// An exporter that is counted, and what makes the processor before it.
pub(crate) fn counted<E: SpanExporter, P: SpanProcessor>(
    exporter: E,
    room: usize,
    processor: impl FnOnce(Counted<E>) -> P,
) -> Bounded<P> {
    let waiting = Waiting::default();
    let inner = processor(Counted { inner: exporter, waiting: Arc::clone(&waiting) });
    Bounded { inner, waiting, room: room as u64 }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.room {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            LOSSES.dropped.with_label_values(&["queue_full"]).inc();
            return;
        }
        self.inner.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: SpanExporter> SpanExporter for Counted<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        match &result {
            Ok(()) => LOSSES.exported.inc_by(spans),
            Err(_) => LOSSES.dropped.with_label_values(&["refused"]).inc_by(spans),
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
