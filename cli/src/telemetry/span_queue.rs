//! The queue of finished spans, with counters of what was exported and dropped. The SDK's own queue drops silently when it
//! is full, so the limit is enforced here, in front of it.

use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use longhand_proto::trace::{Sink, gen_ai};
use opentelemetry::InstrumentationScope;
use opentelemetry::trace::{Link, SpanId, SpanKind, Status, TraceId};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SamplingDecision, ShouldSample, SpanData, SpanEvents,
    SpanExporter, SpanLinks, SpanProcessor,
};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Counters of the process, which has one exporter.
pub(crate) static DROP_COUNTERS: LazyLock<DropCounters> = LazyLock::new(DropCounters::new);

/// Counters of exported and dropped spans.
#[derive(Debug)]
pub(crate) struct DropCounters {
    registry: Registry,
    exported: IntCounter,
    dropped: IntCounterVec,
}

impl DropCounters {
    fn new() -> Self {
        match Self::register() {
            Ok(counters) => counters,
            Err(error) => unreachable!("metric names are constant, valid and unique: {error}"),
        }
    }

    fn register() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let exported = IntCounter::new("longhand_spans_exported_total", "Spans accepted by the collector.")?;
        let dropped = IntCounterVec::new(
            Opts::new(
                "longhand_spans_dropped_total",
                "Spans dropped: queue_full (the collector is too slow), or refused (the collector failed or rejected them).",
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

    /// The counters, for /metrics.
    pub(crate) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }

    /// Spans dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        ["queue_full", "refused"].iter().map(|reason| self.dropped.with_label_values(&[reason]).get()).sum()
    }
}

/// Number of finished spans that were not exported yet.
type Pending = Arc<AtomicU64>;

/// An exporter that counts what it exports.
#[derive(Debug)]
pub(crate) struct CountingExporter<E> {
    inner: E,
    pending: Pending,
}

/// Finished spans on their way to the exporter's thread. A handle: clones share one queue.
#[derive(Debug, Clone)]
pub(crate) struct SpanQueue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    batches: BatchSpanProcessor,
    pending: Pending,
    /// Maximum number of pending spans.
    capacity: u64,
    sampler: Sampler,
    scope: InstrumentationScope,
}

impl SpanQueue {
    /// A queue of at most `capacity` spans in front of `exporter`.
    pub(crate) fn new<E: SpanExporter + 'static>(
        exporter: E,
        sampler: Sampler,
        capacity: usize,
        resource: &Resource,
    ) -> Self {
        let pending = Pending::default();
        let exporter = CountingExporter { inner: exporter, pending: Arc::clone(&pending) };
        let config = BatchConfigBuilder::default().with_max_queue_size(capacity).build();
        let mut batches = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
        batches.set_resource(resource);
        let scope = InstrumentationScope::builder("longhand")
            .with_version(longhand_proto::VERSION)
            .with_schema_url(gen_ai::SCHEMA)
            .build();
        Self(Arc::new(Inner { batches, pending, capacity: capacity as u64, sampler, scope }))
    }

    /// Sends the pending spans, for at most `within`; returns how many are dropped. Blocks.
    pub(crate) fn close(&self, within: Duration) -> u64 {
        if let Err(error) = self.0.batches.shutdown_with_timeout(within) {
            tracing::warn!(%error, "the collector did not accept the last spans");
        }
        self.0.pending.load(Ordering::Relaxed)
    }
}

impl Sink for SpanQueue {
    fn samples(&self, trace: TraceId) -> bool {
        let result = self.0.sampler.should_sample(None, trace, "submit", &SpanKind::Internal, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn export(&self, span: longhand_proto::trace::Span) {
        let inner = &*self.0;
        if inner.pending.fetch_add(1, Ordering::Relaxed) >= inner.capacity {
            inner.pending.fetch_sub(1, Ordering::Relaxed);
            DROP_COUNTERS.dropped.with_label_values(&["queue_full"]).inc();
            return;
        }
        let mut links = SpanLinks::default();
        links.links = span.links.into_iter().map(|link| Link::with_context(link.sample().to_otel())).collect();
        inner.batches.on_end(SpanData {
            // Errors are sent even if the document is not sampled.
            span_context: span.context.sample().to_otel(),
            parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| parent.span),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: span.name,
            start_time: span.start,
            end_time: span.end,
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: inner.scope.clone(),
        });
    }
}

impl<E: SpanExporter> SpanExporter for CountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let result = self.inner.export(batch).await;
        self.pending.fetch_sub(spans, Ordering::Relaxed);
        match &result {
            Ok(()) => DROP_COUNTERS.exported.inc_by(spans),
            Err(_) => DROP_COUNTERS.dropped.with_label_values(&["refused"]).inc_by(spans),
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
