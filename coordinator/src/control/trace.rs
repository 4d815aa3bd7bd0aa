//! What the coordinator writes into a document's trace: its submission, each attempt, and what became of both. It writes
//! the attempts because it alone hears of the end of each: a worker that was killed tells nobody. A document that is not
//! sampled is sampled from its first error on, and the flag is stored with it, so that all others follow.

use std::time::SystemTime;

use longhand_proto::task::{Message, TaskKind};
use longhand_proto::trace::{self, Context, Place, Span, at_ms, gen_ai};
use longhand_proto::{LeaseId, clock};
use opentelemetry::{KeyValue, Value};

use crate::domain::document::{Document, Progress};
use crate::domain::recipe::Recipe;
use crate::domain::state::State;
use crate::lifecycle::Outcome;
use crate::store::{Attempt, AttemptEnd, Counters, LeaseGrant, Record, Result, Store};

/// Earlier attempts that a span is linked to: those before them are linked to by these.
const LINKS: usize = 16;

/// Begins a document's trace; empty where traces go nowhere.
pub(crate) fn mint() -> String {
    if trace::is_on() { Context::mint().to_string() } else { String::new() }
}

/// The span that a trace begins with. It ends at once: spans are sent when they end, and a document may take days.
pub(crate) fn submitted(document: &Document) {
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

/// The same however often it is made: where a document turns out to be worth a trace, it is made again.
fn root(context: Context, document: &Document) -> Span {
    let place = Place { run: document.run.clone(), document: document.id, section: 0, attempt: 0 };
    Span::new("submit", context, None, &place)
        .at(context.begun(), context.begun())
        .with("longhand.candidate", i64::from(document.candidate))
}

/// A person took the document up again, or ended it: `what` is "requeued" or "cancelled".
pub(crate) fn by_hand(document: &Document, what: &'static str) {
    let Some(context) = Context::parse(&document.traceparent).filter(|_| trace::is_on()) else { return };
    let (_, section) = document.current();
    let place = Place { run: document.run.clone(), document: document.id, section, attempt: 0 };
    let round = i64::from(document.round);
    Span::below(context, what, &place).with("longhand.round", round).send();
}

/// The attempt of a process that ended without a word was given back in its name. Of a document that cannot be read
/// nothing is told.
pub async fn given_up(store: &dyn Store, record: &Record, grant: &LeaseGrant) {
    let Ok(document) = record.document() else { return };
    match Trail::of(store, record.counters, grant, &document).await {
        Ok(Some(mut trail)) => {
            trail.failed("process_ended", "its process ended without a word");
            trail.released("released", State::Ready);
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, document = %record.id, "an attempt is missing in its document's trace"),
    }
}

/// An attempt that is under way, as its span will tell it.
#[derive(Debug)]
pub(crate) struct Trail {
    document: Context,
    /// Sent too if this attempt is the first that its trace is kept for.
    root: Span,
    place: Place,
    worker: String,
    span: Span,
    /// When the coordinator heard of the end.
    heard: SystemTime,
    /// From when to when the document took the result in.
    applied: Option<(SystemTime, SystemTime)>,
}

impl Trail {
    /// Of the task that a document is at and the lease that it was given; none if nobody will look at it.
    ///
    /// # Errors
    /// The store failed.
    pub(crate) async fn of(
        store: &dyn Store,
        counters: Counters,
        grant: &LeaseGrant,
        document: &Document,
    ) -> Result<Option<Self>> {
        let Some(context) = Context::parse(&document.traceparent).filter(|_| trace::is_on()) else { return Ok(None) };
        let (kind, section) = document.current();
        let again = document.errors > 0 || document.round > 0 || counters.losses > 0 || counters.releases > 0;
        let before = if again { store.attempts(document.id).await? } else { Vec::new() };
        let attempt = document.errors + 1 + counters.losses;
        let place = Place { run: document.run.clone(), document: document.id, section, attempt };
        let (heard, worker) = (clock::wall(), grant.worker.to_string());
        let mut span = Span::new(kind.as_str(), context.attempt(grant.id), Some(context), &place)
            .at(at_ms(grant.granted_ms), heard)
            .with("longhand.worker", worker.clone());
        span.links = earlier(&before, kind, section, grant.id).map(|lease| context.attempt(lease)).collect();
        let root = root(context, document);
        Ok(Some(Self { document: context, root, place, worker, span, heard, applied: None }))
    }

    /// What the model was asked for.
    pub(crate) fn asked(&mut self, document: &Document, recipe: &Recipe) {
        let (kind, section) = document.current();
        let sampling = match kind {
            TaskKind::Plan => &recipe.plan.sampling,
            TaskKind::Section | TaskKind::Summary => &recipe.section.sampling,
            TaskKind::Judge => &recipe.judge.sampling,
        };
        self.span.attributes.extend(gen_ai::request(sampling, document.task_seed(kind, section)));
        if kind == TaskKind::Section
            && let Some(step) = document.plan().and_then(|plan| plan.steps.get(section as usize))
        {
            self.note("longhand.words.target", i64::from(step.words));
        }
    }

    /// What came of it.
    pub(crate) fn outcome(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Written { output, model, .. } => {
                self.span.attributes.extend(gen_ai::response(model, output));
                self.note("longhand.finish_reason", output.finish_reason.as_str());
                self.note("longhand.tokens.resumed", i64::from(output.usage.resumed));
                self.note("longhand.tokens.reusable", i64::from(output.usage.reusable));
            }
            Outcome::Error(failure) => self.failed(&failure.class, &failure.message),
        }
    }

    /// Prompt and text: only where somebody asked for them.
    pub(crate) fn content(&mut self, messages: &[Message], outcome: &Outcome) {
        let text = match outcome {
            Outcome::Written { output, .. } => Some(output),
            Outcome::Error(_) => None,
        };
        self.span.attributes.extend(gen_ai::content(messages, text));
    }

    /// Words of the section that the document made of it.
    pub(crate) fn wrote(&mut self, words: u32) {
        self.note("longhand.words", i64::from(words));
    }

    /// The document has taken the result in; it began at `begun`.
    pub(crate) fn applied(&mut self, begun: SystemTime) {
        self.applied = Some((begun, clock::wall()));
    }

    /// The attempt is an error: its document is sampled from now on.
    pub(crate) fn failed(&mut self, class: &str, message: &str) {
        if self.span.error.is_none() {
            self.note("error.type", class.to_owned());
            self.span.error = Some(message.to_owned());
            self.span.context.sampled = true;
        }
    }

    /// The document's trace context as it is to be stored.
    pub(crate) fn traceparent(&self) -> String {
        Context { sampled: self.span.context.sampled, ..self.document }.to_string()
    }

    /// The end of the attempt was stored. `came_to` is where the document ended, if it did.
    pub(crate) fn committed(mut self, end: AttemptEnd, came_to: Option<(State, &str)>) {
        self.note("longhand.end", end.as_str());
        if let Some((state, reason)) = came_to {
            self.note("longhand.state", state.as_str());
            if !reason.is_empty() {
                self.note("longhand.reason", reason.to_owned());
            }
        }
        let commit = self.below(self.span.context, "commit").at(self.heard, clock::wall());
        if let (Some((begun, done)), Some((state @ (State::Accepted | State::Rejected), reason))) =
            (self.applied, came_to)
        {
            let filter = self.below(commit.context, "filter").at(begun, done);
            filter.with("longhand.state", state.as_str()).with("longhand.reason", reason.to_owned()).send();
        }
        commit.send();
        self.send();
    }

    /// The attempt was lost: its worker was not heard of in time. `state` is what became of the document.
    pub(crate) fn lost(mut self, state: State) {
        self.failed("lease_expired", "the lease ran out, or its worker wrote nothing new for too long");
        self.cut("lease expired", AttemptEnd::Lost, state);
    }

    /// The attempt ended without a result, by its worker's will or by a person's.
    pub(crate) fn released(self, what: &'static str, state: State) {
        self.cut(what, AttemptEnd::Released, state);
    }

    /// Marks the end with a span of no length.
    fn cut(mut self, what: &'static str, end: AttemptEnd, state: State) {
        let mark = self.below(self.span.context, what);
        let mark = mark.with("longhand.end", end.as_str()).with("longhand.state", state.as_str());
        // An error as its attempt is one: of a document that is not sampled both are sent, or none.
        Span { error: self.span.error.clone(), ..mark }.send();
        self.note("longhand.end", end.as_str());
        self.note("longhand.state", state.as_str());
        self.send();
    }

    fn note(&mut self, key: &'static str, value: impl Into<Value>) {
        self.span.attributes.push(KeyValue::new(key, value));
    }

    /// A span of no length below `parent`, now.
    fn below(&self, parent: Context, name: &'static str) -> Span {
        Span::below(parent, name, &self.place).with("longhand.worker", self.worker.clone())
    }

    fn send(self) {
        if self.span.context.sampled && !self.document.sampled {
            Span { context: self.document.sample(), ..self.root }.send();
        }
        let start = self.span.start;
        self.span.at(start, clock::wall()).send();
    }
}

/// The latest leases of a task before `now`, oldest first. Of one that was lost the store does not know the task: it is
/// that of the attempt after it.
fn earlier(attempts: &[Attempt], kind: TaskKind, section: u32, now: LeaseId) -> impl Iterator<Item = LeaseId> {
    let mut same = true;
    let mut leases = Vec::new();
    for attempt in attempts.iter().rev().filter(|attempt| attempt.lease != now) {
        if let Some(of) = attempt.detail["kind"].as_str() {
            same = of == kind.as_str() && attempt.detail["section"] == section;
        }
        if same {
            leases.push(attempt.lease);
        }
    }
    leases.truncate(LINKS);
    leases.into_iter().rev()
}
