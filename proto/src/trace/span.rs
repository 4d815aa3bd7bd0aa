//! A finished span, and the sink that receives it.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::trace::TraceId;
use opentelemetry::{Key, KeyValue, Value};

use super::Context;
use crate::task::Task;
use crate::{DocumentId, RunId, clock};

/// Receives finished spans. No method may block.
pub trait Sink: Send + Sync {
    /// Whether all spans of a new trace are to be sent.
    fn samples(&self, trace: TraceId) -> bool;
    /// Queues a span for export, or drops it.
    fn export(&self, span: Span);
}

/// One per process, installed by the program. Without it no spans are made.
static SINK: OnceLock<Box<dyn Sink>> = OnceLock::new();

/// Installs the process's sink. False if there is one already.
pub fn install(sink: impl Sink + 'static) -> bool {
    SINK.set(Box::new(sink)).is_ok()
}

/// Whether a sink is installed; if not, spans need not be made.
pub fn is_enabled() -> bool {
    SINK.get().is_some()
}

/// Whether all spans of a new trace are to be sent.
pub fn samples(trace: TraceId) -> bool {
    SINK.get().is_some_and(|sink| sink.samples(trace))
}

/// The task that a span is about: attributes of every span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRef {
    /// Run of the document.
    pub run: RunId,
    /// The document.
    pub document: DocumentId,
    /// Index of the step from 0; 0 for a plan.
    pub section: u32,
    /// Number of the attempt from 1; 0 before the first.
    pub attempt: u32,
}

impl TaskRef {
    /// The reference to a leased task.
    pub fn of(task: &Task) -> Self {
        Self { run: task.run.clone(), document: task.document, section: task.section, attempt: task.attempt }
    }
}

/// A finished span: counts and names; prompts and texts only if content tracing is on.
#[derive(Debug, Clone)]
pub struct Span {
    /// What the span measures, such as `section`.
    pub name: Cow<'static, str>,
    /// Ids of the span itself.
    pub context: Context,
    /// None for the root of a trace.
    pub parent: Option<Context>,
    /// Wall-clock start.
    pub start: SystemTime,
    /// Wall-clock end, never before the start.
    pub end: SystemTime,
    /// OpenTelemetry attributes.
    pub attributes: Vec<KeyValue>,
    /// Earlier attempts of the same task.
    pub links: Vec<Context>,
    /// Error message. A span with an error is sent even if its document is not sampled.
    pub error: Option<String>,
}

impl Span {
    /// A span of zero length, now.
    pub fn new(name: impl Into<Cow<'static, str>>, context: Context, parent: Option<Context>, task: &TaskRef) -> Self {
        let now = clock::wall();
        let attributes = vec![
            KeyValue::new("longhand.run", task.run.to_string()),
            KeyValue::new("longhand.document", task.document.to_string()),
            KeyValue::new("longhand.section", i64::from(task.section)),
            KeyValue::new("longhand.attempt", i64::from(task.attempt)),
        ];
        let name = name.into();
        Self { name, context, parent, start: now, end: now, attributes, links: Vec::new(), error: None }
    }

    /// A child span of `parent` of zero length, now.
    pub fn child_of(parent: Context, name: impl Into<Cow<'static, str>>, task: &TaskRef) -> Self {
        Self::new(name, parent.child(), Some(parent), task)
    }

    /// Adds an attribute.
    #[must_use]
    pub fn with(mut self, key: impl Into<Key>, value: impl Into<Value>) -> Self {
        self.attributes.push(KeyValue::new(key, value));
        self
    }

    /// Adds attributes.
    #[must_use]
    pub fn with_all(mut self, attributes: impl IntoIterator<Item = KeyValue>) -> Self {
        self.attributes.extend(attributes);
        self
    }

    /// Sets start and end. The end is clamped to the start: the two may come from different machines.
    #[must_use]
    pub fn at(mut self, start: SystemTime, end: SystemTime) -> Self {
        (self.start, self.end) = (start, end.max(start));
        self
    }

    /// Marks the span as an error; `class` is its `error.type`.
    #[must_use]
    pub fn failed(mut self, class: &str, message: impl Into<String>) -> Self {
        self.error = Some(message.into());
        self.with("error.type", class.to_owned())
    }

    /// Sends the span if its document is sampled or it has an error.
    pub fn send(self) {
        if let Some(sink) = SINK.get()
            && (self.context.sampled || self.error.is_some())
        {
            sink.export(self);
        }
    }
}

/// A time in milliseconds since the Unix epoch, as stores keep it.
pub fn from_unix_ms(ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(ms)
}
