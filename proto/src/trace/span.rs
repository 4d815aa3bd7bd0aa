//! A finished span, and where it goes.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::TraceId;
use opentelemetry::{Key, KeyValue, Value};

use super::Context;
use crate::task::Task;
use crate::{DocumentId, RunId, clock};

/// Takes finished spans. A call never waits.
pub trait Sink: Send + Sync {
    /// Whether all spans of a new trace are to be sent.
    fn samples(&self, trace: TraceId) -> bool;
    fn take(&self, span: Span);
}

/// The process has one: what spans mean to an exporter is the program's to say, and tests of parts send none.
static SINK: OnceLock<Box<dyn Sink>> = OnceLock::new();

/// Spans go to `sink` from now on. False if they went elsewhere before.
pub fn install(sink: impl Sink + 'static) -> bool {
    SINK.set(Box::new(sink)).is_ok()
}

/// False if spans go nowhere: then they need not be made.
pub fn is_on() -> bool {
    SINK.get().is_some()
}

/// Whether all spans of a new trace are to be sent.
pub fn samples(trace: TraceId) -> bool {
    SINK.get().is_some_and(|sink| sink.samples(trace))
}

/// What every span says of its document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub run: RunId,
    pub document: DocumentId,
    /// Index of the step from 0; 0 for a plan.
    pub section: u32,
    /// Number of the attempt from 1; 0 before the first.
    pub attempt: u32,
}

impl Place {
    pub fn of(task: &Task) -> Self {
        Self { run: task.run.clone(), document: task.document, section: task.section, attempt: task.attempt }
    }
}

/// A finished span: counts and names, no prompt and no text unless somebody asked for them.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: Cow<'static, str>,
    pub context: Context,
    /// None for the first of a trace.
    pub parent: Option<Context>,
    pub start: SystemTime,
    pub end: SystemTime,
    pub attributes: Vec<KeyValue>,
    /// Earlier attempts of the same task.
    pub links: Vec<Context>,
    /// What went wrong. Such a span is sent even where its document is not sampled.
    pub error: Option<String>,
}

impl Span {
    /// A span of no length, now.
    pub fn new(name: impl Into<Cow<'static, str>>, context: Context, parent: Option<Context>, place: &Place) -> Self {
        let now = clock::wall();
        let attributes = vec![
            KeyValue::new("longhand.run", place.run.to_string()),
            KeyValue::new("longhand.document", place.document.to_string()),
            KeyValue::new("longhand.section", i64::from(place.section)),
            KeyValue::new("longhand.attempt", i64::from(place.attempt)),
        ];
        let name = name.into();
        Self { name, context, parent, start: now, end: now, attributes, links: Vec::new(), error: None }
    }

    /// A span of no length below `parent`, now.
    pub fn below(parent: Context, name: impl Into<Cow<'static, str>>, place: &Place) -> Self {
        Self::new(name, parent.child(), Some(parent), place)
    }

    #[must_use]
    pub fn with(mut self, key: impl Into<Key>, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    #[must_use]
    pub fn with_all(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Sets its times; it never ends before it starts, whatever the clocks of two machines say.
    #[must_use]
    pub fn at(mut self, start: SystemTime, end: SystemTime) -> Self {
        (self.start, self.end) = (start, end.max(start));
        self
    }

    /// `class` is a word to count by.
    #[must_use]
    pub fn failed(mut self, class: &str, message: impl Into<String>) -> Self {
        self.error = Some(message.into());
        self.with("error.type", class.to_owned())
    }

    /// Sends it, if its document is sampled or it is an error.
    pub fn send(self) {
        if let Some(sink) = SINK.get()
            && (self.context.sampled || self.error.is_some())
        {
            sink.take(self);
        }
    }
}

/// A time as stores count it.
pub fn at_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
