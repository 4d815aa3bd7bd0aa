//! W3C trace context (`traceparent`) across gRPC calls and stored documents.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};

/// The `traceparent` of a span, version 00: `00-<trace id>-<span id>-<flags>`.
pub fn to_traceparent(span: &SpanContext) -> String {
    format!("00-{}-{}-{:02x}", span.trace_id(), span.span_id(), span.trace_flags().to_u8())
}

/// The span that a `traceparent` names, or none if the text is not one.
pub fn from_traceparent(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    if version != "00" || parts.next().is_some() || flags.len() != 2 {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?),
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

/// Makes the span that `traceparent` names the parent of `span`; a text that names none leaves `span` as it is. A span
/// that has a field `trace_id` carries the id into log lines.
pub fn set_parent(span: &tracing::Span, traceparent: &str) {
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    if let Some(context) = from_traceparent(traceparent) {
        span.record("trace_id", tracing::field::display(context.trace_id()));
        // Fails only when the span is disabled or tracing is off, and then there is nothing to set.
        drop(span.set_parent(opentelemetry::Context::new().with_remote_span_context(context)));
    }
}

/// The `traceparent` of a live `tracing` span; empty where tracing is off.
pub fn traceparent_of(span: &tracing::Span) -> String {
    use tracing_opentelemetry::OpenTelemetrySpanExt;
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    if span.is_valid() { to_traceparent(span) } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_round_trips_and_bad_ones_are_ignored() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(to_traceparent(&from_traceparent(text).unwrap()), text);
        for bad in [
            "",
            "00",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-xyz-b7ad6b7169203331-01",
        ] {
            assert!(from_traceparent(bad).is_none(), "{bad}");
        }
    }
}
