//! What a trace shows of a task.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::span::Current;

use longhand_worker::engine::Engine;

use crate::invariance::engine;
use crate::tasks::{read, task};

#[derive(Debug, Clone)]
struct Span {
    about: &'static Metadata<'static>,
    parent: Option<u64>,
    fields: HashMap<&'static str, String>,
    /// Handles that hold it open.
    open: i32,
}

#[derive(Debug, Default, Clone)]
struct Spans(Arc<Mutex<Vec<Span>>>);

thread_local! {
    /// The span that this thread has entered.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

struct Fields<'a>(&'a mut HashMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

impl Subscriber for Spans {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut spans = self.0.lock().unwrap();
        let parent = span.parent().map(Id::into_u64);
        let mut new = Span { about: span.metadata(), parent, fields: HashMap::new(), open: 1 };
        span.record(&mut Fields(&mut new.fields));
        spans.push(new);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, id: &Id, values: &Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap()[id.into_u64() as usize - 1].fields));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        CURRENT.set(id.into_u64());
    }

    fn exit(&self, _: &Id) {
        CURRENT.set(0);
    }

    fn current_span(&self) -> Current {
        match CURRENT.get() {
            0 => Current::none(),
            id => Current::new(Id::from_u64(id), self.0.lock().unwrap()[id as usize - 1].about),
        }
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.0.lock().unwrap()[id.into_u64() as usize - 1].open += 1;
        id.clone()
    }

    fn try_close(&self, id: Id) -> bool {
        let mut spans = self.0.lock().unwrap();
        let span = &mut spans[id.into_u64() as usize - 1];
        span.open -= 1;
        span.open == 0
    }
}

/// Spans are exported when they end: one that stays open is lost, and an operator sees no prefill and no decode.
#[tokio::test]
async fn prefill_and_decode_hang_below_the_callers_span_and_end_with_the_task() {
    let spans = Spans::default();
    let (engine, prompt) = (engine(64, 64), "A prompt that is nobody's business.");
    let dispatch = tracing::Dispatch::new(spans.clone());
    let generation = tracing::dispatcher::with_default(&dispatch, || {
        let attempt = tracing::info_span!("attempt");
        let _entered = attempt.enter();
        engine.start(task(1, prompt), None)
    });
    let seen = read(generation).await;
    let spans = spans.0.lock().unwrap().clone();
    let names: Vec<_> = spans.iter().map(|span| span.about.name()).collect();
    assert_eq!(names, ["attempt", "prefill", "decode"]);
    assert!(spans.iter().all(|span| span.open == 0), "a span is still open: {spans:?}");
    assert!(spans[1..].iter().all(|span| span.parent == Some(1)));
    let (prefill, decode) = (&spans[1].fields, &spans[2].fields);
    assert_eq!((prefill["cached"].as_str(), prefill["computed"].as_str()), ("0", "35"));
    assert_eq!(decode["tokens"], seen.tokens.len().to_string());
    assert_eq!(decode["finish_reason"], format!("{:?}", seen.output().finish_reason.as_str()));
    let all = format!("{spans:?}");
    assert!(!all.contains("nobody") && !all.contains(&seen.output().text), "a text is in a span: {all}");
}
