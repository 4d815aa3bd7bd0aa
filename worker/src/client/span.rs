//! The span of one attempt, named after its task. Counts and names only: no prompt and no text.

use longhand_proto::WorkerId;
use longhand_proto::task::{Failure, Output, Task};
use tracing::Span;
use tracing::field::{Empty, display};

/// Opens the span below the document's trace.
pub(super) fn attempt(task: &Task, worker: &WorkerId) -> Span {
    let span = tracing::info_span!(
        "attempt",
        trace_id = Empty,
        otel.name = task.kind.as_str(),
        otel.status_code = Empty,
        longhand.run = %task.run,
        longhand.document = %task.document,
        longhand.section = task.section,
        longhand.attempt = task.attempt,
        longhand.worker = %worker,
        longhand.end = Empty,
        longhand.finish_reason = Empty,
        longhand.tokens.prompt = Empty,
        longhand.tokens.cached = Empty,
        longhand.tokens.generated = Empty,
        longhand.tokens.resumed = Empty,
        error.type = Empty,
    );
    longhand_proto::trace::set_parent(&span, &task.traceparent);
    span
}

pub(super) fn completed(span: &Span, output: &Output) {
    span.record("longhand.end", "completed");
    span.record("longhand.finish_reason", output.finish_reason.as_str());
    span.record("longhand.tokens.prompt", output.usage.prompt);
    span.record("longhand.tokens.cached", output.usage.cached);
    span.record("longhand.tokens.generated", output.usage.generated);
    span.record("longhand.tokens.resumed", output.usage.resumed);
}

pub(super) fn failed(span: &Span, failure: &Failure) {
    span.record("longhand.end", "error");
    span.record("otel.status_code", "ERROR");
    span.record("error.type", display(&failure.class));
}

/// The attempt ended without a result: `lost` or `released`.
pub(super) fn ended(span: &Span, end: &'static str) {
    span.record("longhand.end", end);
}
