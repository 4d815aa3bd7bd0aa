//! The way of a finished span out of the process, counted: how many ended, left, and were lost on the way. The SDK's own
//! queue drops without a word when it is full, so the bound stands here, before it.

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

/// Counts what leaves.
#[derive(Debug)]
pub(crate) struct Counted<E> {
    inner: E,
    waiting: Waiting,
}

/// Where finished spans wait for the exporter's thread. A handle: clones share one.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    batches: BatchSpanProcessor,
    waiting: Waiting,
    /// Spans that may wait.
    room: u64,
    sampler: Sampler,
    scope: InstrumentationScope,
}

impl Outbox {
    pub(crate) fn new<E: SpanExporter + 'static>(
        exporter: E,
        sampler: Sampler,
        room: usize,
        resource: &Resource,
    ) -> Self {
        let waiting = Waiting::default();
        let counted = Counted { inner: exporter, waiting: Arc::clone(&waiting) };
        let config = BatchConfigBuilder::default().with_max_queue_size(room).build();
        let mut batches = BatchSpanProcessor::builder(counted).with_batch_config(config).build();
        batches.set_resource(resource);
        let scope = InstrumentationScope::builder("longhand")
            .with_version(longhand_proto::VERSION)
            .with_schema_url(gen_ai::SCHEMA)
            .build();
        Self(Arc::new(Inner { batches, waiting, room: room as u64, sampler, scope }))
    }

    /// Sends what waits, for at most `within`; returns how many spans are lost with the process. Blocks.
    pub(crate) fn close(&self, within: Duration) -> u64 {
        if let Err(error) = self.0.batches.shutdown_with_timeout(within) {
            tracing::warn!(%error, "traces: the collector did not take the last spans");
        }
        self.0.waiting.load(Ordering::Relaxed)
    }
}

impl Sink for Outbox {
    fn samples(&self, trace: TraceId) -> bool {
        let result = self.0.sampler.should_sample(None, trace, "submit", &SpanKind::Internal, &[], &[]);
        result.decision == SamplingDecision::RecordAndSample
    }

    fn export(&self, span: longhand_proto::trace::Span) {
        let inner = &*self.0;
        if inner.waiting.fetch_add(1, Ordering::Relaxed) >= inner.room {
            inner.waiting.fetch_sub(1, Ordering::Relaxed);
            LOSSES.dropped.with_label_values(&["queue_full"]).inc();
            return;
        }
        let mut links = SpanLinks::default();
        links.links = span.links.into_iter().map(|link| Link::with_context(link.sample().to_otel())).collect();
        inner.batches.on_end(SpanData {
            // An error of a document that is not sampled is sent all the same.
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
