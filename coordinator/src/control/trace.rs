//! Spans that the coordinator emits: of a document's submission, of each attempt, and of operator actions. Attempts are
//! emitted here, not by workers, because only the coordinator learns how every attempt ended. A document that is not
//! sampled is sampled from its first error on; the flag is stored with the document.

use std::time::SystemTime;

use longhand_proto::task::{Message, TaskKind};
use longhand_proto::trace::{self, Context, Span, TaskRef, from_unix_ms, gen_ai};
use longhand_proto::{LeaseId, clock};
use opentelemetry::{KeyValue, Value};

use crate::domain::document::{Document, Progress};
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::lifecycle::Outcome;
use crate::store::{Attempt, AttemptEnd, Counters, LeaseGrant, Record, Result, Store};

/// Most earlier attempts that a span links to; those link to the attempts before them.
const MAX_LINKS: usize = 16;

/// A new document's trace context; empty if tracing is off.
pub(crate) fn new_trace() -> String {
    if trace::is_enabled() { Context::mint().to_string() } else { String::new() }
}

/// Emits the root span of a document's trace. It has no length: spans are sent when they end, and a document may take
/// days.
pub(crate) fn document_submitted(document: &Document) {
    let Some(context) = Context::parse(&document.traceparent) else { return };
    let span = root(context, document);
    match &document.progress {
        Progress::Failed { class, message, .. } => span.failed(class, message.clone()).send(),
        Progress::Planning { .. }
        | Progress::Writing { .. }
        | Progress::Summarising { .. }
        | Progress::Judging { .. }
        | Progress::Finished { .. }
        | Progress::Cancelled { .. } => {
            span.send();
        }
    }
}

/// The root span. It can be made again, the same, when a document is sampled late.
fn root(context: Context, document: &Document) -> Span {
    let task = TaskRef { run: document.run.clone(), document: document.id, section: 0, attempt: 0 };
    Span::new("submit", context, None, &task)
        .at(context.started_at(), context.started_at())
        .with("longhand.candidate", i64::from(document.candidate))
}

/// Emits the span of an operator action: `name` is `requeued` or `cancelled`.
pub(crate) fn operator_action(document: &Document, name: &'static str) {
    let Some(context) = Context::parse(&document.traceparent).filter(|_| trace::is_enabled()) else { return };
    let (_, section) = document.current();
    let task = TaskRef { run: document.run.clone(), document: document.id, section, attempt: 0 };
    let round = i64::from(document.round);
    Span::child_of(context, name, &task).with("longhand.round", round).send();
}

/// Emits the span of an attempt whose process ended without releasing its lease. Of a document that cannot be read none is
/// emitted.
pub async fn abandoned(store: &dyn Store, record: &Record, grant: &LeaseGrant) {
    let Ok(document) = record.document() else { return };
    match AttemptSpan::of(store, record.counters, grant, &document).await {
        Ok(Some(mut span)) => {
            span.failed("process_ended", "its process ended without releasing the lease");
            span.released("released", State::Ready);
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, document = %record.id, "the span of an attempt is missing in the trace"),
    }
}

/// The span of an attempt that is about to end.
#[derive(Debug)]
pub(crate) struct AttemptSpan {
    document: Context,
    /// Sent again if this attempt is the first sampled span of the trace.
    root: Span,
    task: TaskRef,
    worker: String,
    span: Span,
    /// When the coordinator received the result.
    received: SystemTime,
    /// Start and end of applying the result to the document.
    applied: Option<(SystemTime, SystemTime)>,
}

impl AttemptSpan {
    /// The span of the document's current task under this lease; none if the document is not traced.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn of(
        store: &dyn Store,
        counters: Counters,
        grant: &LeaseGrant,
        document: &Document,
    ) -> Result<Option<Self>> {
        let Some(context) = Context::parse(&document.traceparent).filter(|_| trace::is_enabled()) else {
            return Ok(None);
        };
        let (kind, section) = document.current();
        let is_retry =
            document.failed_tries() > 0 || document.round > 0 || counters.losses > 0 || counters.releases > 0;
        let attempts = if is_retry { store.attempts(document.id).await? } else { Vec::new() };
        let attempt = document.failed_tries() + 1 + counters.losses;
        let task = TaskRef { run: document.run.clone(), document: document.id, section, attempt };
        let (received, worker) = (clock::wall(), grant.worker.to_string());
        let mut span = Span::new(kind.as_str(), context.attempt(grant.id), Some(context), &task)
            .at(from_unix_ms(grant.granted_ms), received)
            .with("longhand.worker", worker.clone());
        span.links = earlier(&attempts, kind, section, grant.id).map(|lease| context.attempt(lease)).collect();
        let root = root(context, document);
        Ok(Some(Self { document: context, root, task, worker, span, received, applied: None }))
    }

    /// As [`AttemptSpan::of`], with request and outcome, before the document takes the outcome. With `content` also prompt
    /// and text.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn of_result(
        store: &dyn Store,
        record: &Record,
        document: &Document,
        recipe: &Recipe,
        outcome: &Outcome,
        content: bool,
    ) -> Result<Option<Self>> {
        let Some(grant) = &record.lease else { return Ok(None) };
        let Some(mut span) = Self::of(store, record.counters, grant, document).await? else { return Ok(None) };
        span.request(document, recipe);
        span.outcome(outcome);
        // A prompt that cannot be rendered is an error of its own.
        if content && let Ok(Some(task)) = document.next_task(recipe) {
            span.content(&task.messages, outcome);
        }
        Ok(Some(span))
    }

    fn request(&mut self, document: &Document, recipe: &Recipe) {
        let (kind, section) = document.current();
        let sampling = recipe.sampling(kind);
        self.span.attributes.extend(gen_ai::request(sampling, document.task_seed(kind, section)));
        if kind == TaskKind::Section
            && let Some(step) = document.plan().and_then(|plan| plan.steps.get(section as usize))
        {
            self.set("longhand.words.target", i64::from(step.words));
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Written { output, model, .. } => {
                self.span.attributes.extend(gen_ai::response(model, output));
                self.set("longhand.finish_reason", output.finish_reason.as_str());
                self.set("longhand.tokens.resumed", i64::from(output.usage.resumed));
                self.set("longhand.tokens.reusable", i64::from(output.usage.reusable));
                self.set("longhand.tokens.discarded", i64::from(output.usage.discarded));
            }
            Outcome::Error(failure) => self.failed(&failure.class, &failure.message),
        }
    }

    fn content(&mut self, messages: &[Message], outcome: &Outcome) {
        let text = match outcome {
            Outcome::Written { output, .. } => Some(output),
            Outcome::Error(_) => None,
        };
        self.span.attributes.extend(gen_ai::content(messages, text));
    }

    /// Words of the section that the attempt wrote.
    pub(crate) fn words(&mut self, words: u32) {
        self.set("longhand.words", i64::from(words));
    }

    /// The rule that rejected the text, and what it measured.
    pub(crate) fn section_rejected(&mut self, rule: &str, value: f64) {
        self.set("longhand.rejected.rule", rule.to_owned());
        self.set("longhand.rejected.value", value);
    }

    /// The document took the result just now; that started at `started`.
    pub(crate) fn applied(&mut self, started: SystemTime) {
        self.applied = Some((started, clock::wall()));
    }

    /// Marks the attempt as an error: its document is sampled from now on. Only the first error is kept.
    pub(crate) fn failed(&mut self, class: &str, message: &str) {
        if self.span.error.is_none() {
            self.set("error.type", class.to_owned());
            self.span.error = Some(message.to_owned());
            self.span.context.sampled = true;
        }
    }

    /// The document's trace context to store.
    pub(crate) fn traceparent(&self) -> String {
        Context { sampled: self.span.context.sampled, ..self.document }.to_string()
    }

    /// Emits the span after the end of the attempt was stored. `document_end` is state and reason of the document, if it
    /// ended.
    pub(crate) fn committed(mut self, end: AttemptEnd, document_end: Option<(State, &str)>) {
        self.set("longhand.end", end.as_str());
        if let Some((state, reason)) = document_end {
            self.set("longhand.state", state.as_str());
            if !reason.is_empty() {
                self.set("longhand.reason", reason.to_owned());
            }
        }
        let commit = self.child_of(self.span.context, "commit").at(self.received, clock::wall());
        if let (Some((started, done)), Some((state @ (State::Accepted | State::Rejected), reason))) =
            (self.applied, document_end)
        {
            let filter = self.child_of(commit.context, "filter").at(started, done);
            filter.with("longhand.state", state.as_str()).with("longhand.reason", reason.to_owned()).send();
        }
        commit.send();
        self.send();
    }

    /// Emits the span of an attempt whose lease was revoked. `state` is the new state of the document.
    pub(crate) fn lost(mut self, state: State) {
        self.failed("lease_expired", "the lease expired, or its worker made no progress for too long");
        self.interrupted("lease expired", AttemptEnd::Lost, state);
    }

    /// Emits the span of an attempt that was ended without a result, by its worker or by an operator.
    pub(crate) fn released(self, name: &'static str, state: State) {
        self.interrupted(name, AttemptEnd::Released, state);
    }

    /// Emits the span, with a child of zero length that marks its end.
    fn interrupted(mut self, name: &'static str, end: AttemptEnd, state: State) {
        let mark = self.child_of(self.span.context, name);
        let mark = mark.with("longhand.end", end.as_str()).with("longhand.state", state.as_str());
        // An error if the attempt is one: of an unsampled document both are sent, or neither.
        Span { error: self.span.error.clone(), ..mark }.send();
        self.set("longhand.end", end.as_str());
        self.set("longhand.state", state.as_str());
        self.send();
    }

    fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.span.attributes.push(KeyValue::new(key, value));
    }

    /// A child span of zero length, now.
    fn child_of(&self, parent: Context, name: &'static str) -> Span {
        Span::child_of(parent, name, &self.task).with("longhand.worker", self.worker.clone())
    }

    fn send(self) {
        if self.span.context.sampled && !self.document.sampled {
            Span { context: self.document.sample(), ..self.root }.send();
        }
        let start = self.span.start;
        self.span.at(start, clock::wall()).send();
    }
}

/// The latest leases of a task before `current`, oldest first. The store does not know the task of a lost attempt: it is
/// that of the attempt after it.
fn earlier(attempts: &[Attempt], kind: TaskKind, section: u32, current: LeaseId) -> impl Iterator<Item = LeaseId> {
    let mut is_same_task = true;
    let mut leases = Vec::new();
    for attempt in attempts.iter().rev().filter(|attempt| attempt.lease != current) {
        if let Some(task) = attempt.detail["kind"].as_str() {
            is_same_task = task == kind.as_str() && attempt.detail["section"] == section;
        }
        if is_same_task {
            leases.push(attempt.lease);
        }
    }
    leases.truncate(MAX_LINKS);
    leases.into_iter().rev()
}
