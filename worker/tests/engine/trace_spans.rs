//! What a trace shows of a task.

use std::sync::{Arc, Mutex};

use longhand_proto::trace::{self, Context, Sink, Span};
use longhand_worker::engine::Engine;
use opentelemetry::trace::TraceId;

use crate::invariance::engine;
use crate::tasks::{read, task};

/// Records all spans of this test program; it has one sink.
#[derive(Debug, Default, Clone)]
struct SpanRecorder(Arc<Mutex<Vec<Span>>>);

impl Sink for SpanRecorder {
    fn samples(&self, _: TraceId) -> bool {
        true
    }

    fn export(&self, span: Span) {
        self.0.lock().unwrap().push(span);
    }
}

fn value(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|it| it.key.as_str() == key);
    found.unwrap_or_else(|| panic!("no {key} in {span:?}")).value.to_string()
}

/// An operator sees where the time of an attempt went. The attempt's own span is sent by the coordinator.
#[tokio::test]
async fn queue_prefill_and_decode_are_children_of_the_span_that_the_task_names() {
    let recorder = SpanRecorder::default();
    assert!(trace::install(recorder.clone()));
    let (engine, prompt) = (engine(64, 64), "A prompt that is nobody's business.");
    let attempt = Context::mint();
    let traced = longhand_proto::task::Task { traceparent: attempt.to_string(), ..task(1, prompt) };
    let seen = read(engine.start(traced, None)).await;
    // A document that is not sampled, and one that is not traced at all.
    let unsampled = Context { sampled: false, ..Context::mint() }.to_string();
    read(engine.start(longhand_proto::task::Task { traceparent: unsampled, ..task(2, prompt) }, None)).await;
    read(engine.start(task(3, prompt), None)).await;

    let spans = recorder.0.lock().unwrap().clone();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["queue", "prefill", "decode"], "in order of end");
    for pair in spans.windows(2) {
        assert_eq!(pair[0].end, pair[1].start, "one begins where the other ends");
    }
    for span in &spans {
        assert_eq!(span.parent, Some(attempt));
        assert_eq!((value(span, "longhand.section"), value(span, "longhand.attempt")), ("1".into(), "1".into()));
        assert_eq!(value(span, "longhand.document"), task(1, prompt).document.to_string());
    }
    assert_eq!(value(&spans[1], "longhand.tokens.cached"), "0");
    assert_eq!(value(&spans[1], "longhand.tokens.computed"), "35");
    assert_eq!(value(&spans[2], "longhand.tokens.generated"), seen.tokens.len().to_string());
    assert_eq!(value(&spans[2], "longhand.finish_reason"), seen.output().finish_reason.as_str());
    let all = format!("{spans:?}");
    assert!(!all.contains("nobody") && !all.contains(&seen.output().text), "a text is in a span: {all}");
}
