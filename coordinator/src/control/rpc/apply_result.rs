//! Applies the result of an attempt to its document: what to commit, what to count, and the span of the attempt.

use std::time::Duration;

use longhand_proto::task::{Failure, Output, TaskKind};
use longhand_proto::{LeaseId, clock, rng};
use serde_json::{Map, Value, json};

use super::coordinator::Coordinator;
use super::render::write;
use super::run_cache::RunContext;
use super::worker_health::WorkerKey;
use crate::control::metrics::AttemptCost;
use crate::control::trace::AttemptSpan;
use crate::domain::document::{Document, Progress, Rejection};
use crate::lifecycle::{Outcome, Transition};
use crate::store::{Commit, Next, Record, Result};

/// A finished attempt as its worker reports it.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) worker: WorkerKey,
    pub(super) lease: LeaseId,
    pub(super) outcome: Outcome,
    /// The worker has room for the document's next task.
    pub(super) want_next: bool,
    /// Task kinds that the worker supports.
    pub(super) kinds: Vec<TaskKind>,
    /// Trace context of the attempt, from the call's metadata; may be empty.
    pub(super) traceparent: String,
    /// What the attempt cost; 0 without a price.
    pub(super) cost: f64,
}

/// What follows from a report.
#[derive(Debug)]
pub(super) struct AppliedResult {
    pub(super) commit: Commit,
    pub(super) cost: AttemptCost,
    /// None if the document is not traced.
    pub(super) span: Option<AttemptSpan>,
}

impl Coordinator {
    /// Applies a result to its document. Nothing is written.
    ///
    /// # Errors
    /// The store failed, or the run's recipe cannot be read.
    pub(super) async fn apply_result(
        &self,
        record: &Record,
        mut document: Document,
        report: Report,
    ) -> Result<AppliedResult> {
        let context = self.run_context(&record.run).await?;
        let Report { worker: _, lease, outcome, want_next, kinds, traceparent: _, cost } = report;
        let (kind, section) = document.current();
        let mut log = AttemptLog::begin(record, &document, &outcome);
        if cost > 0.0 {
            log.detail.insert("cost".into(), json!(cost));
        }
        let content = self.inner.options.trace_content;
        log.span = AttemptSpan::of_result(self.store().as_ref(), record, &document, &context.recipe, &outcome, content)
            .await?;
        let can_judge = can_judge(&context, &outcome);
        let started = clock::wall();
        let applied = document.apply(&context.recipe, outcome);
        let (next_kind, _) = document.current();
        let want_next = want_next && kinds.contains(&next_kind);
        let next = match applied {
            Transition::NextTask if context.policy.judge.is_empty() || next_kind != TaskKind::Judge => {
                Next::Continue { lease: want_next.then(LeaseId::mint) }
            }
            Transition::NextTask => Next::Judge { lease: (want_next && can_judge).then(LeaseId::mint) },
            Transition::Retry { errors, failure } => {
                log.retried(failure);
                Next::Retry { delay_ms: context.recipe.retry.delay_ms(errors, rng::unit()) }
            }
            Transition::SectionRejected(rejection) => {
                log.section_rejected(&rejection);
                Next::Continue { lease: want_next.then(LeaseId::mint) }
            }
            Transition::Ended { state, reason } => {
                log.ended(&document);
                Next::End { state, reason }
            }
        };
        if let Some(span) = &mut log.span {
            span.applied(started);
            document.traceparent = span.traceparent();
        }
        match kind {
            TaskKind::Section => log.section(&document, section),
            TaskKind::Judge => log.vote(&document, section),
            TaskKind::Plan | TaskKind::Summary => {}
        }
        let (body, detail) = (Some(write(&document)?), Value::Object(log.detail));
        let commit = Commit { lease, body, checkpoint: None, next, detail, ttl_ms: self.lease_ms() };
        Ok(AppliedResult { commit, cost: log.cost, span: log.span })
    }
}

/// Whether the worker of this result may also vote on the document: a run may require another model for that.
fn can_judge(context: &RunContext, outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Written { model, .. } => context.policy.can_judge(&model.name, &model.weights_hash),
        Outcome::Error(_) => false,
    }
}

/// What is kept of an attempt: in the store, in the counters, in the trace.
struct AttemptLog {
    detail: Map<String, Value>,
    cost: AttemptCost,
    span: Option<AttemptSpan>,
}

impl AttemptLog {
    /// The task that the document is at, and everything of the outcome but its text.
    fn begin(record: &Record, document: &Document, outcome: &Outcome) -> Self {
        let (kind, section) = document.current();
        let mut detail = Map::new();
        detail.insert("kind".into(), json!(kind));
        detail.insert("section".into(), json!(section));
        detail.insert("attempt".into(), json!(document.failed_tries() + 1 + record.counters.losses));
        let granted_ms = record.lease.as_ref().map_or(0, |lease| lease.granted_ms);
        let held = Duration::from_millis(clock::unix_ms().saturating_sub(granted_ms));
        let mut cost = AttemptCost { kind: Some(kind), held, ..AttemptCost::default() };
        match outcome {
            Outcome::Written { output, model, .. } => {
                let Output { text: _, finish_reason, usage, timings } = output;
                detail.insert("finish_reason".into(), json!(finish_reason));
                detail.insert("usage".into(), json!(usage));
                detail.insert("timings".into(), json!(timings));
                detail.insert("model".into(), json!(model.name));
                (cost.usage, cost.timings) = (*usage, Some(*timings));
            }
            Outcome::Error(failure) => drop(detail.insert("error".into(), json!(failure))),
        }
        Self { detail, cost, span: None }
    }

    fn failed(&mut self, class: &str, message: &str) {
        self.cost.error = Some(class.to_owned());
        if let Some(span) = &mut self.span {
            span.failed(class, message);
        }
    }

    /// The task is tried again.
    fn retried(&mut self, failure: Failure) {
        self.failed(&failure.class, &failure.message);
        self.detail.insert("error".into(), json!(failure));
    }

    /// A rule rejected the text: the task is tried again at once.
    fn section_rejected(&mut self, rejection: &Rejection) {
        let Rejection { rule, value, threshold, detail, .. } = rejection;
        self.cost.rejected = Some(rule.clone());
        if let Some(span) = &mut self.span {
            span.section_rejected(rule, *value);
        }
        let rejected = json!({ "rule": rule, "value": value, "threshold": threshold, "detail": detail });
        self.detail.insert("rejected".into(), rejected);
    }

    /// The document ended.
    fn ended(&mut self, document: &Document) {
        if let Progress::Failed { class, message, .. } = &document.progress {
            self.failed(class, message);
            self.detail.entry("error").or_insert_with(|| json!({ "class": class, "message": message }));
        }
        self.cost.words = document.sections().iter().map(|section| u64::from(section.words)).sum();
    }

    /// Words of the section with this index, if the document took it.
    fn section(&mut self, document: &Document, index: u32) {
        if self.cost.error.is_some() || self.cost.rejected.is_some() {
            return;
        }
        if let Some(section) = document.sections().get(index as usize) {
            self.detail.insert("words".into(), json!(section.words));
            if let Some(span) = &mut self.span {
                span.words(section.words);
            }
        }
    }

    /// Scores of the vote with this index. After the last try of a vote the document goes on without scores.
    fn vote(&mut self, document: &Document, index: u32) {
        if self.cost.error.is_some() {
            return;
        }
        let Some(vote) = document.votes().get(index as usize) else { return };
        match &vote.scores {
            Some(scores) => drop(self.detail.insert("scores".into(), json!(scores))),
            None => {
                self.detail.insert("problem".into(), json!(vote.problem));
                self.failed(vote.problem.split(':').next().unwrap_or_default(), &vote.problem);
            }
        }
    }
}
