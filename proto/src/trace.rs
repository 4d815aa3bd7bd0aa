//! Traces: one per document, created when it is submitted and stored with it. Coordinator and workers emit spans into it
//! independently, because span ids are derived from what both know: the trace context of the document, and the lease id
//! of the attempt.
//!
//! A span is a record that is made when it ends, by the side that knows the outcome: an attempt's by the coordinator,
//! which learns of its end even if the worker is dead. So no span is lost with a process, and tail sampling works: whether
//! a span is an error, which decides whether a span of an unsampled document is sent, is known when it is made. An
//! ordinary tracer, with random span ids and head sampling, offers neither.

pub mod gen_ai;
mod span;

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};

use crate::{LeaseId, clock, rng};

pub use span::{Sink, Span, TaskRef, from_unix_ms, install, is_enabled, samples};

/// W3C trace context of one span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The document's trace.
    pub trace: TraceId,
    /// The span within the trace.
    pub span: SpanId,
    /// Whether all spans of the document are sent. Spans with an error are always sent.
    pub sampled: bool,
}

impl Context {
    /// A new trace. The first 48 bits of its id are the time in milliseconds: the root span may be emitted long after.
    pub fn mint() -> Self {
        let mut trace = rng::bytes();
        trace[..6].copy_from_slice(&clock::unix_ms().to_be_bytes()[2..]);
        let trace = TraceId::from_bytes(trace);
        Self { trace, span: random(), sampled: samples(trace) }
    }

    /// When the trace began, if [`Context::mint`] made it.
    pub fn started_at(&self) -> SystemTime {
        let mut ms = [0; 8];
        ms[2..].copy_from_slice(&self.trace.to_bytes()[..6]);
        UNIX_EPOCH + Duration::from_millis(u64::from_be_bytes(ms))
    }

    /// Parses a `traceparent` (version 00); none if the text is not a valid one.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || parts.next().is_some() || flags.len() != 2 {
            return None;
        }
        let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        let valid = trace != TraceId::INVALID && span != SpanId::INVALID;
        valid.then_some(Self { trace, span, sampled: flags.is_sampled() })
    }

    /// The span of an attempt in this trace, derived from its lease: a lease is one attempt of one task.
    #[must_use]
    pub fn attempt(&self, lease: LeaseId) -> Self {
        let hash = blake3::derive_key("longhand attempt span v1", lease.as_bytes());
        let mut span = [0; 8];
        span.copy_from_slice(&hash[..8]);
        Self { span: SpanId::from_bytes(span), ..*self }
    }

    /// A new span in this trace.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span: random(), ..*self }
    }

    /// This context with sampling switched on.
    #[must_use]
    pub fn sample(self) -> Self {
        Self { sampled: true, ..self }
    }

    /// As OpenTelemetry's type.
    pub fn to_otel(self) -> SpanContext {
        let flags = TraceFlags::default().with_sampled(self.sampled);
        SpanContext::new(self.trace, self.span, flags, true, TraceState::default())
    }
}

/// As a `traceparent`: `00-<trace id>-<span id>-<flags>`.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

fn random() -> SpanId {
    let mut id = [0; 8];
    id.copy_from_slice(&rng::bytes()[..8]);
    SpanId::from_bytes(id)
}

/// The trace id in a `traceparent`, for log lines; empty where there is none.
pub fn id_of(traceparent: &str) -> String {
    Context::parse(traceparent).map_or_else(String::new, |context| context.trace.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_round_trips_and_invalid_ones_are_ignored() {
        for flag in ["00", "01"] {
            let text = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flag}");
            assert_eq!(Context::parse(&text).unwrap().to_string(), text);
        }
        for bad in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-xyz-b7ad6b7169203331-01",
        ] {
            assert!(Context::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn an_attempt_has_the_same_span_id_in_every_process() {
        let (context, lease) = (Context::mint(), LeaseId::mint());
        let parsed = Context::parse(&context.to_string()).unwrap();
        assert_eq!(context.attempt(lease), parsed.attempt(lease));
        assert_ne!(context.attempt(lease).span, context.attempt(LeaseId::mint()).span);
    }

    #[test]
    fn a_trace_id_holds_its_start_time() {
        let before = clock::unix_ms();
        let started = Context::mint().started_at().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        assert!((before..=clock::unix_ms()).contains(&started));
    }
}
