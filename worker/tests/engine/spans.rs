//! What a trace shows of a task.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use longhand_worker::engine::Engine;

use crate::invariance::engine;
use crate::tasks::{read, task};

/// A span that has ended, as an exporter would see it.
#[derive(Debug, Default, Clone)]
struct Ended {
    name: &'static str,
    parent: Option<&'static str>,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Ended {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

#[derive(Debug, Default, Clone)]
struct Exporter(Arc<Mutex<Vec<Ended>>>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Exporter {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let span = context.span(id).unwrap();
        let parent = span.parent().map(|parent| parent.name());
        let mut data = Ended { name: span.name(), parent, fields: BTreeMap::new() };
        attributes.record(&mut data);
        span.extensions_mut().insert(data);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        values.record(context.span(id).unwrap().extensions_mut().get_mut::<Ended>().unwrap());
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let data = context.span(&id).unwrap().extensions().get::<Ended>().unwrap().clone();
        self.0.lock().unwrap().push(data);
    }
}

/// Spans are exported when they end: one that stays open is lost, and an operator sees no prefill and no decode.
#[tokio::test]
async fn prefill_and_decode_hang_below_the_callers_span_and_end_with_the_task() {
    let exporter = Exporter::default();
    let (engine, prompt) = (engine(64, 64), "A prompt that is nobody's business.");
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(exporter.clone()));
    let generation = tracing::dispatcher::with_default(&dispatch, || {
        tracing::info_span!("attempt").in_scope(|| engine.start(task(1, prompt), None))
    });
    let seen = read(generation).await;
    let spans = exporter.0.lock().unwrap().clone();
    let names: Vec<_> = spans.iter().map(|span| (span.name, span.parent)).collect();
    assert_eq!(
        names,
        [("prefill", Some("attempt")), ("decode", Some("attempt")), ("attempt", None)],
        "in order of end"
    );
    let (prefill, decode) = (&spans[0].fields, &spans[1].fields);
    assert_eq!((prefill["cached"].as_str(), prefill["computed"].as_str()), ("0", "35"));
    assert_eq!(decode["tokens"], seen.tokens.len().to_string());
    assert_eq!(decode["finish_reason"], format!("{:?}", seen.output().finish_reason.as_str()));
    let all = format!("{spans:?}");
    assert!(!all.contains("nobody") && !all.contains(&seen.output().text), "a text is in a span: {all}");
}
